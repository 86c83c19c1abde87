"""The pace of a run: as many calls begin as the limiter could soon send.

A call that has begun costs kilobytes while it waits for a slot, one that has not costs nothing.
So calls begin only while

1. calls that have not asked for a slot yet, and those that wait for one, are fewer than the free
   slots and a few more, so that a slot that becomes free is used at once;
2. calls whose result the reader has not taken yet are fewer than a few times the limit: a slow
   reader, or one slow call if results are in order, holds the run back.

The partitions that count are learned from the calls: each reports when its request asks for a slot,
and where (``overrides.Witness``). Until the first report one call at a time begins. A call that is
slow to ask (it loads a picture, say) is no longer counted by rule 1, or the limit would never be
reached.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Final

from ..limits.snapshot import Load

#: Seconds after which a call that has not asked for a slot is busy with something else.
PREPARES_AFTER: Final = 0.05
#: Calls ahead: one, and one more for this many slots of the limit.
AHEAD_SHARE: Final = 8
#: Calls begun and not taken, as a multiple of the limit.
WINDOW: Final = 4


@dataclass(slots=True, eq=False)
class BulkCall:
    """The call for one item. ``name`` is that of its key, empty without a checkpoint."""

    item: Any
    name: bytes
    began: float
    value: Any = None
    error: Exception | None = None
    is_over: bool = False
    is_fresh: bool = True
    keys: list[Hashable] = field(default_factory=list)


class Pace:
    """The calls of one run, counted. ``load_of`` returns the figures of a partition.

    ``max_queue`` is the client's. With ``has_deadline`` waiting counts against a deadline, so no
    call waits ahead.
    """

    def __init__(
        self, load_of: Callable[[Hashable], Load], max_queue: int | None, *, has_deadline: bool
    ) -> None:
        self._load_of = load_of
        self._max_queue = max_queue
        self._has_deadline = has_deadline
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
        """Note that a call's request asks for a slot; return whether its partition is new."""
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
            if len(self._calls) > 1:  # the last one stays: its limit is the best guess
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
        """Return the sum of the limits in use."""
        return sum(self._load_of(key).limit for key in self._calls)

    def refused(self) -> int:
        """Return the number of attempts refused for load since the run began."""
        return self._refused + sum(map(self._refused_in, self._calls))

    def _ahead(self, limit: int) -> int:
        if self._has_deadline:
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
        """Drop calls that are busy with something else, or have asked for a slot."""
        fresh = self._fresh
        while fresh and not (fresh[0].is_fresh and now - fresh[0].began < PREPARES_AFTER):
            self._stale(fresh.popleft())

    def _stale(self, call: BulkCall) -> None:
        if call.is_fresh:
            call.is_fresh = False
            self._fresh_count -= 1
