"""One request, from its beginning to the end of its answer's body: the request hook."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..call.hooks import Outcome
from ..events import Event, GaveUp, StreamBroken
from ..limits.eventloop import clock
from ..verdict.vocabulary import RequestInfo

if TYPE_CHECKING:
    from collections.abc import Callable

    from .metrics import Metrics
    from .spans import RequestSpan


class RequestTelemetry:
    """The span and the counts of one request.

    A broken stream counts as failed, however it was read.
    """

    def __init__(
        self,
        request: RequestInfo,
        metrics: Metrics,
        span: RequestSpan,
        forget: Callable[[], object],
    ) -> None:
        self.request = request
        self._metrics = metrics
        self._span = span
        self._forget = forget
        self._began = clock()
        self._error = ""
        self._broken = False

    def note(self, event: Event) -> None:
        """Note an event of this request."""
        if isinstance(event, GaveUp | StreamBroken):
            self._error = event.kind.value
            self._broken = isinstance(event, StreamBroken)
        self._span.note(event)

    def answered(self) -> None:
        """Take the span off the caller's task: the answer goes to the caller now."""
        self._span.leave()

    def finished(self, outcome: Outcome, queued: float) -> None:
        """Count the request and end its span.

        ``queued`` seconds of waiting for a slot ended with it.
        """
        self._forget()
        if queued:
            self._metrics.measure_wait(self.request, queued)
            self._span.note_wait(queued)
        end = Outcome.FAILED if self._broken else outcome
        self._metrics.count_request(self.request, end, self._error, clock() - self._began)
        self._span.end(end, self._error)
