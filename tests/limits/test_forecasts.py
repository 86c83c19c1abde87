"""Limits on rates that servers tell in headers: kept to where they are about this caller."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import openai
import pytest
import trio.testing

from comet_resilience import FixedLimit, StepBack, diagnose
from comet_resilience.limits.budget import Cost
from comet_resilience.limits.eventloop import clock
from comet_resilience.limits.gate import Standing
from comet_resilience.limits.partitions import InAccount
from comet_resilience.verdict.rates import Counted, RateInWords, RateReading
from comet_resilience.verdict.vocabulary import Signal

from ..conftest import (
    COMPLETION,
    OK,
    Answer,
    ask,
    engine_of,
    scripted,
)
from .conftest import limiter_of

pytestmark = pytest.mark.anyio
REFUSAL = {"error": {"message": "slow down", "type": "requests", "code": "rate_limit_exceeded"}}
OVERLOADS = [signal for signal in Signal if signal.is_overload]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Virtual time: these tests wait for minutes."""
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


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
    limiter = limiter_of(lambda: StepBack(8, 1, 512))
    for left, how in ((3, Signal.SUCCESS), (2, Signal.SUCCESS), (1, Signal.SUCCESS), (0, signal)):
        lease = await limiter.acquire("m")
        lease.rates = (RateReading(Counted.REQUESTS, 60.0, float(left), 30.0),)
        lease.release(how)
    assert lease.partition.told.forecasts[Counted.REQUESTS, ""].trust.is_confirmed


def test_who_leaves_with_a_slot_in_hand_spends_nothing_of_what_headers_leave() -> None:
    """Cancelled between the grant and the send: nothing went out that could cost or test."""

    async def main() -> float:
        limiter = limiter_of()
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
        partition = second.partition
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
    limiter = engine_of(client).limiter
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


async def test_the_words_of_the_account_hold_its_other_models() -> None:
    """Those of a model hold that model alone."""
    limiter = limiter_of(lambda: FixedLimit(8), make_account_limit=lambda: StepBack(8, 1, 512))
    for model, of_account, waits in (("a", False, False), ("b", True, True)):
        lease = await limiter.acquire(InAccount(("key", "host"), model))
        lease.words = RateInWords(Counted.REQUESTS, 1, 30.0, of_account)
        lease.release(Signal.OVERLOAD)
        free = limiter.acquire_nowait(InAccount(("key", "host"), "other"))
        assert (free is None) is waits
        if free is not None:
            free.release(Signal.SUCCESS)


async def test_a_refusal_of_what_should_have_fitted_is_remembered_by_the_request() -> None:
    """It takes more tokens than were left, however many were estimated."""
    limiter = limiter_of()
    request = Standing(cost=Cost("m", 100, 100))
    lease = await limiter.acquire("m", request=request)
    lease.rates = (RateReading(Counted.TOKENS, 20_000.0, 5_000.0, 15.0),)
    lease.release(Signal.OVERLOAD)
    assert request.takes_more_than == 5_000.0
