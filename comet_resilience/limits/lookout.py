"""When to run the garbage collector for answers that were dropped unread. Pure.

A response that was dropped gives its slot back when it is collected. One in a reference cycle (the
SDK makes one around each stream) has to wait for the cyclic collector, which runs as objects are
allocated. If all slots are held like this and every caller waits, nothing is allocated: a
standstill. So while requests wait and no slot is released, the young generations are collected from
time to time, which takes milliseconds; then all of them, but rarely, for a stream that grew old.
"""

from __future__ import annotations

import math
from typing import Final

#: Seconds without a released slot before a collection, and between two.
LOOK_EVERY: Final = 5.0
#: Seconds between two full collections, from the second look in a row on: in a large process one
#: takes a second, and answers may take minutes without anything being wrong.
ALL_EVERY: Final = 60.0
#: Generations of objects, as ``gc.collect`` numbers them.
YOUNG: Final = 1
ALL: Final = 2


class Lookout:
    """The collections that one partition wishes for; ``released`` counts its released slots."""

    __slots__ = ("_all_at", "_looked", "_released", "at")

    def __init__(self) -> None:
        self.at: float = math.inf
        self._all_at = -math.inf
        self._released = 0
        self._looked = False

    def begin(self, now: float, released: int) -> None:
        """Start to watch: a request waits, for the first time in a while."""
        self.at, self._released, self._looked = now + LOOK_EVERY, released, False

    def look(self, now: float, released: int, begun: int) -> int | None:
        """Return the generation to collect, ``None`` if it is too early or a slot was released.

        ``begun`` is how many slots are held by answers that the caller has in hand: only those
        can have been dropped.
        """
        if now < self.at:
            return None
        looked, stands_still = self._looked, begun > 0 and released == self._released
        self.at, self._released, self._looked = now + LOOK_EVERY, released, stands_still
        if not stands_still:
            return None
        if not looked or now < self._all_at:
            return YOUNG
        self._all_at = now + ALL_EVERY
        return ALL
