"""The queue of one partition: FIFO order within a priority, and nobody starves. Pure.

1. The first of the highest priority is next.
2. A priority that others overtook ``OVERTAKEN_MOST`` times since it was served last is next
   before them, the one first that was overtaken most. So whoever stands at the head of a priority
   waits for at most as many others, and one more for each further priority that waits.
3. Within a priority the one that orders first is next: a retry keeps the order of its request.

It counts turns, not seconds: an urgent call is never behind thousands of others only because they
have waited for long. With one priority it is a heap.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from typing import Any, Final, Generic, Protocol, TypeVar

from .priority import NORMAL

#: How often the head of a priority is overtaken by those of higher ones before its turn comes.
OVERTAKEN_MOST: Final = 8
#: A heap is rid of those who left once they outnumber those who wait by this many.
_LEFT_KEPT: Final = 64


class Queued(Protocol):
    """One who waits; it ``left`` if it does not wait any more."""

    priority: int
    left: bool

    def __lt__(self, other: Any, /) -> bool: ...


QueuedT = TypeVar("QueuedT", bound=Queued)


class _Line(Generic[QueuedT]):
    """Those of one priority; there is none without anybody who waits."""

    __slots__ = ("heap", "overtaken", "waiting")

    def __init__(self) -> None:
        self.heap: list[QueuedT] = []
        self.waiting: int = 0
        self.overtaken: int = 0

    def head(self) -> QueuedT:
        """Return the first who still waits."""
        while self.heap[0].left:
            heappop(self.heap)
        return self.heap[0]

    def forget_left(self) -> None:
        """Drop those who left, once they are many."""
        if len(self.heap) > 2 * self.waiting + _LEFT_KEPT:
            self.heap = [one for one in self.heap if not one.left]
            heapify(self.heap)


class Queue(Generic[QueuedT]):
    """Those who wait in one partition."""

    __slots__ = ("_lines",)

    def __init__(self) -> None:
        self._lines: dict[int, _Line[QueuedT]] = {}

    def __iter__(self) -> Iterator[QueuedT]:
        """Iterate over all who wait, in no order."""
        return (one for line in self._lines.values() for one in line.heap if not one.left)

    @property
    def places(self) -> int:
        """Count the places that are kept, those of a few who left included."""
        return sum(len(line.heap) for line in self._lines.values())

    def push(self, one: QueuedT) -> None:
        """Queue one at the place that its order gives it within its priority."""
        line = self._lines.get(one.priority)
        if line is None:
            line = self._lines[one.priority] = _Line()
        heappush(line.heap, one)
        line.waiting += 1

    def head(self) -> QueuedT:
        """Return the next; there must be one."""
        return self._lines[self._next()].head()

    def pop(self) -> QueuedT:
        """Take the next out of the queue: all lower priorities are overtaken once more."""
        priority = self._next()
        line = self._lines[priority]
        one = line.head()
        heappop(line.heap)
        line.overtaken = 0
        self._count_out(priority, line)
        for other, overtaken in self._lines.items():
            overtaken.overtaken += other > priority
        return one

    def take_back(self) -> QueuedT:
        """Take the next out for it to be queued at another place: that is no turn of its own."""
        priority = self._next()
        line = self._lines[priority]
        one = line.head()
        heappop(line.heap)
        self._count_out(priority, line)
        return one

    def leave(self, one: QueuedT) -> None:
        """Let one go out of its turn."""
        one.left = True
        line = self._lines[one.priority]
        self._count_out(one.priority, line)
        line.forget_left()

    def most_urgent(self) -> int:
        """Return the first priority for which anybody waits; somebody must."""
        return min(self._lines)

    def ahead_of(self, priority: int) -> int:
        """Count those before whom a new arrival does not go, if no more come."""
        return sum(line.waiting for other, line in self._lines.items() if other <= priority)

    def by_priority(self) -> tuple[tuple[int, int], ...]:
        """Return how many wait for each priority, empty where all are of the usual one."""
        counts = tuple(sorted((one, line.waiting) for one, line in self._lines.items()))
        return () if all(one == NORMAL for one, _ in counts) else counts

    def _next(self) -> int:
        """Return the priority whose turn it is."""
        lines = self._lines
        if len(lines) == 1:
            return next(iter(lines))
        overdue = [one for one, line in lines.items() if line.overtaken >= OVERTAKEN_MOST]
        if overdue:
            return max(overdue, key=lambda one: (lines[one].overtaken, -one))
        return self.most_urgent()

    def _count_out(self, priority: int, line: _Line[QueuedT]) -> None:
        line.waiting -= 1
        if not line.waiting:
            del self._lines[priority]
