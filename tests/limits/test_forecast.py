"""Headers are believed where they are about this caller, and cost nothing where they are not."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comet_resilience.limits.forecast import LONGEST, Forecast, Sent
from comet_resilience.limits.trust import SILENCE, UNTESTED
from comet_resilience.verdict.rates import Counted, RateReading

#: The longest for which anybody is held back by what no refusal has confirmed.
UNCONFIRMED = UNTESTED + SILENCE + 0.1


class Server:
    """A bucket or a window that tells what is left of it, ``says`` how it says that."""

    def __init__(
        self,
        limit: float,
        rate: float,
        *,
        window: float = 0.0,
        says: Callable[[float], float] = float,
    ) -> None:
        self.limit, self.rate, self.window, self.says = limit, rate, window, says
        self.level, self.at = float(limit), 0.0

    def admit(self, now: float, cost: float = 1.0) -> bool:
        if not self.window:
            self.level = min(self.limit, self.level + (now - self.at) * self.rate)
        elif now // self.window > self.at // self.window:
            self.level = float(self.limit)
        self.at = now
        if self.level < cost:
            return False
        self.level -= cost
        return True

    def reading(self, now: float, counted: Counted = Counted.REQUESTS) -> RateReading:
        reset = (self.limit - self.level) / self.rate
        if self.window:
            reset = self.window - now % self.window
        return RateReading(counted, self.limit, float(int(self.level)), self.says(reset))


class Player:
    """One who asks as soon as the forecast allows it, and hears each answer at once."""

    def __init__(self, counted: Counted = Counted.REQUESTS) -> None:
        self.forecast = Forecast(counted)
        self.now, self.number, self.waited = 0.0, 0, 0.0
        self.taken = self.refused = 0

    def wait(self, cost: float = 1.0) -> None:
        since = self.now
        for _ in range(2_000):
            ready = self.forecast.ready_at(self.now, cost)
            assert self.now <= ready < math.inf
            if ready <= self.now:
                break
            self.now = ready
        else:
            raise AssertionError("it is never let go")
        self.waited = max(self.waited, self.now - since)

    def send(self, server: Server, cost: float = 1.0) -> None:
        self.wait(cost)
        self.number += 1
        sent = Sent(self.number, self.now, cost)
        self.forecast.sent(sent, self.now)
        if server.admit(self.now, cost):
            self.taken += 1
            self.hear(sent, server.reading(self.now, self.forecast.counted))
        else:
            self.refused += 1
            self.hear(sent, server.reading(self.now, self.forecast.counted), is_refusal=True)

    def hear(self, sent: Sent, reading: RateReading | None, *, is_refusal: bool = False) -> None:
        cost = sent.cost(self.forecast.counted)
        if is_refusal:
            sent.is_free = True
            self.forecast.correct(sent, -cost)
        if reading is not None:
            self.forecast.hear(sent, reading, is_refusal=is_refusal)
        if is_refusal:
            self.forecast.refused(sent, cost, reading)
        else:
            self.forecast.trust.accepted(sent.number, self.now)


def _play(server: Server, seconds: float) -> tuple[int, int]:
    player = Player()
    while player.now < seconds:
        player.send(server)
        player.now += 0.2 if player.taken < 5 else 0.01
    return player.taken, player.refused


def test_a_bucket_is_used_up_and_tested_once() -> None:
    """Two requests find out that the headers are about this caller; no other is refused."""
    taken, refused = _play(Server(20, 2.0), 300)
    assert taken >= 610
    assert refused <= 2


@pytest.mark.parametrize("says", [float, math.ceil])
def test_a_window_is_used_up_and_tested_once(says: Callable[[float], float]) -> None:
    """Nothing is left until the reset, and then everything."""
    taken, refused = _play(Server(60, 1.0, window=60.0, says=says), 300)
    assert taken >= 299
    assert refused <= 2


@pytest.mark.parametrize("says", [math.floor, round, lambda reset: max(0.0, reset - 0.4)])
def test_a_window_that_is_over_later_than_told_costs_one_refusal_more(
    says: Callable[[float], float],
) -> None:
    """Whole seconds are rounded somehow: only one goes first, and then none is early again."""
    taken, refused = _play(Server(30, 3.0, window=10.0, says=says), 300)
    assert taken >= 850
    assert refused <= 5


def test_one_goes_first_when_a_window_begins() -> None:
    """The others wait until it was not refused for half a second, or until its answer tells."""
    server, player = Server(5, 0.5, window=10.0), Player()
    while not player.refused:
        player.send(server)
    player.wait()
    assert 10 < player.now < 10.5
    player.number += 1
    first = Sent(player.number, player.now)
    player.forecast.sent(first, player.now)
    assert player.forecast.ready_at(player.now, 1.0) == pytest.approx(player.now + 0.5)
    assert server.admit(player.now)
    player.hear(first, server.reading(player.now))
    assert player.forecast.ready_at(player.now, 1.0) == player.now


def test_a_bucket_that_fills_in_a_second_is_no_window() -> None:
    """Whoever waits for its reset finds it full, again and again: and loses half of it."""
    forecast = Forecast()
    forecast.readings, forecast.bucket.misses, forecast.window.misses = 9, 0.1, 0.0
    assert not forecast.is_window
    forecast.bucket.error = 1.0  # but one by whose forecast a refusal should not have come
    assert forecast.is_window


def test_another_rate_is_learnt_from_three_answers() -> None:
    """The bucket is the same, but it fills more slowly."""
    server, player = Server(10, 10.0), Player()
    while player.now < 20:
        player.send(server)
    server.rate, before = 1.0, player.refused
    while player.now < 80:
        player.send(server)
    assert player.refused - before <= 6
    assert player.forecast.is_usable
    assert player.forecast.bucket.rate == pytest.approx(1.0, rel=0.1)
    server.rate, taken = 5.0, player.taken
    while player.now < 140:
        player.send(server)
    assert player.taken - taken >= 270


def test_tokens_are_kept_back_for_the_large() -> None:
    """What is left has to cover the request, and what is in flight may turn out larger."""
    server, player = Server(20_000, 4_000.0), Player(Counted.INPUT_TOKENS)
    sizes = cycle((300, 500, 900, 1_200, 400, 9_000, 250))
    while player.now < 120:
        player.send(server, float(next(sizes)))
        player.now += 0.01
    assert player.refused <= 4
    assert player.taken >= 0.95 * 120 * 4_000 / 1_793


def test_what_others_take_is_expected_to_go_on() -> None:
    """A second process draws half of the bucket: it is no reason to disbelieve it."""
    server, player, other = Server(20, 4.0), Player(), 0.0
    while player.now < 200:
        player.wait()
        while other < player.now:
            server.admit(other)
            other += 0.5
        player.send(server)
        player.now += 0.05
    assert player.refused <= 12
    assert player.taken >= 330


@pytest.mark.parametrize("channels", [2, 7])
@pytest.mark.parametrize("sticks", [1, 40])
def test_headers_of_channels_hold_nobody_back(channels: int, sticks: int) -> None:
    """A limit that goes away and comes back is a pool's."""
    limits = [60.0 * 13**place for place in range(channels)]
    left = list(limits)
    player = Player()
    for number in range(2_000):
        place = number // sticks % channels
        left[place] = max(0.0, left[place] - 1)
        player.wait()
        player.number += 1
        sent = Sent(player.number, player.now)
        player.forecast.sent(sent, player.now)
        player.hear(sent, RateReading(Counted.REQUESTS, limits[place], left[place], 50.0))
        player.now += 0.05
    assert player.waited == 0.0
    assert player.now == pytest.approx(100.0)


