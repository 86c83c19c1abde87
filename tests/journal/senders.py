"""Attempts at gateways with a hidden limit, as a client with a slot or two more than it holds."""

from __future__ import annotations

from heapq import heappop, heappush
from random import Random

from comet_resilience.journal.explanation import Attempt

from ..servers import Server


def sent_to(takes: Server, seed: int, pause: float, count: int = 600) -> list[Attempt]:
    """Send so many, ``pause`` seconds apart on average, by answers of two seconds or so."""
    draw, now, ends, attempts = Random(seed), 0.0, list[float](), list[Attempt]()
    for _ in range(count):
        now += draw.uniform(0.5, 1.5) * pause
        while ends and ends[0] <= now:
            heappop(ends)
        accepted = takes(now, len(ends) + 1)
        attempts.append(Attempt(now, len(ends) + 1, not accepted))
        if accepted:
            heappush(ends, now + min(8.0, draw.lognormvariate(0.0, 0.7)))
    return attempts


def nothing(share: float, draw: Random) -> Server:
    """Refuse by chance."""
    return lambda now, in_flight: draw.random() >= share
