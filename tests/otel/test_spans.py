"""One span per request: when it begins and ends, what it tells, and what it never tells."""

from __future__ import annotations

import gc
import json
import logging
from functools import partial
from typing import Any

import anyio
import openai
import pytest

pytest.importorskip("opentelemetry.sdk.trace", reason="needs the packages of the extra `test`")

from opentelemetry import context, trace
from opentelemetry.trace import SpanKind, StatusCode

from comet_resilience import Budget, FixedLimit, LimitChanged, StepBack, snapshot
from tests.conftest import (
    BROKEN,
    COMPLETION,
    FAST,
    JSON,
    KEY,
    LIMITED,
    MESSAGES,
    OK,
    Answer,
    ClosingStream,
    ask,
    envelope,
    httpx,
    scripted,
)

from .conftest import Telemetry, events_on, plot_of, short

pytestmark = [
    pytest.mark.anyio,
    # On trio the SDK leaves its generators to the collector.
    pytest.mark.filterwarnings("ignore:Async generator '(openai|httpx|httpcore):ResourceWarning"),
]
NAME = "comet_resilience.request"
HEADERS = {"content-type": "text/event-stream"}
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}\n\n'
LAST = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


async def stream_from(client: Any) -> Any:
    """A stream whose first event has come."""
    return await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)


async def test_a_success_is_one_span(telemetry: Telemetry) -> None:
    """It nests under the caller's, is current while sending and not afterwards."""
    client, inner = scripted(OK, on_event=telemetry.observer(), **FAST)
    seen: list[Any] = []
    send = inner.answer

    async def look(request: Any) -> Any:
        seen.append(trace.get_current_span().get_span_context().span_id)
        return await send(request)

    inner.behave = look
    with telemetry.tracer_provider.get_tracer("app").start_as_current_span("app") as app:
        assert await ask(client) == "Hi"
        assert trace.get_current_span() is app
    span = telemetry.request_span()
    assert span.parent is not None
    assert span.context is not None
    assert span.parent.span_id == app.get_span_context().span_id
    assert seen == [span.context.span_id]
    assert span.kind is SpanKind.INTERNAL
    assert span.status.status_code is StatusCode.UNSET
    attributes = short(span.attributes)
    assert attributes.pop("queue.duration") >= 0
    assert attributes == {
        "http.request.method": "POST",
        "route": "POST /chat/completions",
        "model": "m",
        "outcome": "succeeded",
        "attempts": 1,
        "http.response.status_code": 200,
    }
    assert plot_of(span) == ["attempt_finished"]


async def test_retries_are_events_in_order(telemetry: Telemetry) -> None:
    """Every attempt, every retry with its delay and reason, every limit that this request moved."""
    ids = {"x-cometapi-request-id": "20261102031415926535897Qx7LmZ2p"}
    answers: list[Answer] = [LIMITED, (500, envelope("", "it broke"), ids), OK]
    client, _ = scripted(
        *answers, on_event=telemetry.observer(), backoff_initial=0.0, backoff_max=0.0
    )
    await ask(client)
    span = telemetry.request_span()
    assert [name for name in plot_of(span) if name != "limit_changed"] == [
        "attempt_finished", "retry_scheduled", "attempt_finished", "retry_scheduled",
        "attempt_finished",
    ]  # fmt: skip
    finished = [short(e.attributes) for e in span.events if e.name.endswith("attempt_finished")]
    assert [f.get("error.type") for f in finished] == ["rate_limited", "server_error", None]
    assert [f["http.response.status_code"] for f in finished] == [429, 500, 200]
    assert finished[1]["request_id"] == "20261102031415926535897Qx7LmZ2p"
    first = short(next(e for e in span.events if e.name.endswith("retry_scheduled")).attributes)
    assert (first["attempt"], first["error.type"]) == (2, "rate_limited")
    assert first["retry.delay"] == 0
    assert "rate limiting" in first["reason"]
    assert short(span.attributes)["attempts"] == 3
    assert span.status.status_code is StatusCode.UNSET


