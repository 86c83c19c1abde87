"""The hook of one request: its span ends, and it is counted, with the body of its answer."""

from __future__ import annotations

import gc
from functools import partial
from typing import Any

import anyio
import openai
import pytest

pytest.importorskip("opentelemetry.sdk.trace", reason="needs the packages of the extra `test`")

from opentelemetry import trace
from opentelemetry.trace import StatusCode

from comet_resilience import FixedLimit, snapshot
from tests.conftest import (
    BROKEN,
    FAST,
    MESSAGES,
    OK,
    SSE,
    STREAM,
    EndlessStream,
    ask,
    chunk,
    httpx,
    scripted,
    sdk_leaves_generators,
    stream_from,
    stream_of,
)

from .conftest import NAME, Telemetry, events_on, plot_of, short

pytestmark = [pytest.mark.anyio, sdk_leaves_generators]


async def test_a_streams_span_ends_with_its_body(telemetry: Telemetry) -> None:
    """While the caller reads, it is open, and not the current one."""
    client, _ = scripted(STREAM, on_event=telemetry.observer())
    stream = await stream_from(client)
    assert not trace.get_current_span().get_span_context().is_valid
    while await anext(stream, None):
        assert telemetry.spans() == []
    await stream.close()
    assert short(telemetry.request_span().attributes)["outcome"] == "succeeded"


async def test_a_stream_closed_early_is_a_success(telemetry: Telemetry) -> None:
    """The caller has what was wanted."""
    client, _ = scripted(STREAM, on_event=telemetry.observer())
    async with await stream_from(client) as stream:
        await anext(stream)
    assert short(telemetry.request_span().attributes)["outcome"] == "succeeded"


@pytest.mark.parametrize(
    ("rest", "events"),
    [
        ([], 2),
        ([b"data: [DONE]\n\n"], 2),
        ([b'data: {"error":{"message":"overloaded","type":"overloaded_error"}}\n\n'], 3),
    ],
    ids=["ends", "false end", "error event"],
)
async def test_a_broken_stream_is_a_failure(
    telemetry: Telemetry, rest: list[bytes], events: int
) -> None:
    """With how many events had come, whoever raised."""
    client, _ = scripted(
        stream_of(chunk("a"), chunk("b"), *rest), on_event=telemetry.observer(), **FAST
    )
    stream = await stream_from(client)
    with pytest.raises(openai.APIError):
        while await anext(stream, None):
            pass
    await stream.close()
    span = telemetry.request_span()
    assert plot_of(span) == ["attempt_finished", "stream_broken"]
    assert short(span.events[-1].attributes)["events"] == events
    assert span.status.status_code is StatusCode.ERROR
    assert short(span.attributes)["error.type"]
    assert telemetry.total("requests", outcome="failed") == 1


@pytest.mark.parametrize("where", ["sending", "queue"])
async def test_a_cancelled_request_is_no_error(telemetry: Telemetry, where: str) -> None:
    """Its span ends at once, wherever it was, and the context is the caller's again."""
    limit = 2 if where == "sending" else 1
    client, inner = scripted(OK, on_event=telemetry.observer(), algorithm=lambda: FixedLimit(limit))

    inner.hold()
    scope, over = anyio.CancelScope(), anyio.Event()

    async def ask_in_scope() -> None:
        with scope:
            await ask(client)
        assert not trace.get_current_span().get_span_context().is_valid
        over.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, client)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(ask_in_scope)
        await anyio.wait_all_tasks_blocked()
        await anyio.sleep(0.02)
        scope.cancel()
        await over.wait()
        assert len(telemetry.spans(NAME)) == 1
        tasks.cancel_scope.cancel()
    span, other = telemetry.spans(NAME)
    attributes = short(span.attributes)
    assert attributes["outcome"] == "cancelled"
    assert span.status.status_code is StatusCode.UNSET
    if where == "queue":
        assert attributes["queue.duration"] > 0.019
        assert events_on(span) == ["queued"]
    assert plot_of(span) == []
    assert short(other.attributes)["outcome"] == "cancelled"


async def test_a_cancelled_reader_is_no_error(telemetry: Telemetry) -> None:
    """Cancelled in the middle of a stream."""
    client, inner = scripted(OK, on_event=telemetry.observer())

    async def endless(_request: Any) -> Any:
        return httpx.Response(200, headers=SSE, stream=EndlessStream([chunk("x")], []))

    inner.behave = endless
    async with await stream_from(client) as stream:
        with anyio.move_on_after(0.01):
            while await anext(stream):
                pass
    assert short(telemetry.request_span().attributes)["outcome"] == "cancelled"


async def test_a_dropped_stream_still_ends_its_span(telemetry: Telemetry) -> None:
    """And the slot that was taken back is counted."""
    client, _ = scripted(STREAM, on_event=telemetry.observer())
    stream = await stream_from(client)
    stream.response.stream = None
    del stream
    gc.collect()
    await anyio.wait_all_tasks_blocked()
    assert short(telemetry.request_span().attributes)["outcome"] == "abandoned"
    assert telemetry.total("slots.reclaimed") == 1
    assert snapshot(client).partitions[0].in_flight == 0


async def test_each_request_tells_its_own_story(telemetry: Telemetry) -> None:
    """Twenty at a time, each failing once: none hears of another's attempts."""
    client, inner = scripted(OK, on_event=telemetry.observer(), **FAST)
    failed: set[str] = set()
    send = inner.answer

    async def once(request: Any) -> Any:
        await anyio.lowlevel.checkpoint()
        model = str(request.content)
        inner.answers[0] = OK if model in failed else BROKEN
        failed.add(model)
        return await send(request)

    inner.behave = once
    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(partial(ask, client, model=f"m{number}"))
    spans = telemetry.spans(NAME)
    assert {short(span.attributes)["model"] for span in spans} == {f"m{n}" for n in range(20)}
    for span in spans:
        assert plot_of(span) == [
            "attempt_finished", "retry_scheduled", "attempt_finished",
        ]  # fmt: skip


async def test_what_is_over_is_forgotten(telemetry: Telemetry) -> None:
    """Answered, given up, cancelled or dropped: nothing is kept of a request."""
    observer = telemetry.observer()
    client, inner = scripted(OK, (400, {}, {}), STREAM, on_event=observer)
    await ask(client)
    with pytest.raises(openai.BadRequestError):
        await ask(client)
    raw = await client.chat.completions.with_raw_response.create(
        model="m", messages=MESSAGES, stream=True
    )
    assert len(observer._requests) == 1
    del raw
    gc.collect()

    inner.hold()
    with anyio.move_on_after(0.01):
        await ask(client)
    assert observer._requests == {}
    assert len(telemetry.spans(NAME)) == 4
