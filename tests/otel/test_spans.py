"""One span per request: when it begins and ends, what it tells, and what it never tells."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import openai
import pytest

pytest.importorskip("opentelemetry.sdk.trace", reason="needs the packages of the extra `test`")

from opentelemetry import context, trace
from opentelemetry.trace import SpanKind, StatusCode

from comet_resilience import Budget, FixedLimit, LimitChanged, StepBack
from tests.conftest import (
    BROKEN,
    COMPLETION,
    DONE,
    FAST,
    JSON,
    KEY,
    LIMITED,
    MESSAGES,
    OK,
    STREAM,
    Answer,
    ask,
    chunk,
    envelope,
    event,
    in_virtual_time,
    scripted,
    sdk_leaves_generators,
    stream_from,
    stream_of,
)

from .conftest import NAME, Telemetry, events_on, plot_of, short

pytestmark = [pytest.mark.anyio, sdk_leaves_generators]


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


@in_virtual_time
async def test_a_wait_for_a_slot_is_an_event(telemetry: Telemetry) -> None:
    """Who found a slot at once says nothing; who waited says how long."""
    client, inner = scripted(OK, on_event=telemetry.observer(), algorithm=lambda: FixedLimit(1))
    inner.delay(7)
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
    assert "the only retry is used up" in str(span.status.description)
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
    held = inner.hold()
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


async def test_a_deadline_is_a_failure(telemetry: Telemetry) -> None:
    """Its kind is the library's own."""
    client, inner = scripted(OK, on_event=telemetry.observer(), deadline=0.01)

    inner.hold()
    with pytest.raises(openai.APITimeoutError):
        await ask(client)
    assert short(telemetry.request_span().attributes)["error.type"] == "timeout"


async def test_an_exception_of_nobodys_is_a_failure(telemetry: Telemetry) -> None:
    """What is no fault of the exchange has no kind; the span still ends."""
    client, _ = scripted(ZeroDivisionError(), on_event=telemetry.observer(), max_retries=0)
    with pytest.raises((ZeroDivisionError, openai.APIConnectionError)):
        await ask(client)
    assert short(telemetry.request_span().attributes)["error.type"] == "_OTHER"


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

    class Failing(trace.TracerProvider, trace.NoOpTracer):
        def get_tracer(self, *_: object, **__: object) -> trace.Tracer:
            return self

        def start_span(self, *_: object, **__: object) -> Any:
            raise RuntimeError("no tracer")

    client, _ = scripted(OK, on_event=telemetry.observer(tracer_provider=Failing()))
    for _ in range(3):
        assert await ask(client) == "Hi"
    assert telemetry.total("attempts") == 3
    failures = [r for r in caplog.records if "observer failed" in r.getMessage()]
    assert len(failures) == 1
    assert failures[0].levelno == logging.ERROR


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
    """Return what the only span says of tokens."""
    attributes = telemetry.request_span().attributes or {}
    return {name: value for name, value in attributes.items() if name.startswith("gen_ai.")}


async def test_the_tokens_of_a_whole_answer_are_on_its_span(telemetry: Telemetry) -> None:
    """All four that the answer names, a nought among them."""
    client, _ = scripted((200, {**COMPLETION, "usage": USAGE}, JSON), on_event=telemetry.observer())
    await ask(client)
    assert tokens_of(telemetry) == TOKENS


async def test_the_tokens_of_a_stream_are_on_its_span(telemetry: Telemetry) -> None:
    """They come with the end of its body, before the span ends."""
    parts = chunk("x"), chunk(finish="stop"), event({"choices": [], "usage": USAGE}), DONE
    client, _ = scripted(stream_of(*parts), on_event=telemetry.observer())
    async for _ in await stream_from(client):
        pass
    assert tokens_of(telemetry) == TOKENS


async def test_an_answer_that_names_no_tokens_has_none_on_its_span(telemetry: Telemetry) -> None:
    """Not even under a budget, which counts them."""
    client, _ = scripted(
        STREAM, on_event=telemetry.observer(),
        budget=Budget(tokens=10_000),
    )  # fmt: skip
    async for _ in await stream_from(client):
        pass
    assert tokens_of(telemetry) == {}
