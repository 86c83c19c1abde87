"""A failed attempt: its observation, the verdict, and the remains of the exchange."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypedDict, Unpack

from ..errors import (
    BudgetExceededError,
    BudgetSpentError,
    CallbackError,
    DeadlineExceededError,
    GateClosedError,
    ResilienceError,
)
from ..verdict.evidence import NOTHING, Evidence
from ..verdict.rule import Rule
from ..verdict.rules import classify
from ..verdict.vocabulary import (
    Action,
    FailureKind,
    Fault,
    Observation,
    Operation,
    Verdict,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..wire.http import Response
    from ..wire.response import ResponseHead

#: For what the caller's own functions have done.
_CALLBACK: Final = Rule(
    name="callback", kind=FailureKind.LOCAL, action=Action.FAIL, source="inferred",
    reason="a function given to wrap() failed before anything was sent",
    advice=("Mend the function: the exception's cause is what it raised.",),
)  # fmt: skip
#: For what could never be paid for.
_BUDGET: Final = Rule(
    name="budget", kind=FailureKind.LOCAL, action=Action.FAIL, source="inferred",
    reason="the request takes more than its whole budget, and was not sent",
    advice=(
        "Shorten the prompt or lower max_tokens.",
        "Raise budget=Budget(tokens=...) if the account is allowed more.",
    ),
)  # fmt: skip
#: For what could not be paid for in time.
_SPENT: Final = Rule(
    name="budget-spent", kind=FailureKind.LOCAL, action=Action.FAIL, source="inferred",
    reason="the budget has no room for the request in time, and it was not sent",
    advice=(
        "Give it more time (deadline, queue_timeout, the timeout around the call), or send less.",
        "Raise budget=Budget(...) if the account is allowed more.",
    ),
)  # fmt: skip
#: Rules for refusals of our own that the table knows nothing of.
_OWN_RULES: Final = (
    (CallbackError, _CALLBACK), (BudgetSpentError, _SPENT), (BudgetExceededError, _BUDGET)
)  # fmt: skip

#: Faults that refusals of our own stand for; the narrow classes first.
_OWN_FAULTS: Final = {
    GateClosedError: Fault.GATE,
    DeadlineExceededError: Fault.DEADLINE,
    ResilienceError: Fault.QUEUE,
}


class Remains(TypedDict, total=False):
    """The remains of the exchange that failed; ``Failure`` explains each."""

    response: Response | None
    head: ResponseHead | None
    body: bytes
    error: Exception | None
    fallback: Response | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One attempt that brought no answer: its observation, the verdict, and the remains.

    What is left of the exchange is one of three things. ``response`` is the gateway's own, with
    the ``body`` that was read of it, for the caller to get; ``head`` stands for a response whose
    body the caller has in hand; ``error`` is the exception where no response came, or none whole.
    """

    observation: Observation = field(repr=False)  # an error tracker would keep the server's echo
    verdict: Verdict
    response: Response | None = None
    head: ResponseHead | None = None
    body: bytes = field(default=b"", repr=False)
    error: Exception | None = field(default=None, repr=False)
    #: A response to hand over if nothing better comes: it may be meant, but is of no use.
    fallback: Response | None = field(default=None, repr=False)


def judged(
    observation: Observation,
    rules: Sequence[Rule] = (),
    evidence: Evidence = NOTHING,
    *,
    rule: Rule | None = None,
    **remains: Unpack[Remains],
) -> Failure:
    """Judge an observation and return the failure; ``remains`` is what is left of the exchange.

    ``rule`` is the one to judge by where it is known already, and the table is not asked.
    """
    verdict = classify(observation, rules, evidence) if rule is None else rule.verdict()
    return Failure(observation=observation, verdict=verdict, **remains)


def own_refusal(error: ResilienceError, operation: Operation) -> Failure:
    """Return the failure that a refusal of this library's own is: no slot, or no time."""
    fault = next(fault for cls, fault in _OWN_FAULTS.items() if isinstance(error, cls))
    observation = Observation(fault=fault, message=str(error), operation=operation)
    return judged(observation, [rule for cls, rule in _OWN_RULES if isinstance(error, cls)])
