"""The real SDK of OpenTelemetry, exporting into memory, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from comet_resilience import (
    AttemptFinished,
    LimitChanged,
    PartitionSnapshot,
    RequestInfo,
    Snapshot,
    Usage,
)
from tests.conftest import refused_attempt

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from comet_resilience.otel import OpenTelemetry


ROUTE = "POST /chat/completions"
#: The span of a request.
NAME = "comet_resilience.request"
USAGE = Usage(prompt_tokens=300, completion_tokens=40)


class Telemetry:
    """Providers of their own, and what arrived there."""

    def __init__(self) -> None:
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        self.reader = InMemoryMetricReader()
        self.meter_provider = MeterProvider([self.reader])
        self.exporter = InMemorySpanExporter()
        self.tracer_provider = TracerProvider()
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    @property
    def providers(self) -> dict[str, Any]:
        """The providers, as everybody's keywords."""
        return {
            "tracer_provider": self.tracer_provider,
            "meter_provider": self.meter_provider,
        }

    def observer(self, **keywords: Any) -> OpenTelemetry:
        """Return what goes into ``on_event``."""
        from comet_resilience.otel import OpenTelemetry

        return OpenTelemetry(**{**self.providers, **keywords})

    def spans(self, name: str = "") -> list[ReadableSpan]:
        """The spans that have ended so far, or those with a name."""
        return [s for s in self.exporter.get_finished_spans() if name in ("", s.name)]

    def request_span(self) -> ReadableSpan:
        """The only span of a request."""
        (span,) = self.spans(NAME)
        return span

    def metrics(self) -> dict[str, Any]:
        """Each metric that has any data, by name."""
        data = self.reader.get_metrics_data()
        return {
            metric.name: metric
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def points(self, name: str) -> list[tuple[dict[str, Any], Any]]:
        """Attributes (without our prefix) and value, or (count, sum), of a metric's points."""
        found = self.metrics()
        metric = found.get(f"comet_resilience.{name}") or found.get(name)
        return [
            (short(point.attributes), getattr(point, "value", None) if hasattr(point, "value")
             else (point.count, point.sum))
            for point in (metric.data.data_points if metric else ())
        ]  # fmt: skip

    def total(self, name: str, **wanted: object) -> float:
        """The sum over the points with these attributes; of a histogram, how many values."""
        values = [v for found, v in self.points(name) if wanted.items() <= found.items()]
        return float(sum(v[0] if isinstance(v, tuple) else v for v in values))


def short(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    """Attributes without our prefix."""
    return {key.removeprefix("comet_resilience."): v for key, v in (attributes or {}).items()}


def events_on(span: ReadableSpan) -> list[str]:
    """The names of a span's events, without our prefix."""
    return [event.name.removeprefix("comet_resilience.") for event in span.events]


def plot_of(span: ReadableSpan) -> list[str]:
    """The same without waits, which a busy machine may make of nothing."""
    return [name for name in events_on(span) if name != "queued"]


def attempt_of(route: str = ROUTE, model: str = "m", status: int | None = 200) -> AttemptFinished:
    """An attempt that was answered."""
    request = RequestInfo(route=route, model=model)
    return refused_attempt(request=request, status=status, kind=None, reason="")


def change_of(partition: Any, new: int, reason: str = "refused") -> LimitChanged:
    """A limit that was 8."""
    return LimitChanged(
        partition=partition, old=8, new=new, reason=reason, in_flight=0, waiting=0
    )  # fmt: skip


class Shown:
    """A limiter of which only the state is wanted."""

    def __init__(
        self, *partitions: PartitionSnapshot, accounts: Sequence[PartitionSnapshot] = ()
    ) -> None:
        self.partitions = partitions
        self.accounts = tuple(accounts)

    def snapshot(self) -> Snapshot:
        """The prepared state."""
        return Snapshot(partitions=self.partitions, accounts=self.accounts)


def partition_of(key: Any, **changes: Any) -> PartitionSnapshot:
    """A partition with nothing going on."""
    values: dict[str, Any] = {
        "limit": 8, "in_flight": 0, "waiting": 0, "ok": 0, "refused": 0, "other": 0,
        "closed_for": None, "changes": (), **changes,
    }  # fmt: skip
    return PartitionSnapshot(partition=key, **values)


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    """Providers that end with the test."""
    made = Telemetry()
    yield made
    made.meter_provider.shutdown()
    made.tracer_provider.shutdown()