async def test_the_request_that_moved_the_limit_says_so(telemetry: Telemetry) -> None:
    """A change of another partition, which its task happens to carry, is not on its span."""
    observer = telemetry.observer()
    client, inner = scripted(
        LIMITED, OK, on_event=observer, algorithm=lambda: StepBack(4, 1, 100),
        backoff_initial=0.0, backoff_max=0.0,
    )  # fmt: skip
    send = inner.answer

    async def with_news(request: Any) -> Any:
        for model, new in (("other", 1), ("m", 3)):
            partition = ("POST /chat/completions", model)
            observer(LimitChanged(
                partition=partition, old=4, new=new, reason="news", in_flight=0, waiting=0
            ))  # fmt: skip
        return await send(request)

    inner.behave = with_news
    await ask(client)
    span = telemetry.request_span()
    changes = [short(e.attributes) for e in span.events if e.name.endswith("limit_changed")]
    assert [c["limit.new"] for c in changes if c["reason"] == "news"] == [3, 3]
    own = [c for c in changes if c["reason"] != "news"]
    assert own[0]["limit.old"] > own[0]["limit.new"]


async def test_a_wait_for_a_slot_is_an_event(
    telemetry: Telemetry, anyio_backend: tuple[str, Any]
) -> None:
    """Who found a slot at once says nothing; who waited says how long."""
    if anyio_backend[0] != "trio":
        pytest.skip("needs virtual time")
    client, inner = scripted(OK, on_event=telemetry.observer(), algorithm=lambda: FixedLimit(1))
    send = inner.answer

    async def slowly(request: Any) -> Any:
        await anyio.sleep(7)
        return await send(request)

    inner.behave = slowly
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, client)
        tasks.start_soon(ask, client)
    at_once, waited = telemetry.spans(NAME)
    assert events_on(at_once) == ["attempt_finished"]
    assert events_on(waited) == ["queued", "attempt_finished"]
    assert short(waited.events[0].attributes) == {"queue.duration": pytest.approx(7)}
    assert short(waited.attributes)["queue.duration"] == pytest.approx(7)


async def test_giving_up_is_an_error_with_its_reason(telemetry: Telemetry) -> None:
    """The kind of failure, the last status, and in words why it ended."""
    client, _ = scripted(BROKEN, max_retries=1, on_event=telemetry.observer(), **FAST)
    with pytest.raises(openai.InternalServerError):
        await ask(client)
    span = telemetry.request_span()
    assert span.status.status_code is StatusCode.ERROR
    assert "1 of 1 retries" in str(span.status.description)
    attributes = short(span.attributes)
    assert attributes["error.type"] == "server_error"
    assert (attributes["outcome"], attributes["attempts"]) == ("failed", 2)
    assert attributes["http.response.status_code"] == 500
    assert not trace.get_current_span().get_span_context().is_valid


async def test_a_full_queue_is_a_failed_request_without_attempts(telemetry: Telemetry) -> None:
    """What was never sent has a span, too."""
    client, inner = scripted(
        OK, on_event=telemetry.observer(), max_queue=0, algorithm=lambda: FixedLimit(1)
    )
    held, send = anyio.Event(), inner.answer

    async def hold(request: Any) -> Any:
        await held.wait()
        return await send(request)

    inner.behave = hold
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, client)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(openai.OpenAIError, match="max_queue"):
            await ask(client)
        held.set()
    refused, answered = telemetry.spans(NAME)
    assert short(refused.attributes)["attempts"] == 0
    assert refused.status.status_code is StatusCode.ERROR
    assert short(answered.attributes)["outcome"] == "succeeded"


@pytest.mark.parametrize("where", ["sending", "queue"])
async def test_a_cancelled_request_is_no_error(telemetry: Telemetry, where: str) -> None:
    """Its span ends at once, wherever it was, and the context is the caller's again."""
    limit = 2 if where == "sending" else 1
    client, inner = scripted(OK, on_event=telemetry.observer(), algorithm=lambda: FixedLimit(limit))

    async def for_ever(_request: Any) -> Any:
        await anyio.sleep_forever()

    inner.behave = for_ever
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
    waited = where == "queue"
    assert (attributes["queue.duration"] > 0.019) is waited
    assert events_on(span) == (["queued"] if waited else [])
    assert short(other.attributes)["outcome"] == "cancelled"


async def test_a_deadline_is_a_failure(telemetry: Telemetry) -> None:
    """Its kind is the library's own."""
    client, inner = scripted(OK, on_event=telemetry.observer(), deadline=0.01)

    async def for_ever(_request: Any) -> Any:
        await anyio.sleep_forever()

    inner.behave = for_ever
    with pytest.raises(openai.APITimeoutError):
        await ask(client)
    assert short(telemetry.request_span().attributes)["error.type"] == "timeout"


