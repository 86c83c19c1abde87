"""The three states of belief in a rate, and what leads from one to another."""

from __future__ import annotations

from random import Random

import pytest

from comet_resilience.limits.attempt_log import Attempt
from comet_resilience.limits.belief import (
    Keeping,
    Listening,
    Trying,
    after_refusal,
    after_send,
    learn,
)
from comet_resilience.limits.explanations import Family, Kind

from ..servers import Server, bucket, cap, sliding

BUCKET = Family(Kind.BUCKET, 10.0)
WINDOW = Family(Kind.SLIDING, 60.0)


def log_of(server: Server, gap: float, count: int) -> list[Attempt]:
    """Send at uneven gaps, about so long, with two to five in flight."""
    log, random, at = [], Random(3), 0.0
    for number in range(count):
        at += gap * random.uniform(0.5, 1.5)
        in_flight = random.randint(2, 5)
        taken = server(at, in_flight)
        log.append(Attempt(at, in_flight, taken, taken, number=number))
    return log


def believed(log: list[Attempt]) -> Listening | Keeping | Trying:
    return learn(log, Listening(), log[-1].at, is_complete=True)


def refused_at(rate: float, now: float, *, explores: bool = False) -> Attempt:
    return Attempt(now, 3, is_accepted=False, rate=rate, explores=explores)


def after(
    state: Keeping | Trying, refused: Attempt, log: list[Attempt] | None = None
) -> Listening | Keeping | Trying:
    return after_refusal(state, refused, log, refused.at, is_complete=False)


def test_a_rate_that_explains_the_log_is_kept_to_a_little_below() -> None:
    state = believed(log_of(bucket(5.0, 4.0), 0.1, 120))
    assert isinstance(state, Keeping)
    assert state.rate == pytest.approx(0.97 * 5.0, rel=0.1)


def test_a_cap_and_few_refusals_are_no_rate() -> None:
    assert isinstance(believed(log_of(cap(4), 0.1, 120)), Listening)
    assert isinstance(believed(log_of(bucket(9.0, 30.0), 0.1, 40)), Listening)


def test_a_log_no_longer_than_what_is_in_flight_shows_no_rate() -> None:
    log = log_of(bucket(5.0, 4.0), 0.1, 120)
    for one in log:
        one.in_flight += 60
    assert isinstance(believed(log), Listening)


def test_a_window_is_believed_where_closures_show_it() -> None:
    state = believed(log_of(sliding(10, 10.0), 0.2, 120))
    assert isinstance(state, Keeping)
    assert state.family.period == 10.0


def test_a_rate_is_kept_to_before_more_is_tried() -> None:
    kept = Keeping("", BUCKET, 5.0, until=10.0)
    assert after_send(kept, 9.9) is kept
    state = after_send(kept, 10.0)
    assert isinstance(state, Trying)
    rates = [state.rate]
    for _ in range(60):
        state = after_send(state, 11.0)
        rates.append(state.rate)
    assert rates == sorted(rates)
    assert 5.0 < rates[0] < 5.1
    assert rates[-1] > 10.0


def test_a_window_is_tried_by_a_share_in_each_period() -> None:
    state: Keeping | Trying = Keeping("", WINDOW, 1.0, until=0.0)
    for _ in range(200):
        state = after_send(state, 59.0)
    assert state.rate == pytest.approx(1.08)
    for _ in range(200):
        state = after_send(state, 59.0 + 61.0)
    assert state.rate == pytest.approx(1.32)


def test_a_window_that_was_taken_for_far_too_small_is_soon_found_out() -> None:
    """However few sends it lets through: it takes time, not sends."""
    slow = Trying(Keeping("", WINDOW, 2 / 60, until=0.0), 2 / 60, since=0.0)
    assert after_send(slow, 5 * 60.0).rate > 50 * slow.rate


