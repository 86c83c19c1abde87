"""When to look for answers that were dropped, where only the garbage collector finds them. Pure.

A response that nobody reads any more gives its slot back when it is collected. One that stands in
a reference cycle (the SDK makes one around each stream) waits for the collector, which runs when
objects are made. Where all slots are held so and everybody waits, none is made: a standstill.
So while requests wait and nothing moves, the young generations are collected from time to time,
which takes milliseconds, and rarely all of them.
"""

from __future__ import annotations

import math
from typing import Final

#: Seconds without any movement after which to look, and then again.
LOOK_EVERY: Final = 5.0
#: Every so many looks in a row, all objects are looked at.
ALL_EVERY: Final = 12
_YOUNG, _ALL = 1, 2


class Lookout:
    """For one partition; ``moved`` is how many slots came back so far."""

    __slots__ = ("_looks", "_moved", "at")

    def __init__(self) -> None:
        self.at: float = math.inf
        self._moved = 0
        self._looks = 0

    def begin(self, now: float, moved: int) -> None:
        """Somebody waits, for the first time in a while."""
        self.at, self._moved, self._looks = now + LOOK_EVERY, moved, 0

    def look(self, now: float, moved: int) -> int | None:
        """The generation to collect, ``None`` if it is not time yet or something moved."""
        if now < self.at:
            return None
        stands_still = moved == self._moved
        self.at, self._moved = now + LOOK_EVERY, moved
        self._looks = self._looks + 1 if stands_still else 0
        if not stands_still:
            return None
        return _ALL if self._looks % ALL_EVERY == 0 else _YOUNG
