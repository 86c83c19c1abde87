"""The few errors that the library raises itself.

Wherever the gateway answered, the caller gets the SDK's own exception for that answer. These are
for the cases in which there is none: all are ``openai.OpenAIError``s, so the SDK lets them through
untouched, and all carry the ``diagnosis`` of the request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import openai

if TYPE_CHECKING:
    from .diagnosis.diagnosis import Diagnosis


class ResilienceError(openai.OpenAIError):
    """An error that this library raises itself; ``diagnosis`` explains it."""

    diagnosis: Diagnosis | None = None


class QueueFullError(ResilienceError):
    """Too many requests were waiting for a slot already, so this one was not sent."""


class QueueTimeoutError(ResilienceError, TimeoutError):
    """No slot was free within ``queue_timeout``, so the next attempt was not sent.

    It may have been a retry: ``diagnosis.attempts`` has those that were sent before.
    """


class CallbackError(ResilienceError):
    """A function given to ``wrap()`` failed (``partition``, ``algorithm``); nothing was sent.

    Its own exception is the ``__cause__``.
    """


class BudgetExceededError(ResilienceError):
    """The request needs more tokens than its whole ``budget`` has, so it can never be sent.

    The figure is an estimate: the prompt's tokens, and those that the request allows its answer.
    """


class BudgetSpentError(BudgetExceededError, QueueTimeoutError):
    """The ``budget`` has no room for the request in the time that it can wait; it was not sent.

    ``available_in`` is the number of seconds until it has, at best: what other requests take
    meanwhile may add to it.
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
    """A stream ended without its terminal event: what came is not the whole answer."""


class WrongEndpointError(openai.APIStatusError, ResilienceError):
    """A redirect or a web page came back: base URL or path is wrong, and the message says which."""


class WrongEndpointNotFoundError(WrongEndpointError, openai.NotFoundError):
    """The same with status 404, so that ``except openai.NotFoundError`` holds."""


class InvalidAnswerError(openai.APIStatusError, ResilienceError):
    """The status says success, but the body is an error, empty, or no answer to this request."""
