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
#: Seconds for which nobody goes out of turn after one who did was refused, doubled each time.
_PAUSE: Final = 1.0
_PAUSE_MOST: Final = 16.0


class Hurried(Protocol):
    """One who waits: until when evidence may hold it back, and if it ``left``."""

    serial: int
    paced_until: float
    left: bool


HurriedT = TypeVar("HurriedT", bound=Hurried)


class Pressed(Generic[HurriedT]):
    """Those of one partition who have a latest time, the most pressed first."""

    __slots__ = ("_heap", "_next_look", "_pause", "_paused_until")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, HurriedT]] = []
        self._next_look = _LEFT_KEPT
        self._pause = _PAUSE
        self._paused_until = -math.inf

    def __len__(self) -> int:
        """Count the places that are kept, those of a few who left included."""
        return len(self._heap)

    def look_at(self, opens_at: float) -> float:
        """Return when the next may go, of whom evidence says ``opens_at``; infinity if nobody."""
        self._forget_left()
        if not self._heap:
            return math.inf
        paced_until = self._heap[0][0]
        return (
            self._paused_until if paced_until < opens_at else max(paced_until, self._paused_until)
        )

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
        if not self._heap or self.is_paused(now):
            return None
        paced_until, _, one = self._heap[0]
        return one if paced_until <= now or paced_until < opens_at else None

    def is_paused(self, now: float) -> bool:
        """Tell whether evidence was right just now: one who went against it was refused."""
        return now < self._paused_until

    def went(self, now: float) -> None:
        """Note that one goes against the evidence: where others were refused, one at a time."""
        if self._pause > _PAUSE:
            self._pause_from(now)

    def ended(self, now: float, *, is_refused: bool) -> None:
        """Note how one ended that went against the evidence."""
        if not is_refused:
            self._pause, self._paused_until = _PAUSE, -math.inf
        elif not self.is_paused(now):
            self._pause_from(now)

    def _pause_from(self, now: float) -> None:
        self._paused_until = now + self._pause
        self._pause = min(_PAUSE_MOST, 2 * self._pause)

    def _forget_left(self) -> None:
        while self._heap and self._heap[0][2].left:
            heappop(self._heap)


def half_way(now: float, latest: float) -> float:
    """Return until when evidence may hold a request back that is of use until ``latest``."""
    return latest if latest == math.inf else now + max(0.0, latest - now) / 2
