"""Metrics: what is counted is what happened, and the number of series is bounded."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import anyio
import openai
import pytest

pytest.importorskip("opentelemetry.sdk.metrics", reason="needs the packages of the extra `test`")

from opentelemetry import metrics

from comet_resilience import (
    AttemptFinished,
    Event,
    FailureKind,
    FixedLimit,
    LimitChanged,
    PartitionSnapshot,
    RequestInfo,
    RetryScheduled,
    Snapshot,
    __version__,
    wrap,
)
from comet_resilience.events import (
    FleetChanged,
    FleetState,
    GateClosed,
    GateOpened,
    StreamFinished,
)
from comet_resilience.limits.snapshot import FleetView
from comet_resilience.otel import OpenTelemetry
from comet_resilience.otel.labels import ACCOUNTS_KEPT, REASONS_KEPT, ROUTES_KEPT
from comet_resilience.verdict.usage import Usage
from tests.conftest import BROKEN, FAST, KEY, LIMITED, OK, Scripted, ask, bare_client, scripted

from .conftest import Telemetry

pytestmark = pytest.mark.anyio
ROUTE = "POST /chat/completions"
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


def attempt_of(route: str = ROUTE, model: str = "m", status: int | None = 200) -> AttemptFinished:
    """An attempt that is over."""
    return AttemptFinished(
        request=RequestInfo(route=route, model=model), attempt=1, status=status, kind=None,
        code="", fault="", reason="", request_id="", queued=0.0, elapsed=0.1, in_flight=1, limit=8,
        request_bytes=None, response_bytes=None,
    )  # fmt: skip


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
    view = FleetView(state=FleetState.SHARED, share=3, limit=9, members=2)
    shown: Any = Shown(partition_of((ROUTE, "m"), fleet=view), accounts=[partition_of("account")])
    observer.watch(shown)
    found = telemetry.metrics()
    assert {name: metric.unit for name, metric in found.items()} == {
        **{f"comet_resilience.{name}": unit for name, unit in UNITS.items()},
        "gen_ai.client.token.usage": "{token}",
    }
    assert all(metric.description for metric in found.values())


USAGE = Usage(prompt_tokens=300, completion_tokens=40)


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


def test_models_of_tokens_are_bounded_and_routes_have_their_operation(
    telemetry: Telemetry,
) -> None:
    """The models that are listed, and one word for all others."""
    observer = telemetry.observer(models=["m1"])
    routes = ("POST /embeddings", "POST /completions", "POST /responses", "POST /anything")
    for number, route in enumerate(routes):
        for model in ("m1", f"m{number + 2}"):
            observer(replace(attempt_of(route=route, model=model), usage=USAGE))
    points = [attributes for attributes, _ in telemetry.points("gen_ai.client.token.usage")]
    assert {point["gen_ai.request.model"] for point in points} == {"m1", "other"}
    assert [point["gen_ai.operation.name"] for point in points[::4]] == [
        "embeddings", "text_completion", "chat", "other",
    ]  # fmt: skip


async def test_gauges_show_the_limiter_at_that_moment(telemetry: Telemetry) -> None:
    """One request in flight, one waiting; with both over, none."""
    client, inner = scripted(OK, on_event=telemetry.observer(), algorithm=lambda: FixedLimit(1))
    answer, send = anyio.Event(), inner.answer

    async def hold(request: Any) -> Any:
        await answer.wait()
        return await send(request)

    inner.behave = hold
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, client)
        tasks.start_soon(ask, client)
        await anyio.wait_all_tasks_blocked()
        assert telemetry.points("concurrency.in_use") == [({"route": ROUTE}, 1)]
        assert telemetry.points("queue.size") == [({"route": ROUTE}, 1)]
        answer.set()
    assert telemetry.total("concurrency.in_use") == telemetry.total("queue.size") == 0
    assert telemetry.total("concurrency.limit") == 1
    assert telemetry.total("cooldown.remaining") == 0


def test_a_closed_limit_says_for_how_long(telemetry: Telemetry) -> None:
    """The longest of those that share the attributes; the limits are added up."""
    shown: Any = Shown(
        partition_of((ROUTE, "a"), closed_for=3.0, limit=0),
        partition_of((ROUTE, "b"), closed_for=2.0, limit=5),
        partition_of((ROUTE, "c"), closed_for=9.0, limit=4),
    )
    observer = telemetry.observer(models=["c"])
    observer.watch(shown)
    assert telemetry.points("cooldown.remaining") == [
        ({"route": ROUTE, "model": "other"}, 3.0),
        ({"route": ROUTE, "model": "c"}, 9.0),
    ]
    assert telemetry.total("concurrency.limit", model="other") == 5


async def test_several_clients_and_observers_add_up(telemetry: Telemetry) -> None:
    """Whether they share one `OpenTelemetry` or have one each; a client that is gone is gone."""
    first, _ = scripted(OK, on_event=telemetry.observer(), algorithm=lambda: FixedLimit(2))
    shared = telemetry.observer()
    others = [
        wrap(bare_client(Scripted([OK])), on_event=shared, algorithm=lambda: FixedLimit(3))
        for _ in range(2)
    ]
    for client in (first, *others):
        await ask(client)
    assert telemetry.total("concurrency.limit") == 8
    assert telemetry.total("requests") == 3
    await first.close()
    del first
    gc.collect()
    assert telemetry.total("concurrency.limit") == 6


async def test_accounts_are_shown_with_those_who_wait_for_them(telemetry: Telemetry) -> None:
    """Two models behind an account of two: each holds a slot, and one more of each waits."""
    client, inner = scripted(
        OK, on_event=telemetry.observer(), initial_concurrency=2, max_concurrency=2
    )
    answer, send = anyio.Event(), inner.answer

    async def hold(request: Any) -> Any:
        await answer.wait()
        return await send(request)

    inner.behave = hold
    named = {"account": "account"}
    async with anyio.create_task_group() as tasks:
        for model in ("a", "b", "a", "b"):
            tasks.start_soon(partial(ask, client, model=model))
            await anyio.wait_all_tasks_blocked()
        assert telemetry.points("account.concurrency.limit") == [(named, 2)]
        assert telemetry.points("account.concurrency.in_use") == [(named, 2)]
        assert telemetry.points("account.queue.size") == [(named, 2)]
        answer.set()
    assert telemetry.points("account.concurrency.in_use") == [(named, 0)]
    assert telemetry.points("account.queue.size") == [(named, 0)]


def test_accounts_are_bounded(telemetry: Telemetry) -> None:
    """However many keys a service calls with, in one client or in many."""
    numbers = range(1, 2 * ACCOUNTS_KEPT)
    accounts = [partition_of(f"account {number}", limit=1) for number in numbers]
    shown: Any = Shown(accounts=accounts)
    observer = telemetry.observer()
    observer.watch(shown)
    found = telemetry.points("account.concurrency.limit")
    assert len(found) == ACCOUNTS_KEPT + 1
    assert found[-1] == ({"account": "other"}, ACCOUNTS_KEPT - 1)


def test_ten_thousand_models_are_one_series(telemetry: Telemetry) -> None:
    """Without a list of models the attribute is left out; with one the rest are `other`."""
    plain, listed = telemetry.observer(), Telemetry()
    some = listed.observer(models=["m1", "m2"])
    for number in range(10_000):
        plain(attempt_of(model=f"m{number}"))
        some(attempt_of(model=f"m{number}"))
    assert [value for _, value in telemetry.points("attempts")] == [10_000]
    models = {attributes["model"]: value for attributes, value in listed.points("attempts")}
    assert models == {"m1": 1, "m2": 1, "other": 9_998}


def test_routes_reasons_and_statuses_are_bounded(telemetry: Telemetry) -> None:
    """However many paths a service calls, and whatever an algorithm says or a gateway sends."""
    observer = telemetry.observer()
    for number in range(2_000):
        observer(attempt_of(route=f"GET /things/{number}x"))
        observer(change_of((ROUTE, "m"), 4, reason=f"because of {number}"))
        observer(attempt_of(route=f"not a route {number}", status=600 + number))
    assert len(telemetry.points("attempts")) == ROUTES_KEPT + 1
    assert len(telemetry.points("limit.decreases")) == REASONS_KEPT + 1
    assert telemetry.total("attempts") == 4_000


def test_a_partition_of_the_applications_own_is_no_attribute(telemetry: Telemetry) -> None:
    """It may be an account's name, or worse: only routes and listed models are."""
    observer = telemetry.observer(models=["m"])
    keys: list[Any] = [KEY, (KEY, ROUTE), (KEY, "m"), (ROUTE, KEY), (KEY, ROUTE, "m"), 7, ROUTE]
    shown: Any = Shown(*(partition_of(key) for key in keys))
    observer.watch(shown)
    for key in keys:
        observer(change_of(key, 4))
    data = telemetry.reader.get_metrics_data()
    assert data is not None
    assert KEY not in data.to_json()
    wheres = [attributes for attributes, _ in telemetry.points("concurrency.limit")]
    assert len(wheres) == 3
    for where in ({}, {"route": ROUTE}, {"route": ROUTE, "model": "other"}):
        assert where in wheres


