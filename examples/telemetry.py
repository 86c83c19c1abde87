"""A service with telemetry: metrics for Prometheus and, if you like, spans on the terminal.

    pip install -e '.[test]' && python examples/telemetry.py

A wrapped client talks to a gateway on the loopback interface, which takes fewer requests at once
for a while and fails now and then. Meanwhile http://127.0.0.1:9464/metrics has what Prometheus
scrapes: `examples/grafana-dashboard.json` is a dashboard for it.
"""

import argparse
import asyncio
import random
import sys
import time
from contextlib import suppress
from typing import Any

from openai import AsyncOpenAI, OpenAIError

from comet_resilience import wrap
from comet_resilience.testing import ConcurrencyCap, Gateway

try:
    from opentelemetry import metrics, trace
    from opentelemetry.exporter.prometheus import PrometheusMetricReader
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
    from prometheus_client import start_http_server

    from comet_resilience.otel import OpenTelemetry
except ImportError as missing:
    sys.exit(f"{missing.name} is not installed. Do: pip install -e '.[test]'")

MODELS = ("gpt-5.4", "claude-sonnet-4-6")


def set_up(port: int, spans: bool) -> None:
    """Set up telemetry, as an application does once at its start."""
    metrics.set_meter_provider(MeterProvider([PrometheusMetricReader()]))
    start_http_server(port, "127.0.0.1")
    if spans:
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))
        trace.set_tracer_provider(provider)


def gateway_for(seconds: float) -> Gateway:
    """A gateway that takes twelve requests at once, for the middle third of the time four."""
    steps = ((0.0, 12), (seconds / 3, 4), (2 * seconds / 3, 12))
    return Gateway(
        capacity={model: ConcurrencyCap(12, steps=steps) for model in MODELS},
        latency=(0.2, 0.9),
        failure_rate={"server_error": 0.02, "unavailable": 0.01},
        models=MODELS,
    )


async def ask(client: AsyncOpenAI) -> None:
    """One chat completion; every third is a stream, and one in fifty has a misspelt model."""
    model = random.choice(MODELS) if random.random() > 0.02 else "gpt-5.4-mni"
    create = client.chat.completions.create
    messages: list[Any] = [{"role": "user", "content": "Hello"}]
    if random.random() > 1 / 3:
        await create(model=model, messages=messages)
        return
    async with await create(model=model, messages=messages, stream=True) as stream:
        async for _ in stream:
            pass


async def user(client: AsyncOpenAI, until: float) -> None:
    """Ask, read the answer, think, ask again, until the time is over."""
    over = False
    while not over:
        with suppress(OpenAIError):
            await ask(client)
        over = time.monotonic() > until
        await asyncio.sleep(0.0 if over else random.expovariate(2.0))


async def main(seconds: float, port: int, users: int) -> None:
    """Let the users come for a while."""
    until = time.monotonic() + seconds
    async with gateway_for(seconds) as gateway:
        bare = AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.api_key)
        client = wrap(bare, on_event=OpenTelemetry(models=MODELS))
        print(f"http://127.0.0.1:{port}/metrics for {seconds:g} seconds", flush=True)
        await asyncio.gather(*(user(client, until) for _ in range(users)))
        await client.close()
        print(f"{len(gateway.requests)} attempts arrived at the gateway")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A service with telemetry.")
    parser.add_argument("--seconds", type=float, default=300.0, help="how long (300)")
    parser.add_argument("--port", type=int, default=9464, help="of the metrics (9464)")
    parser.add_argument("--users", type=int, default=40, help="at the same time (40)")
    parser.add_argument("--spans", action="store_true", help="print every span")
    arguments = parser.parse_args()
    set_up(arguments.port, arguments.spans)
    asyncio.run(main(arguments.seconds, arguments.port, arguments.users))
