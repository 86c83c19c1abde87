"""One renewal: the report, the exchange with the script, what comes of it.

Pure but for ``send``, which is given: a benchmark renews in virtual time with the same exchange.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from ..limits.algorithm import LimitAlgorithm
from .merge import Sample, Understanding, is_needed, merge, understand
from .message import ShareReply, ShareRequest
from .sampler import Sampler

#: How often a commit is tried when others are faster; then the sample waits for the next renewal.
COMMIT_TRIES: Final = 5


@dataclass(frozen=True, slots=True)
class Report:
    """The request, the sample with its source, and their time (seconds, this process' clock)."""

    request: ShareRequest
    sample: Sample
    sampler: Sampler
    at: float


@dataclass(frozen=True, slots=True)
class Renewal:
    """The new share, the fleet's algorithm, and whether the sample was reported."""

    reply: ShareReply
    fleet: Understanding
    is_reported: bool


def exchange(
    send: Callable[[ShareRequest], ShareReply],
    report: Report,
    make: Callable[[], LimitAlgorithm],
    remembered: str,
    jitter: float,
) -> Renewal:
    """Ask for a share; with a sample, run the algorithm and commit, unless others did first."""
    reply = send(report.request)
    for _ in range(COMMIT_TRIES):
        fleet = understand(reply, make(), remembered)
        if not is_needed(fleet, report.sample, reply):
            return Renewal(reply, fleet, is_reported=True)
        commit = merge(fleet, report.sample, reply, report.request, jitter)
        reply = send(replace(report.request, commit=commit, epoch=reply.epoch))
        if reply.committed:
            return Renewal(reply, fleet, is_reported=True)
    return Renewal(reply, understand(reply, make(), remembered), is_reported=False)
