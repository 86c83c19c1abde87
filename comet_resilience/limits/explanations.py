"""Two kinds of explanation for refusals, held against one log of attempts. Pure.

A *cap* on what is in flight explains a log if attempts were accepted below some number in flight
and refused from it on. A *rate* explains it if they were accepted and refused as a bucket of some
rate and depth, or a window of some length, would have done it. What an explanation predicts
wrongly it leaves unexplained, the latest most of all; the one that leaves least is the better one.
No cap at all leaves each refusal unexplained, so that noise is the same hypothesis as a cap.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from .attempt_log import JUDGED, Attempt

#: What an attempt counts less than the next: a change is forgotten after about a hundred.
_FADE: Final = 0.985
_WEIGHTS: Final = tuple(_FADE ** (JUDGED - 1 - place) for place in range(JUDGED))
#: As long as this a log from the first attempt on is complete enough to judge a window by.
_COMPLETE: Final = 192
#: Requests that a bucket may hold, and seconds that a window may last.
_DEPTHS: Final = (1.0, 4.0, 16.0, 64.0, 256.0)
_PERIODS: Final = (1.0, 10.0, 60.0)
#: The rates that are tried first, as multiples of what was accepted or of a rate that was known.
_WIDE: Final = tuple(1.5**step for step in range(-3, 8))
_NARROW: Final = tuple(1.2**step for step in range(-3, 3))
#: The search around the best of them ends at steps of this ratio, for so many depths.
_FINEST: Final = 1.01
_REFINED: Final = 2
#: A window may open a little before the client found out: accepted ones are counted over less.
_EARLY: Final = 0.9
#: Refusals in a row that close a window, and how many such closures make it believable.
_CLOSED: Final = 3
_BOUNDS: Final = 3
_CLOSURES: Final = 2
#: No window is believed in that would allow so many times what was taken on average.
_TOO_FAST: Final = 3.0
#: An explanation of the kind that was believed is kept while it is within this of the best.
_TIE: Final = 1.5
#: Refusals that show a ceiling beside a rate, and the least that is taken for one.
_CEILING_REFUSALS: Final = 2
_CEILING_LEAST: Final = 4
#: A window has to explain so much more than a bucket, and one ten times as long so much more.
_PLAIN: Final = 0.5
_LONGER: Final = 0.2


class Kind(StrEnum):
    """The kind of limit that an explanation assumes."""

    BUCKET = "bucket"
    SLIDING = "sliding window"
    FIXED = "fixed window"


@dataclass(frozen=True, slots=True)
class Family:
    """A kind of limit with its size: the depth of a bucket, or the length of a window."""

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
    """A rate (requests a second) that explains a log but for so much of it."""

    rate: float
    family: Family
    unexplained: float


def unexplained_by_cap(log: Sequence[Attempt]) -> float:
    """Return how much of a log the best cap on what is in flight leaves unexplained."""
    last = log[-JUDGED:]
    weights = _WEIGHTS[JUDGED - len(last) :]
    return _split(_by_in_flight(last, weights))[0]


def share_unexplained_by_cap(log: Sequence[Attempt]) -> float:
    """Return what the best cap leaves unexplained of all of a log, for each refusal in it."""
    refused = sum(not one.is_accepted for one in log)
    return _split(_by_in_flight(log, [1.0] * len(log)))[0] / max(1, refused)


def _by_in_flight(
    log: Sequence[Attempt], weights: Sequence[float]
) -> Iterable[tuple[int, bool, float]]:
    for one, weight in zip(log, weights, strict=True):
        yield one.in_flight, one.is_accepted, weight


def explain(
    log: Sequence[Attempt],
    near: float | None = None,
    family: Family | None = None,
    *,
    is_complete: bool = False,
) -> Explanation:
    """Return the rate that explains a log best, if need be together with a cap.

    ``near`` is the rate that was tried, where one was; ``family`` is what was believed. A window
    is thought of if it was believed, or after two closures; after one if some rate was believed, or
    the log ``is_complete``, from the first attempt on.
    """
    is_complete = is_complete and len(log) <= _COMPLETE
    found = _rate_alone(log, near, family, is_complete)
    ceiling = ceiling_of(log[-JUDGED:])
    if found.unexplained < _TIE or ceiling == math.inf:
        return found
    below = [one for one in log if one.is_accepted or one.in_flight < ceiling]
    if len(below) == len(log) or not below:
        return found
    return min(
        found, _rate_alone(below, near, family, is_complete), key=lambda one: one.unexplained
    )


def _rate_alone(
    log: Sequence[Attempt], near: float | None, family: Family | None, is_complete: bool
) -> Explanation:
    last = log[-JUDGED:]
    weights = _WEIGHTS[JUDGED - len(last) :]
    span = max(last[-1].at - last[0].at, 1e-3)
    centre = near or sum(one.is_accepted for one in last) / span
    found = _buckets(last, weights, centre, _WIDE if near is None else _NARROW)
    is_window = family is not None and family.period > 0
    one_is_enough = is_complete or family is not None
    if is_window or _closures(last) >= (1 if one_is_enough else _CLOSURES):
        found += _windows(log, last, weights, is_complete)
    least = min(one.unexplained for one in found)
    for one in found:
        if one.family == family and one.unexplained <= least + _TIE:
            return one
    return min(found, key=_by_plainness)


def _by_plainness(one: Explanation) -> tuple[float, float]:
    period = one.family.period
    return one.unexplained + (_PLAIN + _LONGER * math.log10(period) if period else 0.0), one.rate


def ceiling_of(log: Sequence[Attempt]) -> float:
    """Return from how many in flight on hardly anything was accepted; infinite if it was."""
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


#: What an attempt does to a bucket: seconds since the one before, whether it was accepted, weight.
_Step = tuple[float, bool, float]


def _buckets(
    last: Sequence[Attempt],
    weights: Sequence[float],
    centre: float,
    ratios: Sequence[float],
) -> list[Explanation]:
    """Return the best rate of buckets of each depth; only those that explain most are refined."""
    before, steps = last[0].at, list[_Step]()
    for one, weight in zip(last, weights, strict=True):
        steps.append((one.at - before, one.is_accepted, weight))
        before = one.at
    burst = next((place for place, one in enumerate(last) if not one.is_accepted), 0)
    depths = _DEPTHS if burst < 2 or burst in _DEPTHS else (*_DEPTHS, float(burst))
    rough = []
    for depth in depths:
        least, rate = _try(steps, depth, [centre * ratio for ratio in ratios], (math.inf, centre))
        rough.append((least, rate, depth))
    rough.sort()
    found, ratio = [], ratios[1] / ratios[0]
    for place, (*best, depth) in enumerate(rough):
        least, rate = best
        step = ratio if place < _REFINED else 1.0
        while step > _FINEST:
            step **= 0.5
            least, rate = _try(steps, depth, (rate / step, rate * step), (least, rate))
        found.append(Explanation(rate, Family(Kind.BUCKET, depth), least))
    return found


def _try(
    steps: Sequence[_Step], depth: float, rates: Iterable[float], best: tuple[float, float]
) -> tuple[float, float]:
    """Return what the best of some rates leaves unexplained, and that rate."""
    least, found = best
    for rate in rates:
        left = _bucket_leaves(steps, rate, depth, least)
        if left < least - 1e-9:
            least, found = left, rate
    return least, found


def _bucket_leaves(steps: Iterable[_Step], rate: float, depth: float, enough: float) -> float:
    """Return what a bucket leaves unexplained, set right at each surprise; at most ``enough``."""
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


def _windows(
    log: Sequence[Attempt], last: Sequence[Attempt], weights: Sequence[float], is_complete: bool
) -> list[Explanation]:
    span, judged = log[-1].at - log[0].at, last[-1].at - last[0].at
    average = sum(one.is_accepted for one in log) / max(span, 1e-3)
    oks, bounds, found = [one.is_accepted for one in last], _boundaries(last), []
    for period in _PERIODS:
        if judged < period and not is_complete:
            continue
        counts = [(Kind.SLIDING, _taken_within(log, len(last), period))]
        counts += [(Kind.FIXED, _taken_since(log, len(last), period, bound)) for bound in bounds]
        for kind, taken in counts:
            left, most = _split(zip(taken, oks, weights, strict=True))
            if 2 <= most < math.inf and most / period <= _TOO_FAST * average:
                found.append(Explanation(most / period, Family(kind, period), left))
    return found


def _split(items: Iterable[tuple[int, bool, float]]) -> tuple[float, float]:
    """Return what the best threshold on a number leaves unexplained, and that threshold.

    ``items`` are the number, whether it was accepted and its weight: those below should be. The
    server counts otherwise than the client by one now and then, so of those with the same number
    some may be above; but not with few, where one makes all the difference.
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


