"""Two kinds of explanation for refusals, compared on one log of attempts. Pure.

A *cap* explains a log if attempts were accepted below some number in flight and refused from it on.
A *rate* explains it if they were accepted and refused as by a bucket of some rate and depth, or by
a window of some length. The weight of the attempts that an explanation predicts wrongly is what it
leaves unexplained, and the one that leaves least is the best. "No cap" is one of the caps, and
leaves each refusal unexplained, so random refusals are covered by the same hypothesis.

The constants were tuned with ``python -m tests.bench.rates``.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from typing import Final

from .attempt_log import JUDGED, Attempt

#: The weight of an attempt relative to the next. The half-life is 46 attempts, so that a change of
#: the limit is forgotten after about a hundred; a longer log doubled the refusals as windows began.
_FADE: Final = 0.985
_WEIGHTS: Final = tuple(_FADE ** (JUDGED - 1 - place) for place in range(JUDGED))
#: Depths of buckets (requests) and lengths of windows (seconds) that are tried.
_DEPTHS: Final = (1.0, 4.0, 16.0, 64.0, 256.0)
_PERIODS: Final = (1.0, 10.0, 60.0)
#: The rates that are tried first, as multiples of what was accepted or of a known rate.
_WIDE: Final = tuple(1.5**step for step in range(-3, 8))
_NARROW: Final = tuple(1.2**step for step in range(-3, 3))
#: The search around the best of them ends at steps of 1 %, for the best two depths.
_FINEST: Final = 1.01
_REFINED: Final = 2
#: Accepted attempts are counted over nine tenths of a window: it may open before the client knows
#: (without: 5.9 instead of 4.1 refusals per 100 at 60 a minute, seed 1).
_EARLY: Final = 0.9
#: Refusals in a row that close a window, and the latest closures whose ends are tried as starts of
#: fixed windows (without: 11.5 instead of 5.6 refusals per 100 at 10 per 10 s, four seeds).
_CLOSED: Final = 3
_STARTS: Final = 3
#: Closures that a window takes: one may also be a cap that was closed for a while.
_CLOSURES: Final = 2
#: Up to this many attempts a log from the first attempt on needs one closure only.
_COMPLETE: Final = 192
#: The former family is kept within this of the best: one refusal must not change it.
_TIE: Final = 1.5
#: Refusals that show a cap beside a rate, and the least in flight that is taken for one.
_CEILING_REFUSALS: Final = 2
_CEILING_LEAST: Final = 4
#: What a window has to explain beyond a bucket, which is simpler; more for each tenfold length.
_PLAIN: Final = 0.5
_LONGER: Final = 0.2


class Kind(StrEnum):
    """The kind of limit that an explanation assumes."""

    BUCKET = "bucket"
    SLIDING = "sliding window"
    FIXED = "fixed window"


@dataclass(frozen=True, slots=True)
class Family:
    """A kind of limit with its size: the depth of a bucket (requests) or length of a window."""

    kind: Kind
    size: float

    @property
    def period(self) -> float:
        """Return the seconds of a window, 0 for a bucket."""
        return 0.0 if self.kind is Kind.BUCKET else self.size

    def __str__(self) -> str:
        if self.period:
            return f"{self.kind.value} of {self.size:g} s"
        return "rate without burst" if self.size <= 1 else f"bucket of {self.size:g}"


@dataclass(frozen=True, slots=True)
class Explanation:
    """A rate (requests a second), and the weight of the attempts that it leaves unexplained."""

    rate: float
    family: Family
    unexplained: float


def explain(
    log: Sequence[Attempt],
    near: float | None = None,
    family: Family | None = None,
    *,
    is_complete: bool = False,
) -> Explanation:
    """Return the rate that explains a log best, alone or together with a cap.

    ``near`` is the rate that was tried and ``family`` the one that was assumed, if any. Windows are
    considered if one was assumed, or after two closures; after one closure if any rate was assumed,
    or the log ``is_complete`` from the first attempt on.
    """
    is_complete = is_complete and len(log) <= _COMPLETE
    found = _explain_by_rate(log, near, family, is_complete)
    ceiling = ceiling_of(log[-JUDGED:])
    if found.unexplained >= _TIE and ceiling < math.inf:
        below = [one for one in log if one.is_accepted or one.in_flight < ceiling]
        if below:
            beside = _explain_by_rate(below, near, family, is_complete)
            return min(found, beside, key=lambda one: one.unexplained)
    return found


def _explain_by_rate(
    log: Sequence[Attempt], near: float | None, family: Family | None, is_complete: bool
) -> Explanation:
    last, weights = _judged(log)
    span = max(last[-1].at - last[0].at, 1e-3)
    centre = near or sum(one.is_accepted for one in last) / span
    found = _buckets(last, weights, centre, _WIDE if near is None else _NARROW)
    is_window = family is not None and family.period > 0
    one_is_enough = is_complete or family is not None
    if is_window or _count_closures(last) >= (1 if one_is_enough else _CLOSURES):
        found += _windows(log, last, weights, is_complete)
    least = min(one.unexplained for one in found)
    for one in found:
        if one.family == family and one.unexplained <= least + _TIE:
            return one
    return min(found, key=_by_simplicity)


def _judged(log: Sequence[Attempt]) -> tuple[Sequence[Attempt], Sequence[float]]:
    """Return the latest attempts of a log, and their weights."""
    last = log[-JUDGED:]
    return last, _WEIGHTS[JUDGED - len(last) :]


def _by_simplicity(one: Explanation) -> tuple[float, float]:
    period = one.family.period
    return one.unexplained + (_PLAIN + _LONGER * math.log10(period) if period else 0.0), one.rate


# -- Caps ------------------------------------------------------------------------------------------


def unexplained_by_cap(log: Sequence[Attempt]) -> float:
    """Return the weight that the best cap leaves unexplained."""
    pairs = zip(*_judged(log), strict=True)
    return _best_threshold((one.in_flight, one.is_accepted, weight) for one, weight in pairs)[0]


def unexplained_by_moved_cap(log: Sequence[Attempt]) -> float:
    """Return the weight that the best two caps leave unexplained, one after the other.

    The cap is taken to have moved where an acceptance follows a refusal, or the reverse. The second
    one has to accept something, or it would be no cap but a closed window.
    """
    items = [
        (one.in_flight, one.is_accepted, weight) for one, weight in zip(*_judged(log), strict=True)
    ]
    best, _ = _best_threshold(items)
    for place in range(1, len(items)):
        if items[place][1] == items[place - 1][1]:
            continue
        before, _ = _best_threshold(items[:place])
        after, threshold = _best_threshold(items[place:])
        if threshold > 1 and before + after < best:
            best = before + after
    return best


def share_unexplained_by_cap(log: Sequence[Attempt]) -> float:
    """Return what the best cap leaves unexplained of the whole log, for each refusal in it."""
    refused = sum(not one.is_accepted for one in log)
    left, _ = _best_threshold((one.in_flight, one.is_accepted, 1.0) for one in log)
    return left / max(1, refused)


def ceiling_of(log: Sequence[Attempt]) -> float:
    """Return the number in flight from which hardly any attempt was accepted, else infinity."""
    accepted, refused = Counter[int](), Counter[int]()
    for one in log:
        (accepted if one.is_accepted else refused)[one.in_flight] += 1
    ceiling, total = math.inf, 0
    for in_flight in sorted(accepted.keys() | refused.keys(), reverse=True):
        if in_flight < _CEILING_LEAST or accepted[in_flight] > refused[in_flight]:
            break
        total += refused[in_flight]
        if total >= _CEILING_REFUSALS:
            ceiling = in_flight
    return ceiling


def _best_threshold(items: Iterable[tuple[int, bool, float]]) -> tuple[float, float]:
    """Return the weight that the best threshold on a number leaves unexplained, and the threshold.

    ``items`` are (number, is accepted, weight): those below the threshold should be accepted. The
    server's count differs from the client's by one now and then, so attempts with the same number
    may lie on both sides; not below ``_CEILING_LEAST``, where one makes all the difference.
    """
    ordered = sorted(items, key=lambda item: (item[0], item[1] == (item[0] < _CEILING_LEAST)))
    refused_below = sum(weight for _, is_accepted, weight in ordered if not is_accepted)
    best, threshold, accepted_above = refused_below, math.inf, 0.0
    for number, is_accepted, weight in reversed(ordered):
        if is_accepted:
            accepted_above += weight
        else:
            refused_below -= weight
        if refused_below + accepted_above < best - 1e-9:
            best, threshold = refused_below + accepted_above, float(number)
    return best, threshold


# -- Buckets ---------------------------------------------------------------------------------------

#: One attempt at a bucket: seconds since the one before, whether it was accepted, and its weight.
_Step = tuple[float, bool, float]


def _buckets(
    last: Sequence[Attempt], weights: Sequence[float], centre: float, ratios: Sequence[float]
) -> list[Explanation]:
    """Return the best rate for each depth; only the best ``_REFINED`` depths are refined."""
    before, steps = last[0].at, list[_Step]()
    for one, weight in zip(last, weights, strict=True):
        steps.append((one.at - before, one.is_accepted, weight))
        before = one.at
    burst = next((place for place, one in enumerate(last) if not one.is_accepted), 0)
    depths = _DEPTHS if burst < 2 or burst in _DEPTHS else (*_DEPTHS, float(burst))
    rates = [centre * ratio for ratio in ratios]
    rough = sorted(
        (*_best_rate(steps, depth, rates, (math.inf, centre)), depth) for depth in depths
    )
    found, ratio = [], ratios[1] / ratios[0]
    for place, (least, rate, depth) in enumerate(rough):
        best, step = (least, rate), ratio if place < _REFINED else 1.0
        while step > _FINEST:
            step **= 0.5
            best = _best_rate(steps, depth, (best[1] / step, best[1] * step), best)
        found.append(Explanation(best[1], Family(Kind.BUCKET, depth), best[0]))
    return found


def _best_rate(
    steps: Sequence[_Step], depth: float, rates: Iterable[float], best: tuple[float, float]
) -> tuple[float, float]:
    """Return the weight that the best of some rates leaves unexplained, and that rate."""
    least, found = best
    for rate in rates:
        left = _unexplained_by_bucket(steps, rate, depth, least)
        if left < least - 1e-9:
            least, found = left, rate
    return least, found


def _unexplained_by_bucket(
    steps: Iterable[_Step], rate: float, depth: float, enough: float
) -> float:
    """Return the weight that a bucket leaves unexplained, at most ``enough``.

    Its level is corrected at each attempt that it predicts wrongly.
    """
    level, wrong = depth, 0.0
    clipped = 1.0 if depth == 1 else 0.5  # a window looks like a bucket that was emptier
    for gap, is_accepted, weight in steps:
        level += gap * rate
        if level > depth:
            level = depth
        if is_accepted:
            if level >= 1.0:
                level -= 1.0
                continue
            wrong += weight * (1.0 - level)
            level = 0.0
        elif level >= 1.0:
            wrong += weight
            level = 0.5
        else:
            if level > clipped:
                level = clipped
            continue
        if wrong >= enough:
            return enough
    return wrong


# -- Windows ---------------------------------------------------------------------------------------


def _windows(
    log: Sequence[Attempt], last: Sequence[Attempt], weights: Sequence[float], is_complete: bool
) -> list[Explanation]:
    """Return the best number of requests for each window that the log is long enough for."""
    outcomes = [one.is_accepted for one in last]
    size, starts, found = len(last), _window_starts(last), []
    for period in _PERIODS:
        if last[-1].at - last[0].at < period and not is_complete:
            continue
        counts = [(Kind.SLIDING, _accepted_within(log, size, period))]
        counts += [(Kind.FIXED, _accepted_since(log, size, period, start)) for start in starts]
        for kind, accepted in counts:
            left, most = _best_threshold(zip(accepted, outcomes, weights, strict=True))
            if 2 <= most < math.inf:
                found.append(Explanation(most / period, Family(kind, period), left))
    return found


def _accepted_within(log: Sequence[Attempt], size: int, period: float) -> list[int]:
    """Return how many were accepted in the period before each of the last attempts."""
    times = [one.at for one in log]
    accepted = list(accumulate((one.is_accepted for one in log), initial=0))
    counts = []
    for place, one in enumerate(log[-size:], len(log) - size):
        since = one.at - (_EARLY * period if one.is_accepted else period)
        counts.append(accepted[place] - accepted[bisect_right(times, since)])
    return counts


def _accepted_since(log: Sequence[Attempt], size: int, period: float, start: float) -> list[int]:
    """Return the same for consecutive windows, one of which began at ``start``."""
    counts, count, window = [], 0, -math.inf
    for place, one in enumerate(log):
        number = (one.at - start) // period
        if number != window:
            window, count = number, 0
        if place >= len(log) - size:
            counts.append(count)
        count += one.is_accepted
    return counts


def _window_starts(last: Sequence[Attempt]) -> list[float]:
    """Return the times at which the latest closures ended: just after their last refusals."""
    row, starts, before = 0, [], 0.0
    for one in last:
        if not one.is_accepted:
            row, before = row + 1, one.at
        else:
            if row >= _CLOSED:
                starts.append(before + 1e-6)
            row = 0
    return starts[-_STARTS:]


def _count_closures(last: Sequence[Attempt]) -> int:
    """Count the rows of ``_CLOSED`` refusals or more that an answer followed."""
    closures = row = 0
    for one in last:
        if not one.is_accepted:
            row += 1
        elif one.is_answered:
            closures += row >= _CLOSED
            row = 0
    return closures
