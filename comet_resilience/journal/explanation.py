"""A cap or a rate: the explanation that fits a log of attempts. Pure.

Each explanation is tested on the same attempts, in the order in which they were sent, and the
number that it predicts wrongly is counted:

* a *cap*: accepted up to so many in flight, of the model or of its whole account, refused beyond;
* a *bucket* of a depth that fills at a rate: simulated over the attempts, and corrected after each
  wrong prediction;
* a *window*: a number of requests in a sliding or a fixed period.

No limit at all is one that nothing reaches: it leaves every refusal unexplained. A rate is reported
only if it leaves clearly less unexplained than a cap.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

#: The depths of buckets and the lengths of windows (seconds) that are tried.
_DEPTHS: Final = (1, 2, 5, 10, 20, 50, 100, 200)
_PERIODS: Final = (1.0, 10.0, 60.0)
#: The number of places in a period at which a fixed window may begin.
_PHASES: Final = 12
#: Rates that are tried, in steps from the accepted rate, which is at most the true one; then
#: around the best of these, in ever finer steps.
_RATES: Final = ((1.25, range(-1, 12)), (1.08, range(-2, 3)), (1.02, range(-3, 4)))
#: What a rate must explain that a cap does not: this share of the refusals, and as many attempts.
_SHARE: Final = 0.5
_ATTEMPTS: Final = 12
#: The number of attempts examined of a long log, and of these before the first refusal.
LOOKED_AT: Final = 1_024
_BEFORE: Final = 256


class Attempt(NamedTuple):
    """One attempt: the time of sending (seconds), the number in flight, and if it was refused.

    ``account_in_flight`` counts those of all models of its account, 0 where none is known.
    """

    sent: float
    in_flight: int
    refused: bool
    account_in_flight: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A limit of ``requests`` in ``per`` seconds.

    ``burst`` is how many a bucket accepts at once, ``None`` of a window, which accepts all of them.
    """

    requests: int
    per: float
    burst: int | None


def rate_in(attempts: Sequence[Attempt]) -> Rate | None:
    """Return the rate that explains the refusals, ``None`` if a cap or nothing does.

    The attempts are in the order in which they were sent.
    """
    refusals = sum(attempt.refused for attempt in attempts)
    least = max(_ATTEMPTS, _SHARE * refusals)
    _, by_own = split((attempt.in_flight, attempt.refused) for attempt in attempts)
    _, by_account = split(
        (attempt.account_in_flight or attempt.in_flight, attempt.refused) for attempt in attempts
    )
    by_cap = min(by_own, by_account)
    if by_cap < least:
        return None
    unexplained, rate = min((_bucket(attempts), *_windows(attempts)), key=lambda found: found[0])
    return rate if by_cap - unexplained >= least else None


def split(marked: Iterable[tuple[int, bool]]) -> tuple[int, int]:
    """Return the best threshold for accepting attempts, and how many it predicts wrongly."""
    accepted: Counter[int] = Counter()
    refused: Counter[int] = Counter()
    for number, is_refused in marked:
        (refused if is_refused else accepted)[number] += 1
    refused_within, accepted_beyond = 0, accepted.total()
    holds, fewest = -1, accepted_beyond
    for number in sorted(accepted | refused):
        refused_within += refused[number]
        accepted_beyond -= accepted[number]
        if refused_within + accepted_beyond < fewest:
            holds, fewest = number, refused_within + accepted_beyond
    return holds, fewest


class Excerpt:
    """The most informative part of a long log: the ``LOOKED_AT`` attempts with most refusals."""

    __slots__ = ("_before", "_best", "_now", "_refused", "_refused_in_best")

    def __init__(self) -> None:
        self._before: deque[Attempt] = deque(maxlen=_BEFORE)
        self._now: list[Attempt] = []
        self._best: list[Attempt] = []
        self._refused = self._refused_in_best = 0

    def add(self, attempt: Attempt) -> None:
        """Add the next attempt, in the order in which they were sent."""
        if not self._now and not attempt.refused:
            self._before.append(attempt)
            return
        if not self._now:
            self._now = list(self._before)
            self._before.clear()
        self._now.append(attempt)
        self._refused += attempt.refused
        if len(self._now) >= LOOKED_AT:
            self._keep()

    def attempts(self) -> Sequence[Attempt]:
        """Return the most informative attempts so far."""
        self._keep()
        return self._best

    def _keep(self) -> None:
        if self._refused > self._refused_in_best:
            self._best, self._refused_in_best = self._now, self._refused
        self._now, self._refused = [], 0


#: A rate, after the number of attempts that it does not explain.
_Found: TypeAlias = tuple[int, Rate]


def _windows(attempts: Sequence[Attempt]) -> Iterable[_Found]:
    span = attempts[-1].sent - attempts[0].sent
    for period in _PERIODS:
        if span < period:
            continue
        phases = (period * place / _PHASES for place in range(_PHASES))
        windows = (_in_fixed_window(attempts, period, phase) for phase in phases)
        for marked in (_in_sliding_window(attempts, period), *windows):
            holds, unexplained = split(marked)
            yield unexplained, Rate(requests=holds + 1, per=period, burst=None)


def _in_sliding_window(attempts: Sequence[Attempt], period: float) -> Iterable[tuple[int, bool]]:
    """Yield for each attempt how many were accepted in the period before it."""
    accepted: deque[float] = deque()
    for attempt in attempts:
        while accepted and accepted[0] <= attempt.sent - period:
            accepted.popleft()
        yield len(accepted), attempt.refused
        if not attempt.refused:
            accepted.append(attempt.sent)


def _in_fixed_window(
    attempts: Sequence[Attempt], period: float, phase: float
) -> Iterable[tuple[int, bool]]:
    """Yield for each attempt how many were accepted since its window began."""
    window, accepted = -math.inf, 0
    for attempt in attempts:
        began = math.floor((attempt.sent - phase) / period)
        if began != window:
            window, accepted = began, 0
        yield accepted, attempt.refused
        accepted += not attempt.refused


def _bucket(attempts: Sequence[Attempt]) -> _Found:
    """Return the best bucket: for each depth the rate is searched in ever finer steps."""
    span = attempts[-1].sent - attempts[0].sent
    around = sum(not attempt.refused for attempt in attempts) / max(span, 1e-3)
    fewest, rate, depth = len(attempts), around, _DEPTHS[0]
    for tried in _DEPTHS:
        middle, least = around, len(attempts) + 1
        for factor, steps in _RATES:
            rates = [middle * factor**step for step in steps]
            least, middle = min(
                (_unexplained_by_bucket(attempts, each, tried), each) for each in rates
            )
        if least < fewest:
            fewest, rate, depth = least, middle, tried
    return fewest, Rate(requests=max(1, round(rate * 60)), per=60.0, burst=depth)


def _unexplained_by_bucket(attempts: Sequence[Attempt], rate: float, depth: int) -> int:
    """Return the number of attempts that a bucket predicts wrongly."""
    level, now, unexplained = float(depth), attempts[0].sent, 0
    for attempt in attempts:
        level = min(depth, level + (attempt.sent - now) * rate)
        now = attempt.sent
        if attempt.refused == (level >= 1):
            unexplained += 1
            level = 1.0 if level < 1 else 0.5
        if not attempt.refused:
            level -= 1
    return unexplained
