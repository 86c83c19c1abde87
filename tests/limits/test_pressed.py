"""Whom evidence may not hold back any longer: the most pressed first, and nobody who left."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comet_resilience.limits.pressed import Pressed, half_way


@dataclass
class One:
    """One who waits."""

    serial: int
    paced_until: float
    left: bool = False


def test_the_most_pressed_goes_first_once_its_time_is_up() -> None:
    """Among those of one time the one that came first."""
    pressed: Pressed[One] = Pressed()
    later, first, second = One(1, 9.0), One(2, 5.0), One(3, 5.0)
    for one in (later, second, first):
        pressed.push(one)
    assert pressed.look_at(7.0) == -math.inf
    assert pressed.look_at(4.0) == 5.0
    assert pressed.due(4.9, 5.0) is None
    assert pressed.due(5.0, 5.0) is first
    first.left = True
    assert pressed.due(5.0, 5.0) is second


def test_nobody_waits_for_what_opens_too_late() -> None:
    """It goes at once."""
    pressed: Pressed[One] = Pressed()
    one = One(1, 9.0)
    pressed.push(one)
    assert pressed.due(0.0, 9.0) is None
    assert pressed.due(0.0, 9.1) is one


def test_who_can_wait_for_ever_is_never_pressed() -> None:
    """Nor kept."""
    pressed: Pressed[One] = Pressed()
    pressed.push(One(1, math.inf))
    assert (len(pressed), pressed.look_at(0.0), pressed.due(1e9, math.inf)) == (0, math.inf, None)


def test_those_who_left_take_a_bounded_place() -> None:
    """However many come and go while one waits for long."""
    pressed: Pressed[One] = Pressed()
    patient = One(0, 1.0)
    pressed.push(patient)
    for serial in range(1, 10_000):
        one = One(serial, 2.0)
        pressed.push(one)
        one.left = True
        assert len(pressed) <= 200
    assert pressed.due(1.0, 1.0) is patient


@given(st.lists(st.tuples(st.floats(0, 100), st.booleans()), max_size=300))
def test_all_who_stay_are_due_in_order(waiting: list[tuple[float, bool]]) -> None:
    """Each once."""
    pressed: Pressed[One] = Pressed()
    ones = [One(serial, until, left) for serial, (until, left) in enumerate(waiting)]
    for one in ones:
        pressed.push(one)
    went: list[One] = []
    while (due := pressed.due(100.0, 100.0)) is not None:
        due.left = True
        went.append(due)
    stayed = [one for one, (_, left) in zip(ones, waiting, strict=True) if not left]
    assert went == sorted(stayed, key=lambda one: (one.paced_until, one.serial))


def test_a_refusal_proves_the_evidence_for_a_while() -> None:
    """For a second, for two after the next that goes, and so on; an answer ends it."""
    pressed: Pressed[One] = Pressed()
    one = One(1, 0.0)
    pressed.push(one)
    pressed.went(9.9)
    pressed.went(9.9)
    assert pressed.due(9.9, math.inf) is one
    pressed.ended(10.0, is_refused=True)
    pressed.ended(10.1, is_refused=True)  # sent before the first was refused
    assert pressed.due(10.9, math.inf) is None
    assert pressed.look_at(math.inf) == 11.0
    assert pressed.due(11.0, math.inf) is one
    pressed.went(11.0)
    assert pressed.due(12.9, math.inf) is None
    pressed.ended(12.0, is_refused=True)
    assert pressed.look_at(math.inf) == 13.0
    pressed.ended(12.5, is_refused=False)
    assert pressed.due(12.5, math.inf) is one
    pressed.ended(20.0, is_refused=True)
    before = 0.0
    for _ in range(10):
        before = pressed.look_at(math.inf)
        pressed.went(before)
    assert pressed.look_at(math.inf) == before + 16.0


@pytest.mark.parametrize(
    ("now", "latest", "half"), [(10.0, 20.0, 15.0), (10.0, 5.0, 10.0), (10.0, math.inf, math.inf)]
)
def test_half_of_the_time_is_for_the_answer(now: float, latest: float, half: float) -> None:
    """One that is too late already is held by nothing."""
    assert half_way(now, latest) == half
