"""What the limiter asks of an event loop, on asyncio and on trio, alive and gone."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio

from comet_resilience.limits import eventloop
from comet_resilience.limits.eventloop import (
    EventLoop,
    call_later,
    clock,
    running_loop,
    see_through,
    time_and_loop,
)

pytestmark = pytest.mark.timeout(120)


@pytest.mark.anyio
async def test_one_run_has_one_loop_and_its_time() -> None:
    """Asking again gives the same object; its clock is the one of the whole process."""
    here = running_loop()
    assert running_loop() is here
    now, loop = time_and_loop()
    assert loop is here
    assert now <= here.now() <= clock()
    await here.sleep(0.001)
    assert here.now() > now


def test_all_loops_of_a_process_share_one_clock() -> None:
    """Asyncio, trio, and a thread without a loop: a limiter may serve them all."""

    async def ask() -> float:
        return clock()

    for _ in range(2):
        before = time.monotonic()
        times = [clock(), asyncio.run(ask()), trio.run(ask), clock()]
        assert before <= times[0]
        assert times == sorted(times)
        assert times[-1] <= time.monotonic()
    assert time_and_loop()[1] is None


@pytest.mark.anyio
async def test_a_place_to_wait_is_left_at_the_word() -> None:
    """Giving the word twice is giving it once."""
    place = running_loop().park()
    assert not place.is_over
    place.go()
    place.go()
    assert place.is_over
    await place


@pytest.mark.anyio
async def test_timers_run_at_their_time_unless_called_off() -> None:
    """And nothing is left of one that was called off; uvloop counts in whole milliseconds."""
    here, ran = running_loop(), list[str]()
    now = here.now()
    here.call_at(now + 0.004, lambda: ran.append("second"))
    here.call_at(now + 0.002, lambda: ran.append(f"first, {here.now() >= now + 0.001}"))
    here.call_at(now + 0.003, lambda: ran.append("never"))()
    while len(ran) < 2:  # noqa: ASYNC110 - a timer sets no event
        await anyio.sleep(0.001)
    assert ran == ["first, True", "second"]


@pytest.mark.parametrize("run", [asyncio.run, trio.run], ids=["asyncio", "trio"])
def test_a_loop_is_reached_from_any_thread_until_it_is_gone(run: Any) -> None:
    """Then it says so, for a slot to go to somebody else."""

    async def call() -> tuple[EventLoop, bool]:
        here, reached = running_loop(), anyio.Event()
        assert await anyio.to_thread.run_sync(here.call_soon, reached.set)
        await reached.wait()
        return here, here.call_soon(lambda: None)

    loop, was_there = run(call) if run is trio.run else run(call())
    assert was_there
    assert not loop.call_soon(lambda: None)


@pytest.mark.anyio
async def test_a_task_of_nobody_runs_to_its_end_and_fails_quietly() -> None:
    """Clean-up has no one to tell, and is not collected half way."""
    here, ran = running_loop(), list[str]()
    waited_for = weakref.WeakSet[anyio.Event]()

    async def clean_up() -> None:
        event = anyio.Event()  # nobody else holds it, nor the task that waits for it
        waited_for.add(event)
        await event.wait()
        ran.append("done")
        raise ValueError("nobody hears this")

    assert here.start(clean_up)
    assert here.start(clean_up)
    await anyio.wait_all_tasks_blocked()
    gc.collect()
    for event in tuple(waited_for):
        event.set()
    await anyio.wait_all_tasks_blocked()
    await anyio.lowlevel.checkpoint()
    assert ran == ["done", "done"]
    assert not getattr(here, "_tasks", None)


@pytest.fixture
def lens() -> Iterator[list[EventLoop]]:
    """Every loop that is seen from now on, each through a lens that doubles its time."""
    seen: list[EventLoop] = []

    class Doubled:
        def __init__(self, loop: EventLoop) -> None:
            self.loop = loop

        def now(self) -> float:
            return 2 * self.loop.now()

    def look(loop: EventLoop) -> Any:
        seen.append(loop)
        return Doubled(loop)

    see_through(look, monotonic=lambda: -1.0)
    yield seen
    see_through(None)
    assert eventloop._monotonic is time.monotonic


def test_time_may_be_seen_through_a_lens(lens: list[EventLoop]) -> None:
    """Loops and threads without one; each loop is looked at once."""

    async def twice() -> tuple[float, float]:
        first = clock()
        return first, clock()

    assert clock() == -1.0
    before = time.monotonic()
    for run in (asyncio.run(twice()), trio.run(twice)):
        assert 2 * before <= run[0] <= run[1] <= 2 * time.monotonic()
    assert len(lens) == 2


@pytest.mark.anyio
async def test_a_call_later_needs_no_task_and_knows_no_lens() -> None:
    """It comes on the loop that asked for it."""
    see_through(lambda _loop: None)  # type: ignore[arg-type,return-value]
    try:
        called = anyio.Event()
        call_later(0.0, called.set)
        await called.wait()
    finally:
        see_through(None)


def test_a_call_later_without_a_loop_is_never_made() -> None:
    """There is nobody to make it."""
    call_later(0.0, lambda: pytest.fail("called"))
