"""The queue of one partition: FIFO order within a priority, and no priority starves. Pure.

1. The head of the highest priority is next.
2. A priority that was overtaken ``OVERTAKEN_MOST`` times since its last turn goes before it; of
   several the one that was overtaken most. So the head of a priority waits for at most that many
   others, and one more for each further priority that waits.
3. Within a priority the smallest item by ``<`` is next: a retry keeps the order of its request.
   An item that was ``put_first`` goes before it.

Turns are counted, not seconds: an urgent request is never behind thousands of others only because
they have waited for long. With one priority the queue is a heap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush
from typing import Any, Final, Generic, Protocol, TypeVar

from .priority import NORMAL

#: How often higher priorities overtake the head of a priority before its turn comes. A choice: an
#: eighth of the slots is enough to make progress with.
OVERTAKEN_MOST: Final = 8
#: Items that left and may stay in a list beside as many as wait, so that cleaning up costs O(1)
#: for each that leaves.
_LEFT_KEPT: Final = 64


class Queued(Protocol):
    """An item of the queue; ``left`` once it does not wait any more."""

    priority: int
    left: bool

    def __lt__(self, other: Any, /) -> bool: ...


QueuedT = TypeVar("QueuedT", bound=Queued)


class _Line(Generic[QueuedT]):
    """The items of one priority; it exists while at least one of them waits."""

    __slots__ = ("first", "heap", "latest", "overtaken", "waiting")

    def __init__(self) -> None:
        self.heap: list[QueuedT] = []
        self.latest: list[QueuedT] = []  # in the order of arrival
        self.first: QueuedT | None = None  # of the heap's items, the one that was put first
        self.waiting: int = 0
        self.overtaken: int = 0

    def head(self) -> QueuedT:
        """Return the first item that still waits."""
        if self.first is not None:
            if not self.first.left:
                return self.first
            self.first = None
        while self.heap[0].left:
            heappop(self.heap)
        return self.heap[0]


class Queue(Generic[QueuedT]):
    """The waiting requests of one partition."""

    __slots__ = ("_lines",)

    def __init__(self) -> None:
        self._lines: dict[int, _Line[QueuedT]] = {}

    def __iter__(self) -> Iterator[QueuedT]:
        """Iterate over all items that wait, in no order."""
        return (one for line in self._lines.values() for one in line.heap if not one.left)

    @property
    def places(self) -> int:
        """Count the items that are stored, including a few that have left."""
        return sum(max(len(line.heap), len(line.latest)) for line in self._lines.values())

    def push(self, one: QueuedT) -> None:
        """Add an item."""
        line = self._lines.get(one.priority)
        if line is None:
            line = self._lines[one.priority] = _Line()
        heappush(line.heap, one)
        line.latest.append(one)
        line.waiting += 1

    def head(self) -> QueuedT:
        """Return the next item; the queue must not be empty."""
        return self._lines[self._next()].head()

    def pop(self) -> QueuedT:
        """Remove and return the next item; all lower priorities are overtaken once more."""
        one = self.head()
        self.leave(one)
        for priority, line in self._lines.items():
            if priority == one.priority:
                line.overtaken = 0
            elif priority > one.priority:
                line.overtaken += 1
        return one

    def latest(self, priority: int, fits: Callable[[QueuedT], bool]) -> QueuedT | None:
        """Return the latest item of a priority that ``fits``, which those it passes over never do.

        They are forgotten here, so that it costs O(1) for each item that arrives.
        """
        latest = self._lines[priority].latest
        while latest and (latest[-1].left or not fits(latest[-1])):
            latest.pop()
        return latest[-1] if latest else None

    def put_first(self, one: QueuedT) -> None:
        """Make an item that waits the next one of its priority."""
        self._lines[one.priority].first = one

    def leave(self, one: QueuedT) -> None:
        """Remove an item out of its turn."""
        one.left = True
        line = self._lines[one.priority]
        self._count_out(line, one.priority)
        kept = 2 * line.waiting + _LEFT_KEPT
        if len(line.heap) > kept:
            line.heap = [each for each in line.heap if not each.left]
            heapify(line.heap)
        if len(line.latest) > kept:
            line.latest = [each for each in line.latest if not each.left]

    def most_urgent(self) -> int:
        """Return the highest priority (the lowest number) that waits; it must not be empty."""
        return min(self._lines)

    def ahead_of(self, priority: int) -> int:
        """Count the items ahead of a new one with a priority."""
        return sum(line.waiting for other, line in self._lines.items() if other <= priority)

    def by_priority(self) -> tuple[tuple[int, int], ...]:
        """Return (priority, number of items) pairs in order; empty if all have the usual one."""
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

    def _count_out(self, line: _Line[QueuedT], priority: int) -> None:
        line.waiting -= 1
        if not line.waiting:
            del self._lines[priority]
