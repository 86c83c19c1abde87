"""The time to look for dropped answers that only the garbage collector finds. Pure.

A response that nobody reads any more gives its slot back when it is collected. One that stands in
a reference cycle (the SDK makes one around each stream) waits for the collector, which runs when
objects are made. Where all slots are held so and everybody waits, none is made: a standstill.
So while requests wait and nothing moves, the young generations are collected from time to time,
which takes milliseconds; then all of them, for a stream that grew old, but not often.
"""

from __future__ import annotations

import math
from typing import Final

#: Seconds without any movement after which to look, and then again.
LOOK_EVERY: Final = 5.0
#: All objects are looked at by the second look in a row, and not again for so many seconds: in a
#: large process that takes a second, and answers may take minutes without anything being wrong.
ALL_EVERY: Final = 60.0
#: Generations of objects, as the collector counts them.
YOUNG: Final = 1
ALL: Final = 2


class Lookout:
    """For one partition; ``moved`` is how many slots came back so far."""

    __slots__ = ("_all_at", "_looked", "_moved", "at")

    def __init__(self) -> None:
        self.at: float = math.inf
        self._all_at = -math.inf
        self._moved = 0
        self._looked = False

    def begin(self, now: float, moved: int) -> None:
        """Begin to watch: somebody waits, for the first time in a while."""
        self.at, self._moved, self._looked = now + LOOK_EVERY, moved, False

    def look(self, now: float, moved: int, begun: int) -> int | None:
        """Return the generation to collect, ``None`` if it is not time yet or something moved.

        ``begun`` is how many slots are held by answers that the caller has in hand: without any
        there is none that could have been dropped, however long the others take.
        """
        if now < self.at:
            return None
        looked, stands_still = self._looked, begun > 0 and moved == self._moved
        self.at, self._moved, self._looked = now + LOOK_EVERY, moved, stands_still
        if not stands_still:
            return None
        if not looked or now < self._all_at:
            return YOUNG
        self._all_at = now + ALL_EVERY
        return ALL
