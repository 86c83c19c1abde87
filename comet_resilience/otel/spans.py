"""Spans: one per request, with what happened on the way as its events.

The span is current from the beginning of a request until its answer goes to the caller, and ends
with the body of that answer: what the caller does while a stream arrives is inside of the span's
time, but not among its children.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import context, trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from .. import __version__
from ..call.hooks import Outcome
from ..escaping import printable
from ..events import (
    AttemptFinished,
    GaveUp,
    LimitChanged,
    RetryScheduled,
    StreamBroken,
    StreamFinished,
)
from ..verdict.usage import Usage
from ..verdict.vocabulary import RequestInfo
from .labels import MODEL, PREFIX, ROUTE, is_by_route
from .metrics import ERROR_TYPE, OUTCOME, REASON, STATUS_CODE, UNNAMED

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextvars import Token

    from opentelemetry.context import Context
    from opentelemetry.trace import Tracer, TracerProvider

NAME: Final = PREFIX + "request"
ATTEMPT: Final = PREFIX + "attempt"
ATTEMPTS: Final = PREFIX + "attempts"
DURATION: Final = PREFIX + "duration"
QUEUED: Final = PREFIX + "queue.duration"
DELAY: Final = PREFIX + "retry.delay"
#: Names of the conventions for generative AI, by the fields of ``Usage``.
TOKENS: Final = {
    "prompt_tokens": "gen_ai.usage.input_tokens",
    "completion_tokens": "gen_ai.usage.output_tokens",
    "cached_tokens": "gen_ai.usage.cache_read.input_tokens",
    "reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
}
METHOD: Final = "http.request.method"
RESEND_COUNT: Final = "http.request.resend_count"

#: A free slot takes microseconds, more on a busy machine; a wait of so many seconds is an event.
_WAITED: Final = 0.01
_SPAN: Final = context.create_key(NAME)
#: What ``opentelemetry.instrumentation.utils.suppress_instrumentation`` sets.
_SUPPRESSED: Final = "suppress_instrumentation"


async def async_request_hook(_span: trace.Span, _request: object) -> None:
    """Set the resend count on a span, as the HTTP instrumentor's hook of the same name.

    Sets ``http.request.resend_count`` on the spans of attempts after the first.
    """
    current = current_span()
    if current is not None and current.sent:
        _span.set_attribute(RESEND_COUNT, current.sent)


def tracer_of(provider: TracerProvider | None) -> Tracer:
    """Return the tracer of this library."""
    return trace.get_tracer("comet_resilience", __version__, tracer_provider=provider)


def current_span() -> RequestSpan | None:
    """Return the span of the request whose task this is."""
    current = context.get_value(_SPAN)
    return current if isinstance(current, RequestSpan) else None


class RequestSpan:
    """The span of one request. Its mutable state: the attempts that are over, and their waits."""

    def __init__(self, tracer: Tracer, request: RequestInfo) -> None:
        self.sent: int = 0
        self._queued = 0.0
        self._status: int | None = None
        self._reason = ""
        self._tokens: dict[str, int] = {}
        self._request = request
        self._token: Token[Context] | None = None
        self._span: trace.Span = trace.INVALID_SPAN
        if not context.get_value(_SUPPRESSED):
            attributes = {METHOD: request.route.partition(" ")[0], ROUTE: printable(request.route)}
            if request.model:
                attributes[MODEL] = printable(request.model)
            self._span = tracer.start_span(NAME, kind=SpanKind.INTERNAL, attributes=attributes)
            current = context.set_value(_SPAN, self, trace.set_span_in_context(self._span))
            self._token = context.attach(current)

    def note(self, event: object) -> None:
        """Note an event of this request."""
        if isinstance(event, AttemptFinished):
            self._note_attempt(event)
        elif isinstance(event, RetryScheduled):
            self._add("retry_scheduled", {
                ATTEMPT: event.attempt, DELAY: event.delay, ERROR_TYPE: event.kind.value,
                REASON: event.reason,
            })  # fmt: skip
        elif isinstance(event, StreamFinished):
            self._note_usage(event.usage)
        elif isinstance(event, GaveUp):
            self._reason = event.reason
        elif isinstance(event, StreamBroken):
            self._reason = event.reason
            self._add("stream_broken", {
                PREFIX + "events": event.events, ERROR_TYPE: event.kind.value,
                REASON: event.reason,
            })  # fmt: skip

    def note_limit(self, event: LimitChanged) -> None:
        """Note that this request's outcome moved the limit of its partition."""
        own = (self._request.route, self._request.model)
        if is_by_route(event.partition) and event.partition != own:
            return  # another partition's change, which this task happened to emit
        self._add("limit_changed", {
            PREFIX + "limit.old": event.old, PREFIX + "limit.new": event.new,
            REASON: event.reason,
        })  # fmt: skip

    def note_wait(self, queued: float, until: int | None = None) -> None:
        """Note a wait for a slot that was over at a time, in nanoseconds; now if ``None``."""
        self._queued += queued
        if queued >= _WAITED:
            self._add("queued", {QUEUED: queued}, until)

    def leave(self) -> None:
        """Let the caller's span be the current one again. In the task of the request."""
        if self._token is not None:
            context.detach(self._token)
            self._token = None

    def end(self, outcome: Outcome, error: str) -> None:
        """End the span with the request."""
        self.leave()
        if not self._span.is_recording():
            return
        end: dict[str, str | int | float] = {OUTCOME: outcome.value, ATTEMPTS: self.sent}
        end[QUEUED] = self._queued
        if self._status is not None:
            end[STATUS_CODE] = self._status
        end.update(self._tokens)
        if outcome is Outcome.FAILED:
            end[ERROR_TYPE] = error or UNNAMED
            self._span.set_status(Status(StatusCode.ERROR, self._reason or None))
        self._span.set_attributes(end)
        self._span.end()

    def _note_attempt(self, event: AttemptFinished) -> None:
        self.sent = event.attempt
        self._status = event.status
        self.note_wait(event.queued, time.time_ns() - int(event.elapsed * 1e9))
        about: dict[str, Any] = {ATTEMPT: event.attempt, DURATION: event.elapsed}
        if event.status is not None:
            about[STATUS_CODE] = event.status
        if event.kind is not None:
            about[ERROR_TYPE] = event.kind.value
        if event.request_id:
            about[PREFIX + "request_id"] = event.request_id
        self._add("attempt_finished", about)
        self._note_usage(event.usage)

    def _note_usage(self, usage: Usage | None) -> None:
        """Add up what the request's answers say that they took: one, or hollow ones before it."""
        if usage is None or usage.is_estimate:
            return
        for field, name in TOKENS.items():
            tokens: int | None = getattr(usage, field)
            if tokens is not None:
                self._tokens[name] = self._tokens.get(name, 0) + tokens

    def _add(self, name: str, attributes: Mapping[str, Any], at: int | None = None) -> None:
        if self._span.is_recording():
            self._span.add_event(PREFIX + name, attributes, at)
