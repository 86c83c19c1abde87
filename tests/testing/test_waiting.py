"""Tests without waiting: time jumps over the library's waits, and only over these."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import anyio
import openai
import pytest
from anyio.from_thread import start_blocking_portal

from comet_resilience import GaveUp, RetryScheduled, diagnose, snapshot, wrap
from comet_resilience.limits.eventloop import clock, running_loop
from comet_resilience.testing import ConcurrencyCap, Gateway, waiting
from comet_resilience.testing.waiting import no_waiting

from ..conftest import LIMITED, OK, Answer, ask, envelope, in_real_time, scripted

pytestmark = in_real_time
HINT: Answer = (429, envelope("", "slow down"), {"retry-after": "50"})
OVERLOADED: Answer = (529, envelope("", "overloaded"), {})


@pytest.mark.anyio
async def test_retries_do_not_wait_and_say_how_long_they_would_have() -> None:
    """Six hints of 50 s each: the same attempts, delays and final error, and no real time."""
    events: list[Any] = []
    client, inner = scripted(HINT, on_event=events.append)
    with no_waiting():
        started = clock()
        with pytest.raises(openai.RateLimitError) as caught:
            await ask(client)
        passed = clock() - started
    delays = [event.delay for event in events if isinstance(event, RetryScheduled)]
    assert len(inner.sent) == 7
    assert len(delays) == 6
    assert all(50 <= delay <= 52.5 for delay in delays)
    assert any(isinstance(event, GaveUp) for event in events)
    found = diagnose(caught.value)
    assert passed >= sum(delays)
    assert found.elapsed >= sum(delays)
    assert [attempt.wait for attempt in found.attempts] == [*delays, None]


@pytest.mark.anyio
async def test_a_closed_gate_opens_at_once_for_those_behind_it() -> None:
    """Refusals close the partition for a minute; ten more requests are served all the same."""
    client, inner = scripted(*[HINT] * 3, OVERLOADED, OK)
    with no_waiting():
        async with anyio.create_task_group() as tasks:
            for _ in range(12):
                tasks.start_soon(ask, client)
    assert len(inner.sent) == 12 + 4
    (partition,) = snapshot(client).partitions
    assert (partition.in_flight, partition.waiting, partition.ok) == (0, 0, 12)
    assert partition.closed_for is None


@pytest.mark.anyio
async def test_the_deadline_counts_what_was_jumped_over() -> None:
    """A deadline of two minutes has room for two waits of 50 s, not for three."""
    client, inner = scripted(HINT, deadline=120)
    with no_waiting(), pytest.raises(openai.RateLimitError) as caught:
        await ask(client)
    assert len(inner.sent) == 3
    assert "before the deadline" in diagnose(caught.value).reason


@pytest.mark.anyio
async def test_waits_end_in_their_order() -> None:
    """Who would have waited less goes first, and no wait is longer than it would have been."""
    order: list[float] = []

    async def wait(seconds: float) -> None:
        await running_loop().sleep(seconds)
        order.append(seconds)
        assert seconds - 1e-6 <= clock() - started < seconds + 15  # floats: the last digit is lost

    with no_waiting():
        started = clock()
        async with anyio.create_task_group() as tasks:
            for seconds in (300.0, 20.0, 100.0, 4_000.0):
                tasks.start_soon(wait, seconds)
    assert order == [20.0, 100.0, 300.0, 4_000.0]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take no pause of a busy machine for one without any change."""
    monkeypatch.setattr(waiting, "PATIENCE", 600.0)


@pytest.mark.anyio
@pytest.mark.usefixtures("patient")
async def test_time_stands_still_while_the_gateway_works(
    client_of: Callable[[Gateway], openai.AsyncOpenAI],
) -> None:
    """Requests above the gateway's capacity come back when there is room, not a hundred times."""
    gateway = Gateway(capacity=ConcurrencyCap(5, retry_after=3), latency=0.02)
    client = wrap(client_of(gateway), max_retries=6)
    with no_waiting():
        async with anyio.create_task_group() as tasks:
            for _ in range(40):
                tasks.start_soon(ask, client)
    assert gateway.answered == 40
    assert gateway.refused <= 25


