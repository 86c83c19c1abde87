"""Gauges: the limiters at the moment of a collection, of all clients together."""

from __future__ import annotations

import gc
from functools import partial
from typing import Any

import anyio
import pytest

pytest.importorskip("opentelemetry.sdk.metrics", reason="needs the packages of the extra `test`")

from comet_resilience import FixedLimit, RateView, Snapshot, wrap
from comet_resilience.events import FleetChanged, FleetState
from comet_resilience.limits.snapshot import FleetView
from tests.conftest import OK, Scripted, ask, bare_client, scripted

from .conftest import ROUTE, Shown, Telemetry, change_of, partition_of

pytestmark = pytest.mark.anyio


async def test_gauges_show_the_limiter_at_that_moment(telemetry: Telemetry) -> None:
    """One request in flight, one waiting; with both over, none."""
    client, inner = scripted(OK, on_event=telemetry.observer(), algorithm=lambda: FixedLimit(1))
    answer = inner.hold()
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


def test_a_rate_that_was_learnt_is_shown_while_it_is_kept_to(telemetry: Telemetry) -> None:
    """Not what headers or words tell; nothing where nothing was learnt."""
    rates = [
        RateView(source=source, counted="requests", limit=limit, left=9, per=60.0, state="kept")
        for source, limit in (("headers", 500), ("learnt", 290))
    ]
    shown: Any = Shown(
        partition_of((ROUTE, "a"), rates=tuple(rates)), partition_of((ROUTE, "b"), rates=())
    )
    observer = telemetry.observer(models=["a", "b"])
    observer.watch(shown)
    assert telemetry.points("rate.learnt") == [({"route": ROUTE, "model": "a"}, 290)]


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
    answer = inner.hold()
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
