"""A cap or a rate: the explanation that a log of attempts speaks for. Pure.

Each explanation is held against the same attempts, in the order in which they were sent, and the
number that it predicts wrongly is counted:

* a *cap*: accepted up to so many in flight, of the model or of its whole account, refused beyond;
* a *bucket*, which holds so many requests and fills at a rate: simulated over the attempts, and set
  right wherever it was wrong;
* a *window*: so many within any seconds that end now, or since a window of so many seconds began.

A limit that does not exist is the same as one that nothing reaches: it leaves each refusal
unexplained. A rate is named only if it leaves clearly less unexplained than a cap does.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

#: The depths of buckets and the lengths of windows (seconds) that are tried.
_DEPTHS: Final = (1, 2, 5, 10, 20, 50, 100, 200)
_PERIODS: Final = (1.0, 10.0, 60.0)
#: The places in a period at which a window may begin, as many per period.
_PHASES: Final = 12
#: Rates that are tried, as steps from the one that was accepted, which is at most the true one;
#: then around the best of these, by ever finer steps.
_RATES: Final = ((1.25, range(-1, 12)), (1.08, range(-2, 3)), (1.02, range(-3, 4)))
#: What a rate has to explain that a cap does not: so much of the refusals, and so many attempts.
_SHARE: Final = 0.5
_ATTEMPTS: Final = 12
#: Attempts of a long log that are looked at, and how many of those before their first refusal.
LOOKED_AT: Final = 1_024
_BEFORE: Final = 256


class Attempt(NamedTuple):
    """One attempt: when it was sent (seconds), with how many in flight, and if it was refused.

    ``account_in_flight`` counts those of all models of its account, 0 where none is known.
    """

    sent: float
    in_flight: int
    refused: bool
    account_in_flight: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A limit of ``requests`` in ``per`` seconds.

    ``burst`` is how many a bucket takes at once, ``None`` of a window, which takes all of them.
    ``unexplained`` attempts went otherwise than by it, ``unexplained_by_cap`` otherwise than by
    the best number in flight, of the model or of its account; of both there were ``attempts``.
    """

    requests: int
    per: float
    burst: int | None
    unexplained: int
    unexplained_by_cap: int
    attempts: int


def rate_in(attempts: Sequence[Attempt]) -> Rate | None:
    """Return the rate that explains the refusals, ``None`` where a cap or nothing does.

    The attempts are in the order in which they were sent.
    """
    refusals = sum(attempt.refused for attempt in attempts)
    least = max(_ATTEMPTS, _SHARE * refusals)
    by_cap = _unexplained_by_cap(attempts)
    if by_cap < least:
        return None
    best = min((_bucket(attempts), *_windows(attempts)), key=lambda found: found.unexplained)
    if by_cap - best.unexplained < least:
        return None
    return Rate(
        requests=best.requests,
        per=best.per,
        burst=best.burst,
        unexplained=best.unexplained,
        unexplained_by_cap=by_cap,
        attempts=len(attempts),
    )


def _unexplained_by_cap(attempts: Sequence[Attempt]) -> int:
    _, by_own = split((attempt.in_flight, attempt.refused) for attempt in attempts)
    _, by_account = split(
        (attempt.account_in_flight or attempt.in_flight, attempt.refused) for attempt in attempts
    )
    return min(by_own, by_account)


def split(marked: Iterable[tuple[int, bool]]) -> tuple[int, int]:
    """Return the number up to which attempts are accepted best, and how many go otherwise."""
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
    """The part of a long log that tells most: the ``LOOKED_AT`` attempts with most refusals."""

    __slots__ = ("_before", "_best", "_now", "_refused", "_refused_in_best")

    def __init__(self) -> None:
        self._before: deque[Attempt] = deque(maxlen=_BEFORE)
        self._now: list[Attempt] = []
        self._best: list[Attempt] = []
        self._refused = self._refused_in_best = 0

    def add(self, attempt: Attempt) -> None:
        """Take the next attempt, in the order in which they were sent."""
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
        """Return the attempts that tell most so far."""
        self._keep()
        return self._best

    def _keep(self) -> None:
        if self._refused > self._refused_in_best:
            self._best, self._refused_in_best = self._now, self._refused
        self._now, self._refused = [], 0


class _Found(NamedTuple):
    unexplained: int
    requests: int
    per: float
    burst: int | None


def _windows(attempts: Sequence[Attempt]) -> Iterable[_Found]:
    span = attempts[-1].sent - attempts[0].sent
    for period in _PERIODS:
        if span < period:
            continue
        holds, unexplained = split(_in_sliding_window(attempts, period))
        yield _Found(unexplained, holds + 1, period, None)
        for place in range(_PHASES):
            phase = period * place / _PHASES
            holds, unexplained = split(_in_fixed_window(attempts, period, phase))
            yield _Found(unexplained, holds + 1, period, None)


def _in_sliding_window(attempts: Sequence[Attempt], period: float) -> Iterable[tuple[int, bool]]:
    """Yield with each attempt how many were accepted in the period before it."""
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
    """Yield with each attempt how many were accepted since its window began."""
    window, accepted = -math.inf, 0
    for attempt in attempts:
        began = math.floor((attempt.sent - phase) / period)
        if began != window:
            window, accepted = began, 0
        yield accepted, attempt.refused
        accepted += not attempt.refused


def _bucket(attempts: Sequence[Attempt]) -> _Found:
    """Return the best of the buckets: the rate is sought in ever finer steps for each depth."""
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
    return _Found(fewest, max(1, round(rate * 60)), 60.0, depth)


def _unexplained_by_bucket(attempts: Sequence[Attempt], rate: float, depth: int) -> int:
    """Count the attempts that a bucket would have treated otherwise."""
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
