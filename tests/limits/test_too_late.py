"""Answers that would come too late: by what is usual, and by who may think so of whom."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest

from comet_resilience.limits.too_late import AnswerTimes, is_in_time, is_too_late


@dataclass
class Caller:
    """One who waits."""

    since: float
    useful_until: float


def test_three_of_four_answers_are_usual() -> None:
    """Once four are known; the sixteen latest are remembered."""
    answers = AnswerTimes()
    for seconds in (1.0, 3.0, 2.0):
        answers.note(seconds)
        assert answers.usual == 0.0
    answers.note(9.0)
    assert answers.usual == 9.0
    for seconds in range(16):
        answers.note(float(seconds))
    assert answers.usual == 12.0


@pytest.mark.parametrize(
    ("since", "until", "now", "late"),
    [
        pytest.param(0.0, 5.0, 3.9, False, id="as much time left as is usual"),
        pytest.param(0.0, 5.0, 4.1, True, id="less"),
        pytest.param(0.0, 0.9, 0.0, False, id="never had as much: asks for something quicker"),
        pytest.param(0.0, 0.9, 0.8, False, id="nor is anything known of it after a while"),
        pytest.param(0.0, math.inf, 99.0, False, id="waits for ever"),
    ],
)
def test_only_waiting_makes_a_request_too_late(
    since: float, until: float, now: float, *, late: bool
) -> None:
    """By what is left of the time that it had."""
    assert is_too_late(Caller(since, until), now, 1.0) is late
    assert not is_too_late(Caller(since, until), now, 0.0)


def test_one_that_waits_for_ever_is_neither_too_late_nor_in_time() -> None:
    """It has no need to go before others."""
    assert is_in_time(Caller(0.0, 5.0), 3.9, 1.0)
    assert not is_in_time(Caller(0.0, 5.0), 4.1, 1.0)
    assert not is_in_time(Caller(0.0, math.inf), 0.0, 1.0)
