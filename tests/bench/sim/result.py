"""What one run came to, as numbers."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from .workload import Job

#: Recovery is reached when the mean use of this many seconds is at least this share.
RECOVERY_WINDOW = 5.0
RECOVERY_SHARE = 0.9
_RECOVERY_STEP = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One run of one policy.

    ``left`` counts requests that neither succeeded nor failed; ``makespan`` is the time of the
    last success; ``wait`` the mean one of the models that are watched; ``burst`` is the largest
    number of refusals that arrived within a second.
    """

    successes: int
    refused: int
    failed: int
    left: int
    makespan: float
    p99: float
    wait: float
    burst: int
    recovery: float | None
    in_outage: int
    most_attempts: int

    @property
    def refused_per_100(self) -> float:
        """Refused attempts for each hundred successes."""
        return 100 * self.refused / max(self.successes, 1)


def p99_latency(jobs: Sequence[Job]) -> float:
    """The latency that one request in a hundred exceeds, of those that succeeded."""
    latencies = sorted(job.latency for job in jobs if job.done_at is not None)
    return latencies[math.ceil(0.99 * len(latencies)) - 1] if latencies else math.nan


def mean_wait(jobs: Sequence[Job], others: str | None) -> float:
    """The mean time beside its service that a request of these models took, 0 for none."""
    waits = [
        job.latency - job.service
        for job in jobs
        if others is not None and job.model.startswith(others) and job.done_at is not None
    ]
    return sum(waits) / len(waits) if waits else 0.0


def largest_burst(times: Sequence[float]) -> int:
    """The most of these times (in order) within one second."""
    return max((i + 1 - bisect_left(times, t - 1.0) for i, t in enumerate(times)), default=0)


def recovery_time(
    begins: Sequence[float], ends: Sequence[float], start: float, capacity: float
) -> float | None:
    """Seconds from ``start`` until the mean use of a window reaches its share of a capacity.

    ``begins`` and ``ends`` say when the gateway took requests and gave them back.
    """
    changes = sorted([(t, 1) for t in begins] + [(t, -1) for t in ends])
    if not changes:
        return None
    now = start + _RECOVERY_STEP
    while now <= changes[-1][0]:
        if _mean_use(changes, now - RECOVERY_WINDOW, now) >= RECOVERY_SHARE * capacity:
            return now - start
        now += _RECOVERY_STEP
    return None


def _mean_use(changes: Sequence[tuple[float, int]], since: float, until: float) -> float:
    first = bisect_left(changes, (since, -2))
    use = sum(change for _, change in changes[:first])
    area, at = 0.0, since
    for when, change in changes[first:]:
        if when > until:
            break
        area += use * (when - at)
        use, at = use + change, when
    return (area + use * (until - at)) / (until - since)


def jain(shares: Sequence[float]) -> float:
    """Fairness: 1 if all have the same, 1/n if one has all."""
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 0.0
