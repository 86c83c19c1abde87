"""Metrics: what is counted is what happened, and the number of series is bounded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import openai
import pytest

pytest.importorskip("opentelemetry.sdk.metrics", reason="needs the packages of the extra `test`")

from opentelemetry import metrics

from comet_resilience import (
    Event,
    FailureKind,
    RequestInfo,
    RetryScheduled,
    __version__,
)
from comet_resilience.events import (
    FleetChanged,
    FleetState,
    GateClosed,
    GateOpened,
    StreamFinished,
)
from comet_resilience.limits.snapshot import FleetView, RateView
from comet_resilience.otel import OpenTelemetry
from tests.conftest import BROKEN, FAST, LIMITED, OK, ask, scripted

from .conftest import ROUTE, USAGE, Shown, Telemetry, attempt_of, change_of, partition_of

pytestmark = pytest.mark.anyio
#: Every instrument and its unit, as the README lists them.
UNITS = {
    "requests": "{request}",
    "request.duration": "s",
    "attempts": "{attempt}",
    "retry.delay": "s",
    "queue.duration": "s",
    "queue.size": "{request}",
    "concurrency.limit": "{request}",
    "concurrency.in_use": "{request}",
    "account.concurrency.limit": "{request}",
    "account.concurrency.in_use": "{request}",
    "account.queue.size": "{request}",
    "cooldown.remaining": "s",
    "rate.learnt": "{request}",
    "limit.decreases": "{decrease}",
    "gate.closures": "{closure}",
    "gate.closed.duration": "s",
    "slots.reclaimed": "{slot}",
    "fleet.share": "{request}",
    "fleet.limit": "{request}",
    "fleet.members": "{process}",
    "fleet.state": "{partition}",
    "fleet.changes": "{change}",
}


async def test_what_is_counted_is_what_happened(telemetry: Telemetry) -> None:
    """Requests by outcome, attempts by result, waits and delays: each once."""
    client, inner = scripted(
        LIMITED, BROKEN, OK, BROKEN, on_event=telemetry.observer(), max_retries=2, **FAST
    )
    await ask(client)
    with pytest.raises(openai.InternalServerError):
        await ask(client)
    assert len(inner.sent) == 6
    where = {"route": ROUTE}
    ok: dict[str, Any] = {"result": "success", "http.response.status_code": 200}
    limited: dict[str, Any] = {"result": "rate_limited", "http.response.status_code": 429}
    broken: dict[str, Any] = {"result": "server_error", "http.response.status_code": 500}
    assert telemetry.points("attempts") == [
        (where | limited, 1),
        (where | broken, 4),
        (where | ok, 1),
    ]
    assert telemetry.points("requests") == [
        (where | {"outcome": "succeeded"}, 1),
        (where | {"outcome": "failed", "error.type": "server_error"}, 1),
    ]
    assert telemetry.total("request.duration") == 2
    assert telemetry.total("retry.delay") == 4
    assert telemetry.total("queue.duration") == 6


async def test_every_instrument_has_its_name_and_unit(telemetry: Telemetry) -> None:
    """Those of the README's table and no other, and none squats on a name of somebody else's."""
    observer = telemetry.observer()
    client, _ = scripted(LIMITED, OK, on_event=observer, backoff_initial=0.0, backoff_max=0.0)
    await ask(client)
    told: list[Event] = [
        FleetChanged(old=FleetState.JOINING, new=FleetState.SHARED, reason="in"),
        change_of(("r", "m"), 4),
        GateClosed(partition=("r", "m"), host="h", reason="502", waiting=9, next_canary=0.4),
        GateOpened(partition=("r", "m"), host="h", after=11.5, waiting=9),
        replace(attempt_of(), usage=USAGE),
    ]
    for event in told:
        observer(event)
    observer._metrics._reclaimed.add(1)
    learnt = RateView(
        source="learnt", counted="requests", limit=60, left=None, per=60.0, state="kept"
    )
    view = FleetView(state=FleetState.SHARED, share=3, limit=9, members=2)
    shown: Any = Shown(
        partition_of((ROUTE, "m"), fleet=view, rates=(learnt,)), accounts=[partition_of("account")]
    )
    observer.watch(shown)
    found = telemetry.metrics()
    assert {name: metric.unit for name, metric in found.items()} == {
        **{f"comet_resilience.{name}": unit for name, unit in UNITS.items()},
        "gen_ai.client.token.usage": "{token}",
    }
    assert all(metric.description for metric in found.values())


def test_tokens_are_counted_once_each_as_answers_name_them(telemetry: Telemetry) -> None:
    """Whole answers and streams; neither what was only counted, nor what names none."""
    observer = telemetry.observer()
    finished = replace(attempt_of(), usage=USAGE)
    ended = StreamFinished(request=finished.request, attempt=1, elapsed=2.0, events=9, usage=USAGE)
    for event in (
        finished,
        ended,
        attempt_of(),
        replace(ended, usage=None),
        replace(ended, usage=replace(USAGE, is_estimate=True)),
    ):
        observer(event)
    told = {"route": ROUTE, "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai"}
    assert telemetry.points("gen_ai.client.token.usage") == [
        (told | {"gen_ai.token.type": "input"}, (2, 600)),
        (told | {"gen_ai.token.type": "output"}, (2, 80)),
    ]


def test_only_cuts_of_a_limit_are_cuts(telemetry: Telemetry) -> None:
    """A limit that grows is no decrease."""
    observer = telemetry.observer()
    observer(change_of((ROUTE, "m"), 4))
    observer(change_of((ROUTE, "m"), 9))
    assert telemetry.points("limit.decreases") == [({"route": ROUTE, "reason": "refused"}, 1)]


def test_events_of_requests_that_nobody_followed(telemetry: Telemetry) -> None:
    """An observer may be told of what began before it listened: counted, without a span."""
    observer = telemetry.observer()
    observer(attempt_of())
    observer(
        RetryScheduled(
            request=RequestInfo(route=ROUTE), attempt=2, delay=1.5, reason="r", status=500,
            kind=FailureKind.SERVER_ERROR,
        )
    )  # fmt: skip
    assert telemetry.points("retry.delay") == [({"route": ROUTE}, (1, 1.5))]
    assert telemetry.spans() == []


@pytest.mark.parametrize(
    ("key", "where"), [((ROUTE, "m"), {"route": ROUTE}), (None, {}), ("mine", {})]
)
def test_gates_that_close_are_counted_and_timed(
    telemetry: Telemetry, key: Any, where: dict[str, str]
) -> None:
    """By their route; a host's and those of an application's own keys have none."""
    observer = telemetry.observer()
    observer(GateClosed(partition=key, host="h", reason="502", waiting=9, next_canary=0.4))
    observer(GateOpened(partition=key, host="h", after=11.5, waiting=9))
    assert telemetry.points("gate.closures") == [(where, 1)]
    assert telemetry.points("gate.closed.duration") == [(where, (1, 11.5))]
    assert telemetry.spans() == []


async def test_without_an_sdk_nothing_happens() -> None:
    """The global providers do nothing until an application sets real ones."""
    client, _ = scripted(LIMITED, OK, on_event=OpenTelemetry(), **FAST)
    assert await ask(client) == "Hi"
    assert type(metrics.get_meter_provider()).__name__.startswith(("_Proxy", "Proxy", "NoOp"))


@pytest.mark.parametrize("models", ["gpt-5.4", [1]])
def test_models_are_a_collection_of_names(models: Any) -> None:
    """A string would be a collection of its letters."""
    with pytest.raises(TypeError, match="models"):
        OpenTelemetry(models=models)


async def test_the_scope_is_this_library_in_its_version(telemetry: Telemetry) -> None:
    """Of metrics and spans alike, so that a backend can tell one release from another."""
    client, _ = scripted(OK, on_event=telemetry.observer())
    await ask(client)
    data: Any = telemetry.reader.get_metrics_data()
    [resource] = data.resource_metrics
    scopes = [scope.scope for scope in resource.scope_metrics]
    scopes += [span.instrumentation_scope for span in telemetry.spans()]
    assert len(scopes) == 2
    assert {(scope.name, scope.version) for scope in scopes} == {("comet_resilience", __version__)}