async def test_an_exception_of_nobodys_is_a_failure(telemetry: Telemetry) -> None:
    """What is no fault of the exchange has no kind; the span still ends."""
    client, _ = scripted(ZeroDivisionError(), on_event=telemetry.observer(), max_retries=0)
    with pytest.raises((ZeroDivisionError, openai.APIConnectionError)):
        await ask(client)
    assert short(telemetry.request_span().attributes)["error.type"] == "_OTHER"


async def test_a_streams_span_ends_with_its_body(telemetry: Telemetry) -> None:
    """While the caller reads, it is open, and not the current one."""
    client, _ = scripted((200, [EVENT, EVENT, LAST], HEADERS), on_event=telemetry.observer())
    stream = await stream_from(client)
    assert not trace.get_current_span().get_span_context().is_valid
    while await anext(stream, None):
        assert telemetry.spans() == []
    await stream.close()
    assert short(telemetry.request_span().attributes)["outcome"] == "succeeded"


async def test_a_stream_closed_early_is_a_success(telemetry: Telemetry) -> None:
    """The caller has what was wanted."""
    client, _ = scripted((200, [EVENT, EVENT, LAST], HEADERS), on_event=telemetry.observer())
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
        (200, [EVENT, EVENT, *rest], HEADERS), on_event=telemetry.observer(), **FAST
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


async def test_a_cancelled_reader_is_no_error(telemetry: Telemetry) -> None:
    """Cancelled in the middle of a stream."""
    client, inner = scripted(OK, on_event=telemetry.observer())

    class Endless(ClosingStream):
        async def __anext__(self) -> bytes:
            if not self._parts:
                await anyio.sleep_forever()
            return await super().__anext__()

    async def endless(_request: Any) -> Any:
        return httpx.Response(200, headers=HEADERS, stream=Endless([EVENT], []))

    inner.behave = endless
    async with await stream_from(client) as stream:
        with anyio.move_on_after(0.01):
            while await anext(stream):
                pass
    assert short(telemetry.request_span().attributes)["outcome"] == "cancelled"


async def test_a_dropped_stream_still_ends_its_span(telemetry: Telemetry) -> None:
    """And the slot that was taken back is counted."""
    client, _ = scripted((200, [EVENT, EVENT, LAST], HEADERS), on_event=telemetry.observer())
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


async def test_no_key_and_no_word_of_the_prompt(telemetry: Telemetry) -> None:
    """Not in a span, an event, a status or a metric, though the gateway repeats both."""
    said = f"Bearer {KEY} is not allowed to say very private words"
    answers: list[Answer] = [
        (429, envelope("", said), {}),
        (500, said.encode(), {"x-cometapi-request-id": KEY, "server": KEY}),
        (400, envelope(KEY, said), {}),
    ]
    client, _ = scripted(*answers, on_event=telemetry.observer(models=["m"]), **FAST)
    with pytest.raises(openai.BadRequestError):
        await client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "very private words"}]
        )
    spans = "".join(span.to_json() for span in telemetry.spans())
    data = telemetry.reader.get_metrics_data()
    assert data is not None
    metrics = data.to_json()
    for told in (spans, metrics):
        assert "rate_limited" in told
        assert KEY not in told
        assert "private" not in told


async def test_a_failing_tracer_never_fails_a_request(
    telemetry: Telemetry, caplog: pytest.LogCaptureFixture
) -> None:
    """It is named once, and the metrics go on."""
    observer = telemetry.observer()

    class Failing:
        def start_span(self, *_: object, **__: object) -> Any:
            raise RuntimeError("no tracer")

    observer._tracer = Failing()  # type: ignore[assignment]
    client, _ = scripted(OK, on_event=observer)
    for _ in range(3):
        assert await ask(client) == "Hi"
    assert telemetry.total("attempts") == 3
    failures = [r for r in caplog.records if "observer failed" in r.getMessage()]
    assert len(failures) == 1
    assert failures[0].levelno == logging.ERROR


