"""Tests without waiting: the library's own clock jumps over its own waits.

Inside ``no_waiting()`` the backoff, a Retry-After and the limiter's holds and closures take no real
time, on any event loop of the process. Nothing else changes: attempts, reasons and delays are those
of a run that waits, and the deadline counts what was jumped over. Three rules:

1. Time jumps to the next thing that the library waits for, in order, never past it.
2. It does not jump while requests are in flight, because the gateway answers in real time: a
   request that was refused for load must not come back before there is room.
3. A body that the caller holds open without reading counts as in flight too. So when nothing at
   all has changed for a moment (``PATIENCE``), time jumps nevertheless.

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

#: Seconds without any change after which requests in flight no longer hold time back.
PATIENCE: Final = 0.5
#: Seconds between two checks of the requests in flight.
_POLL_INTERVAL: Final = 0.001


class _Time:
    """The library's clock: its lead over the loops' (seconds), and the number of open blocks.

    This state is mutable and common to all loops. The clock never goes back: a client that outlives
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


class _Timer:
    """A function to be called at a time."""

    __slots__ = ("function", "number", "when")

    def __init__(self, when: float, number: int, function: Callable[[], object]) -> None:
        self.when = when
        self.number = number
        self.function: Callable[[], object] | None = function

    def __lt__(self, other: _Timer) -> bool:
        return (self.when, self.number) < (other.when, other.number)

    def cancel(self) -> None:
        self.function = None


class _JumpingLoop:
    """An event loop whose clock jumps to the next timer of the library."""

    def __init__(self, loop: EventLoop) -> None:
        self._loop = loop
        self._numbers = itertools.count()
        self._timers: list[_Timer] = []
        self._is_polling = False
        self._counts: list[tuple[int, int, int, int]] = []
        self._changed_at = 0.0

    def now(self) -> float:
        return self._loop.now() + _time.ahead

    def call_soon(self, function: Callable[[], object]) -> bool:
        return self._loop.call_soon(function)

    def park(self) -> Parking:
        return self._loop.park()

    def start(self, function: Callable[[], Awaitable[object]]) -> bool:
        return self._loop.start(function)

    async def sleep(self, seconds: float) -> None:
        if not _time.jumping:  # in the same order as had there never been a block
            await self._loop.sleep(seconds)
            return
        parking = self.park()
        cancel = self.call_at(self.now() + seconds, parking.go)
        try:
            await parking
        finally:
            cancel()

    def call_at(self, when: float, function: Callable[[], object]) -> Callable[[], object]:
        if not _time.jumping:
            return self._loop.call_at(when - _time.ahead, function)
        timer = _Timer(when, next(self._numbers), function)
        heapq.heappush(self._timers, timer)
        if not self._is_polling:
            self._is_polling = True
            self._poll_in(0)
        return timer.cancel

    def _poll_in(self, seconds: float) -> None:
        self._loop.call_at(self._loop.now() + seconds, self._poll)

    def _poll(self) -> None:
        """Jump if nothing is in flight, and call what is due."""
        timers = self._timers
        while timers and timers[0].function is None:
            heapq.heappop(timers)
        if not timers:
            self._is_polling = False
            return
        if _time.jumping and self._may_jump():
            _time.ahead += max(0.0, timers[0].when - self.now())
        called = self._call_due()
        self._poll_in(0 if called else _POLL_INTERVAL)

    def _call_due(self) -> bool:
        timers, now, called = self._timers, self.now(), False
        while timers and timers[0].when <= now:
            function = heapq.heappop(timers).function
            if function is not None:
                function()
                called = True
        return called

    def _may_jump(self) -> bool:
        counts = [
            (partition.in_flight, partition.ok, partition.refused, partition.other)
            for each in tuple(limiter._limiters)  # noqa: SLF001 - all that there are
            for partition in each.snapshot().partitions
        ]
        if not any(in_flight for in_flight, *_ in counts):
            return True
        if counts != self._counts:
            self._counts, self._changed_at = counts, self._loop.now()
        return self._loop.now() - self._changed_at >= PATIENCE
