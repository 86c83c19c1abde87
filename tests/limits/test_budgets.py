"""A budget that the caller was told is kept to, whichever partition spends it."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import openai
import pytest
import trio.testing

from comet_resilience import (
    Budget,
    BudgetExceededError,
    FixedLimit,
    QueueTimeoutError,
    Signal,
    StepBack,
    diagnose,
    snapshot,
)
from comet_resilience.limits.budget import Cost
from comet_resilience.limits.eventloop import clock
from comet_resilience.limits.gate import Standing
from comet_resilience.limits.limiter import Limiter
from comet_resilience.limits.partition import Lease
from comet_resilience.observers import Observers
from comet_resilience.verdict.rates import Counted, RateReading

from ..conftest import COMPLETION, LIMITED, OK, Answer, ask, scripted

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Virtual time: these tests wait for minutes."""
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


def _limiter(budgets: dict[str, Budget], limit: int = 8) -> Limiter:
    return Limiter(
        make_algorithm=lambda: StepBack(limit, 1, 512),
        max_queue=None,
        observers=Observers(()),
        budgets=budgets,
    )


class Log:
    """Requests through one limiter, and when each was sent, in seconds since the start."""

    def __init__(self, limiter: Limiter) -> None:
        self.limiter = limiter
        self.sent: list[tuple[Hashable, float]] = []
        self._began = anyio.current_time()

    async def acquire(self, key: Hashable, cost: Cost | None = None, **more: Any) -> Lease:
        request = Standing(cost=cost or Cost(str(key)))
        lease = await self.limiter.acquire(key, request=request, **more)
        self.sent.append((key, round(anyio.current_time() - self._began, 3)))
        return lease

    async def send(self, key: Hashable, cost: Cost | None = None, takes: float = 0.1) -> None:
        lease = await self.acquire(key, cost)
        await anyio.sleep(takes)
        lease.release(Signal.SUCCESS)


async def test_requests_are_spaced_evenly() -> None:
    """The first goes at once, and then one for each part of the time."""
    log = Log(_limiter({"*": Budget(requests=30, per=60)}))
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(log.send, "m")
    assert [at for _, at in log.sent] == pytest.approx([0, 2, 4, 6, 8], abs=0.01)


async def test_all_partitions_draw_on_one_budget_in_turn() -> None:
    """None of them starves, however many wait in another."""
    log = Log(_limiter({"*": Budget(requests=60, per=60)}))
    async with anyio.create_task_group() as tasks:
        for key in "aaaaaabc":
            tasks.start_soon(log.send, key)
            await anyio.lowlevel.checkpoint()
    assert [at for _, at in log.sent] == pytest.approx(range(8), abs=0.01)
    assert {key for key, _ in log.sent[:4]} == {"a", "b", "c"}


async def test_models_have_budgets_of_their_own() -> None:
    """One that is named does not share the budget of all others."""
    budgets = {"a": Budget(requests=1, per=10), "*": Budget(requests=1, per=5)}
    log = Log(_limiter(budgets))
    async with anyio.create_task_group() as tasks:
        for key in "aabbcc":
            tasks.start_soon(log.send, key)
    assert [at for key, at in log.sent if key == "a"] == pytest.approx([0, 10], abs=0.01)
    others = [at for key, at in log.sent if key != "a"]
    assert others == pytest.approx([0, 5, 10, 15], abs=0.01)


async def test_the_limit_holds_besides() -> None:
    """A budget that has much left lets no more go than may be in flight."""
    log = Log(_limiter({"*": Budget(requests=600, per=60, burst=60)}, limit=2))
    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(log.send, "m", None, 5.0)
    assert [at for _, at in log.sent][:2] == [0.0, 0.0]


async def test_one_who_leaves_gives_the_turn_to_the_next() -> None:
    """Cancelled in line, a request costs nothing and holds up nobody."""
    limiter = _limiter({"*": Budget(requests=6, per=60)})
    log = Log(limiter)
    await log.send("a")
    with anyio.move_on_after(3):
        await log.acquire("a")
    with pytest.raises(QueueTimeoutError, match="6 requests in 60 s"):
        await log.acquire("b", queue_timeout=3.0)
    await log.send("c")
    assert log.sent == [("a", 0.0), ("c", pytest.approx(10.0, abs=0.01))]
    assert limiter.snapshot().budgets[0].requests == 2


