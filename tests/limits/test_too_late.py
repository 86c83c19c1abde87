"""Answers that would come too late: by what is usual, and by who may think so of whom."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest

from comet_resilience.limits.too_late import AnswerTimes, is_too_late, last_in_time


@dataclass
class Caller:
    """One who waits."""

    since: float
    useful_until: float
    serial: int = 0


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


def test_the_last_who_came_has_the_most_time() -> None:
    """Of those who cannot wait for ever, and are not too late."""
    early, quick = Caller(0.0, 60.0, 1), Caller(9.0, 9.5, 4)
    others = [Caller(0.0, math.inf, 9), Caller(0.0, 10.5, 8), Caller(0.0, 10.0, 7)]
    assert last_in_time([early, *others], 10.0, 1.0) is early
    assert last_in_time([quick, early, *others], 9.0, 2.0) is quick
    assert last_in_time(others, 10.0, 1.0) is None
