"""Counters and histograms, in seconds and in numbers of things."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from opentelemetry import metrics

from .. import __version__
from ..call.hooks import Outcome
from ..events import (
    AttemptFinished,
    Event,
    FleetChanged,
    GateClosed,
    GateOpened,
    LimitChanged,
    RetryScheduled,
    StreamAbandoned,
    StreamFinished,
)
from ..verdict.usage import Usage
from ..verdict.vocabulary import RequestInfo
from .labels import PREFIX, Labels

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter, MeterProvider

#: Bounds of the histograms' buckets, in seconds: model calls take from milliseconds to minutes.
_SECONDS: Final = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0,
)  # fmt: skip

#: Status codes that mean something in HTTP; others are left out.
_STATUS_CODES: Final = range(100, 600)

#: Bounds of the histogram of tokens, as its convention asks for them.
_TOKENS: Final = tuple(4**power for power in range(14))
USAGE: Final = "gen_ai.client.token.usage"
USAGE_TYPE: Final = "gen_ai.token.type"

OUTCOME: Final = PREFIX + "outcome"
RESULT: Final = PREFIX + "result"
REASON: Final = PREFIX + "reason"
#: Names that OpenTelemetry has settled, and its value for an error without a name.
ERROR_TYPE: Final = "error.type"
STATUS_CODE: Final = "http.response.status_code"
UNNAMED: Final = "_OTHER"
SUCCESS: Final = "success"


def meter_of(provider: MeterProvider | None) -> Meter:
    """Return the meter of this library."""
    return metrics.get_meter("comet_resilience", __version__, meter_provider=provider)


class Metrics:
    """The counters and histograms that events feed."""

    def __init__(self, provider: MeterProvider | None, labels: Labels) -> None:
        meter = meter_of(provider)
        self._labels = labels
        self._requests = meter.create_counter(
            PREFIX + "requests", "{request}", "Requests that are over, the answer's body included"
        )
        self._duration = _histogram(
            meter, "request.duration", "From the call to the end of the answer's body, all included"
        )
        self._attempts = meter.create_counter(
            PREFIX + "attempts", "{attempt}", "Attempts that are over"
        )
        self._delay = _histogram(meter, "retry.delay", "Waits before a retry")
        self._queued = _histogram(meter, "queue.duration", "Waits of an attempt for its slot")
        self._decreases = meter.create_counter(
            PREFIX + "limit.decreases", "{decrease}", "Cuts of the concurrency limit"
        )
        self._reclaimed = meter.create_counter(
            PREFIX + "slots.reclaimed", "{slot}", "Slots of answers that were dropped unclosed"
        )
        self._fleet_changes = meter.create_counter(
            PREFIX + "fleet.changes", "{change}", "Changes of how the process stands to its fleet"
        )

        self._closures = meter.create_counter(
            PREFIX + "gate.closures", "{closure}", "Gates that an outage has closed"
        )
        self._closed = _histogram(meter, "gate.closed.duration", "How long a gate was closed")
        self._tokens = meter.create_histogram(
            USAGE,
            "{token}",
            "Input and output tokens of an answer, as it says itself",
            explicit_bucket_boundaries_advisory=_TOKENS,
        )

    def count(self, event: Event) -> None:
        """Count an event."""
        if isinstance(event, AttemptFinished):
            self._count_attempt(event)
        elif isinstance(event, StreamFinished):
            self._count_tokens(event.request, event.usage)
        elif isinstance(event, RetryScheduled):
            self._delay.record(event.delay, self._labels.of(event.request))
        elif isinstance(event, LimitChanged):
            self._count_cut(event)
        elif isinstance(event, GateClosed | GateOpened):
            self._count_gate(event)
        elif isinstance(event, StreamAbandoned):
            self._reclaimed.add(1, self._labels.of(event.request))
        elif isinstance(event, FleetChanged):
            self._fleet_changes.add(1, {PREFIX + "fleet.state": event.new.value})

    def count_request(
        self, request: RequestInfo, outcome: Outcome, error: str, duration: float
    ) -> None:
        """Count a request that is over."""
        attributes = self._labels.of(request) | {OUTCOME: outcome.value}
        self._duration.record(duration, attributes)
        if outcome is Outcome.FAILED:
            attributes |= {ERROR_TYPE: error or UNNAMED}
        self._requests.add(1, attributes)

    def measure_wait(self, request: RequestInfo, queued: float) -> None:
        """Measure a wait for a slot, whether it got one or not."""
        self._queued.record(queued, self._labels.of(request))

    def _count_cut(self, event: LimitChanged) -> None:
        if event.new < event.old:
            where = self._labels.of_partition(event.partition)
            self._decreases.add(1, where | {REASON: self._labels.reason(event.reason)})

    def _count_gate(self, event: GateClosed | GateOpened) -> None:
        where = self._labels.of_partition(event.partition)
        if isinstance(event, GateClosed):
            self._closures.add(1, where)
        else:
            self._closed.record(event.after, where)

    def _count_attempt(self, event: AttemptFinished) -> None:
        self.measure_wait(event.request, event.queued)
        result = SUCCESS if event.kind is None else event.kind.value
        attributes: dict[str, str | int] = {**self._labels.of(event.request), RESULT: result}
        if event.status is not None and event.status in _STATUS_CODES:
            attributes[STATUS_CODE] = event.status
        self._attempts.add(1, attributes)
        self._count_tokens(event.request, event.usage)

    def _count_tokens(self, request: RequestInfo, usage: Usage | None) -> None:
        """Record what an answer says; what was only counted by us is left out."""
        if usage is None or usage.is_estimate:
            return
        where = self._labels.of_usage(request)
        self._tokens.record(usage.prompt_tokens, where | {USAGE_TYPE: "input"})
        self._tokens.record(usage.completion_tokens, where | {USAGE_TYPE: "output"})


def _histogram(meter: Meter, name: str, description: str) -> metrics.Histogram:
    return meter.create_histogram(
        PREFIX + name, "s", description, explicit_bucket_boundaries_advisory=_SECONDS
    )
