"""Keywords: declared once, typed, checked."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, get_type_hints
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comet_resilience import Config, FixedLimit, Options


def test_types_and_defaults_name_the_same_keywords() -> None:
    """``Options`` (for editors) and ``Config`` (for defaults) agree in names and types."""
    assert get_type_hints(Options) == {
        name: hint for name, hint in get_type_hints(Config).items() if not name.startswith("_")
    }


def test_the_surface_stays_small() -> None:
    """Each further keyword has to argue with this number."""
    assert len(fields(Config)) <= 24


def test_defaults() -> None:
    """The defaults are those that are promised."""
    shown = Config()
    assert (shown.max_retries, shown.backoff_initial, shown.backoff_max) == (6, 0.5, 30.0)
    assert (shown.max_retry_after, shown.deadline, shown.queue_timeout) == (120.0, None, None)
    limits = (shown.initial_concurrency, shown.min_concurrency, shown.max_concurrency)
    assert limits == (8, 1, 512)


@given(st.one_of(st.integers(), st.floats(), st.text(), st.none(), st.booleans()))
def test_any_value_is_taken_or_named(value: Any) -> None:
    """Whatever is given for a number is either within its bounds or an error naming it."""
    for declared in fields(Config):
        if declared.metadata["bounds"] is None:
            continue
        try:
            made = Config(**{declared.name: value})
        except ValueError as error:
            assert declared.name in str(error)
        else:
            assert getattr(made, declared.name) == value


def test_observers_may_be_one_or_several() -> None:
    """One function, a list of them, and none are all a tuple inside."""
    assert Config().observers == ()
    assert Config(on_event=print).observers == (print,)
    assert Config(on_event=[print, repr]).observers == (print, repr)
    with pytest.raises(ValueError, match="on_event"):
        Config(on_event=[print, 3])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"partition": lambda: 1}, "partition=.*takes one argument"),
        ({"partition": "model"}, "partition='model': expected a function"),
        ({"algorithm": FixedLimit}, "algorithm=.*takes no argument: lambda: FixedLimit"),
        ({"algorithm": lambda request: FixedLimit(5)}, "algorithm=.*takes no argument"),
        ({"on_event": lambda: None}, "on_event=.*takes one argument"),
        ({"on_event": [print, lambda name, event: None]}, "on_event=.*takes one argument"),
        ({"journal": lambda: None}, "journal=.*takes one argument"),
        ({"journal": "."}, "journal='.': expected the path of a file.*this is a folder"),
    ],
)
def test_functions_have_to_take_what_they_are_given(options: Any, message: str) -> None:
    """At construction, before the first request finds out."""
    with pytest.raises(ValueError, match=message):
        Config.from_options(options)


def test_functions_that_do_not_show_their_arguments_are_taken() -> None:
    """So are those that take any, or more that have defaults."""
    given: Any = {
        "partition": hash,
        "algorithm": lambda limit=5: FixedLimit(limit),
        "on_event": [dict, print, lambda *events: None, [].append],
        "journal": Mock(),
    }
    assert Config.from_options(given).journal is given["journal"]
