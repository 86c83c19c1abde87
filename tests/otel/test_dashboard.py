"""The Grafana dashboard asks for what the Prometheus exporter really has, letter for letter."""

from __future__ import annotations

import gc
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import openai
import pytest

pytest.importorskip(
    "opentelemetry.exporter.prometheus", reason="needs the packages of the extra `test`"
)

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry, generate_latest

from comet_resilience import wrap
from comet_resilience.events import FleetChanged, FleetState, GateClosed, GateOpened
from comet_resilience.limits.snapshot import FleetView
from comet_resilience.otel import OpenTelemetry
from comet_resilience.testing import Gateway
from tests.conftest import MESSAGES, ask
from tests.programs import ROOT, run_example

from .conftest import ROUTE, Shown, partition_of

DASHBOARD: Any = json.loads((ROOT / "examples" / "grafana-dashboard.json").read_text("utf-8"))
TARGETS: list[dict[str, Any]] = [
    {**target, "of": panel["title"]}
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", ())
]
#: A series of the scrape: its name and its labels.
_SERIES = re.compile(r"^(\w+)(?:\{(.*)\})? \S+$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="')
#: What Prometheus itself adds to every series.
OF_PROMETHEUS = {"instance", "job"}


async def real_traffic(observer: OpenTelemetry) -> None:
    """Everything that moves a metric: answers, retries, give-ups, a dropped stream."""
    async with Gateway() as gateway:
        await calls_to(gateway, observer)


async def calls_to(gateway: Gateway, observer: OpenTelemetry) -> None:
    """The calls, through the real SDK."""
    bare = openai.AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.api_key)
    client = wrap(bare, on_event=observer, backoff_initial=0.0, backoff_max=0.0)
    gateway.script(429, 429, "ok", 400)
    await ask(client)
    with pytest.raises(openai.BadRequestError):
        await ask(client)
    dropped = await client.chat.completions.with_raw_response.create(
        model="m", messages=MESSAGES, stream=True
    )
    del dropped
    gc.collect()
    await anyio.sleep(0.02)
    await client.close()


def fleet_news(observer: OpenTelemetry) -> Shown:
    """A process in a fleet, without Redis."""
    observer(FleetChanged(old=FleetState.JOINING, new=FleetState.SHARED, reason="in"))
    view = FleetView(state=FleetState.SHARED, share=3, limit=9, members=2)
    shown: Any = Shown(partition_of((ROUTE, "m"), fleet=view))
    observer.watch(shown)
    return shown  # type: ignore[no-any-return]


def gate_news(observer: OpenTelemetry) -> None:
    """An outage that closed a gate, and its end."""
    observer(
        GateClosed(
            partition=(ROUTE, "m"), host="api.test", reason="502", waiting=0, next_canary=0.4
        )
    )
    observer(GateOpened(partition=(ROUTE, "m"), host="api.test", after=2.0, waiting=0))


@pytest.fixture(scope="module")
def scrape() -> dict[str, set[str]]:
    """The labels of each series that the exporter answers with after real traffic."""
    registry = CollectorRegistry()
    provider = MeterProvider([PrometheusMetricReader(registry=registry)])
    observer = OpenTelemetry(meter_provider=provider)
    anyio.run(real_traffic, observer)
    gate_news(observer)
    fleet = fleet_news(observer)
    text = generate_latest(registry).decode()
    del fleet
    provider.shutdown()
    found: dict[str, set[str]] = {}
    for name, labels in _SERIES.findall(text):
        found.setdefault(name, set()).update(_LABEL.findall(labels))
    return found


def series_in(expression: str) -> Iterator[tuple[str, set[str]]]:
    """The series that an expression names, with the labels that it selects by."""
    for name, selector in re.findall(
        r"((?:comet_resilience|gen_ai_client)_\w+)(?:\{(.*?)\})?(?=[\s\[)]|$)", expression
    ):
        yield name, set(re.findall(r"(\w+)=", selector))


def grouped_by(expression: str) -> set[str]:
    """The labels that an expression keeps."""
    return {
        label.strip()
        for kept in re.findall(r"by \((.*?)\)", expression)
        for label in kept.split(",")
    }


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: f"{t['of']}: {t['legendFormat']}")
def test_every_expression_finds_its_series(
    target: dict[str, Any], scrape: dict[str, set[str]]
) -> None:
    """Each metric of the dashboard is in the scrape, with each label that is asked for."""
    expression = re.sub(r"by \(.*?\)", "", target["expr"])
    named = dict(series_in(expression))
    assert named, target["expr"]
    for name, labels in named.items():
        assert name in scrape
        shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        assert labels | grouped_by(target["expr"]) | shown <= scrape[name] | OF_PROMETHEUS


def test_every_metric_has_its_place(scrape: dict[str, set[str]]) -> None:
    """Nothing of ours is exported and not shown, but for what another panel says better."""
    shown = {
        re.sub(r"_(bucket|count|sum)$", "", name)
        for target in TARGETS
        for name, _ in series_in(target["expr"])
    }
    exported = {
        re.sub(r"_(bucket|count|sum)$", "", name)
        for name in scrape
        if name.startswith(("comet_resilience_", "gen_ai_")) and not name.endswith("_created")
    }
    assert exported - shown == {"comet_resilience_fleet_changes_total"}


def test_the_dashboard_can_be_imported() -> None:
    """Panels have ids of their own, a place each, and the data source that the reader chooses."""
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [panel["gridPos"] for panel in panels]
    cells = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    for panel in panels:
        if panel["type"] != "row":
            assert panel["description"]
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    names = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(panels))) - {"__rate_interval"}
    assert used == names


def test_the_example_serves_metrics(tmp_path: Path) -> None:
    """`examples/telemetry.py` runs as it stands, and says where the metrics are."""
    options = ("--seconds", "0.5", "--port", "0", "--users", "5", "--spans")
    done = run_example("telemetry.py", *options, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "/metrics" in done.stdout
    assert '"name": "comet_resilience.request"' in done.stdout
    assert re.search(r"^\d+ attempts arrived", done.stdout, re.MULTILINE)
