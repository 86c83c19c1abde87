"""Dropped answers that only the garbage collector can give back do not stop a service for good."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import trio.testing

from comet_resilience import FixedLimit, snapshot
from comet_resilience.limits.lookout import ALL_EVERY, LOOK_EVERY, Lookout

from ..conftest import MESSAGES, OK, Answer, ask, scripted

CHUNK = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n'
STREAM: Answer = (200, [CHUNK, CHUNK], {"content-type": "text/event-stream"})
OPTIONS: Any = {"algorithm": lambda: FixedLimit(1)}


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    """As in a process that has nothing to do: no object is made, and none collected."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")
def test_a_dropped_stream_stops_the_others_for_some_seconds_not_for_good() -> None:
    async def main() -> None:
        client, _ = scripted(STREAM, OK, **OPTIONS)
        stream = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
        del stream  # in a cycle with its own generator
        began = trio.current_time()
        await ask(client)
        assert LOOK_EVERY <= trio.current_time() - began <= 2 * LOOK_EVERY
        assert snapshot(client).partitions[0].in_flight == 0

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


class Loop:
    """A loop of which only the timers count."""

    def __init__(self) -> None:
        self.time = 0.0
        self.timers: list[tuple[float, Any]] = []

    def now(self) -> float:
        return self.time

    def call_at(self, when: float, function: Any) -> Any:
        self.timers.append((when, function))

    def run(self) -> None:
        self.time, function = self.timers.pop(0)
        function()


class Cycle:
    """What only the collector frees."""

    def __init__(self) -> None:
        self.itself = self


def dropped() -> weakref.ref[Cycle]:
    """A cycle that nobody refers to."""
    return weakref.ref(Cycle())


def test_it_looks_only_where_nothing_moves_and_only_while_somebody_waits() -> None:
    moved: dict[Any, int] = {"busy": 0}
    lookout, loop = Lookout(lambda: dict(moved)), Loop()
    lookout.watch(0.0, loop)  # type: ignore[arg-type]
    lookout.watch(1.0, loop)  # type: ignore[arg-type]
    assert len(loop.timers) == 1
    lost = dropped()
    moved["busy"] += 1
    loop.run()
    assert lost() is not None  # there was movement
    moved["stuck"] = 3
    loop.run()
    assert lost() is None  # "busy" stood still this time
    lost = dropped()
    moved["busy"] += 1
    loop.run()
    assert lost() is None  # one partition that stands still is enough
    moved.clear()
    loop.run()
    assert not loop.timers
    lookout.watch(100.0, loop)  # type: ignore[arg-type]
    assert loop.timers


def test_old_objects_are_looked_at_rarely() -> None:
    lookout, loop = Lookout(lambda: {"stuck": 1}), Loop()
    lookout.watch(0.0, loop)  # type: ignore[arg-type]
    old = Cycle()
    gc.collect()
    gc.collect()  # now it is of the oldest generation
    lost = weakref.ref(old)
    del old
    for _ in range(ALL_EVERY - 1):
        loop.run()
    assert lost() is not None
    loop.run()
    assert lost() is None


def test_a_timer_that_died_with_its_loop_is_set_again() -> None:
    lookout, dead, loop = Lookout(lambda: {"stuck": 1}), Loop(), Loop()
    lookout.watch(0.0, dead)  # type: ignore[arg-type]
    lookout.watch(LOOK_EVERY + 1, loop)  # type: ignore[arg-type]
    assert not loop.timers
    lookout.watch(LOOK_EVERY + 6, loop)  # type: ignore[arg-type]
    assert loop.timers
