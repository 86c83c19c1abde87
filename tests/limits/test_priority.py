"""Priorities by name and by number."""

from __future__ import annotations

from typing import Any

import pytest

from comet_resilience.config import Config
from comet_resilience.limits.priority import NAMED, priority_name, priority_number
from comet_resilience.overrides import override


def test_names_are_numbers_of_which_the_lower_goes_first() -> None:
    """As in vLLM, LiteLLM and ``nice``; the usual one is 0."""
    numbers = [priority_number(name) for name in ("high", "normal", "low", "bulk")]
    assert numbers == sorted(numbers) == list(NAMED.values())
    assert numbers[1] == 0
    assert numbers[-1] == priority_number(10)


@pytest.mark.parametrize("number", [-10, -5, -1, 0, 3, 10])
def test_numbers_stand_for_themselves(number: int) -> None:
    """Within their bounds."""
    assert priority_number(number) == number


def test_a_priority_without_a_name_is_shown_as_its_number() -> None:
    """And one that has a name by it."""
    assert [priority_name(number) for number in (-5, 0, 3, 10)] == ["high", "normal", "3", "bulk"]


@pytest.mark.parametrize("value", [11, -11, 1.0, True, "urgent", "High", None, [], float("nan")])
def test_anything_else_is_refused_in_words(value: Any) -> None:
    """At construction, by the keyword's name, with what was expected."""
    expected = r"^priority=.*: expected one of 'high', 'normal', 'low', 'bulk', or a whole number"
    for build in (Config, override):
        with pytest.raises(ValueError, match=expected):
            build(priority=value)
