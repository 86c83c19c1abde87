"""Beside the HTTP library's own instrumentation: one span per attempt in one per request."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

pytest.importorskip(
    "opentelemetry.instrumentation.httpx", reason="needs the packages of the extra `test`"
)

from opentelemetry.instrumentation.httpx import HTTPX2ClientInstrumentor, HTTPXClientInstrumentor
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import ReadableSpan

from comet_resilience import wrap
from comet_resilience.otel import async_request_hook
from comet_resilience.testing import Gateway
from tests.conftest import FAST, ask, httpx, in_real_time, sdk_leaves_generators

from .conftest import NAME, Telemetry

pytestmark = [pytest.mark.anyio, in_real_time, sdk_leaves_generators]
#: What the SDK in use stands on, and what it does not.
RIGHT, WRONG = (
    (HTTPX2ClientInstrumentor, HTTPXClientInstrumentor)
    if httpx.__name__ == "httpx2"
    else (HTTPXClientInstrumentor, HTTPX2ClientInstrumentor)
)


@pytest.fixture
def everywhere(telemetry: Telemetry) -> Iterator[None]:
    """The instrumentation as an application switches it on, for all clients."""
    if RIGHT().is_instrumented_by_opentelemetry:  # by a test that ran code of the README's
        RIGHT().uninstrument()
    RIGHT().instrument(**telemetry.providers, async_request_hook=async_request_hook)
    yield
    RIGHT().uninstrument()


def client_of(gateway: Gateway, telemetry: Telemetry, **options: Any) -> openai.AsyncOpenAI:
    """A wrapped client of a gateway on a socket."""
    bare = openai.AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.api_key)
    return wrap(bare, on_event=telemetry.observer(), **FAST, **options)


def id_of(span: ReadableSpan) -> int:
    """The id of a span."""
    assert span.context is not None
    return int(span.context.span_id)


def counted_by_the_instrumentation(telemetry: Telemetry) -> int:
    """Return how many requests its histogram holds, under its old or its new name."""
    return sum(
        point.count
        for name, metric in telemetry.metrics().items()
        if name in ("http.client.duration", "http.client.request.duration")
        for point in metric.data.data_points
    )


async def test_one_span_per_request_and_one_per_attempt(
    telemetry: Telemetry, everywhere: None
) -> None:
    """The attempts nest in the request, and each resend has its number."""
    async with Gateway() as gateway:
        client = client_of(gateway, telemetry)
        gateway.script(429, 503, "ok")
        await ask(client)
        await ask(client)
        await client.close()
    first, second = telemetry.spans(NAME)
    children: dict[int, list[Any]] = {}
    for span in telemetry.spans():
        if span.name != NAME:
            assert span.parent is not None
            children.setdefault(span.parent.span_id, []).append(span)
    resends = [
        [dict(span.attributes).get("http.request.resend_count") for span in children[parent]]
        for parent in (id_of(first), id_of(second))
    ]
    assert resends == [[None, 1, 2], [None]]
    assert len(telemetry.spans()) == 6
    assert len(gateway.requests) == 4


async def test_nothing_is_counted_twice(telemetry: Telemetry, everywhere: None) -> None:
    """The instrumentation counts attempts under its name, we requests and attempts under ours."""
    async with Gateway() as gateway:
        client = client_of(gateway, telemetry)
        gateway.script(429, 503, "ok")
        await ask(client)
        await client.close()
    assert counted_by_the_instrumentation(telemetry) == 3
    assert telemetry.total("attempts") == 3
    assert telemetry.total("requests") == 1
    ours = {name for name in telemetry.metrics() if not name.startswith("http.client.")}
    assert {name for name in ours if not name.startswith("comet_resilience.")} == {
        "gen_ai.client.token.usage"
    }


async def test_the_gateway_is_told_the_attempts_span(
    telemetry: Telemetry, everywhere: None
) -> None:
    """Each attempt carries a `traceparent` of its own within the request's trace."""
    async with Gateway() as gateway:
        client = client_of(gateway, telemetry)
        gateway.script(503, "ok")
        await ask(client)
        await client.close()
    span = telemetry.request_span()
    assert span.context is not None
    parents = [request.headers["traceparent"].split("-") for request in gateway.requests]
    assert {trace for _, trace, _, _ in parents} == {f"{span.context.trace_id:032x}"}
    assert len({attempt for _, _, attempt, _ in parents}) == 2


async def test_a_stream_is_one_attempt(telemetry: Telemetry, everywhere: None) -> None:
    """The attempt ends with the head of the response, the request with its body."""
    async with Gateway() as gateway:
        client = client_of(gateway, telemetry)
        messages: Any = [{"role": "user", "content": "Hello"}]
        stream = await client.chat.completions.create(model="m", messages=messages, stream=True)
        assert [span.name for span in telemetry.spans()] == ["POST"]
        async with stream:
            while await anext(stream, None):
                pass
        await client.close()
    assert [span.name for span in telemetry.spans()] == ["POST", NAME]


async def test_an_instrumented_client_has_one_span_around_the_request(
    telemetry: Telemetry,
) -> None:
    """`instrument_client` after wrapping: its span is the call's, and no attempt's."""
    async with Gateway() as gateway:
        client = client_of(gateway, telemetry)
        RIGHT.instrument_client(client._client, **telemetry.providers)
        gateway.script(429, "ok")
        await ask(client)
        await client.close()
    request, call = telemetry.spans()
    assert (request.name, call.name) == (NAME, "POST")
    assert request.parent is not None
    assert request.parent.span_id == id_of(call)
    assert counted_by_the_instrumentation(telemetry) == 1


async def test_suppression_holds_for_both(telemetry: Telemetry, everywhere: None) -> None:
    """Neither makes a span while OpenTelemetry's own switch is off."""
    async with Gateway() as gateway:
        client = client_of(gateway, telemetry)
        with suppress_instrumentation():
            await ask(client)
        await client.close()
    assert telemetry.spans() == []


async def test_the_other_familys_class_breaks_a_client(telemetry: Telemetry) -> None:
    """What the README warns of is still so: if this fails, the warning can go."""
    async with Gateway() as gateway:
        client = client_of(gateway, telemetry)
        with pytest.raises((ModuleNotFoundError, IndexError, openai.APIConnectionError)):
            WRONG.instrument_client(client._client, **telemetry.providers)
            await ask(client)
        await client.close()


async def test_the_hook_is_harmless_elsewhere(telemetry: Telemetry, everywhere: None) -> None:
    """A client that is not wrapped is instrumented as ever."""
    async with Gateway() as gateway:
        client = openai.AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.api_key)
        await ask(client)
        await client.close()
    (span,) = telemetry.spans()
    assert "http.request.resend_count" not in dict(span.attributes or {})
