"""All that servers have told of the rates of one partition, or of one account. Pure."""

from __future__ import annotations

from collections import deque
from typing import Final

from ..verdict.rates import Counted, RateInWords, RateReading
from .forecast import Forecast, Sent
from .gate import Standing
from .named import NamedLimit

#: Attempts that are remembered of a partition of which nothing was told yet.
_RECENT: Final = 256
#: Limits in words that are kept to at once: so many requests a minute, and so many an hour.
_NAMED: Final = 4
#: And in headers.
_FORECASTS: Final = 12
#: So much more than was left takes a request that was refused although it should have fitted.
_MORE: Final = 1.25


class Told:
    """The rates that servers have told of one partition, or of one account."""

    __slots__ = ("forecasts", "named", "recent")

    def __init__(self) -> None:
        self.recent: deque[Sent] = deque(maxlen=_RECENT)
        self.forecasts: dict[tuple[Counted, str], Forecast] = {}
        self.named: dict[tuple[Counted, float], NamedLimit] = {}

    def ready_at(self, request: Standing, now: float) -> float:
        """Return when all of it lets a request go: ``now`` if at once."""
        at = now
        if self.forecasts or self.named:
            for forecast in self.forecasts.values():
                at = max(at, forecast.ready_at(now, _cost(request, forecast.counted)))
            for named in self.named.values():
                at = max(at, named.ready_at(now, _cost(request, named.words.counted)))
        return at

    def binds(self, now: float) -> bool:
        """Tell whether a limit on requests is known by it, and proved."""
        return any(
            forecast.counted is Counted.REQUESTS
            and forecast.is_believed
            and forecast.trust.is_confirmed
            and not forecast.trust.is_off(now)
            for forecast in self.forecasts.values()
        ) or any(
            named.words.counted is Counted.REQUESTS and named.trust.is_confirmed
            for named in self.named.values()
        )

    def sent(self, sent: Sent, now: float) -> None:
        """Count an attempt that goes out."""
        self.recent.append(sent)
        for forecast in self.forecasts.values():
            forecast.sent(sent, now)
        for named in self.named.values():
            named.sent(sent, now)

    def changed(self, sent: Sent, was: Sent) -> None:
        """Count what an attempt costs otherwise than was thought."""
        for forecast in self.forecasts.values():
            forecast.correct(sent, sent.cost(forecast.counted) - was.cost(forecast.counted))
        for named in self.named.values():
            named.correct(sent, sent.cost(named.words.counted) - was.cost(named.words.counted))

    def accepted(self, sent: Sent, now: float) -> None:
        """Note that an attempt was not refused."""
        for forecast in self.forecasts.values():
            forecast.trust.accepted(sent.number, now)
        for named in self.named.values():
            named.accepted(sent, now)

    def withdrawn(self, sent: Sent) -> None:
        """Note that an attempt was neither accepted nor refused."""
        for forecast in self.forecasts.values():
            forecast.trust.withdrawn(sent.number)

    def hear(self, sent: Sent, reading: RateReading, *, is_refusal: bool) -> None:
        """Read what the headers of an answer tell of one limit."""
        key = (reading.counted, reading.name)
        forecast = self.forecasts.get(key)
        if forecast is None:
            forecast = self.forecasts[key] = Forecast(reading.counted)
            for each in self.recent:
                forecast.count(each)
            while len(self.forecasts) > _FORECASTS:
                del self.forecasts[next(iter(self.forecasts))]
        forecast.hear(sent, reading, is_refusal=is_refusal)

    def name(self, words: RateInWords, now: float) -> None:
        """Keep to a limit that a refusal names; another one of its kind replaces it."""
        key = (words.counted, words.per)
        if key not in self.named or self.named[key].words != words:
            self.named[key] = NamedLimit.said(words, self.recent, now)
            while len(self.named) > _NAMED:
                del self.named[next(iter(self.named))]


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
