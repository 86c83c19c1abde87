"""A limit that a server tells in its headers: its forecast, and whether it is believed. Pure.

1. Two readings are kept: a *bucket*, which refills at ``(limit - remaining) / reset``, and a
   *window*, which holds what is left until the reset and then all. Each forecasts the next answer's
   ``remaining`` from what was sent since; the one that errs less is believed, neither if both err.
2. Headers need not be about this caller: behind a gateway they tell of its own account with a
   provider, another one from answer to answer. So a forecast that nothing is left is tested once:
   a few go out all the same. If none of them is refused the headers are not believed for a minute,
   then for two, and so on; if one is, and the refusal tells the same limit, they bind.
3. Another limit than before counts as an error, and has to be tested again.
4. What is in flight is charged when it is sent. An answer that tells more than was forecast, the
   reset of a window, say, is believed at once.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from ..verdict.rates import RateReading

#: Requests by which a forecast may err on average, the most that one error counts, and its weight.
_ERROR_BELIEVED: Final = 3.0
_ERROR_MOST: Final = 20.0
#: Readings whose errors differ by no more err alike.
_ALIKE: Final = 0.3
#: A forecast by which a refused attempt should have been taken errs by so many.
_ERROR_REFUSED: Final = 10.0
_LATEST: Final = 0.1
#: Readings before anything is believed.
_READINGS: Final = 3
#: Requests that test a limit of which nothing is left, and the seconds after which they are
#: accepted by silence.
_TESTS: Final = 3
_SILENCE: Final = 1.5
#: Seconds for which disproved headers are not believed: doubled each time.
_DISBELIEF: Final = 60.0
_DISBELIEF_MOST: Final = 3_840.0
#: The weight of the latest refill rate, and the seconds between two looks where none is forecast.
_LATEST_RATE: Final = 0.2
_LOOK: Final = 0.05
#: Seconds after its announced end until a window is taken for over: clocks and networks differ.
_AFTER_RESET: Final = 0.1
#: Servers round down what is left: so much more than they tell, on average.
_ROUNDED_DOWN: Final = 0.5
#: For longer (seconds) nobody is held back: the refusal tells the caller what the matter is.
_LONGEST: Final = 60.0
#: Where the sizes of requests differ so many of the mean are kept back.
_TOKENS_RESERVED: Final = 4.0
#: Attempts that are remembered while no answer tells anything.
_LATER_KEPT: Final = 10_000


@dataclass(slots=True, eq=False)
class Sent:
    """One attempt as the forecast counts it: its number, and what it costs."""

    number: int
    at: float
    cost: float
    is_test: bool = False
    is_accepted: bool = False


@dataclass(slots=True, eq=False)
class Forecast:
    """One limit of one unit, in requests or in tokens; ``is_tokens`` says which."""

    is_tokens: bool = False
    limit: float = 0.0
    readings: int = 0
    is_confirmed: bool = False
    disbelieved_until: float = 0.0
    _remaining: float = 0.0
    _at: float = 0.0
    _number: int = 0
    _later: deque[Sent] = field(default_factory=deque)
    _spent_later: float = 0.0
    _reset_at: float = 0.0
    _rate: float = 0.0
    _bucket_error: float = 0.0
    _window_error: float = 0.0
    _sent: int = 0
    _mean: float = 1.0
    _window_began: float = -1.0
    _spent_in_window: float = 0.0
    _tests: list[Sent] = field(default_factory=list)
    _tests_failed: int = 0
    _disbelief: float = _DISBELIEF

    @property
    def is_believed(self) -> bool:
        """Tell whether one of the readings forecasts well."""
        return (
            self.readings >= _READINGS
            and min(self._bucket_error, self._window_error) < _ERROR_BELIEVED
        )

    @property
    def is_window(self) -> bool:
        """Tell which reading is the better one: the cautious one where they err alike."""
        return self._window_error < self._bucket_error + _ALIKE

    def ready_at(self, now: float, cost: float) -> float:
        """Return when an attempt of such a cost may go, ``now`` if at once."""
        if not self.is_believed or now < self.disbelieved_until:
            return now
        self._mark(now)
        need = max(1.0, cost) + (_TOKENS_RESERVED * self._mean if self.is_tokens else 0.0)
        need = min(need, 0.5 * self.limit) if self.is_tokens else need
        left = self.left(now)
        if left >= need:
            return now
        if not self.is_confirmed:
            if len(self._tests) < _TESTS:
                return now
            return max(now + _LOOK, self._tests[-1].at + _SILENCE)
        wait = (need - left) / max(self._rate, 1e-6)
        if self.is_window:
            wait = self._reset_at + _AFTER_RESET - now
        return now if wait > _LONGEST else now + max(_LOOK, wait)

    def sent(self, now: float, cost: float) -> Sent:
        """Count an attempt that goes out."""
        self._mark(now)
        is_test = (
            self.is_believed
            and not self.is_confirmed
            and now >= self.disbelieved_until
            and self.left(now) < max(1.0, cost)
        )
        self._sent += 1
        self._mean += 0.05 * (cost - self._mean)
        sent = Sent(self._sent, now, cost, is_test)
        self._later.append(sent)
        if len(self._later) > _LATER_KEPT:
            self._later.popleft()
        self._spent_later += cost
        self._spent_in_window += cost
        if is_test:
            self._tests.append(sent)
        return sent

    def correct(self, sent: Sent, cost: float) -> None:
        """Count what an attempt has really cost, unless a later answer has told of it already."""
        if sent.number > self._number:
            self._spent_later += cost - sent.cost
        if sent.at >= self._window_began:
            self._spent_in_window += cost - sent.cost
        sent.cost = cost

    def hear(
        self, sent: Sent, reading: RateReading, now: float, *, is_refusal: bool = False
    ) -> None:
        """Read the headers of an answer, or of a refusal, which costs nothing."""
        if sent.number <= self._number:
            return
        spent = 0.0
        while self._later and self._later[0].number <= sent.number:
            spent += self._later.popleft().cost
        self._spent_later = self._spent_later - spent if self._later else 0.0
        if self.readings:
            self._judge(sent.at, spent - is_refusal * sent.cost, reading, is_refusal)
        if reading.limit != self.limit:
            self.is_confirmed = False
            self._tests.clear()
        self.readings += 1
        used = reading.limit - reading.remaining
        if reading.reset > _LOOK and used > 0.03 * reading.limit:
            rate = max(0.0, used - _ROUNDED_DOWN) / reading.reset
            self._rate += (_LATEST_RATE if self._rate else 1.0) * (rate - self._rate)
        self.limit, self._remaining = reading.limit, reading.remaining
        self._at, self._number = sent.at, sent.number
        self._reset_at = sent.at + reading.reset

    def accepted(self, sent: Sent, now: float) -> None:
        """Note that an attempt was not refused."""
        if sent in self._tests and not sent.is_accepted:
            sent.is_accepted = True
            if all(test.is_accepted for test in self._tests):
                self._end_test(now)

    def refused(self, sent: Sent, reading: RateReading | None) -> None:
        """Note that an attempt was refused, by an answer that tells the same limit or none."""
        cost = max(1.0, sent.cost)
        self.withdrawn(sent)
        if reading is not None and reading.limit == self.limit and reading.remaining <= cost:
            self.is_confirmed = True
            self._disbelief = _DISBELIEF
            self._tests.clear()

    def withdrawn(self, sent: Sent) -> None:
        """Note that an attempt costs nothing and tests nothing: it was refused, or never sent."""
        self.correct(sent, 0.0)
        if sent in self._tests:
            self._tests.remove(sent)

    def tick(self, now: float) -> None:
        """Take tests for accepted that are silent for too long."""
        if self._tests and now >= self._tests[-1].at + _SILENCE:
            self._end_test(now)

    def left(self, now: float) -> float:
        """Return what is left by the better reading."""
        return self._expect(now, self._spent_later, self.is_window)

    def _end_test(self, now: float) -> None:
        """Disbelieve headers by which what went out should have been refused."""
        if len(self._tests) < _TESTS:
            return
        self._tests.clear()
        self.disbelieved_until = now + self._disbelief
        self._disbelief = min(_DISBELIEF_MOST, 2 * self._disbelief)

    def _judge(self, at: float, spent: float, reading: RateReading, is_refusal: bool) -> None:
        """Note how far both readings were from the truth."""
        errors = []
        for kind in (False, True):
            expected = self._expect(at, spent, kind)
            error = abs(expected - reading.remaining) / (self._mean if self.is_tokens else 1.0)
            if is_refusal and expected >= 1:
                error = max(error, _ERROR_REFUSED)
            errors.append(error if reading.limit == self.limit else _ERROR_MOST)
        bucket, window = (min(_ERROR_MOST, error) for error in errors)
        self._bucket_error += _LATEST * (bucket - self._bucket_error)
        self._window_error += _LATEST * (window - self._window_error)

    def _expect(self, at: float, spent: float, window: bool) -> float:
        """Return what should be left once so much was spent after the last reading."""
        if not window:
            return min(self.limit, self._remaining + self._rate * max(0.0, at - self._at)) - spent
        if at < self._reset_at + _AFTER_RESET:
            return self._remaining - spent
        return self.limit - (
            self._spent_in_window if self._window_began == self._reset_at else spent
        )

    def _mark(self, now: float) -> None:
        """Note where a window began: what goes out from here on counts in it."""
        if now >= self._reset_at + _AFTER_RESET and self._window_began != self._reset_at:
            self._window_began, self._spent_in_window = self._reset_at, 0.0
