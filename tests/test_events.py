"""Events: frozen values of keywords, which a process may hand to another."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, fields
from typing import Any, get_args

import pytest

from comet_resilience import Event, events

from .conftest import refused_attempt

KINDS: tuple[type[Any], ...] = get_args(Event)
FINISHED = refused_attempt()


def test_the_union_has_every_event() -> None:
    """A `match` over `Event` that a type checker calls complete is complete."""
    own = {
        value
        for value in vars(events).values()
        if hasattr(value, "__dataclass_fields__") and value.__module__ == events.__name__
    }
    assert own == set(KINDS)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_is_made_of_keywords(kind: type[Any]) -> None:
    """A field that is added later breaks nobody who makes one or takes it apart."""
    assert all(field.kw_only for field in fields(kind))
    assert "__slots__" in vars(kind)


def test_an_event_is_a_value() -> None:
    """It cannot be changed, and is equal to its copies."""
    with pytest.raises(FrozenInstanceError):
        FINISHED.status = 200  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(FINISHED)) == copy.deepcopy(FINISHED) == FINISHED
    assert {FINISHED: 1}[copy.copy(FINISHED)] == 1
