"""OpenTelemetry: metrics and one span per request, for ``wrap(client, on_event=OpenTelemetry())``.

Needs ``opentelemetry-api`` (the extra ``otel``) and, to be of any use, an SDK that the application
sets up. What is where:

* ``labels``: the attributes of metrics, each with a bounded number of values.
* ``metrics``: counters and histograms; ``gauges``: the limiters at each collection.
* ``spans``: ``comet_resilience.request``, current while attempts are sent, so that the spans of
  the HTTP library's instrumentation nest in it; it ends with the body of the answer.
* ``request``: the request hook, which feeds the span and the counts of one request.

Nothing here is named ``http.client.*``: that belongs to the instrumentation of the HTTP library,
which counts attempts already. Of the conventions for generative AI the names of tokens are used,
and no other. Neither a metric nor a span ever holds a key, a header, a body or a word of a prompt.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

try:
    from opentelemetry import metrics as _found  # noqa: F401 - only to say what is missing
except ImportError as _missing:
    raise ImportError(
        "comet_resilience.otel needs opentelemetry-api: pip install 'comet-resilience[otel]'"
    ) from _missing

from ..call.hooks import Instrumentation
from ..events import (
    AlgorithmRetired,
    Event,
    FleetChanged,
    GateClosed,
    GateOpened,
    LimitChanged,
    RateChanged,
    Standstill,
)
from ..verdict.vocabulary import RequestInfo
from .gauges import gauges_of
from .labels import Labels
from .metrics import Metrics
from .request import RequestTelemetry
from .spans import RequestSpan, async_request_hook, current_span, tracer_of

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from ..limits.limiter import Limiter

__all__ = ["OpenTelemetry", "async_request_hook"]


class OpenTelemetry(Instrumentation):
    """An ``on_event`` observer that turns events into metrics and spans.

    One may serve several clients, and several may exist. ``models`` are the model names that may
    become attributes of metrics; others are counted as ``other``, and without any the attribute
    is left out (spans name the model in any case). The providers are the global ones by default.

    Raises:
        TypeError: If ``models`` is no collection of names.

    """

    def __init__(
        self,
        *,
        models: Collection[str] = (),
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        if isinstance(models, str) or not all(isinstance(name, str) for name in models):
            raise TypeError(f"models={models!r}: expected a collection of model names")
        self._labels = Labels(models)
        self._metrics = Metrics(meter_provider, self._labels)
        self._gauges = gauges_of(meter_provider)
        self._tracer = tracer_of(tracer_provider)
        self._requests: dict[int, RequestTelemetry] = {}  # by the identity of their requests

    def watch(self, limiter: Limiter) -> None:
        """Show a client's limits, for as long as it lives."""
        self._gauges.add(limiter, self._labels)

    def begin(self, request: RequestInfo) -> RequestTelemetry:
        """Begin the span of a request and make it the current one."""
        span = RequestSpan(self._tracer, request)
        telemetry = self._requests[id(request)] = RequestTelemetry(
            request, self._metrics, span, lambda: self._requests.pop(id(request), None)
        )
        return telemetry

    def __call__(self, event: Event) -> None:
        """Count an event, and note it on the span that it belongs to."""
        self._metrics.count(event)
        if isinstance(event, LimitChanged):
            span = current_span()
            if span is not None:
                span.note_limit(event)
        elif not isinstance(
            event,
            RateChanged | FleetChanged | GateClosed | GateOpened | AlgorithmRetired | Standstill,
        ):
            telemetry = self._requests.get(id(event.request))
            if telemetry is not None:
                telemetry.note(event)
