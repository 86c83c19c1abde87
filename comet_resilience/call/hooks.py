"""Per-request instrumentation: an observer that accompanies requests from beginning to end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from ..events import Event
from ..limits.eventloop import EventLoop
from ..limits.limiter import Limiter
from ..verdict.vocabulary import RequestInfo
from ..wire.request import EXTENSION
from ..wire.response import close
from ..wire.stream import CloseInner, Head, watch

if TYPE_CHECKING:
    from ..observers import Observers
    from ..wire.http import Response


class Outcome(StrEnum):
    """The end of a request, as its caller sees it."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    ABANDONED = "abandoned"


class RequestHook(Protocol):
    """A hook for what the events of a request do not tell."""

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


class InstrumentedRequest:
    """A request with request hooks; it is also the watcher of its answer's body.

    ``queued_now`` tells for how long the request is waiting for a slot at a moment.
    """

    def __init__(
        self,
        instrumentations: Sequence[Instrumentation],
        observers: Observers,
        info: RequestInfo,
        loop: EventLoop,
        queued_now: Callable[[], float],
    ) -> None:
        self._instrumentations = instrumentations
        self._observers = observers
        self._info = info
        self._queued_now = queued_now
        self._hooks: list[tuple[Instrumentation, RequestHook]] = []
        self._loop = loop

    async def run(self, answer: Awaitable[Response]) -> Response:
        """Accompany a request from its beginning to the end of its answer's body."""
        for owner in self._instrumentations:
            hook = self._observers.tell(owner, owner.begin, self._info)
            if hook is not None:
                self._hooks.append((owner, hook))
        try:
            response = await answer
        except BaseException as error:
            self.broke(error)
            raise
        if EXTENSION in response.extensions:  # the diagnosis of what was given up
            self._finish(Outcome.FAILED)
            return response
        try:
            for owner, hook in self._hooks:
                self._observers.tell(owner, hook.answered)
        except BaseException:  # only what ends the program passes, but not with the slot
            await close(response)
            raise
        watch(response, Head(), self)
        return response

    def passed(self, chunk: bytes) -> bytes:
        """Return the chunk as it came: hooks do not look into bodies."""
        return chunk

    def broke(self, error: BaseException) -> BaseException:
        """Note that the request or the body failed, or that its caller was cancelled."""
        self._finish(Outcome.FAILED if isinstance(error, Exception) else Outcome.CANCELLED)
        return error

    def ended(self) -> bytes:
        """Note that the body was read to its end, and lacks nothing."""
        self._finish(Outcome.SUCCEEDED)
        return b""

    def closed(self) -> None:
        """Note that the caller has closed the body: it has what it wanted."""
        self._finish(Outcome.SUCCEEDED)

    def abandoned(self, close_inner: CloseInner) -> None:
        """Note that the body was dropped; the inner stream's own finalizer does all the rest."""
        del close_inner
        self._loop.call_soon(lambda: self._finish(Outcome.ABANDONED))

    def _finish(self, outcome: Outcome) -> None:
        hooks, self._hooks = self._hooks, []
        queued = self._queued_now() if hooks else 0.0
        for owner, hook in hooks:
            self._observers.tell(owner, hook.finished, outcome, queued)
