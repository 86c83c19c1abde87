"""The garbage collector, run for all limiters of the process together and within a budget.

One collection finds the dropped answers of every partition of every client, so many that wait
have no more of them made than one. None begins sooner than ``LOOK_EVERY`` after the last (for all
objects ``ALL_EVERY``), nor before so much time has passed that they took a fiftieth of it at most.
"""

from __future__ import annotations

import gc
import time
from typing import Final

from .lookout import ALL, ALL_EVERY, LOOK_EVERY, YOUNG

#: Seconds to be left alone for each second of CPU that a collection took.
REST: Final = 50.0


class Budget:
    """The times at which each generation may be collected again. Pure."""

    def __init__(self) -> None:
        self._last = 0.0
        self._next = {YOUNG: 0.0, ALL: 0.0}

    def allows(self, generation: int, now: float) -> int | None:
        """Return the generation to collect for one that is wished for, ``None`` for none."""
        if now < self._last:  # another clock, such as a test's
            self._next = {YOUNG: 0.0, ALL: 0.0}
        if now < self._next[YOUNG]:
            return None
        return ALL if generation == ALL and now >= self._next[ALL] else YOUNG

    def spent(self, generation: int, now: float, seconds: float) -> None:
        """Note a collection that began at ``now`` and took so much CPU."""
        self._last = now
        self._next[YOUNG] = now + max(LOOK_EVERY, REST * seconds)
        if generation == ALL:
            self._next[ALL] = now + max(ALL_EVERY, REST * seconds)


_budget: Final = Budget()


def collect(generation: int, now: float) -> None:
    """Collect a generation of objects, or a younger one, or none, as the budget allows."""
    allowed = _budget.allows(generation, now)
    if allowed is not None:
        _budget.spent(allowed, now, 0.0)  # already now: other threads are not to join in
        began = time.thread_time()
        gc.collect(allowed)
        _budget.spent(allowed, now, time.thread_time() - began)