async def test_tokens_are_corrected_when_the_answer_says_what_it_took() -> None:
    """What was estimated too high is free for others."""
    log = Log(_limiter({"*": Budget(tokens=600, per=60)}))
    lease = await log.acquire("m", Cost("m", 100, 200))
    lease.took(20)
    lease.release(Signal.SUCCESS)
    await log.send("m", Cost("m", 100, 200))
    assert [at for _, at in log.sent] == pytest.approx([0, 2], abs=0.01)


OVERLOADS = [signal for signal in Signal if signal.is_overload]


@pytest.mark.parametrize("signal", OVERLOADS)
async def test_what_was_refused_took_no_tokens(signal: Signal) -> None:
    """Its request counts, its tokens do not, whosever limit it met."""
    limiter = _limiter({"*": Budget(requests=60, tokens=600, per=60)})
    lease = await Log(limiter).acquire("m", Cost("m", 300, 0))
    lease.took(300)
    lease.release(signal)
    [budget] = limiter.snapshot().budgets
    assert (budget.requests, budget.tokens, budget.tokens_left) == (1, 0, 600)


async def test_a_queue_that_waits_for_a_budget_has_a_timer_in_the_future() -> None:
    """Nothing else would ever wake it."""
    limiter = _limiter({"*": Budget(requests=1, per=60)})
    log = Log(limiter)
    await log.send("m")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(log.send, "m")
        await anyio.sleep(1)
        [partition] = limiter._partitions.values()
        assert partition.slots.waiting == 1
        assert partition.slots.in_flight == 0
        assert partition.timer.is_set
        assert partition.wake_at is not None
        assert partition.wake_at > clock()


async def test_wrapped_clients_keep_to_it() -> None:
    """From the keyword to the wire, in figures of the snapshot."""
    client, inner = scripted(OK, budget=Budget(requests=60, tokens=10**6, per=60))
    began = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(partial(ask, client, model="abc"[number % 3]))
    assert 3.9 <= anyio.current_time() - began <= 4.6
    [budget] = snapshot(client).budgets
    assert budget.requests == len(inner.sent) == 5
    assert "of 60 requests and 1000000 tokens in 60 s" in str(snapshot(client))


async def test_attempts_are_charged_and_not_calls() -> None:
    """A retry is a request as well."""
    client, _ = scripted(LIMITED, OK, budget=Budget(requests=600, per=60))
    await ask(client)
    assert snapshot(client).budgets[0].requests == 2


async def test_usage_settles_the_account() -> None:
    """What an answer says counts, and teaches what the next one may take."""
    usage = {"prompt_tokens": 3, "completion_tokens": 4}
    answer: Answer = (200, {**COMPLETION, "usage": usage}, {"content-type": "application/json"})
    client, _ = scripted(answer, budget=Budget(tokens=100_000))
    await ask(client)
    assert snapshot(client).budgets[0].tokens == 7


async def test_more_than_the_whole_budget_fails_at_once() -> None:
    """It could never go; the error says what it takes, and nothing was sent."""
    client, inner = scripted(OK, budget=Budget(tokens=100))
    with pytest.raises(BudgetExceededError, match="more than the whole budget of 100 tokens") as it:
        await ask(client, max_tokens=500)
    assert not inner.sent
    assert "max_tokens" in str(diagnose(it.value).advice)
    await ask(client)  # an answer without a bound is taken to be as long as there is room


@pytest.mark.parametrize(
    "budget", [{}, {"m": 3}, {3: Budget(requests=1)}, {"": Budget(requests=1)}, 500, "500/min"]
)
def test_nonsense_is_refused_at_construction(budget: Any) -> None:
    """With the keyword's name and what was expected."""
    with pytest.raises(ValueError, match=r"^budget=.*expected Budget\("):
        scripted(OK, budget=budget)


def test_a_fleet_has_no_budget() -> None:
    """Each process would spend it anew."""
    with pytest.raises(ValueError, match="budget: expected none together with fleet="):
        scripted(OK, budget=Budget(requests=1), fleet="redis://localhost")


REFUSAL = {"error": {"message": "slow down", "type": "requests", "code": "rate_limit_exceeded"}}


def _says(left: int, status: int = 200, limit: int = 60, reset: str = "30s") -> Answer:
    headers = {
        "content-type": "application/json",
        "x-ratelimit-limit-requests": str(limit),
        "x-ratelimit-remaining-requests": str(left),
        "x-ratelimit-reset-requests": reset,
    }
    return status, COMPLETION if status == 200 else REFUSAL, headers


