"""The log of attempts: what it keeps, for how long, and what is decided of it."""

from __future__ import annotations

from comet_resilience.limits.attempt_log import JUDGED, LOG_MOST, Attempt, AttemptLog


def log_of(*attempts: Attempt) -> AttemptLog:
    log = AttemptLog(0, 0, 0.0, 0.0)
    for attempt in attempts:
        log.add(attempt)
    return log


def test_what_was_sent_before_is_spread_over_the_time_since_the_first() -> None:
    log = AttemptLog(4, 3, 1.0, 5.0)
    assert [(one.at, one.in_flight) for one in log.attempts] == [(2, 1), (3, 2), (4, 3), (5, 3)]
    assert log.is_complete


def test_a_log_that_begins_late_is_not_complete() -> None:
    log = AttemptLog(1_000, 3, 0.0, 5.0)
    assert len(log.attempts) == JUDGED
    assert log.attempts[-1].number == 1_000
    assert not log.is_complete


def test_an_attempt_of_before_keeps_its_place_once_its_time_is_known() -> None:
    log = AttemptLog(4, 4, 0.0, 4.0)
    attempt = log.sent_before(2, 3.5, 2)
    assert attempt is log.attempts[1]
    assert [one.at for one in log.attempts] == [1.0, 3.5, 3.5, 4.0]


def test_it_reaches_back_two_minutes_but_keeps_what_is_judged() -> None:
    slow = log_of(*(Attempt(10.0 * number, 1, number=number) for number in range(300)))
    assert len(slow.attempts) == JUDGED
    fast = log_of(*(Attempt(0.01 * number, 1, number=number) for number in range(2_000)))
    assert len(fast.attempts) == LOG_MOST
    assert not fast.is_complete
    assert fast.numbered == 1_999


def test_an_attempt_is_decided_by_its_answer_its_refusal_or_silence() -> None:
    answered, refused = Attempt(9.9, 1, is_answered=True), Attempt(9.9, 2)
    silent, open_still = Attempt(5.0, 3), Attempt(9.9, 4)
    log = log_of(silent, answered, refused, open_still)
    log.refuse(refused, 10.0)
    assert log.decided(10.0) == [silent, answered, refused]
    assert open_still in log.decided(10.0 + log.silence)


def test_silence_follows_the_time_that_refusals_take_within_a_bound() -> None:
    log = log_of()
    usual = log.silence
    for _ in range(50):
        log.refuse(Attempt(0.0, 1), 0.05)
    assert 0.05 < log.silence < usual
    for _ in range(50):
        log.refuse(Attempt(0.0, 1), 5.0)
    assert log.silence == 1.0


def test_the_latest_accepted_are_found_by_their_place() -> None:
    refused = Attempt(2.0, 1, is_accepted=False)
    log = log_of(Attempt(1.0, 1), refused, Attempt(3.0, 1))
    assert [log.accepted_at(place) for place in range(3)] == [3.0, 1.0, None]
    assert log.accepted == 2


def test_what_was_never_sent_is_taken_out() -> None:
    attempt = Attempt(1.0, 1)
    log = log_of(attempt)
    log.withdraw(attempt)
    log.withdraw(attempt)
    assert not log.attempts
