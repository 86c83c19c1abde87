"""The errors of our own, under the SDK's and Python's names by which callers catch them."""

from __future__ import annotations

import inspect

import openai
import pytest

from comet_resilience import errors

from .conftest import BASE_URL, httpx

REQUEST = httpx.Request("POST", f"{BASE_URL}/chat/completions")

#: By which names of the SDK and of Python each of them is caught.
CAUGHT_BY: dict[str, tuple[type[Exception], ...]] = {
    "BudgetExceededError": (),
    "BudgetSpentError": (errors.BudgetExceededError, errors.QueueTimeoutError, TimeoutError),
    "QueueFullError": (),
    "QueueTimeoutError": (TimeoutError,),
    "CallbackError": (),
    "GateClosedError": (openai.APIConnectionError, errors.QueueTimeoutError, TimeoutError),
    "DeadlineExceededError": (openai.APITimeoutError, openai.APIConnectionError),
    "IncompleteStreamError": (openai.APIConnectionError,),
    "WrongEndpointError": (openai.APIStatusError,),
    "WrongEndpointNotFoundError": (openai.NotFoundError, errors.WrongEndpointError),
    "InvalidAnswerError": (openai.APIStatusError,),
}


def test_every_error_stands_in_the_table() -> None:
    """A new one has to say by which names it is caught."""
    own = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and value.__module__ == errors.__name__
    }
    assert own == {"ResilienceError", *CAUGHT_BY}


@pytest.mark.parametrize("name", CAUGHT_BY)
def test_each_is_caught_under_the_names_that_callers_know(name: str) -> None:
    """`except openai.OpenAIError` and `except ResilienceError` catch all of them."""
    kind = getattr(errors, name)
    others: list[type[Exception]] = [openai.OpenAIError, errors.ResilienceError, *CAUGHT_BY[name]]
    for other in others:
        assert issubclass(kind, other)
    assert issubclass(kind, TimeoutError) is (TimeoutError in CAUGHT_BY[name])


def test_a_closed_gate_says_for_how_long() -> None:
    """The seconds are a number for programs, and the message is for people."""
    error = errors.GateClosedError("closed for 7 s", closed_for=7.0, request=REQUEST)
    assert (str(error), error.closed_for, error.request) == ("closed for 7 s", 7.0, REQUEST)


def test_a_spent_budget_says_when_it_has_room() -> None:
    """The seconds are a number for programs, and the message is for people."""
    error = errors.BudgetSpentError("room in 7 s", available_in=7.0)
    assert (str(error), error.available_in) == ("room in 7 s", 7.0)


def test_a_deadline_says_what_it_was() -> None:
    """The SDK's own timeout has one text for all; ours has its reason."""
    error = errors.DeadlineExceededError("deadline=2.0 s passed", REQUEST)
    assert str(error) == error.message == "deadline=2.0 s passed"
    assert error.request is REQUEST