def test_headers_of_somebody_elses_account_are_tested_and_dropped() -> None:
    """Nothing left, says a header, and yet every request is taken: it is not about us."""
    server, player = Server(60, 1.0, window=60.0), Player()
    for _ in range(2_000):
        player.wait()
        player.number += 1
        sent = Sent(player.number, player.now)
        player.forecast.sent(sent, player.now)
        server.admit(player.now)
        player.hear(sent, server.reading(player.now))
        player.now += 0.2
    assert player.waited <= UNCONFIRMED
    assert player.now <= 400 + 4 * UNCONFIRMED


def test_refusals_that_tell_nothing_confirm_headers_only_together() -> None:
    """A gateway drops a provider's headers on errors: its own limit is another."""
    server, player = Server(5, 0.02), Player()
    for _ in range(5):
        player.send(server)
        player.now += 0.3
    player.now += UNTESTED
    for confirmed in (False, False, True):
        assert not player.forecast.trust.is_confirmed
        player.wait()
        player.number += 1
        sent = Sent(player.number, player.now)
        player.forecast.sent(sent, player.now)
        player.hear(sent, None, is_refusal=True)
        assert player.forecast.trust.is_confirmed is confirmed


def test_a_period_alone_is_a_rate() -> None:
    """Azure tells what is left of how many in how long, and no reset."""
    server, player = Server(50, 50 / 60), Player()
    while player.now < 300:
        player.wait()
        player.number += 1
        sent = Sent(player.number, player.now)
        player.forecast.sent(sent, player.now)
        is_refusal = not server.admit(player.now)
        player.taken += not is_refusal
        player.refused += is_refusal
        reading = replace(server.reading(player.now), reset=None, period=60.0)
        player.hear(sent, reading, is_refusal=is_refusal)
        player.now += 0.05
    assert player.refused <= 3
    assert player.taken >= 290


READINGS = st.builds(
    RateReading,
    st.just(Counted.REQUESTS),
    st.sampled_from([1.0, 2.0, 60.0, 1e12]),
    st.sampled_from([0.0, 1.0, 59.0]),
    st.none() | st.sampled_from([0.0, 1e-9, 0.5, 1.0, 30.0, 59.0, 60.0, 86_400.0, 2_678_400.0]),
    st.sampled_from([None, 1e-6, 60.0, 2_678_400.0]),
).map(lambda reading: replace(reading, remaining=min(reading.remaining, reading.limit)))


@given(st.lists(st.tuples(READINGS, st.floats(0, 5)), max_size=60))
def test_nobody_is_held_back_for_long_by_what_nothing_has_confirmed(
    answers: list[tuple[RateReading, float]],
) -> None:
    """Whatever headers say, and however they change."""
    player = Player()
    for reading, passes in answers:
        player.wait()
        player.number += 1
        sent = Sent(player.number, player.now)
        player.forecast.sent(sent, player.now)
        player.now += passes
        player.hear(sent, reading)
    assert player.waited <= UNCONFIRMED


@given(st.lists(st.tuples(READINGS, st.floats(0, 5), st.booleans()), max_size=60))
def test_nobody_is_held_back_for_ever(answers: list[tuple[RateReading, float, bool]]) -> None:
    """Not even by what a refusal has confirmed: a quota of the day is told by its refusal."""
    player = Player()
    for reading, passes, is_refusal in answers:
        player.wait()
        player.number += 1
        sent = Sent(player.number, player.now)
        player.forecast.sent(sent, player.now)
        player.now += passes
        player.hear(sent, reading, is_refusal=is_refusal)
    assert player.waited <= LONGEST + UNCONFIRMED
