"""Waiters with a latest time, by how long evidence may hold each back. Pure.

A rate that the user did not set is evidence: it was learnt, or read from headers that may be about
somebody else. It may hold a request back for half of the time that the caller leaves; then the
request is sent, out of turn if need be. The other half is left for the answer, so that no call is
lost that would be answered without this library.
"""

from __future__ import annotations

import math
from heapq import heapify, heappop, heappush
from typing import Final, Generic, Protocol, TypeVar

#: Waiters that have left stay in the heap until it is twice as large as after the last sweep, and
#: this much larger.
_LEFT_KEPT: Final = 64
#: Seconds without a request out of turn after one was refused; they double each time.
_PAUSE: Final = 1.0
_PAUSE_MOST: Final = 16.0


class Hurried(Protocol):
    """A waiter: until when evidence may hold it back, and whether it has ``left``."""

    serial: int
    paced_until: float
    left: bool


HurriedT = TypeVar("HurriedT", bound=Hurried)


class Pressed(Generic[HurriedT]):
    """The waiters of one partition that have a latest time, the most pressed first."""

    __slots__ = ("_heap", "_next_look", "_pause", "_paused_until")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, HurriedT]] = []
        self._next_look = _LEFT_KEPT
        self._pause = _PAUSE
        self._paused_until = -math.inf

    def __len__(self) -> int:
        """Return the size of the heap, which includes some waiters that have left."""
        return len(self._heap)

    def look_at(self, opens_at: float) -> float:
        """Return when the next may be sent that evidence holds until ``opens_at``, or infinity."""
        self._forget_left()
        if not self._heap:
            return math.inf
        paced_until = self._heap[0][0]
        return (
            self._paused_until if paced_until < opens_at else max(paced_until, self._paused_until)
        )

    def push(self, one: HurriedT) -> None:
        """Add a waiter, unless it can wait for ever."""
        if one.paced_until == math.inf:
            return
        heappush(self._heap, (one.paced_until, one.serial, one))
        if len(self._heap) > self._next_look:
            self._heap = [place for place in self._heap if not place[2].left]
            heapify(self._heap)
            self._next_look = 2 * len(self._heap) + _LEFT_KEPT

    def due(self, now: float, opens_at: float) -> HurriedT | None:
        """Return a waiter to send now: its time is up, or will be before ``opens_at``."""
        self._forget_left()
        if not self._heap or self.is_paused(now):
            return None
        paced_until, _, one = self._heap[0]
        return one if paced_until <= now or paced_until < opens_at else None

    def is_paused(self, now: float) -> bool:
        """Return True if evidence has just proved right: a request sent against it was refused."""
        return now < self._paused_until

    def went(self, now: float) -> None:
        """Note a request sent against evidence; if earlier ones were refused, pause after each."""
        if self._pause > _PAUSE:
            self._pause_from(now)

    def ended(self, now: float, *, is_refused: bool) -> None:
        """Note the end of a request that was sent against evidence."""
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
    """Return until when evidence may hold back a request that is of use until ``latest``."""
    return latest if latest == math.inf else now + max(0.0, latest - now) / 2
