"""Per-request instrumentation: an observer that accompanies requests from beginning to end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from enum import StrEnum
from typing import Protocol

from ..events import Event
from ..limits.limiter import Limiter
from ..verdict.vocabulary import RequestInfo


class Outcome(StrEnum):
    """How a request ended, as its caller sees it."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    ABANDONED = "abandoned"


class RequestHook(Protocol):
    """What an instrumentation learns of one request besides its events."""

    def answered(self) -> object:
        """Note that the answer goes to the caller now. Called in the request's task."""
        ...

    def finished(self, outcome: Outcome, queued: float) -> object:
        """Note the end of the request, the body of its answer included.

        ``queued`` is the time for which it was waiting for a slot at that moment. Called in the
        task of the request or of the reader of the body, or outside of any task.
        """
        ...


class Instrumentation(ABC):
    """An observer that also accompanies each request from its beginning to its end.

    Only subclasses count: an ``on_event`` observer that merely has methods of these names gets
    events and nothing more. All events of a request carry the very same ``request`` object that
    ``begin`` was given.
    """

    @abstractmethod
    def __call__(self, event: Event) -> object:
        """Take an event, as every observer does."""

    @abstractmethod
    def watch(self, limiter: Limiter) -> object:
        """Take note of a client's limiter. Called once, before its first request."""

    @abstractmethod
    def begin(self, request: RequestInfo) -> RequestHook:
        """Return the hook of a request. Called in its task, before its first event."""


def instrumentations_of(observers: Iterable[object]) -> tuple[Instrumentation, ...]:
    """Return the observers that accompany requests."""
    return tuple(one for one in observers if isinstance(one, Instrumentation))
