"""Attempts at gateways with a hidden limit, as a client with a slot or two more than it holds."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from random import Random

from comet_resilience.journal.explanation import Attempt

#: Takes the time and how many are in flight there; ``True`` if it accepts.
Limit = Callable[[float, int], bool]


def sent_to(takes: Limit, seed: int, pause: float, count: int = 600) -> list[Attempt]:
    """Send so many, ``pause`` seconds apart on average, by answers of two seconds or so."""
    draw, now, ends, attempts = Random(seed), 0.0, list[float](), list[Attempt]()
    for _ in range(count):
        now += draw.uniform(0.5, 1.5) * pause
        while ends and ends[0] <= now:
            heappop(ends)
        accepted = takes(now, len(ends))
        attempts.append(Attempt(now, len(ends) + 1, not accepted))
        if accepted:
            heappush(ends, now + min(8.0, draw.lognormvariate(0.0, 0.7)))
    return attempts


def bucket(rate: float, depth: float) -> Limit:
    """Hold ``depth`` and fill at ``rate`` a second."""
    level, filled_at = depth, 0.0

    def takes(now: float, in_flight: int) -> bool:
        nonlocal level, filled_at
        level, filled_at = min(depth, level + (now - filled_at) * rate), now
        accepted = level >= 1
        level -= accepted
        return accepted

    return takes


def window(limit: int, period: float) -> Limit:
    """Take so many in each window, which begin a third of a period after the start."""
    taken, current = 0, -1

    def takes(now: float, in_flight: int) -> bool:
        nonlocal taken, current
        place = math.floor((now - period / 3) / period)
        if place != current:
            taken, current = 0, place
        taken += taken < limit + 1
        return taken <= limit

    return takes


def sliding(limit: int, period: float) -> Limit:
    """Take so many in any period."""
    accepted = deque[float]()

    def takes(now: float, in_flight: int) -> bool:
        while accepted and accepted[0] <= now - period:
            accepted.popleft()
        if len(accepted) >= limit:
            return False
        accepted.append(now)
        return True

    return takes


def cap(limit: int) -> Limit:
    """Take so many at once."""
    return lambda now, in_flight: in_flight < limit


def nothing(share: float, draw: Random) -> Limit:
    """Refuse by chance."""
    return lambda now, in_flight: draw.random() >= share
