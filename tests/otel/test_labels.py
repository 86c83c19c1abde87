"""Labels: whatever a service calls and a gateway says, the number of series is bounded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk.metrics", reason="needs the packages of the extra `test`")

from comet_resilience.otel.labels import ACCOUNTS_KEPT, REASONS_KEPT, ROUTES_KEPT
from tests.conftest import KEY

from .conftest import ROUTE, USAGE, Shown, Telemetry, attempt_of, change_of, partition_of


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
