"""A limit that a server's headers report, and the forecast of what is left of it. Pure.

1. Headers do not say how a limit refills, so two models run side by side. For a *bucket*, ``reset``
   is the time until it is full; for a *window*, the time until all of it is back at once. The end
   of a window stays where it is, that of a bucket moves with what was used.
2. Each model forecasts the next ``remaining`` from what was sent since. What is missing was taken
   by others (other processes, other models of the account), who are expected to go on like that. If
   neither model's resets and forecasts come true, neither is used.
3. A limit that disappears and comes back is that of a pool of upstream accounts, and is not used.
4. An attempt is charged when it is sent. A reading that reports more than was forecast, after the
   reset of a window, say, replaces the forecast at once.

``trust`` decides whether a forecast may hold requests back. Read from the end: ``Forecast`` uses
``Bucket`` and ``Window``. The constants were tuned with ``python -m tests.bench.rates`` (the column
``read``) and ``python -m tests.bench.deadline``.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from ..verdict.rates import Counted, RateReading
from .trust import Trust

#: Readings before a report that nothing is left is used, unless a refusal confirms it.
_READINGS: Final = 2
#: Readings in a row that agree on another refill rate, and replace the former one (without: 2.2
#: instead of 0.6 refusals per 100 as a rate rises and falls).
_READINGS_ANEW: Final = 3
#: Readings after which a reset that pins the refill rate down to a factor of two counts as a hit.
_READINGS_SURE: Final = 4
#: Mean error of a usable forecast, in requests: a pool of channels errs by more. One error counts
#: up to 20, with this weight in the mean.
_ERROR_USABLE: Final = 3.0
_ERROR_MOST: Final = 20.0
_LATEST: Final = 0.1
#: The error of a forecast that had room for an attempt which was refused.
_ERROR_REFUSED: Final = 10.0
#: Mean errors (requests) of two models that count as equal.
_ALIKE: Final = 0.3
#: The share of missed resets of a usable model, the first guess, and the weight of the latest.
_MISSES_USABLE: Final = 0.6
_MISSES_UNKNOWN: Final = 0.5
_LATEST_RESET: Final = 0.25
#: The share of missed resets below which a bucket is preferred, and a difference that decides.
_MISSES_FEW: Final = 0.15
_MISSES_DIFFER: Final = 0.1
#: The error of a reset in seconds: reported in fractions, or in whole seconds.
_FINE: Final = 0.25
_WHOLE: Final = 1.0
#: Seconds after its announced end at which a window counts as over, for the network's jitter. After
#: a refused first attempt of a new window it is 0.3 s longer, with whole seconds 1 s, up to 1.5 s.
_AFTER_RESET: Final = 0.1
_LATER_BY: Final = 0.3
_LATE_MOST: Final = 1.5
#: The first windows that begin with a single attempt, until 0.5 s passed without its refusal.
_SCOUTED: Final = 5
_SCOUTS_FOR: Final = 0.5
#: Seconds before the end of a window from which on an attempt may already count in the next.
_ABOUT: Final = 0.05
#: Weights of the latest refill rate and of the latest cost; seconds over which drift is averaged.
_LATEST_RATE: Final = 0.2
_LATEST_COST: Final = 0.05
_DRIFT_OVER: Final = 4.0
_LEAST_REFILL: Final = 1e-9
#: A bucket keeps back what refills in so many seconds, up to half a request, because latency varies
#: (without: 1.0 instead of 0.2 refusals per 100 at 300 a minute).
_LATENCY: Final = 0.05
#: Others share a limit if they take a tenth of it. Each process then takes 95 % of what they leave,
#: at least a tenth of all, so that processes converge to equal shares without communication.
_SHARED: Final = 0.1
_SHARE: Final = 0.95
_SHARE_LEAST: Final = 0.1
#: Requests that are kept back from a shared limit, of a small one this share (without: 6.6 instead
#: of 5.2 refusals per 100 in four processes, at 0.99 instead of 0.96 of the throughput).
_OTHERS: Final = 0.5
_OTHERS_SHARE: Final = 0.3
#: Mean requests that are kept back of a token limit, up to half of it: the large ones are refused.
_TOKENS_RESERVED: Final = 4.0
_TOKENS_SHARE: Final = 0.5
#: Seconds between two checks, and the longest delay by headers, a minute and its margins: a longer
#: one (a daily quota) is left to the refusal, which tells the caller.
_CHECK: Final = 0.05
LONGEST: Final = 62.0
#: Former limits, for how many seconds, whose return shows a pool.
_LIMITS_KEPT: Final = 16
_LIMITS_FOR: Final = 600.0
#: Attempts since the latest reading that are kept.
_UNREAD_KEPT: Final = 10_000


@dataclass(slots=True, eq=False)
class Sent:
    """One attempt with its cost; ``is_free`` once it was refused."""

    number: int
    at: float
    prompt_tokens: float = 0.0
    output_tokens: float = 0.0
    is_free: bool = False
    is_accepted: bool = False

    def cost(self, counted: Counted) -> float:
        """Return the cost in the unit of a limit."""
        if self.is_free:
            return 0.0
        if counted is Counted.REQUESTS:
            return 1.0
        prompt = 0.0 if counted is Counted.OUTPUT_TOKENS else self.prompt_tokens
        return prompt + (0.0 if counted is Counted.INPUT_TOKENS else self.output_tokens)


@dataclass(slots=True)
class Span:
    """The interval of rates that agrees with all readings so far."""

    least: float = 0.0
    most: float = math.inf
    readings: int = 0

    def narrow(self, least: float, most: float) -> bool:
        """Intersect with one more reading; return False if they contradict each other by 2 %."""
        if least > 1.02 * self.most or most < 0.98 * self.least:
            return False
        self.least, self.most = max(least, self.least), min(most, self.most)
        self.readings += 1
        return True


@dataclass(slots=True, eq=False)
class Bucket:
    """The model of a bucket that refills at ``rate`` (units a second).

    ``drift`` is what others take of it (negative, units a second), ``error`` the mean error of its
    forecasts (requests), ``misses`` the share of resets that did not come true.
    """

    rate: float = 0.0
    drift: float = 0.0
    error: float = 0.0
    misses: float = _MISSES_UNKNOWN
    _span: Span = field(default_factory=Span)
    _other: Span = field(default_factory=Span)

    @property
    def refill(self) -> float:
        """Return the refill (units a second) that others leave."""
        if self.is_shared:
            return self.share * self.rate
        span = self._span
        is_known = span.most <= 1.25 * span.least
        most = min(span.least if is_known else span.most, self._other.most)
        return max(_LEAST_REFILL, min(most, self.rate + self.drift))

    @property
    def share(self) -> float:
        """Return the share of the limit that this process takes."""
        if not self.is_shared:
            return 1.0
        return max(_SHARE_LEAST, _SHARE * (1 + self.drift / self.rate))

    @property
    def is_shared(self) -> bool:
        """Return True if others share the limit."""
        return self.drift < -_SHARED * self.rate

    def read(self, reading: RateReading) -> None:
        """Learn from the time that it takes to fill up."""
        used, reset = reading.limit - reading.remaining, reading.reset
        if reset is None:
            self.rate = reading.limit / (reading.period or LONGEST)
            self._span = Span(self.rate, self.rate)
            return
        off = _FINE if reset % 1 else _WHOLE
        if used < 1 or reset <= _CHECK:
            return
        # ``remaining`` is rounded down: up to one unit less is missing.
        least = max(0.0, used - 1) / (reset + off)
        most = math.inf if reset <= off else used / (reset - off)
        is_hit = self._span.narrow(least, most)
        if not is_hit or (most < 2 * least and self._span.readings > _READINGS_SURE):
            self.misses += _LATEST_RESET * ((not is_hit) - self.misses)
        rate = max(0.0, used - 0.5) / reset
        if is_hit:
            self._other = Span()
        elif not self._other.narrow(least, most):
            self._other = Span(least, most, 1)
        elif self._other.readings >= _READINGS_ANEW:
            self._span, self._other, self.rate = self._other, Span(), 0.0
        self.rate += (_LATEST_RATE if self.rate else 1.0) * (rate - self.rate)
        self.rate = min(max(self.rate, self._span.least), self._span.most)


@dataclass(slots=True, eq=False)
class Window:
    """The model of a window of ``period`` seconds that ``ends_at`` a time.

    ``began`` is the start of the window now, ``spent`` what this process has sent in it; ``late``
    is how long after its announced end a window counts as over. ``scouted`` counts the windows that
    began with a single attempt, sent at ``scout_at``. ``drift``, ``error`` and ``misses`` are as in
    ``Bucket``.
    """

    ends_at: float = 0.0
    period: float = 0.0
    drift: float = 0.0
    error: float = 0.0
    misses: float = _MISSES_UNKNOWN
    began: float = -1.0
    spent: float = 0.0
    late: float = _AFTER_RESET
    scouted: int = 0
    scout_at: float | None = None
    _first_at: float = -math.inf  # the first reading of this window, and its end by that
    _first_end: float = -math.inf

    def read(self, reading: RateReading, at: float) -> None:
        """Learn from the time at which it ends."""
        if reading.reset is None:
            self.misses = 1.0
            return
        ends_at = at + reading.reset
        off = (_FINE if reading.reset % 1 else _WHOLE) + _FINE
        if at >= self._first_end - off:  # the first of a new window
            self._first_at, self._first_end = at, ends_at
            self.period = max(self.period, reading.reset, reading.period or 0.0)
        is_same = abs(ends_at - self._first_end) <= off
        if not is_same or at >= self._first_at + 2 * off:
            self.misses += _LATEST_RESET * ((not is_same) - self.misses)
            self._first_at, self._first_end = at, ends_at
        if not is_same or ends_at > self.ends_at + off:
            self.ends_at = ends_at
        elif not self.is_fresh:
            self.ends_at = max(ends_at, self.ends_at)

    @property
    def is_fresh(self) -> bool:
        """Return True if a window has begun that no reading has reported yet."""
        return self.began == self.ends_at

    def advance(self, now: float) -> bool:
        """Begin the window of this time; return True if another one ended."""
        if now < self.ends_at + self.late:
            return False
        if self.is_fresh:
            if not self.period or now < self.began + self.period + self.late:
                return False
            self.ends_at += self.period * ((now - self.began - self.late) // self.period)
        self.began, self.scout_at = self.ends_at, None
        return True

    def scout(self, now: float) -> None:
        """Note that an attempt is sent: it may be the first of its window."""
        if self.is_fresh and self.scout_at is None:
            self.scout_at = now
            self.scouted += 1

    def scouts_until(self, now: float) -> float:
        """Return when a second attempt of a new window may go: ``now`` if at once."""
        if not self.is_fresh or self.scout_at is None or self.scouted > _SCOUTED:
            return now
        return max(now, self.scout_at + _SCOUTS_FOR)

    def retract(self, at: float, reading: RateReading) -> bool:
        """Undo the start of a window if a refusal shows that the last one was not over."""
        reset = reading.reset
        if not self.is_fresh or at < self.began or reset is None or 2 * reset > self.period:
            return False
        self.late += _LATER_BY if reset % 1 else _WHOLE
        self.late = min(self.late, _LATE_MOST)
        self.ends_at, self.began, self.scouted, self.spent = max(self.ends_at, at), -1.0, 0, 0.0
        return True


@dataclass(slots=True, eq=False)
class Forecast:
    """One limit in one unit, as the headers of the latest answers report it.

    ``_unread`` are the attempts that were sent after the one of the latest reading.
    """

    counted: Counted = Counted.REQUESTS
    limit: float = 0.0
    trust: Trust = field(default_factory=Trust)
    bucket: Bucket = field(default_factory=Bucket)
    window: Window = field(default_factory=Window)
    readings: int = 0
    _remaining: float = 0.0
    _at: float = 0.0
    _number: int = 0
    _unread: deque[Sent] = field(default_factory=deque)
    _unread_cost: float = 0.0
    _mean: float = 1.0
    _limits: dict[float, float] = field(default_factory=dict)

    @property
    def is_usable(self) -> bool:
        """Return True if the better model forecasts well."""
        model = self.window if self.is_window else self.bucket
        is_enough = self.readings > 0 and (self.trust.is_confirmed or self._remaining >= 1)
        return (
            (is_enough or self.readings >= _READINGS)
            and model.error < _ERROR_USABLE * (1 + self.trust.is_confirmed)
            and model.misses < _MISSES_USABLE
        )

    @property
    def is_window(self) -> bool:
        """Return True if the window is the better model, or as good: it is the cautious one.

        A bucket that fits is preferred: to a client that waits for a window, it always looks full.
        """
        bucket, window = self.bucket, self.window
        if bucket.misses < _MISSES_FEW and bucket.error < window.error + _ALIKE:
            return False
        if abs(bucket.misses - window.misses) > _MISSES_DIFFER:
            return window.misses < bucket.misses
        return window.error < bucket.error + _ALIKE

    @property
    def is_shared(self) -> bool:
        """Return True if others share the limit."""
        if not self.is_window:
            return self.bucket.is_shared
        return self.window.drift < -_SHARED * self.limit / max(1.0, self.window.period)

    @property
    def is_kept(self) -> bool:
        """Return True if the limit is confirmed and its forecast usable."""
        return self.trust.is_confirmed and self.is_usable

    def ready_at(self, now: float, cost: float) -> float:
        """Return when an attempt of a cost may go: ``now`` if at once."""
        self.trust.tick(now)
        if self.trust.is_off(now) or not self.is_usable:
            return now
        opens_at = self._opens_at(now, cost)
        if opens_at <= now or opens_at > now + LONGEST:
            return now
        return self.trust.until(now, opens_at)

    def sent(self, sent: Sent, now: float) -> None:
        """Count an attempt that is sent."""
        self._advance(now)
        if self.is_usable and not self.trust.is_confirmed:
            left = self.left(now)
            if left < self._need(sent.cost(self.counted)):
                # a bucket's ``remaining`` is rounded down
                is_test = left < (0.5 if self.is_window else 0.0)
                self.trust.sent_beyond(sent.number, now, is_test=is_test)
        self.window.scout(now)
        self.count(sent)

    def count(self, sent: Sent) -> None:
        """Count an attempt from before the first reading."""
        cost = sent.cost(self.counted)
        self._mean += _LATEST_COST * (cost - self._mean)
        self._unread.append(sent)
        self._unread_cost += cost
        if len(self._unread) > _UNREAD_KEPT:
            self._unread_cost -= self._unread.popleft().cost(self.counted)
        self.window.spent += cost

    def correct(self, sent: Sent, by: float) -> None:
        """Correct the cost of an attempt, unless a later reading includes it already."""
        if sent.number > self._number:
            self._unread_cost += by
        if sent.at >= self.window.began:
            self.window.spent += by

    def hear(self, sent: Sent, reading: RateReading, *, is_refusal: bool = False) -> None:
        """Process the reading of an answer, or of a refusal, which costs nothing."""
        if sent.number <= self._number:
            return
        spent = 0.0
        while self._unread and self._unread[0].number <= sent.number:
            spent += self._unread.popleft().cost(self.counted)
        self._unread_cost = self._unread_cost - spent if self._unread else 0.0
        self._advance(sent.at)
        if reading.limit != self.limit:
            self._note_limit(reading.limit, sent.at)
        elif self.readings:
            self._judge(sent, spent, reading, is_refusal)
        self.readings += 1
        self.bucket.read(reading)
        if not (is_refusal and self.window.retract(sent.at, reading)):
            self.window.read(reading, sent.at)
        self._remaining, self._at, self._number = reading.remaining, sent.at, sent.number

    def accepted(self, sent: Sent, now: float) -> None:
        """Note that an attempt was not refused."""
        self.trust.accepted(sent.number, now)

    def withdrawn(self, sent: Sent) -> None:
        """Note that an attempt was neither accepted nor refused."""
        self.trust.withdrawn(sent.number)

    def refused(self, sent: Sent, cost: float, reading: RateReading | None) -> None:
        """Note a refusal, which confirms the limit if it reports the same one as exhausted."""
        is_same = reading is not None and reading.limit == self.limit
        is_exhausted = reading is not None and reading.remaining < max(1.0, cost + self._reserve())
        self.trust.refused(sent.number, confirms=is_same and is_exhausted)

    def left(self, now: float) -> float:
        """Return what is left by the better model."""
        if self.is_window:
            return self._window_left(now, self._unread_cost, 0.0)
        return self._bucket_left(now, self._unread_cost, self.bucket.share)

    def _opens_at(self, now: float, cost: float) -> float:
        self._advance(now)
        need, left = self._need(cost), self.left(now)
        if left >= need:
            return self.window.scouts_until(now) if self.is_window else now
        if not self.is_window:
            return now + max(_CHECK, (need - left) / self.bucket.refill)
        window = self.window
        ends_at = window.ends_at + (window.period if window.is_fresh else 0.0)
        return max(now + _CHECK, ends_at + window.late)

    def _advance(self, now: float) -> None:
        """Begin the window of this time; attempts sent about then may count in it."""
        if self.window.advance(now):
            since = self.window.began - _ABOUT
            about = itertools.takewhile(lambda sent: sent.at >= since, reversed(self._unread))
            self.window.spent = sum(sent.cost(self.counted) for sent in about)

    def _need(self, cost: float) -> float:
        """Return what has to be left for an attempt to be sent."""
        need = max(1.0, cost)
        if self.counted is not Counted.REQUESTS:
            need += self._reserve()
            return min(need, max(cost, _TOKENS_SHARE * self.limit), 0.98 * self.limit)
        if not self.is_window:
            need += min(0.5, _LATENCY * self.bucket.rate)
        if self.is_shared:
            need += min(_OTHERS_SHARE * self.limit, _OTHERS)
        return min(need, self.limit)

    def _reserve(self) -> float:
        return 0.0 if self.counted is Counted.REQUESTS else _TOKENS_RESERVED * self._mean

    def _note_limit(self, limit: float, at: float) -> None:
        """Start over with another limit; distrust one that comes back."""
        seen = self._limits.pop(limit, -math.inf)
        if self.limit:
            self._limits[self.limit] = at
        if at - seen < _LIMITS_FOR and not self.trust.is_off(at):
            self.trust.disprove(at)
        while len(self._limits) > _LIMITS_KEPT:
            del self._limits[next(iter(self._limits))]
        self.limit, self.readings = limit, 0
        self.bucket, self.window = Bucket(), Window()

    def _judge(self, sent: Sent, spent: float, reading: RateReading, is_refusal: bool) -> None:
        """Update the errors and drifts of both models."""
        bucket, window = self.bucket, self.window
        unit = 1.0 if self.counted is Counted.REQUESTS else max(1.0, self._mean)
        by_bucket = self._bucket_left(sent.at, spent, 1.0)
        by_window = self._window_left(sent.at, spent, self._unread_cost)
        window_rate = self.limit / max(1.0, window.period)
        over = max(_DRIFT_OVER, sent.at - self._at)
        models = ((bucket, by_bucket, bucket.rate), (window, by_window, window_rate))
        for model, left, most in models:
            off = reading.remaining - max(0.0, min(left, self.limit))
            error = abs(off) / unit
            if is_refusal and left >= unit + 1:
                error = max(error, _ERROR_REFUSED)
            if model is window and window.is_fresh and error < 1 and not is_refusal:
                window.misses -= _LATEST_RESET * window.misses  # it did end
            model.error += _LATEST * (min(_ERROR_MOST, error) - model.error)
            model.drift = min(most, max(-most, model.drift + off / over))

    def _bucket_left(self, at: float, spent: float, share: float) -> float:
        """Return what a bucket holds, with ``spent`` since the latest reading."""
        since = max(0.0, at - self._at)
        return min(self.limit, share * self._remaining + self.bucket.refill * since) - spent

    def _window_left(self, at: float, spent: float, later: float) -> float:
        """Return what is left of a window; ``later`` is the part of ``spent`` after ``at``."""
        window = self.window
        if window.is_fresh and at >= window.began - _ABOUT:
            return self.limit - (window.spent - later)
        return self._remaining + min(0.0, window.drift) * max(0.0, at - self._at) - spent