async def test_what_is_over_is_forgotten(telemetry: Telemetry) -> None:
    """Answered, given up, cancelled or dropped: nothing is kept of a request."""
    observer = telemetry.observer()
    stream: Answer = (200, [EVENT, EVENT, LAST], HEADERS)
    client, inner = scripted(OK, (400, {}, {}), stream, on_event=observer)
    await ask(client)
    with pytest.raises(openai.BadRequestError):
        await ask(client)
    raw = await client.chat.completions.with_raw_response.create(
        model="m", messages=MESSAGES, stream=True
    )
    assert len(observer._requests) == 1
    del raw
    gc.collect()

    async def for_ever(_request: Any) -> Any:
        await anyio.sleep_forever()

    inner.behave = for_ever
    with anyio.move_on_after(0.01):
        await ask(client)
    assert observer._requests == {}
    assert len(telemetry.spans(NAME)) == 4


async def test_suppressed_instrumentation_makes_no_span(telemetry: Telemetry) -> None:
    """As OpenTelemetry's own switch for instrumentations says; the counters stay right."""
    client, _ = scripted(LIMITED, OK, on_event=telemetry.observer(), **FAST)
    token = context.attach(context.set_value("suppress_instrumentation", True))
    try:
        await ask(client)
    finally:
        context.detach(token)
    assert telemetry.spans() == []
    assert telemetry.total("attempts") == 2


async def test_without_an_instrumentation_no_hook_is_paid_for() -> None:
    """The retry loop itself is what is awaited, and the body has one watcher."""
    client, inner = scripted((200, [EVENT, LAST], HEADERS), on_event=lambda _event: None)
    transport: Any = client._client._transport
    running: list[str] = []
    send = inner.answer

    async def look(request: Any) -> Any:
        response = await send(request)
        running.append(type(response.stream).__name__)
        return response

    inner.behave = look
    begin = transport.handle_async_request

    def begun(request: Any) -> Any:
        coroutine = begin(request)
        running.append(coroutine.__qualname__)
        return coroutine

    transport.handle_async_request = begun
    stream = await stream_from(client)
    async with stream:
        watched = stream.response.stream
        assert running == ["RetryLoop._run", "ClosingStream"]
        inside = getattr(watched, "_stream", watched)
        assert type(inside._inner).__name__ == "ClosingStream"


async def test_a_raw_response_is_the_inner_transports_own(telemetry: Telemetry) -> None:
    """Following a request changes nothing that its caller sees."""
    client, _ = scripted((200, COMPLETION, {}), on_event=telemetry.observer())
    raw = await client.chat.completions.with_raw_response.create(model="m", messages=MESSAGES)
    assert raw.http_response.json() == COMPLETION
    assert raw.http_response.is_closed


USAGE = {
    "prompt_tokens": 30,
    "completion_tokens": 4,
    "prompt_tokens_details": {"cached_tokens": 20},
    "completion_tokens_details": {"reasoning_tokens": 0},
}
TOKENS = {
    "gen_ai.usage.input_tokens": 30,
    "gen_ai.usage.output_tokens": 4,
    "gen_ai.usage.cache_read.input_tokens": 20,
    "gen_ai.usage.reasoning.output_tokens": 0,
}


def tokens_of(telemetry: Telemetry) -> dict[str, Any]:
    """What the only span says of tokens."""
    attributes = telemetry.request_span().attributes or {}
    return {name: value for name, value in attributes.items() if name.startswith("gen_ai.")}


async def test_the_tokens_of_a_whole_answer_are_on_its_span(telemetry: Telemetry) -> None:
    """All four that the answer names, a nought among them."""
    client, _ = scripted((200, {**COMPLETION, "usage": USAGE}, JSON), on_event=telemetry.observer())
    await ask(client)
    assert tokens_of(telemetry) == TOKENS


async def test_the_tokens_of_a_stream_are_on_its_span(telemetry: Telemetry) -> None:
    """They come with the end of its body, before the span ends."""
    told = json.dumps({"choices": [], "usage": USAGE}).encode()
    body = EVENT + LAST.replace(b"data: [DONE]", b"data: " + told + b"\n\ndata: [DONE]")
    client, _ = scripted((200, body, HEADERS), on_event=telemetry.observer())
    async for _ in await stream_from(client):
        pass
    assert tokens_of(telemetry) == TOKENS


async def test_an_answer_that_names_no_tokens_has_none_on_its_span(telemetry: Telemetry) -> None:
    """Not even under a budget, which counts them."""
    client, _ = scripted(
        (200, EVENT + LAST, HEADERS), on_event=telemetry.observer(),
        budget=Budget(tokens=10_000),
    )  # fmt: skip
    async for _ in await stream_from(client):
        pass
    assert tokens_of(telemetry) == {}
