"""Each move of the limit names its rule, and each rule begins and ends where it says."""

from __future__ import annotations

import math

import pytest

from comet_resilience.limits.algorithm import (
    ANSWER_TIME_SHARE,
    CLOSED_MAX,
    HOLD_MAX,
    HOLD_MIN,
    HOLD_QUOTA,
    HOLD_SPREAD,
    UNHURRIED_ANSWER,
    VERDICT_TIME,
    StepBack,
    Ticket,
)
from comet_resilience.limits.fixed import FixedLimit

from .test_algorithm import Desk, at_level, closed_at, replace_all


def test_each_rule_says_in_words_why_the_limit_moved() -> None:
    """From start to canary: the words that observers, snapshots and reports repeat."""
    algorithm, desk = at_level(10)
    assert algorithm.reason == "a probe was refused: back to what is in flight"
    desk.refuse(desk.out[0])
    assert algorithm.reason == "an older attempt was refused too"
    desk.wait(100.0)
    assert algorithm.reason == "the hold is over: one probe"
    desk.begin(*desk.fill())
    assert algorithm.reason == "a probe was accepted"
    sent = replace_all(desk)
    desk.refuse(*sent[4:6])
    assert algorithm.reason == "refused twice in a row at a known level"


def test_the_gate_says_in_words_why_it_moved() -> None:
    """Closed, one canary, open again."""
    algorithm, desk = closed_at(10)
    assert algorithm.reason == "closed: at least three refusals in a row"
    desk.fail(*desk.out)
    desk.wait_for_timer()
    assert algorithm.reason == "closed: one canary"
    desk.begin(*desk.fill())
    assert algorithm.reason == "a probe was accepted"
    algorithm, desk = closed_at(10)
    algorithm.accepted(Ticket(algorithm.numbered + 1, 1, desk.now), desk.now)
    assert algorithm.reason == "open again: the canary was accepted"


def test_news_that_move_nothing_leave_the_words_alone() -> None:
    """A late refusal that lowers nothing does not rewrite history."""
    algorithm, desk = at_level(10)
    old = desk.out[-1]
    desk.wait(100.0)
    algorithm.refused(old, desk.now, 10, None, 0.5)
    assert (algorithm.level, algorithm.reason) == (10, "the hold is over: one probe")


# -- What is a probe -----------------------------------------------------------------------------


def test_only_attempts_above_the_level_are_waited_for() -> None:
    """At the level there is no verdict to come, so no timer; one above it is a probe."""
    algorithm, desk = at_level(5)
    desk.wait(100.0)
    desk.finish(desk.out[0])
    desk.send()
    assert algorithm.wake_at is None
    desk.send()
    assert algorithm.wake_at == desk.now + VERDICT_TIME


def test_an_acceptance_at_the_level_is_no_reason_to_grow() -> None:
    """It neither widens the allowance nor shortens the next hold."""
    algorithm, desk = at_level(5)
    desk.wait(100.0)
    hold = algorithm.hold
    desk.finish(desk.out[0])
    desk.begin(desk.send())
    assert (algorithm.level, algorithm.allowance, algorithm.hold) == (5, 1, hold)


def test_the_last_attempt_before_a_step_back_does_not_undo_it() -> None:
    """What was sent before the level fell met another capacity, the latest of them too."""
    algorithm, desk = at_level(10)
    sent = replace_all(desk)
    desk.refuse(*sent[4:6])
    assert (algorithm.level, algorithm.last_step) == (7, sent[-1].number)
    desk.wait(100.0)
    desk.begin(sent[-1])
    assert algorithm.level == 7


def test_what_only_the_minimum_permits_is_no_growth_while_it_holds_still() -> None:
    """Below the minimum the floor lets attempts out, which raise no level before the hold ends."""
    algorithm, desk = at_level(6, minimum=5)
    sent = replace_all(desk)
    desk.fail(*sent[:1], *sent[3:])
    desk.refuse(*sent[1:3])
    assert (algorithm.level, algorithm.limit) == (0, 5)
    desk.begin(*desk.fill())
    assert algorithm.level == 0