async def test_what_headers_say_is_kept_to_once_a_refusal_has_confirmed_it() -> None:
    """One refusal at the most tells that they are about this caller."""
    answers = [_says(left) for left in (4, 3, 2, 1, 0)]
    client, inner = scripted(*answers, _says(0, 429), _says(59), max_retries=3)
    for _ in range(5):
        await ask(client)
    await ask(client)  # refused once, and sent again when the window is over
    assert len(inner.sent) == 7
    assert anyio.current_time() >= 29


@pytest.mark.parametrize("signal", OVERLOADS)
async def test_a_refusal_confirms_headers_whosever_limit_it_names(signal: Signal) -> None:
    """A scope in its code or words makes it no less of a refusal."""
    limiter = _limiter({})
    for left, how in ((3, Signal.SUCCESS), (2, Signal.SUCCESS), (1, Signal.SUCCESS), (0, signal)):
        lease = await limiter.acquire("m")
        lease.rates = (RateReading(Counted.REQUESTS, 60.0, float(left), 30.0),)
        lease.release(how)
    [partition] = limiter._partitions.values()
    assert partition.told.forecasts[Counted.REQUESTS, ""].trust.is_confirmed


def test_who_leaves_with_a_slot_in_hand_spends_nothing_of_what_headers_leave() -> None:
    """Cancelled between the grant and the send: nothing went out that could cost or test."""

    async def main() -> float:
        limiter = Limiter(
            make_algorithm=lambda: FixedLimit(1), max_queue=None, observers=Observers(())
        )
        first = await limiter.acquire("m")
        first.rates = (RateReading(Counted.REQUESTS, 60.0, 3.0, 30.0),)
        first.release(Signal.SUCCESS)
        second = await limiter.acquire("m")
        second.rates = (RateReading(Counted.REQUESTS, 60.0, 2.0, 30.0),)
        waiting = asyncio.ensure_future(limiter.acquire("m"))
        await asyncio.sleep(0)
        second.release(Signal.SUCCESS)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        [partition] = limiter._partitions.values()
        assert partition.slots.in_flight == 0
        return partition.told.forecasts[Counted.REQUESTS, ""].left(clock())

    assert asyncio.run(main()) == pytest.approx(2.0, abs=0.5)


async def test_headers_of_other_accounts_cost_nothing() -> None:
    """A gateway that passes on its channels' own limits refuses nobody for them."""
    client, _ = scripted(
        *(_says(0, limit=(60, 10_000)[number % 2], reset="50s") for number in range(200))
    )
    for _ in range(200):
        await ask(client)
    assert anyio.current_time() < 0.5


async def test_the_account_of_a_gateway_is_kept_to_by_its_words() -> None:
    """One bare sentence names the limit, and that holds for the account's other models too."""
    words = "您已达到请求数限制：1分钟内最多请求3次"  # noqa: RUF001
    refusal = {"error": {"message": words, "type": "new_api_error", "code": ""}}
    client, inner = scripted(*[OK] * 3, (429, refusal, {}), *[OK] * 6, max_retries=3)
    for number in range(9):
        await ask(client, model=f"m{number % 2}")
    assert len(inner.sent) == 10
    assert 120 <= anyio.current_time() < 125


async def test_tokens_are_counted_from_where_headers_call_them_scarce() -> None:
    """Before that nobody estimates anything."""

    def says(left: int, status: int = 200) -> Answer:
        headers = {
            "content-type": "application/json",
            "x-ratelimit-limit-tokens": "1000",
            "x-ratelimit-remaining-tokens": str(left),
            "x-ratelimit-reset-tokens": f"{(1000 - left) / 100}s",
        }
        return status, COMPLETION if status == 200 else REFUSAL, headers

    client, inner = scripted(says(900), says(400), says(300), says(200), says(0, 429), says(500))
    transport: Any = client._client._transport
    limiter = transport._engine.limiter
    for _ in range(4):
        assert not limiter.counts_tokens or len(inner.sent) >= 2
        await ask(client)
    assert limiter.counts_tokens
    since = anyio.current_time()
    await ask(client, max_tokens=800)
    assert len(inner.sent) == 6
    assert anyio.current_time() - since >= 4.9


async def test_who_gives_up_is_told_the_limit_that_was_named() -> None:
    """It is what a budget would be made of."""
    words = "Rate limit reached on requests per min (RPM): Limit 3, Used 3, Requested 1."
    client, _ = scripted((429, {"error": {"message": words, "code": "rate_limit_exceeded"}}, {}))
    with pytest.raises(openai.RateLimitError) as caught:
        await ask(client.with_options(max_retries=0))
    diagnosis = diagnose(caught.value)
    assert diagnosis is not None
    assert "names a limit of 3 requests in 60 s" in diagnosis.summary