def test_only_cuts_of_a_limit_are_cuts(telemetry: Telemetry) -> None:
    """A limit that grows is no decrease."""
    observer = telemetry.observer()
    observer(change_of((ROUTE, "m"), 4))
    observer(change_of((ROUTE, "m"), 9))
    assert telemetry.points("limit.decreases") == [({"route": ROUTE, "reason": "refused"}, 1)]


def test_the_fleet_is_shown_where_there_is_one(telemetry: Telemetry) -> None:
    """Shares are added up, what two clients say of one limit counts once, members at most."""
    observer = telemetry.observer()
    again: Any = Shown(
        partition_of(
            (ROUTE, "a"), fleet=FleetView(state=FleetState.SHARED, share=1, limit=9, members=3)
        ),
        partition_of(
            (ROUTE, "c"), fleet=FleetView(state=FleetState.SHARED, share=1, limit=4, members=2)
        ),
    )
    observer.watch(again)
    shared = FleetView(state=FleetState.SHARED, share=3, limit=9, members=3)
    alone = FleetView(state=FleetState.LOCAL, share=2, limit=None, members=None)
    shown: Any = Shown(
        partition_of((ROUTE, "a"), fleet=shared), partition_of((ROUTE, "b"), fleet=alone)
    )
    observer.watch(shown)
    assert telemetry.points("fleet.share") == [({"route": ROUTE}, 7)]
    assert telemetry.points("fleet.limit") == [({"route": ROUTE}, 13)]
    assert telemetry.points("fleet.members") == [({"route": ROUTE}, 3)]
    states = {
        attributes["fleet.state"]: value for attributes, value in telemetry.points("fleet.state")
    }
    assert states == {"shared": 3, "local": 1, "degraded": 0, "joining": 0}
    observer(FleetChanged(old=FleetState.SHARED, new=FleetState.DEGRADED, reason="no answer"))
    assert telemetry.points("fleet.changes") == [({"fleet.state": "degraded"}, 1)]


async def test_without_a_fleet_nothing_is_said_of_one(telemetry: Telemetry) -> None:
    """A gauge of zero members would be a false alarm."""
    client, _ = scripted(OK, on_event=telemetry.observer())
    await ask(client)
    assert not [name for name in telemetry.metrics() if ".fleet." in name]


def test_a_limit_that_moves_during_a_collection_is_counted(telemetry: Telemetry) -> None:
    """A collection asks the limiters, whose timers may tell us of a change at that moment."""
    observer = telemetry.observer()

    class Moving(Shown):
        def snapshot(self) -> Snapshot:
            observer(change_of((ROUTE, "m"), 4))
            return super().snapshot()

    moving: Any = Moving(partition_of((ROUTE, "m")))
    observer.watch(moving)
    telemetry.metrics()
    assert telemetry.total("limit.decreases") > 0


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