def test_a_refused_trial_that_the_log_explains_gives_a_new_rate() -> None:
    log = log_of(bucket(5.0, 4.0), 0.19, 200)
    now = log[-1].at
    state = Trying(Keeping("", BUCKET, 4.0, until=0.0), 5.5, since=0.0)
    refused = refused_at(5.3, now, explores=True)
    found = after(state, refused, log)
    assert isinstance(found, Keeping)
    assert found.rate == pytest.approx(0.97 * 5.0, rel=0.05)
    assert found.until == pytest.approx(now + 70 / found.rate)
    assert found.before == Keeping("", BUCKET, 4.0, until=0.0)


def test_where_nothing_is_known_a_refused_rate_is_taken_for_slightly_too_high() -> None:
    state = after(Keeping("", BUCKET, 5.0, until=0.0), refused_at(5.0, 7.0))
    assert isinstance(state, Keeping)
    assert state.rate == pytest.approx(0.96 * 5.0)


def test_what_did_not_explore_and_is_refused_goes_back_to_what_held_once() -> None:
    before = Keeping("", BUCKET, 4.5, until=0.0)
    state = after(Keeping("", BUCKET, 5.0, until=9.0, before=before), refused_at(5.0, 7.0))
    assert isinstance(state, Keeping)
    assert (state.rate, state.before) == (4.5, None)


def test_what_held_long_below_is_not_gone_back_to() -> None:
    before = Keeping("", BUCKET, 1.0, until=0.0)
    state = after(Keeping("", BUCKET, 5.0, until=9.0, before=before), refused_at(5.0, 7.0))
    assert isinstance(state, Keeping)
    assert state.rate == pytest.approx(0.96 * 5.0)


def test_the_past_of_a_state_is_one_state_long() -> None:
    state: Listening | Keeping | Trying = Keeping("", BUCKET, 5.0, until=0.0)
    for number in range(5):
        assert not isinstance(state, Listening)
        trial = after_send(state, 100.0 * (number + 1))
        state = after(trial, refused_at(trial.rate, 100.0 * (number + 1), explores=True))
    assert isinstance(state, Keeping)
    assert state.before is not None
    assert state.before.before is None


def test_a_cap_that_explains_more_ends_the_belief() -> None:
    log = log_of(cap(4), 0.1, 120)
    state = after(Keeping("", BUCKET, 5.0, until=0.0), refused_at(5.0, log[-1].at), log)
    assert isinstance(state, Listening)
    assert "cap" in state.reason


def test_noise_that_nothing_explains_ends_the_belief() -> None:
    log, random, at = list[Attempt](), Random(4), 0.0
    for number in range(128):
        at += random.uniform(0.0, 0.4)
        refused = number % 14 == 7
        log.append(Attempt(at, random.randint(2, 5), not refused, not refused))
    refusal = refused_at(5.0, log[-1].at, explores=True)
    state = after(Trying(Keeping("", BUCKET, 5.0, until=0.0), 5.2, since=0.0), refusal, log)
    assert isinstance(state, Listening)
    assert state.until == pytest.approx(log[-1].at + 60)


def test_a_rate_that_fell_is_halved_where_little_is_taken() -> None:
    log = log_of(bucket(5.0, 4.0), 0.2, 120)
    state: Listening | Keeping | Trying = Keeping("", BUCKET, 4.8, until=0.0)
    for _ in range(2):
        assert isinstance(state, Keeping)
        refusal = refused_at(state.rate, log[-1].at + 3.0)
        log.append(refusal)
        state = after(state, refusal, log)
    assert isinstance(state, Keeping)
    assert state.rate < 0.6 * 4.8


def test_who_is_refused_again_and_again_believes_nothing_for_longer_each_time() -> None:
    waits = []
    cool = 0.0
    for _ in range(5):
        state: Listening | Keeping | Trying = Keeping("", BUCKET, 5.0, until=0.0, cool=cool)
        log = log_of(bucket(4.9, 1.0), 0.2, 120)
        now = log[-1].at
        while not isinstance(state, Listening):
            now += 2.0
            state = after(state, refused_at(state.rate, now), log)
        waits.append(state.until - now)
        cool = state.cool
    assert waits == pytest.approx([60.0, 120.0, 240.0, 480.0, 480.0])
