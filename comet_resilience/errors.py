"""The few errors that the library raises itself.

Wherever a response of the gateway fits, the caller gets the SDK's own exception for it. These
stand where none fits: all are ``openai.OpenAIError``s, so the SDK lets them through untouched, and
all carry the ``diagnosis`` of the request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import openai

if TYPE_CHECKING:
    from .diagnosis.diagnosis import Diagnosis


class ResilienceError(openai.OpenAIError):
    """Something that this library decided, before or after the gateway had its say."""

    diagnosis: Diagnosis | None = None


class QueueFullError(ResilienceError):
    """So many requests wait for a slot already that this one was not even queued; not sent."""


class QueueTimeoutError(ResilienceError, TimeoutError):
    """No slot was free within ``queue_timeout`` for the next attempt, which was not sent.

    It may have been a retry: ``diagnosis.attempts`` has those that were sent before.
    """


class CallbackError(ResilienceError):
    """A function given to ``wrap()``, ``partition`` or ``algorithm``, failed; not sent.

    What it raised is the ``__cause__``.
    """


class BudgetExceededError(ResilienceError):
    """The request takes more tokens than its whole ``budget`` has, so it could never go; not sent.

    The figure is an estimate of the prompt, and what the request allows its answer.
    """


class BudgetSpentError(BudgetExceededError, QueueTimeoutError):
    """The ``budget`` has no room for the request by the time that its caller can wait; not sent.

    ``available_in`` is in how many seconds it has, at best: what others take meanwhile may add to
    it.
    """

    def __init__(self, message: str, available_in: float) -> None:
        super().__init__(message)
        self.available_in: float = available_in


class GateClosedError(openai.APIConnectionError, QueueTimeoutError):
    """An outage: the gate is closed and cannot open in time, so this request was not sent.

    ``closed_for`` is the number of seconds until the next canary is tried.
    """

    def __init__(self, message: str, closed_for: float, request: Any = None) -> None:
        super().__init__(message=message, request=request)
        self.closed_for: float = closed_for


class DeadlineExceededError(openai.APITimeoutError, ResilienceError):
    """The request's ``deadline`` passed before its answer began."""

    def __init__(self, message: str, request: Any) -> None:
        super().__init__(request=request)
        self.message = message
        self.args: tuple[Any, ...] = (message,)


class IncompleteStreamError(openai.APIConnectionError, ResilienceError):
    """A stream ended without its terminal sign: what came is not the whole answer."""


class WrongEndpointError(openai.APIStatusError, ResilienceError):
    """A redirect or a web page came back: base URL or path are wrong. Names the right one."""


class WrongEndpointNotFoundError(WrongEndpointError, openai.NotFoundError):
    """The same with status 404, so that ``except openai.NotFoundError`` holds."""


class InvalidAnswerError(openai.APIStatusError, ResilienceError):
    """The status says success, but the body is an error, empty, or no answer of this endpoint."""