@pytest.mark.anyio
async def test_an_open_stream_holds_time_back_for_a_moment_only(
    client_of: Callable[[Gateway], openai.AsyncOpenAI],
) -> None:
    """A request made while a stream is open is retried after a moment, not after its minute."""
    gateway = Gateway()
    client = wrap(client_of(gateway), max_retries=6)
    stream = await client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "x"}], stream=True
    )
    gateway.fail("rate_limited", retry_after=50)
    with no_waiting():
        async with stream:
            await ask(client)
    assert len(gateway.requests) == 3


@pytest.mark.anyio
@pytest.mark.usefixtures("patient")
async def test_a_wait_can_be_cancelled() -> None:
    """The caller's timeout ends a wait; nothing of it is left behind."""
    client, inner = scripted(LIMITED, HINT)
    with no_waiting():
        hold = anyio.Event()
        inner.behave = lambda _request: hold.wait()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, client)
            await anyio.wait_all_tasks_blocked()
            with anyio.move_on_after(0.02) as scope:
                await running_loop().sleep(1_000)
            assert scope.cancelled_caught
            tasks.cancel_scope.cancel()
    assert snapshot(client).partitions[0].in_flight == 0


@pytest.mark.anyio
async def test_afterwards_time_passes_again_and_never_goes_back() -> None:
    """Blocks nest; after the outer one a wait is a wait, and no clock was set back."""
    before = clock()
    with no_waiting():
        with no_waiting():
            await running_loop().sleep(1_000)
        await running_loop().sleep(1_000)
    assert clock() >= before + 2_000
    with anyio.move_on_after(0.02) as scope:
        await running_loop().sleep(1_000)
    assert scope.cancelled_caught
    started = time.monotonic()
    await running_loop().sleep(0.02)
    assert time.monotonic() - started >= 0.015


@pytest.mark.anyio
async def test_afterwards_a_short_wait_is_as_short_as_ever() -> None:
    """One turn of the loop, or another task would be served first that came later."""
    order: list[str] = []

    async def wait() -> None:
        await running_loop().sleep(0)
        order.append("a wait")

    async def two_turns() -> None:
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        order.append("two turns")

    with no_waiting():
        await running_loop().sleep(1_000)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        tasks.start_soon(two_turns)
    assert order == ["a wait", "two turns"]


@pytest.mark.anyio
async def test_a_block_without_a_wait_leaves_nothing_behind() -> None:
    """A limiter's timer that is set when waiting is back fires in real time."""
    fired = anyio.Event()
    with no_waiting():
        await running_loop().sleep(50)
    loop = running_loop()
    loop.call_at(loop.now() + 0.01, fired.set)
    loop.call_at(loop.now() + 50, lambda: pytest.fail("a timer came too soon"))()
    with anyio.fail_after(100):
        await fired.wait()


def test_other_threads_do_not_wait_either(anyio_backend: tuple[str, dict[str, Any]]) -> None:
    """A service under test may run its loop in a thread of its own, started before."""
    client, inner = scripted(HINT, LIMITED, LIMITED, (200, b"{}", {}))
    with start_blocking_portal(backend=anyio_backend[0]) as portal:
        portal.call(running_loop)
        with no_waiting(), pytest.raises(openai.APIError):
            portal.call(ask, client)
    assert len(inner.sent) >= 4


def test_a_client_outlives_the_loops_of_many_tests(anyio_backend: tuple[str, Any]) -> None:
    """One client, a loop for each test: each time the closed gate opens at once."""
    client, inner = scripted(HINT, max_retries=3)

    async def test() -> None:
        with pytest.raises(openai.RateLimitError):
            await ask(client)

    for number in range(1, 4):
        with no_waiting():
            anyio.run(test, backend=anyio_backend[0])
        assert len(inner.sent) == 4 * number
        shown = snapshot(client).partitions[0]
        assert shown.closed_for is None or shown.closed_for <= 63.0
