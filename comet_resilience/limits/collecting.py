"""The garbage collector, run for all limiters of the process together and within a budget.

One collection finds the dropped answers of every partition of every client, so many waiting
partitions need no more of them than one. A collection begins ``LOOK_EVERY`` after the last at the
earliest (a full one ``ALL_EVERY``), and after ``REST`` times the CPU time that the last one took.
"""

from __future__ import annotations

import gc
import time
from typing import Final

from .lookout import ALL, ALL_EVERY, LOOK_EVERY, YOUNG

#: Seconds without a collection for each second of CPU time that one took: 2 % of it at most.
REST: Final = 50.0


class Budget:
    """The times at which each generation may be collected again. Pure."""

    def __init__(self) -> None:
        self._last = 0.0
        self._next = {YOUNG: 0.0, ALL: 0.0}

    def allows(self, generation: int, now: float) -> int | None:
        """Return the generation to collect where one is wished for, ``None`` for none."""
        if now < self._last:  # another clock, such as a test's
            self._next = {YOUNG: 0.0, ALL: 0.0}
        if now < self._next[YOUNG]:
            return None
        return ALL if generation == ALL and now >= self._next[ALL] else YOUNG

    def spent(self, generation: int, now: float, seconds: float) -> None:
        """Note a collection that began at ``now`` and took so many seconds of CPU time."""
        self._last = now
        self._next[YOUNG] = now + max(LOOK_EVERY, REST * seconds)
        if generation == ALL:
            self._next[ALL] = now + max(ALL_EVERY, REST * seconds)


_budget: Final = Budget()


def collect(generation: int, now: float) -> None:
    """Collect a generation of objects, a younger one, or none, as the budget allows."""
    allowed = _budget.allows(generation, now)
    if allowed is not None:
        _budget.spent(allowed, now, 0.0)  # before it begins, so that no other thread joins in
        began = time.thread_time()
        gc.collect(allowed)
        _budget.spent(allowed, now, time.thread_time() - began)
