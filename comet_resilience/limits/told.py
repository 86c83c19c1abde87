"""The rates that servers have reported for one partition, or for one account. Pure."""

from __future__ import annotations

from collections import deque
from typing import Final, Protocol

from ..verdict.rates import Counted, RateInWords, RateReading
from .forecast import Forecast, Sent
from .gate import Standing
from .named import NamedLimit

#: The latest attempts, from which a limit that is reported for the first time is counted.
_RECENT: Final = 256
#: The most limits that are kept of words: so many requests a minute, and so many an hour.
_NAMED: Final = 4
#: And in headers.
_FORECASTS: Final = 12
#: A request that was refused although it should have fitted takes this many times what was left.
_MORE: Final = 1.25


class ToldLimit(Protocol):
    """One limit, as headers (``Forecast``) or words (``NamedLimit``) report it."""

    @property
    def counted(self) -> Counted:
        """Return the unit."""
        ...

    @property
    def is_kept(self) -> bool:
        """Return True if it is known and has proved right."""
        ...

    def ready_at(self, now: float, cost: float) -> float:
        """Return when an attempt of such a cost may go: ``now`` if at once."""
        ...

    def sent(self, sent: Sent, now: float) -> None:
        """Count an attempt that goes out."""

    def correct(self, sent: Sent, by: float) -> None:
        """Count an attempt for so much more."""

    def accepted(self, sent: Sent, now: float) -> None:
        """Note that an attempt was not refused."""

    def withdrawn(self, sent: Sent) -> None:
        """Note that an attempt was neither accepted nor refused."""


class Told:
    """The rates that servers have reported for one partition, or for one account."""

    __slots__ = ("forecasts", "limits", "named", "recent")

    def __init__(self) -> None:
        self.recent: deque[Sent] = deque(maxlen=_RECENT)
        self.forecasts: dict[tuple[Counted, str], Forecast] = {}
        self.named: dict[tuple[Counted, float], NamedLimit] = {}
        self.limits: tuple[ToldLimit, ...] = ()  # both

    def ready_at(self, request: Standing, now: float) -> float:
        """Return when all of the limits let a request go: ``now`` if at once."""
        at = now
        for limit in self.limits:
            at = max(at, limit.ready_at(now, _cost(request, limit.counted)))
        return at

    @property
    def binds(self) -> bool:
        """Return True if a limit on requests is known and has proved right."""
        return any(one.counted is Counted.REQUESTS and one.is_kept for one in self.limits)

    def sent(self, sent: Sent, now: float) -> None:
        """Count an attempt that goes out."""
        self.recent.append(sent)
        for limit in self.limits:
            limit.sent(sent, now)

    def changed(self, sent: Sent, was: Sent) -> None:
        """Correct the count of an attempt by what it really costs."""
        for limit in self.limits:
            limit.correct(sent, sent.cost(limit.counted) - was.cost(limit.counted))

    def accepted(self, sent: Sent, now: float) -> None:
        """Note that an attempt was not refused."""
        for limit in self.limits:
            limit.accepted(sent, now)

    def withdrawn(self, sent: Sent) -> None:
        """Note that an attempt was neither accepted nor refused."""
        for limit in self.limits:
            limit.withdrawn(sent)

    def hear(self, sent: Sent, reading: RateReading, *, is_refusal: bool) -> None:
        """Take in a reading of one limit from the headers of an answer."""
        key = (reading.counted, reading.name)
        forecast = self.forecasts.get(key)
        if forecast is None:
            forecast = self.forecasts[key] = Forecast(reading.counted)
            for each in self.recent:
                forecast.count(each)
            while len(self.forecasts) > _FORECASTS:
                del self.forecasts[next(iter(self.forecasts))]
            self.limits = (*self.forecasts.values(), *self.named.values())
        forecast.hear(sent, reading, is_refusal=is_refusal)

    def name(self, words: RateInWords, now: float) -> None:
        """Keep a limit that a refusal names, in place of an earlier one of its kind."""
        key = (words.counted, words.per)
        if key not in self.named or self.named[key].words != words:
            self.named[key] = NamedLimit.said(words, self.recent, now)
            while len(self.named) > _NAMED:
                del self.named[next(iter(self.named))]
            self.limits = (*self.forecasts.values(), *self.named.values())


def _cost(request: Standing, counted: Counted) -> float:
    """Return what a request will take of a limit."""
    if counted is Counted.REQUESTS:
        return 1.0
    cost, least = request.cost, 0.0
    if counted is Counted.TOKENS:
        least = _MORE * request.takes_more_than
    if cost is None:
        return least
    return max(least, Sent(0, 0.0, cost.prompt_tokens, cost.output_tokens).cost(counted))
