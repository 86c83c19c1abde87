"""The progress of a run: the rate of the last half minute, and what is left by it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from comet_resilience.bulk.progress import Rate, eta
from tests.bulk.conftest import PROGRESS


def test_the_rate_is_that_of_the_calls_that_are_over() -> None:
    """Counted from the start at first."""
    rate = Rate(100.0)
    assert rate.at(110.0, 50) == pytest.approx(5.0)


def test_what_is_long_past_does_not_count() -> None:
    """A run that became slow says so within half a minute."""
    rate = Rate(0.0)
    for second in range(1, 61):
        rate.at(float(second), 10 * second)
    for second in range(61, 100):
        rate.at(float(second), 600)
    assert rate.at(100.0, 600) == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("total", "over", "rate", "expected"),
    [(100, 50, 5.0, 10.0), (None, 50, 5.0, None), (100, 50, 0.0, None), (100, 100, 5.0, 0.0)],
)
def test_the_time_to_go(total: int | None, over: int, rate: float, expected: float | None) -> None:
    """Unknown without a total, or while nothing moves."""
    assert eta(total, over, rate) == expected


def test_tokens_are_told_where_answers_name_any() -> None:
    """So far, and what a minute brings."""
    shown = str(replace(PROGRESS, tokens=1_234_567, tokens_per_minute=61_728.4))
    assert shown == f"{PROGRESS}, 1,234,567 tokens (61,728/min)"


def test_progress_in_one_line() -> None:
    """The items that are over, the total, and the figures."""
    assert str(PROGRESS) == "1,203 of 2,000, 25.0/s, eta 0:00:32, limit 25, refused 4, failed 3"
