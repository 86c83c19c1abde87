"""The gateway: a counter that all processes share, and the exact record of its every move.

It takes a request while fewer than ``capacity`` are in flight, else it refuses. Each move is
kept with its time, so whatever is asked later is computed from the record and not sampled.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import SpawnContext
from typing import Final

_MOST: Final = 200_000
#: Where the single numbers stand.
_MOVES, _IN_FLIGHT, _CAPACITY, _MEMBERS = range(4)


@dataclass(frozen=True, slots=True)
class Move:
    """Who came (``change`` 1), went (-1, or more if killed) or was refused (0), and when."""

    at: float
    member: int
    change: int


class SharedGateway:
    """One for a whole crew of processes; ``members`` is the most of them."""

    def __init__(self, context: SpawnContext, members: int) -> None:
        self._lock = context.Lock()
        self._numbers = context.RawArray("q", _MEMBERS + members)
        self._moves = context.RawArray("d", 3 * _MOST)
        self._dip = context.RawArray("d", 3)

    def open(self, capacity: int) -> None:
        """Begin a new record with nobody in flight."""
        with self._lock:
            for place in range(len(self._numbers)):
                self._numbers[place] = 0
            self._numbers[_CAPACITY] = capacity
            self._dip[:] = (0.0, 0.0, 0.0)

    def dip(self, capacity: int, begins: float, ends: float) -> None:
        """Take at most so many between two times of the monotonic clock; who is inside stays.

        Every process looks at the clock itself: no timer can come late.
        """
        self._dip[:] = (capacity, begins, ends)

    def enter(self, member: int) -> bool:
        """Whether a request is taken."""
        with self._lock:
            takes = bool(self._numbers[_IN_FLIGHT] < self._capacity())
            self._note(member, 1 if takes else 0)
        return takes

    def leave(self, member: int) -> None:
        """A request that was taken has ended."""
        with self._lock:
            self._note(member, -1)

    def remove(self, member: int, kill: Callable[[], object]) -> None:
        """Call ``kill``, while nobody can be inside here, and forget the member's requests."""
        with self._lock:
            kill()
            self._note(member, -self._numbers[_MEMBERS + member])

    def record(self) -> list[Move]:
        """All moves since it was opened, in order."""
        with self._lock:
            count = min(_MOST, self._numbers[_MOVES])
            flat = self._moves[: 3 * count]
        return [
            Move(flat[place], int(flat[place + 1]), int(flat[place + 2]))
            for place in range(0, 3 * count, 3)
        ]

    def _capacity(self) -> int:
        capacity, begins, ends = self._dip
        return int(capacity if begins <= time.monotonic() < ends else self._numbers[_CAPACITY])

    def _note(self, member: int, change: int) -> None:
        numbers, place = self._numbers, 3 * self._numbers[_MOVES]
        if place < 3 * _MOST:
            self._moves[place : place + 3] = (time.monotonic(), float(member), float(change))
        numbers[_MOVES] += 1
        numbers[_IN_FLIGHT] += change
        numbers[_MEMBERS + member] += change