def _taken_within(log: Sequence[Attempt], size: int, period: float) -> list[int]:
    """Return how many were accepted in the period before each of the last attempts."""
    times = [one.at for one in log]
    taken = [0]
    for one in log:
        taken.append(taken[-1] + one.is_accepted)
    counts, out, early = [], 0, 0
    for place, one in enumerate(log):
        while times[out] <= one.at - period:
            out += 1
        while times[early] <= one.at - _EARLY * period:
            early += 1
        if place >= len(log) - size:
            counts.append(taken[place] - taken[early if one.is_accepted else out])
    return counts


def _taken_since(log: Sequence[Attempt], size: int, period: float, bound: float) -> list[int]:
    """Return the same for windows that follow each other, one of which began at ``bound``."""
    counts, count, window = [], 0, -math.inf
    for place, one in enumerate(log):
        number = (one.at - bound) // period
        if number != window:
            window, count = number, 0
        if place >= len(log) - size:
            counts.append(count)
        count += one.is_accepted
    return counts


def _boundaries(last: Sequence[Attempt]) -> list[float]:
    """Return when the last closures ended: the times of their last refusals."""
    row, bounds, before = 0, [], 0.0
    for one in last:
        if not one.is_accepted:
            row, before = row + 1, one.at
        else:
            if row >= _CLOSED:
                bounds.append(before + 1e-6)
            row = 0
    return bounds[-_BOUNDS:]


def _closures(last: Sequence[Attempt]) -> int:
    """Count the closures: so many refusals in a row, and an answer after them."""
    many = row = 0
    for one in last:
        if not one.is_accepted:
            row += 1
        elif one.is_answered:
            many += row >= _CLOSED
            row = 0
    return many
