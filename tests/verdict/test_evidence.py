"""Evidence of what has worked before: what counts as recent, and how it is said."""

from __future__ import annotations

import pytest

from comet_resilience.verdict.evidence import NOTHING, RECENT, Evidence, Worked


def test_nothing_worked_where_nothing_is_known() -> None:
    assert not any((NOTHING.key_worked, NOTHING.model_worked, NOTHING.place_worked))


@pytest.mark.parametrize(("ago", "recent"), [(0.0, True), (RECENT, True), (RECENT + 1, False)])
def test_a_key_and_a_model_count_for_ten_minutes(ago: float, recent: bool) -> None:
    evidence = Evidence(key=Worked(times=1, ago=ago), model=Worked(times=1, ago=ago))
    assert evidence.key_worked is recent
    assert evidence.model_worked is recent


def test_a_place_counts_for_the_life_of_the_process() -> None:
    assert Evidence(place=Worked(times=1, ago=100 * RECENT)).place_worked


def test_what_is_known_is_said_in_words() -> None:
    evidence = Evidence(key=Worked(times=312, ago=4.2), place=Worked(times=1, ago=7_300.0))
    assert list(evidence.lines()) == [
        "this key: 312 successes, the last 4 s ago",
        "this model: none yet",
        "this path: 1 success, the last 2 h ago",
    ]
    assert str(Worked(times=2, ago=150.0)) == "2 successes, the last 2 min ago"