def test_the_limit_stays_a_whole_number_on_its_way_up() -> None:
    """A quarter of the level is rounded down, at any level."""
    algorithm, desk = at_level(90)
    desk.wait(100.0)
    while algorithm.level < 150:
        desk.begin(*desk.fill())
        assert type(algorithm.limit) is int


def test_with_nothing_left_in_flight_the_level_is_nothing() -> None:
    """The only attempt was refused: nothing is known to be accepted."""
    algorithm, desk = at_level(1)
    desk.refuse(desk.out[0])
    assert (algorithm.level, algorithm.limit) == (0, 1)


# -- How long it holds still ---------------------------------------------------------------------


@pytest.mark.parametrize("draw", [0.0, 0.25, 0.5, 1.0])
def test_holds_are_spread_around_their_length(draw: float) -> None:
    """By a fifth to either side, so that clients refused together do not come back together."""
    algorithm = StepBack(2, 1, 100)
    desk = Desk(algorithm)
    desk.draw = draw
    desk.refuse(desk.send())
    due = 2 * HOLD_MIN * (1 - HOLD_SPREAD + 2 * HOLD_SPREAD * draw)
    assert algorithm.wake_at == pytest.approx(due)


def test_a_hold_ends_with_the_last_acceptance_of_its_quota() -> None:
    """Two for each second of it, and not one more."""
    algorithm, desk = at_level(10)
    quota = math.ceil(HOLD_QUOTA * algorithm.hold)
    desk.wait(1.2 * algorithm.hold)
    for place in range(1, quota + 1):
        assert algorithm.allowance == 0
        algorithm.accepted(Ticket(place, 1, desk.now), desk.now)
    assert algorithm.allowance == 1


def test_two_refusals_in_a_row_halve_the_next_hold() -> None:
    """At a known level they say that the level fell, not that probes are hopeless."""
    algorithm, desk = at_level(10)
    algorithm.hold = 8.0
    sent = replace_all(desk)
    desk.refuse(*sent[4:6])
    assert algorithm.hold == 4.0


@pytest.mark.parametrize(("hold", "closure"), [(8.0, 4.0), (HOLD_MAX, CLOSED_MAX)])
def test_the_gate_stays_closed_for_half_a_hold(hold: float, closure: float) -> None:
    """Refusals at a known level close it without making the next hold longer."""
    algorithm, desk = at_level(10)
    desk.wait(100.0)
    algorithm.hold = hold
    for number in (501, 503, 502):  # found to be a row only when the last of them arrives
        algorithm.refused(Ticket(number, 10, desk.now), desk.now, 9, None, 0.5)
    assert algorithm.closed_until == pytest.approx(desk.now + closure)
    assert algorithm.hold == hold


def test_a_newer_refusal_with_a_shorter_hint_does_not_open_the_gate_earlier() -> None:
    """In a fleet other members' refusals come in while the gate is closed."""
    algorithm, desk = closed_at(10, retry_after=30.0)
    until = algorithm.closed_until
    newer = Ticket(algorithm.last_step + 1, 3, desk.now)
    algorithm.refused(newer, desk.now + 1.0, 2, 1.0, 0.5)
    assert algorithm.closed_until == until


def test_the_time_in_which_answers_begin_is_a_moving_mean() -> None:
    """Each answer moves it by a fifth of the difference."""
    algorithm = StepBack(8, 1, 100)
    ticket = algorithm.sent(10.0, 1)
    algorithm.accepted(ticket, 12.5)
    mean = UNHURRIED_ANSWER + ANSWER_TIME_SHARE * (2.5 - UNHURRIED_ANSWER)
    assert algorithm.answer_time == pytest.approx(mean)


def test_a_fixed_limit_numbers_its_attempts() -> None:
    """Tickets say which attempt, how many were in flight and when, whatever the algorithm."""
    algorithm = FixedLimit(3)
    tickets = [algorithm.sent(5.0, 1), algorithm.sent(6.0, 2), algorithm.sent(7.0, 3)]
    said = [(ticket.number, ticket.in_flight, ticket.sent_at) for ticket in tickets]
    assert said == [(1, 1, 5.0), (2, 2, 6.0), (3, 3, 7.0)]
    assert not any(ticket.decided for ticket in tickets)
