"""A budget that the caller was told is kept to, whichever partition spends it."""

from __future__ import annotations

from collections.abc import Hashable
from functools import partial
from itertools import pairwise
from typing import Any

import anyio
import anyio.lowlevel
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
from comet_resilience.limits.partitions import InAccount

from ..conftest import COMPLETION, LIMITED, OK, Answer, ask, scripted
from .conftest import limiter_of

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Virtual time: these tests wait for minutes."""
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


def _limiter(budgets: dict[str, Budget], limit: int = 8) -> Limiter:
    return limiter_of(lambda: StepBack(limit, 1, 512), budgets=budgets)


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


async def test_who_waits_for_its_account_holds_nobody_up_in_line() -> None:
    """And keeps its place: it is next once its account has room."""
    limiter = limiter_of(
        lambda: FixedLimit(9),
        make_account_limit=lambda: StepBack(1, 1, 1),
        budgets={"*": Budget(requests=60)},
    )
    log, full, free = Log(limiter), InAccount("full", "a"), InAccount("free", "b")
    cost = Cost("m")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(log.send, full, cost, 9.5)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(log.send, full, cost, 9.5)
        await anyio.wait_all_tasks_blocked()
        for _ in range(12):
            tasks.start_soon(log.send, free, cost)
    freely = [at for key, at in log.sent if key == free]
    assert freely[:9] == pytest.approx(list(range(1, 10)), abs=0.3)
    assert [at for key, at in log.sent if key == full] == pytest.approx([0, 10], abs=0.8)
    gaps = [late - early for (_, early), (_, late) in pairwise(log.sent)]
    assert all(gap == pytest.approx(1, abs=0.3) for gap in gaps)


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
    lease = await log.acquire("m")
    lease.release(Signal.SUCCESS)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(log.send, "m")
        await anyio.sleep(1)
        partition = lease.partition
        assert partition.slots.waiting == 1
        assert partition.slots.in_flight == 0
        assert partition.timer.at is not None
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


async def test_a_budget_that_is_too_high_is_found_out_by_refusals() -> None:
    """The limit steps back as it would without one, and every call is answered."""
    limiter, in_flight, most, refused = _limiter({"*": Budget(requests=6_000)}), 0, 3, 0
    done = 0

    async def send() -> None:
        nonlocal in_flight, refused, done
        order = None
        while True:
            lease = await limiter.acquire("m", order, request=Standing(cost=Cost("m")))
            if in_flight >= most:
                await anyio.sleep(0.05)
                refused += 1
                order = lease.order
                lease.release(Signal.OVERLOAD)
                await anyio.sleep(0.5)
                continue
            in_flight += 1
            await anyio.sleep(1.0)
            in_flight -= 1
            lease.release(Signal.SUCCESS)
            done += 1
            return

    async with anyio.create_task_group() as tasks:
        for _ in range(150):
            tasks.start_soon(send)
    assert done == 150
    assert refused < 25
    [partition] = limiter.snapshot().partitions
    assert partition.limit <= most + 1
    assert limiter.snapshot().budgets[0].requests == 150 + refused
