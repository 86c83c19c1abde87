"""Requests whose callers cannot wait for ever, by how long evidence may hold each back. Pure.

A rate that nobody told is evidence: headers that may be about somebody else, a rate that was
learnt. It may hold a request back for half of the time that its caller leaves it; then the request
goes, out of turn if need be. So it has the other half for its answer, and nothing is lost that
would have been answered without this library.
"""

from __future__ import annotations

import math
from heapq import heapify, heappop, heappush
from typing import Final, Generic, Protocol, TypeVar

#: A heap is rid of those who left once it has so many times their number, and a few more.
_LEFT_KEPT: Final = 64


class Hurried(Protocol):
    """One who waits: until when evidence may hold it back, and if it ``left``."""

    serial: int
    paced_until: float
    left: bool


HurriedT = TypeVar("HurriedT", bound=Hurried)


class Pressed(Generic[HurriedT]):
    """Those of one partition who have a latest time, the most pressed first."""

    __slots__ = ("_heap", "_next_look")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, HurriedT]] = []
        self._next_look = _LEFT_KEPT

    def __len__(self) -> int:
        """Count the places that are kept, those of a few who left included."""
        return len(self._heap)

    @property
    def wake_at(self) -> float:
        """Return when the next has to go, infinity if nobody has to."""
        self._forget_left()
        return self._heap[0][0] if self._heap else math.inf

    def push(self, one: HurriedT) -> None:
        """Note one who waits; one who can wait for ever is never pressed."""
        if one.paced_until == math.inf:
            return
        heappush(self._heap, (one.paced_until, one.serial, one))
        if len(self._heap) > self._next_look:
            self._heap = [place for place in self._heap if not place[2].left]
            heapify(self._heap)
            self._next_look = 2 * len(self._heap) + _LEFT_KEPT

    def due(self, now: float, opens_at: float) -> HurriedT | None:
        """Return one who has to go: its time is up, or would be before anything opens."""
        self._forget_left()
        if not self._heap:
            return None
        paced_until, _, one = self._heap[0]
        return one if paced_until <= now or paced_until < opens_at else None

    def _forget_left(self) -> None:
        while self._heap and self._heap[0][2].left:
            heappop(self._heap)


def half_way(now: float, latest: float) -> float:
    """Return until when evidence may hold a request back that is of use until ``latest``."""
    return latest if latest == math.inf else now + max(0.0, latest - now) / 2
