"""The pace of a run: as many calls begin as the limiter could send soon.

A call that has begun costs kilobytes while it waits for a slot, one that has not costs nothing.
So calls begin only while

1. those that have begun and not yet asked for a slot, and those that wait for one, are fewer than
   the slots that are free, and a few ahead, so that a slot that gets free finds a call at once;
2. those that have begun and whose result was not yet taken are fewer than a few times the limit:
   a slow reader, or one slow call where results come in order, holds the run back.

Which partitions count is learned from the calls themselves: each tells when its request asks for
a slot, and where (``overrides.Witness``). Before the first one did there is nothing to go by, and
one call at a time begins. A call that takes its time before it asks (it loads a picture, say) is
no longer counted by rule 1, or the limit would never be reached.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Final

from ..limits.snapshot import Load

#: Seconds after which a call that has not asked for a slot is busy with something else.
PREPARES_AFTER: Final = 0.05
#: One call ahead, and one for so many of the limit.
AHEAD_SHARE: Final = 8
#: Calls begun and not taken, as a multiple of the limit.
WINDOW: Final = 4


@dataclass(slots=True, eq=False)
class BulkCall:
    """One item on its way. ``name`` is that of its key, empty where keys are not kept."""

    item: Any
    name: bytes
    began: float
    value: Any = None
    error: Exception | None = None
    is_over: bool = False
    is_fresh: bool = True
    keys: list[Hashable] = field(default_factory=list)


class Pace:
    """Counts the calls of one run. ``load_of`` gives the figures of a partition.

    ``max_queue`` is the client's; ``in_a_hurry`` says that waiting counts against a deadline, so
    none is to wait ahead.
    """

    def __init__(
        self, load_of: Callable[[Hashable], Load], max_queue: int | None, *, in_a_hurry: bool
    ) -> None:
        self._load_of = load_of
        self._max_queue = max_queue
        self._in_a_hurry = in_a_hurry
        # The mutable state: calls begun and not over, begun and not taken, just begun.
        self.running: int = 0
        self.held: int = 0
        self._fresh: deque[BulkCall] = deque()
        self._fresh_count = 0
        # The partitions in use: how many calls under way asked there, refusals before the first.
        self._calls: dict[Hashable, int] = {}
        self._before: dict[Hashable, int] = {}
        self._refused = 0

    def began(self, call: BulkCall) -> None:
        """Count a call that begins."""
        self.running += 1
        self.held += 1
        self._fresh_count += 1
        self._fresh.append(call)

    def asked(self, call: BulkCall, key: Hashable) -> bool:
        """Note that a call's request asks for a slot; return whether its partition is new here."""
        self._stale(call)
        if key in call.keys:
            return False
        call.keys.append(key)
        is_new = key not in self._calls
        if is_new:
            self._before[key] = self._load_of(key).refused
        self._calls[key] = self._calls.get(key, 0) + 1
        if is_new and len(self._calls) == 2:  # the one before it may be unused
            self._forget_unused(next(iter(self._calls)))
        return is_new

    def ended(self, call: BulkCall) -> None:
        """Note that a call is over, or was cancelled."""
        self.running -= 1
        self._stale(call)
        for key in call.keys:
            self._calls[key] -= 1
            if len(self._calls) > 1:  # the last one is kept: its limit is the best guess
                self._forget_unused(key)

    def room(self, now: float) -> int:
        """Return how many calls may begin."""
        self._age(now)
        limit = free = waiting = 0
        for key, calls in self._calls.items():
            load = self._load_of(key)
            limit += load.limit
            free += max(0, load.limit - load.in_flight)
            waiting += min(load.waiting, calls)
        soon = free + self._ahead(limit) - waiting - self._fresh_count
        window = WINDOW * (limit + 1) - self.held
        least = 0 if self.running else 1
        return min(max(soon, least), window)

    def limit(self) -> int:
        """Return the limits in use, added up."""
        return sum(self._load_of(key).limit for key in self._calls)

    def refused(self) -> int:
        """Return how many attempts were refused for load since the run began."""
        return self._refused + sum(map(self._refused_in, self._calls))

    def _ahead(self, limit: int) -> int:
        if self._in_a_hurry:
            return 0
        ahead = 1 + limit // AHEAD_SHARE
        return ahead if self._max_queue is None else min(ahead, self._max_queue)

    def _refused_in(self, key: Hashable) -> int:
        return max(0, self._load_of(key).refused - self._before[key])

    def _forget_unused(self, key: Hashable) -> None:
        if not self._calls[key]:
            self._refused += self._refused_in(key)
            del self._calls[key], self._before[key]

    def _age(self, now: float) -> None:
        while self._fresh and not self._is_fresh(self._fresh[0], now):
            self._stale(self._fresh.popleft())

    def _is_fresh(self, call: BulkCall, now: float) -> bool:
        return call.is_fresh and now - call.began < PREPARES_AFTER

    def _stale(self, call: BulkCall) -> None:
        if call.is_fresh:
            call.is_fresh = False
            self._fresh_count -= 1
