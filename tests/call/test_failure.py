"""A failed attempt: judged by the table, by a row that is known, or for a refusal of our own."""

from __future__ import annotations

import pytest

from comet_resilience.call.failure import judged, own_refusal
from comet_resilience.errors import (
    BudgetExceededError,
    BudgetSpentError,
    CallbackError,
    DeadlineExceededError,
    GateClosedError,
    QueueFullError,
    QueueTimeoutError,
    ResilienceError,
)
from comet_resilience.verdict.rule import Rule
from comet_resilience.verdict.rules import classify
from comet_resilience.verdict.vocabulary import Action, FailureKind, Fault, Observation, Operation

from ..conftest import BASE_URL, httpx

LIMITED = Observation(status=429, message="slow down")
NEVER = Rule(
    name="never", kind=FailureKind.LOCAL, action=Action.FAIL, source="user", reason="because"
)
REQUEST = httpx.Request("POST", BASE_URL)


def test_a_failure_is_what_the_table_says() -> None:
    """With what is left of the exchange beside it."""
    failure = judged(LIMITED, body=b"slow down")
    assert failure.verdict == classify(LIMITED)
    assert (failure.observation, failure.body, failure.response) == (LIMITED, b"slow down", None)
    assert judged(LIMITED, [NEVER]).verdict == NEVER.verdict()


def test_a_row_that_is_known_judges_whatever_it_asks_for() -> None:
    """A line of a log tells the row, not all that it was chosen by."""
    narrow = Rule(
        name="narrow", status={500}, kind=FailureKind.LOCAL, action=Action.FAIL, source="user",
        reason="because",
    )  # fmt: skip
    assert judged(LIMITED, [narrow]).verdict == classify(LIMITED)
    assert judged(LIMITED, rule=narrow).verdict == narrow.verdict()


@pytest.mark.parametrize(
    ("error", "fault", "rule"),
    [
        (QueueFullError("full"), Fault.QUEUE, "queue"),
        (QueueTimeoutError("late"), Fault.QUEUE, "queue"),
        (DeadlineExceededError("late", REQUEST), Fault.DEADLINE, "deadline"),
        (GateClosedError("closed", 1.0, REQUEST), Fault.GATE, "gate"),
        (CallbackError("broken"), Fault.QUEUE, "callback"),
        (BudgetExceededError("too large"), Fault.QUEUE, "budget"),
        (BudgetSpentError("spent", 9.0), Fault.QUEUE, "budget-spent"),
    ],
)
def test_refusals_of_our_own(error: ResilienceError, fault: Fault, rule: str) -> None:
    """Each is a fault, judged by the narrowest row, and never worth another attempt."""
    failure = own_refusal(error, Operation.MEDIA)
    assert failure.observation == Observation(
        fault=fault, message=str(error), operation=Operation.MEDIA
    )
    assert (failure.verdict.rule, failure.verdict.action) == (rule, Action.FAIL)
