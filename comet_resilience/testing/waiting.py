"""Tests that do not wait: the library's own clock jumps over its own waits.

Inside ``no_waiting()`` the backoff, a Retry-After and the limiter's holds and closures take no real
time, on any event loop of the process. Nothing else changes: attempts, reasons and delays are those
of a run that waits, and the deadline counts what was jumped over. Three rules:

1. Time jumps to the next thing that the library waits for, in order, never past it.
2. It does not jump while requests are in flight, because the gateway answers in real time: a
   request that was refused for load must not come back before there is room.
3. A body that the caller holds open without reading counts as in flight too. So when nothing at
   all has moved for a moment (``PATIENCE``), time jumps nevertheless.

Your own timeouts, ``queue_timeout`` and the gateway's latency pass in real time.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

from ..limits import limiter
from ..limits.eventloop import EventLoop, Parking, see_through

#: Seconds without any movement after which requests in flight no longer hold time back.
PATIENCE: Final = 0.5
#: Seconds between two looks at what is in flight.
_LOOK: Final = 0.001


class _Time:
    """How far the library's clock is ahead of the loops', and whether it may jump.

    The mutable state is common to all loops. The clock never goes back: a client that outlives
    ``no_waiting()`` would otherwise find its closed gate closed for as long again.
    """

    def __init__(self) -> None:
        self.ahead = 0.0
        self.jumping = 0


_time = _Time()


@contextmanager
def no_waiting() -> Iterator[None]:
    """Let the waits of this library take no time until the end of the block; may be nested."""
    if not _time.jumping and not _time.ahead:
        see_through(_JumpingLoop, lambda: time.monotonic() + _time.ahead)
    _time.jumping += 1
    try:
        yield
    finally:
        _time.jumping -= 1
        if not _time.jumping and not _time.ahead:
            see_through(None)


class _Entry:
    """Something to be done at a time."""

    __slots__ = ("function", "number", "when")

    def __init__(self, when: float, number: int, function: Callable[[], object]) -> None:
        self.when = when
        self.number = number
        self.function: Callable[[], object] | None = function

    def __lt__(self, other: _Entry) -> bool:
        return (self.when, self.number) < (other.when, other.number)

    def call_off(self) -> None:
        self.function = None


class _JumpingLoop:
    """An event loop whose clock jumps to whatever the library waits for."""

    def __init__(self, loop: EventLoop) -> None:
        self._loop = loop
        self._numbers = itertools.count()
        self._entries: list[_Entry] = []
        self._is_looking = False
        self._seen: list[tuple[int, int, int, int]] = []
        self._moved_at = 0.0

    def now(self) -> float:
        return self._loop.now() + _time.ahead

    def call_soon(self, function: Callable[[], object]) -> bool:
        return self._loop.call_soon(function)

    def park(self) -> Parking:
        return self._loop.park()

    def start(self, function: Callable[[], Awaitable[object]]) -> bool:
        return self._loop.start(function)

    async def sleep(self, seconds: float) -> None:
        parking = self.park()
        call_off = self.call_at(self.now() + seconds, parking.go)
        try:
            await parking
        finally:
            call_off()

    def call_at(self, when: float, function: Callable[[], object]) -> Callable[[], object]:
        if not _time.jumping:
            return self._loop.call_at(when - _time.ahead, function)
        entry = _Entry(when, next(self._numbers), function)
        heapq.heappush(self._entries, entry)
        if not self._is_looking:
            self._is_looking = True
            self._look_in(0)
        return entry.call_off

    def _look_in(self, seconds: float) -> None:
        self._loop.call_at(self._loop.now() + seconds, self._look)

    def _look(self) -> None:
        """Jump if nothing is in flight, and do what is due."""
        entries = self._entries
        while entries and entries[0].function is None:
            heapq.heappop(entries)
        if not entries:
            self._is_looking = False
            return
        if _time.jumping and self._may_jump():
            _time.ahead += max(0.0, entries[0].when - self.now())
        done = self._do_what_is_due()
        self._look_in(0 if done else _LOOK)

    def _do_what_is_due(self) -> bool:
        entries, now, done = self._entries, self.now(), False
        while entries and entries[0].when <= now:
            function = heapq.heappop(entries).function
            if function is not None:
                function()
                done = True
        return done

    def _may_jump(self) -> bool:
        shown = [
            (partition.in_flight, partition.ok, partition.refused, partition.other)
            for each in tuple(limiter._limiters)  # noqa: SLF001 - all that there are
            for partition in each.snapshot().partitions
        ]
        if not any(in_flight for in_flight, *_ in shown):
            return True
        if shown != self._seen:
            self._seen, self._moved_at = shown, self._loop.now()
        return self._loop.now() - self._moved_at >= PATIENCE
