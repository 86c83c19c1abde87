"""The algorithm's state as text: what was saved comes back, and nothing else does."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comet_resilience.fleet.memory import _STEP_BACK, Count, restore, save
from comet_resilience.limits.algorithm import LimitAlgorithm, StepBack
from comet_resilience.limits.fixed import FixedLimit

NOW = 1_700_000_000.0


def fresh() -> StepBack:
    """An algorithm as every member makes it."""
    return StepBack(8, 1, 64)


def lived_in(seed: int) -> StepBack:
    """An algorithm that has seen some traffic, up to ``NOW``."""
    random, algorithm, now = Random(seed), fresh(), NOW - 100
    for _ in range(200):
        now += random.random() / 2
        algorithm.tick(now)
        ticket = algorithm.sent(now, random.randint(1, 12))
        if random.random() < 0.3:
            algorithm.refused(ticket, now, random.randint(0, 12), None, random.random())
        else:
            algorithm.accepted(ticket, now)
        algorithm.ended(ticket, now, random.randint(0, 12))
    algorithm._probes.clear()
    return algorithm


@pytest.mark.parametrize("seed", range(20))
def test_what_was_saved_comes_back(seed: int) -> None:
    algorithm, count = lived_in(seed), Count(12.5, 3, NOW - 1, NOW - 2)
    again = fresh()
    assert restore(save(algorithm, count), again, NOW) == count
    again.reason = algorithm.reason  # words stay with who says them
    assert again == algorithm


def test_every_part_of_the_state_is_saved() -> None:
    settings = {
        "initial",
        "minimum",
        "maximum",
        "longest",
        "tests_hints",
        "reason",
        "starts_quickly",
    }
    hints = {"hints_disproved", "_hints_proven", "_hint_until", "_hinted_at", "_canaries_refused"}
    of_the_members = {"_probes", "_verdict_time", "_hurries", "present", *hints}
    assert {f.name for f in fields(StepBack)} - settings - of_the_members == set(_STEP_BACK)


def test_a_fixed_limit_has_no_state_but_the_numbers() -> None:
    algorithm = FixedLimit(20)
    assert restore(save(algorithm, Count(1.0, 2, 3.0, 4.0)), algorithm, NOW) == Count(
        1.0, 2, 3.0, 4.0
    )
    assert algorithm.limit == 20


def saved(**changes: Any) -> str:
    """A sound state but for some values."""
    return json.dumps({**json.loads(save(lived_in(1), Count(1.0, 1, NOW, NOW))), **changes})


@pytest.mark.parametrize(
    "text",
    [
        "", "{}", "[]", "null", "garbage", "[" * 100_000,
        saved(level=-1), saved(level=1.5), saved(level=True), saved(level="3"), saved(level=10**9),
        saved(allowance=None), saved(hold=0), saved(hold=1e9), saved(hold=math.nan),
        saved(closed_until=NOW + 1_000), saved(closed_until="soon"),
        saved(closed_until=NOW + 1, refused_numbers=[]),
        saved(_hold_until=NOW + 1_000), saved(_hold_latest=math.inf), saved(_hold_quota=10**6),
        saved(refused_numbers="all"), saved(refused_numbers=[1.5]), saved(refused_numbers=[1] * 65),
        saved(at=NOW + 60), saved(stepped_at=-1), saved(attempts=-1), saved(extra=1),
        saved(attempts=10**400), saved(at=-(10**400)), saved(hold=10**400),
        save(FixedLimit(3), Count()),
    ],
)  # fmt: skip
def test_what_is_no_state_changes_nothing(text: str) -> None:
    algorithm = fresh()
    assert restore(text, algorithm, NOW) is None
    assert algorithm == fresh()


@given(
    st.text(max_size=200)
    | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps)
)
def test_nothing_makes_it_raise(text: str) -> None:
    assert restore(text, fresh(), NOW) is None


def test_a_level_above_the_maximum_of_this_member_is_brought_down() -> None:
    algorithm: LimitAlgorithm = StepBack(2, 1, 4)
    assert restore(saved(level=9, allowance=0, closed_until=None), algorithm, NOW) is not None
    assert algorithm.limit == 4


def test_numbers_run_on_with_time_and_with_each_refusal() -> None:
    count = Count(at=NOW)
    count.advance(NOW + 10, rate=4.0)
    assert count.number(NOW + 10, 4.0) == 20  # half of forty attempts
    assert count.number(NOW + 5, 4.0) == 10
    count.refusals += 1
    assert count.number(NOW + 10, 4.0) == 21


def test_in_an_outage_refusals_are_numbered_one_after_the_other() -> None:
    count, numbers = Count(at=NOW), []
    for second in range(5):
        count.advance(NOW + second, rate=0.0)
        count.refusals += 1
        numbers.append(count.number(NOW + second, 0.0))
    assert numbers == [1, 2, 3, 4, 5]
