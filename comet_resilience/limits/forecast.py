"""A limit that a server tells in its headers: the forecast of what is left of it. Pure.

1. Two readings are kept: a *bucket*, whose ``reset`` is the time until it is full, and a *window*,
   which holds what is left until the reset and then all. The reset alone tells them apart: that of
   a window stays where it is, that of a bucket moves with what was used.
2. Each forecasts the next answer's ``remaining`` from what was sent since. What is missing each
   time was taken by others (other processes, other models of the account) and is expected to go
   on; where neither the resets nor the forecasts come true, nothing is believed.
3. A limit that went away and came back is a pool's, and not this caller's.
4. What is in flight is charged when it is sent. An answer that tells more than was forecast, the
   reset of a window, say, is believed at once.

Whether what is believed binds is decided by ``trust``.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from ..verdict.rates import Counted, RateReading
from .trust import Trust

#: Readings before it is believed that nothing is left, unless a refusal says so.
_READINGS: Final = 2
#: Readings in a row that agree on another rate than before.
_READINGS_ANEW: Final = 3
_READINGS_SURE: Final = 4
#: Requests by which a forecast may err on average, the most that one error counts, and its weight.
_ERROR_BELIEVED: Final = 3.0
_ERROR_MOST: Final = 20.0
_LATEST: Final = 0.1
#: A forecast by which a refused attempt should have been taken errs by so many.
_ERROR_REFUSED: Final = 10.0
#: The share of resets that may come untrue, and the weight of the latest one.
_MISSES_BELIEVED: Final = 0.6
_LATEST_RESET: Final = 0.25
_UNKNOWN: Final = 0.5
_FITS: Final = 0.15
_DIFFER: Final = 0.1
#: Seconds by which a reset may be wrong that is told in fractions, or in whole seconds.
_FINE: Final = 0.25
_WHOLE: Final = 1.0
#: Seconds after its announced end until a window is taken for over: networks differ. It was early
#: where the first of a new window is refused: then so much later, with whole seconds one more.
_AFTER_RESET: Final = 0.1
_LATER_BY: Final = 0.3
_LATE_MOST: Final = 1.5
#: So many times only one goes out at first, until it is not refused for so long (seconds).
_SCOUTED: Final = 5
_SCOUTS_FOR: Final = 0.5
_ABOUT: Final = 0.05
#: The weight of the latest refill rate, and the seconds over which the use of others is averaged.
_LATEST_RATE: Final = 0.2
_DRIFT_OVER: Final = 4.0
_LEAST_REFILL: Final = 1e-9
#: Of what refills in so many seconds a bucket keeps something back: latency differs.
_LATENCY: Final = 0.05
#: Others draw on a limit if they take this share of it. Of what they leave, each takes so much,
#: and no less than so much of all: then those who share it end with the same, without a word.
_SHARED: Final = 0.1
_SHARE: Final = 0.95
_SHARE_LEAST: Final = 0.1
#: So many requests are then kept back, of a small limit this share.
_OTHERS: Final = 0.5
_OTHERS_SHARE: Final = 0.3
#: Where the sizes of requests differ so many of the mean are kept back.
_TOKENS_RESERVED: Final = 4.0
_TOKENS_SHARE: Final = 0.5
#: The seconds between two looks, and the longest for which anybody is held back, a minute and its
#: edges: beyond, the refusal tells the caller what the matter is.
_LOOK: Final = 0.05
LONGEST: Final = 62.0
#: Limits that are remembered, for seconds, to know a pool's by their return.
_LIMITS_KEPT: Final = 16
_LIMITS_FOR: Final = 600.0
#: Attempts that are remembered while no answer tells anything.
_LATER_KEPT: Final = 10_000


@dataclass(slots=True, eq=False)
class Sent:
    """One attempt as forecasts count it: its number, and what it costs; a refusal costs nothing."""

    number: int
    at: float
    prompt_tokens: float = 0.0
    output_tokens: float = 0.0
    is_free: bool = False
    is_accepted: bool = False

    def cost(self, counted: Counted) -> float:
        """Return what it takes of a limit."""
        if self.is_free:
            return 0.0
        if counted is Counted.REQUESTS:
            return 1.0
        prompt = 0.0 if counted is Counted.OUTPUT_TOKENS else self.prompt_tokens
        return prompt + (0.0 if counted is Counted.INPUT_TOKENS else self.output_tokens)


@dataclass(slots=True)
class Span:
    """The rates that are possible, by all readings so far: they narrow it down."""

    least: float = 0.0
    most: float = math.inf
    readings: int = 0

    @property
    def is_narrow(self) -> bool:
        """Tell whether the rate is known well."""
        return self.most <= 1.25 * self.least

    def narrow(self, least: float, most: float) -> bool:
        """Take one more reading in, or return ``False`` if it contradicts those before."""
        if least > 1.02 * self.most or most < 0.98 * self.least:
            return False
        self.least, self.most = max(least, self.least), min(most, self.most)
        self.readings += 1
        return True


@dataclass(slots=True, eq=False)
class Bucket:
    """The reading as a bucket: how fast it refills."""

    rate: float = 0.0
    drift: float = 0.0
    error: float = 0.0
    misses: float = _UNKNOWN
    _span: Span = field(default_factory=Span)
    _other: Span = field(default_factory=Span)

    @property
    def refill(self) -> float:
        """Return what comes back in a second once others have taken theirs."""
        if self.is_shared:
            return self.share * self.rate
        most = self._span.least if self._span.is_narrow else self._span.most
        return max(_LEAST_REFILL, min(most, self._other.most, self.rate + self.drift))

    @property
    def share(self) -> float:
        """Return how much of the limit is for this process."""
        if not self.is_shared:
            return 1.0
        return max(_SHARE_LEAST, _SHARE * (1 + self.drift / self.rate))

    @property
    def is_shared(self) -> bool:
        """Tell whether others draw on the limit as well."""
        return self.drift < -_SHARED * self.rate

    def read(self, reading: RateReading) -> None:
        """Learn from how long it takes to fill up."""
        used, reset = reading.limit - reading.remaining, reading.reset
        if reset is None:
            self.rate = reading.limit / (reading.period or LONGEST)
            self._span = Span(self.rate, self.rate)
            return
        off = _FINE if reset % 1 else _WHOLE
        if used < 1 or reset <= _LOOK:
            return
        # What remains is rounded down: there is less to fill up than it seems.
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
    """The reading as a window: when it ends."""

    ends_at: float = 0.0
    period: float = 0.0
    drift: float = 0.0
    error: float = 0.0
    misses: float = _UNKNOWN
    began: float = -1.0
    spent: float = 0.0
    late: float = _AFTER_RESET
    scouted: int = 0
    scout_at: float | None = None
    _seen_at: float = -math.inf
    _seen: float = -math.inf

    def read(self, reading: RateReading, at: float) -> None:
        """Learn from when it ends."""
        if reading.reset is None:
            self.misses = 1.0
            return
        ends_at = at + reading.reset
        off = (_FINE if reading.reset % 1 else _WHOLE) + _FINE
        if at >= self._seen - off:  # the first of a new window
            self._seen_at, self._seen = at, ends_at
            self.period = max(self.period, reading.reset, reading.period or 0.0)
        is_same = abs(ends_at - self._seen) <= off
        if not is_same or at >= self._seen_at + 2 * off:
            self.misses += _LATEST_RESET * ((not is_same) - self.misses)
            self._seen_at, self._seen = at, ends_at
        if not is_same or ends_at > self.ends_at + off:
            self.ends_at = ends_at
        elif not self.is_fresh:
            self.ends_at = max(ends_at, self.ends_at)

    @property
    def is_fresh(self) -> bool:
        """Tell whether a window has begun of which no answer has told yet."""
        return self.began == self.ends_at

    def pass_by(self, now: float) -> bool:
        """Let the windows end that have ended; tell whether one did."""
        if now < self.ends_at + self.late:
            return False
        if self.is_fresh:
            if not self.period or now < self.began + self.period + self.late:
                return False
            self.ends_at += self.period * ((now - self.began - self.late) // self.period)
        self.began, self.scout_at = self.ends_at, None
        return True

    def scout(self, now: float) -> None:
        """Note that an attempt goes out: it may be the first of a window."""
        if self.is_fresh and self.scout_at is None:
            self.scout_at = now
            self.scouted += 1

    def scouts_until(self, now: float) -> float:
        """Return when more than the first of a window may go: ``now`` if at once."""
        if not self.is_fresh or self.scout_at is None or self.scouted > _SCOUTED:
            return now
        return max(now, self.scout_at + _SCOUTS_FOR)

    def was_early(self, at: float, reading: RateReading) -> bool:
        """Take a refusal in: tell whether the window was not over that was taken for it."""
        reset = reading.reset
        if not self.is_fresh or at < self.began or reset is None or 2 * reset > self.period:
            return False
        self.late += _LATER_BY if reset % 1 else _WHOLE
        self.late = min(self.late, _LATE_MOST)
        self.ends_at, self.began, self.scouted, self.spent = max(self.ends_at, at), -1.0, 0, 0.0
        return True


@dataclass(slots=True, eq=False)
class Forecast:
    """One limit in one unit, as the headers of the latest answers tell it."""

    counted: Counted = Counted.REQUESTS
    limit: float = 0.0
    trust: Trust = field(default_factory=Trust)
    bucket: Bucket = field(default_factory=Bucket)
    window: Window = field(default_factory=Window)
    readings: int = 0
    _remaining: float = 0.0
    _at: float = 0.0
    _number: int = 0
    _later: deque[Sent] = field(default_factory=deque)
    _spent_later: float = 0.0
    _mean: float = 1.0
    _limits: dict[float, float] = field(default_factory=dict)

    @property
    def is_believed(self) -> bool:
        """Tell whether one of the readings forecasts well."""
        kind = self.window if self.is_window else self.bucket
        is_enough = self.readings > 0 and (self.trust.is_confirmed or self._remaining >= 1)
        return (
            (is_enough or self.readings >= _READINGS)
            and kind.error < _ERROR_BELIEVED * (1 + self.trust.is_confirmed)
            and kind.misses < _MISSES_BELIEVED
        )

    @property
    def is_window(self) -> bool:
        """Tell which reading is the better one: the cautious one where they are alike.

        Whoever waits for a window finds any bucket full, so a bucket that fits is one.
        """
        bucket, window = self.bucket, self.window
        if bucket.misses < _FITS and bucket.error < window.error + 0.3:
            return False
        if abs(bucket.misses - window.misses) > _DIFFER:
            return window.misses < bucket.misses
        return window.error < bucket.error + 0.3

    @property
    def is_shared(self) -> bool:
        """Tell whether others draw on the limit as well."""
        if not self.is_window:
            return self.bucket.is_shared
        return self.window.drift < -_SHARED * self.limit / max(1.0, self.window.period)

    @property
    def is_kept(self) -> bool:
        """Tell whether it is known and proved."""
        return self.trust.is_confirmed and self.is_believed

    def ready_at(self, now: float, cost: float) -> float:
        """Return when an attempt of such a cost may go: ``now`` if at once."""
        self.trust.tick(now)
        if self.trust.is_off(now) or not self.is_believed:
            return now
        opens_at = self._opens_at(now, cost)
        if opens_at <= now or opens_at > now + LONGEST:
            return now
        return self.trust.until(now, opens_at)

    def sent(self, sent: Sent, now: float) -> None:
        """Count an attempt that goes out."""
        self._pass_by(now)
        if self.is_believed and not self.trust.is_confirmed:
            left = self.left(now)
            if left < self._need(sent.cost(self.counted)):
                # what remains of a bucket is rounded down
                is_test = left < (0.5 if self.is_window else 0.0)
                self.trust.sent_beyond(sent.number, now, is_test=is_test)
        self.window.scout(now)
        self.count(sent)

    def count(self, sent: Sent) -> None:
        """Count an attempt of before the first reading."""
        cost = sent.cost(self.counted)
        self._mean += 0.05 * (cost - self._mean)
        self._later.append(sent)
        self._spent_later += cost
        if len(self._later) > _LATER_KEPT:
            self._spent_later -= self._later.popleft().cost(self.counted)
        self.window.spent += cost

    def correct(self, sent: Sent, by: float) -> None:
        """Count so much more, unless a later answer has told of it already."""
        if sent.number > self._number:
            self._spent_later += by
        if sent.at >= self.window.began:
            self.window.spent += by

    def hear(self, sent: Sent, reading: RateReading, *, is_refusal: bool = False) -> None:
        """Read the headers of an answer, or of a refusal, which is free."""
        if sent.number <= self._number:
            return
        spent = 0.0
        while self._later and self._later[0].number <= sent.number:
            spent += self._later.popleft().cost(self.counted)
        self._spent_later = self._spent_later - spent if self._later else 0.0
        self._pass_by(sent.at)
        if reading.limit != self.limit:
            self._note_limit(reading.limit, sent.at)
        elif self.readings:
            self._judge(sent, spent, reading, is_refusal)
        self.readings += 1
        self.bucket.read(reading)
        if not (is_refusal and self.window.was_early(sent.at, reading)):
            self.window.read(reading, sent.at)
        self._remaining, self._at, self._number = reading.remaining, sent.at, sent.number

    def accepted(self, sent: Sent, now: float) -> None:
        """Note that an attempt was not refused."""
        self.trust.accepted(sent.number, now)

    def withdrawn(self, sent: Sent) -> None:
        """Note that an attempt was neither accepted nor refused."""
        self.trust.withdrawn(sent.number)

    def refused(self, sent: Sent, cost: float, reading: RateReading | None) -> None:
        """Note that an attempt was refused, by an answer that tells the same limit or none."""
        tells_same = (
            reading is not None
            and reading.limit == self.limit
            and reading.remaining < max(1.0, cost + self._reserve())
        )
        self.trust.refused(sent.number, tells_same=tells_same)

    def left(self, now: float) -> float:
        """Return what is left by the better reading."""
        if self.is_window:
            return self._window_left(now, self._spent_later, 0.0)
        return self._bucket_left(now, self._spent_later, self.bucket.share)

    def _opens_at(self, now: float, cost: float) -> float:
        self._pass_by(now)
        need, left = self._need(cost), self.left(now)
        if left >= need:
            return self.window.scouts_until(now) if self.is_window else now
        if not self.is_window:
            return now + max(_LOOK, (need - left) / max(self.bucket.refill, _LEAST_REFILL))
        window = self.window
        ends_at = window.ends_at + (window.period if window.is_fresh else 0.0)
        return max(now + _LOOK, ends_at + window.late)

    def _pass_by(self, now: float) -> None:
        """Let the windows end that have ended: what went out about then may count in the next."""
        if self.window.pass_by(now):
            since = self.window.began - _ABOUT
            about = itertools.takewhile(lambda sent: sent.at >= since, reversed(self._later))
            self.window.spent = sum(sent.cost(self.counted) for sent in about)

    def _need(self, cost: float) -> float:
        """Return what has to be left for an attempt to go."""
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
        """Begin anew with another limit, or disbelieve what comes back."""
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
        """Note how far both readings were from the truth."""
        unit = 1.0 if self.counted is Counted.REQUESTS else max(1.0, self._mean)
        period = max(1.0, self.window.period)
        for kind, expected, most in (
            (self.bucket, self._bucket_left(sent.at, spent, 1.0), self.bucket.rate),
            (
                self.window,
                self._window_left(sent.at, spent, self._spent_later),
                self.limit / period,
            ),
        ):
            off = reading.remaining - max(0.0, min(expected, self.limit))
            error = abs(off) / unit
            if is_refusal and expected >= unit + 1:
                error = max(error, _ERROR_REFUSED)
            if kind is self.window and self.window.is_fresh and error < 1 and not is_refusal:
                self.window.misses -= _LATEST_RESET * self.window.misses  # it did end
            kind.error += _LATEST * (min(_ERROR_MOST, error) - kind.error)
            over = max(_DRIFT_OVER, sent.at - self._at)
            kind.drift = min(most, max(-most, kind.drift + off / over))

    def _bucket_left(self, at: float, spent: float, share: float) -> float:
        """Return what a bucket holds once so much was spent after the last reading."""
        since = max(0.0, at - self._at)
        return min(self.limit, share * self._remaining + self.bucket.refill * since) - spent

    def _window_left(self, at: float, spent: float, later: float) -> float:
        """Return what is left of a window; ``later`` is what was spent after that moment."""
        window = self.window
        if window.is_fresh and at >= window.began - _ABOUT:
            return self.limit - (window.spent - later)
        return self._remaining + min(0.0, window.drift) * max(0.0, at - self._at) - spent
