"""One renewal: what is reported, the exchange with the script, what comes of it.

Pure but for ``send``, which is given: a benchmark renews in virtual time with the same exchange.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from ..limits.algorithm import LimitAlgorithm
from .merge import News, Understanding, is_needed, merge, understand
from .message import Answer, Ask
from .seen import Seen

#: How often a commit is tried when others are faster; then the news wait for the next renewal.
COMMIT_TRIES: Final = 5


@dataclass(frozen=True, slots=True)
class Report:
    """A question, a report, and their time (seconds, this process' clock)."""

    ask: Ask
    news: News
    seen: Seen
    at: float


@dataclass(frozen=True, slots=True)
class Renewal:
    """The new share, the fleet's algorithm, and whether the news were told."""

    answer: Answer
    fleet: Understanding
    told: bool


def exchange(
    send: Callable[[Ask], Answer],
    report: Report,
    make: Callable[[], LimitAlgorithm],
    remembered: str,
    draw: float,
) -> Renewal:
    """Ask for a share; if there are news, run the algorithm and commit, unless others did first."""
    answer = send(report.ask)
    for _ in range(COMMIT_TRIES):
        fleet = understand(answer, make(), remembered)
        if not is_needed(fleet, report.news, answer):
            return Renewal(answer, fleet, told=True)
        commit = merge(fleet, report.news, answer, report.ask, draw)
        answer = send(replace(report.ask, commit=commit, epoch=answer.epoch))
        if answer.committed:
            return Renewal(answer, fleet, told=True)
    return Renewal(answer, understand(answer, make(), remembered), told=False)
