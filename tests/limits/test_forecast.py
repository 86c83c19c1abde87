"""Headers are believed where they are about this caller, and cost nothing where they are not."""

from __future__ import annotations

from itertools import cycle

import pytest

from comet_resilience.limits.forecast import Forecast
from comet_resilience.verdict.rates import Counted, RateReading


class Server:
    """A bucket or a window that tells what is left of it."""

    def __init__(self, limit: int, rate: float, *, window: bool = False) -> None:
        self.limit, self.rate, self.window = limit, rate, window
        self.level, self.at = float(limit), 0.0

    def admit(self, now: float) -> bool:
        if not self.window:
            self.level = min(self.limit, self.level + (now - self.at) * self.rate)
        elif now // 60 > self.at // 60:
            self.level = float(self.limit)
        self.at = now
        if self.level < 1:
            return False
        self.level -= 1
        return True

    def reading(self, now: float) -> RateReading:
        reset = 60 - now % 60 if self.window else (self.limit - self.level) / self.rate
        return RateReading(Counted.REQUESTS, self.limit, float(int(self.level)), reset)


def _play(server: Server, seconds: float, *, takes: float = 0.5) -> tuple[int, int]:
    """Ask for one request after the other as soon as the forecast allows it: taken and refused."""
    forecast, now, taken, refused = Forecast(), 0.0, 0, 0
    while now < seconds:
        ready = forecast.ready_at(now, 1)
        if ready > now:
            now = ready
            forecast.tick(now)
            continue
        sent = forecast.sent(now, 1)
        if server.admit(now):
            taken += 1
            forecast.hear(sent, server.reading(now), now)
            forecast.accepted(sent, now)
        else:
            refused += 1
            forecast.hear(sent, server.reading(now), now, is_refusal=True)
            forecast.refused(sent, server.reading(now))
        now += takes if taken < 3 else 0.01
    return taken, refused


def test_a_bucket_is_used_up_and_hardly_overdrawn() -> None:
    """The test of the forecast is what it costs."""
    taken, refused = _play(Server(20, 2.0), 300)
    assert taken >= 600
    assert refused <= 3


def test_a_window_is_used_up_and_hardly_overdrawn() -> None:
    """Nothing is left until the reset, and then everything."""
    taken, refused = _play(Server(60, 1.0, window=True), 300)
    assert taken >= 290
    assert refused <= 8


@pytest.mark.parametrize("channels", [2, 7])
def test_headers_of_channels_in_turn_are_never_believed(channels: int) -> None:
    """Another limit with each answer is no forecast at all."""
    limits = [10.0**number for number in range(1, channels + 1)]
    forecast = Forecast()
    for number, limit in zip(range(500), cycle(limits), strict=False):
        now = number / 10
        assert forecast.ready_at(now, 1) == now
        sent = forecast.sent(now, 1)
        forecast.hear(sent, RateReading(Counted.REQUESTS, limit, 0.0, 60.0), now)
        forecast.accepted(sent, now)


def test_headers_of_somebody_elses_account_are_tested_and_dropped() -> None:
    """Nothing left, says a header, and yet every request is taken: it is not about us."""
    forecast, waited = Forecast(), 0.0
    for number in range(500):
        now = number / 5
        ready = forecast.ready_at(now, 1)
        waited += ready - now
        forecast.tick(ready)
        sent = forecast.sent(ready, 1)
        left = max(0.0, 20.0 - number)
        forecast.hear(sent, RateReading(Counted.REQUESTS, 60.0, left, 3_600.0), ready)
        forecast.accepted(sent, ready)
    assert waited <= 2.0


def test_a_refusal_without_such_headers_confirms_nothing() -> None:
    """A gateway drops a provider's headers on errors: its own limit is another."""
    forecast = Forecast()
    for number in range(4):
        sent = forecast.sent(float(number), 1)
        left = 3.0 - number
        forecast.hear(sent, RateReading(Counted.REQUESTS, 60.0, left, 50.0), float(number))
    sent = forecast.sent(5.0, 1)
    assert sent.is_test
    forecast.refused(sent, None)
    assert not forecast.is_confirmed
    sent = forecast.sent(6.0, 1)
    forecast.refused(sent, RateReading(Counted.REQUESTS, 60.0, 0.0, 50.0))
    assert forecast.is_confirmed
    assert forecast.ready_at(7.0, 1) > 50.0


def test_nobody_is_held_back_for_hours() -> None:
    """The refusal tells its caller more than a silent wait for a quota of the day."""
    forecast = Forecast()
    for left in (3.0, 2.0, 1.0, 0.0):
        sent = forecast.sent(3.0 - left, 1)
        forecast.hear(sent, RateReading(Counted.REQUESTS, 60.0, left, 3_600.0), 3.0 - left)
    sent = forecast.sent(5.0, 1)
    forecast.refused(sent, RateReading(Counted.REQUESTS, 60.0, 0.0, 3_600.0))
    assert forecast.is_confirmed
    assert forecast.ready_at(7.0, 1) == 7.0
