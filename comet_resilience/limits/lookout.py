"""A look for answers that were dropped, where only the garbage collector could give them back.

A response that nobody reads any more gives its slot back when it is collected. One that stands in
a reference cycle (the SDK makes one around each stream) waits for the collector, which runs when
objects are made. Where all slots are held so and everybody waits, none is made: a standstill.
So while requests wait and nothing moves, the young generations are collected from time to time,
which takes milliseconds, and rarely all of them.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Hashable, Mapping
from typing import Final

from .eventloop import EventLoop

#: Seconds without any movement after which to look, and then again.
LOOK_EVERY: Final = 5.0
#: Every so many looks in a row, all objects are looked at.
ALL_EVERY: Final = 12
#: A timer that is later than this (seconds) died with its event loop.
_LATE: Final = 5.0


class Lookout:
    """Looks while somebody waits.

    ``moved`` gives, for each partition in which somebody waits, how many slots came back so far.
    """

    def __init__(self, moved: Callable[[], Mapping[Hashable, int]]) -> None:
        self._moved = moved
        self._due: float | None = None
        self._last: Mapping[Hashable, int] = {}
        self._looks = 0

    def watch(self, now: float, here: EventLoop) -> None:
        """Somebody waits, on the running loop."""
        if self._due is None or now > self._due + _LATE:
            self._last, self._looks = self._moved(), 0
            self._arm(now, here)

    def _arm(self, now: float, here: EventLoop) -> None:
        self._due = now + LOOK_EVERY
        here.call_at(self._due, lambda: self._look(here))

    def _look(self, here: EventLoop) -> None:
        self._due = None
        moved = self._moved()
        if not moved:
            return
        stands_still = any(self._last.get(key) == count for key, count in moved.items())
        self._looks = self._looks + 1 if stands_still else 0
        if stands_still:
            gc.collect(2 if self._looks % ALL_EVERY == 0 else 1)
        self._last = moved
        self._arm(here.now(), here)
