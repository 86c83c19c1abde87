"""All partitions of a limiter. Nothing here waits or locks: the limiter calls under its lock."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Final

from .partition import Partition

#: Partitions that nobody used for this many seconds are forgotten, and the longest idle ones
#: above this number, so that a service which sees ten thousand model names stays small.
FORGET_AFTER: Final = 300.0
IDLE_KEPT: Final = 1_024
_FIRST_SWEEP: Final = 128


class Partitions(dict[Hashable, Partition]):
    """Partitions by their key; ``make`` makes a new one."""

    def __init__(self, make: Callable[[Hashable], Partition]) -> None:
        super().__init__()
        self._make = make
        self._sweep_at = _FIRST_SWEEP

    def touch(self, key: Hashable, now: float) -> Partition:
        """Return the partition of a key, which is used now."""
        partition = self.get(key)
        if partition is None:
            if len(self) >= self._sweep_at:
                self._forget_idle(now)
            partition = self[key] = self._make(key)
        partition.used_at = now
        return partition

    def _forget_idle(self, now: float) -> None:
        idle = sorted((p for p in self.values() if p.idle), key=lambda p: p.used_at)
        for place, partition in enumerate(idle):
            if place < len(idle) - IDLE_KEPT or partition.used_at < now - FORGET_AFTER:
                self.pop(partition.key, None)  # a key may have changed its hash
        self._sweep_at = max(_FIRST_SWEEP, 2 * len(self))
