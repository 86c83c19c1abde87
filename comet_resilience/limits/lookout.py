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


#: How many slots came back so far, and how often a read of the open answers began or ended.
Turns = tuple[int, int]


class Stillness:
    """The time for which all slots of a partition have been held by answers that nobody reads.

    ``turns`` changes with each slot that comes back and with each read of an answer that begins or
    ends. Looked at together with the ``Lookout``, which waits ``LOOK_EVERY`` between looks.
    """

    __slots__ = ("_lasts", "_since", "_told", "_turns")

    def __init__(self) -> None:
        self._since = 0.0
        self._turns: Turns = (0, 0)
        self._lasts: float | None = None
        self._told = False

    def begin(self, now: float, turns: Turns) -> None:
        """Begin to watch: somebody waits, for the first time in a while."""
        self._since, self._turns, self._lasts, self._told = now, turns, None, False

    def look(self, now: float, turns: Turns, held_up: bool) -> None:
        """Compare with the last look; ``held_up`` says whether nobody reads at this moment."""
        if held_up and turns == self._turns:
            self._lasts = now - self._since
        else:
            self.begin(now, turns)

    def lasts(self, now: float) -> float | None:
        """Return the seconds since anything moved, ``None`` where something did lately."""
        return None if self._lasts is None else max(0.0, now - self._since)

    def untold(self) -> float | None:
        """Return the seconds of a standstill once; ``None`` where there is none, or it is told."""
        if self._told or self._lasts is None:
            return None
        self._told = True
        return self._lasts
