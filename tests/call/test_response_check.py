"""Until the first output everything is an attempt, and what holds nothing is no answer."""

from __future__ import annotations

import json
import logging
from typing import Any

import anyio
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comet_resilience import (
    Event,
    FailureKind,
    HollowAnswer,
    IncompleteStreamError,
    InvalidAnswerError,
    diagnose,
    override,
    snapshot,
    wrap,
)
from comet_resilience.testing import Gateway
from comet_resilience.verdict.output import Opening, Part
from comet_resilience.wire.sse import HEAD_CAP

from ..conftest import (
    CHUNK_HEAD,
    COMPLETION,
    DONE,
    FAST,
    JSON,
    MESSAGES,
    PING,
    SSE,
    Answer,
    ClosingStream,
    Scripted,
    ask,
    bare_client,
    chunk,
    envelope,
    event,
    httpx,
    in_virtual_time,
    on_asyncio,
    scripted,
    sdk_leaves_generators,
    stream_from,
    stream_of,
)

pytestmark = [
    pytest.mark.anyio,
    sdk_leaves_generators,
]
CHAT, RESPONSES = "POST /chat/completions", "POST /responses"
USAGE = {"prompt_tokens": 5, "completion_tokens": 0, "total_tokens": 5}


def typed(kind: str, **more: Any) -> bytes:
    """One event of the Responses API."""
    return event({"type": kind, "sequence_number": 0, **more}, kind)


ROLE = chunk({"role": "assistant", "content": ""})
USED = event({**CHUNK_HEAD, "choices": [], "usage": USAGE})
STOP = chunk(finish="stop")
ERROR = event(envelope("overloaded", "too much to do"))
WHOLE = [PING, ROLE, chunk({"content": "Hello"}), STOP, USED, DONE]
RESPONSE: dict[str, Any] = {
    "id": "r",
    "object": "response",
    "status": "in_progress",
    "output": [],
    "error": None,
}
CREATED = typed("response.created", response=RESPONSE)
BEGUN = [CREATED, typed("response.in_progress", response=RESPONSE)]
ADDED = typed("response.output_item.added", item={"type": "message", "content": []})
DELTA = typed("response.output_text.delta", delta="Hello")
COMPLETED = typed("response.completed", response={**RESPONSE, "status": "completed"})
SPOKEN = [*BEGUN, ADDED, DELTA, COMPLETED]


async def seen_of(client: Any, api: str = CHAT) -> list[Any]:
    """The events of a streamed request."""
    if api == CHAT:
        stream = await stream_from(client)
    else:
        stream = await client.responses.create(model="m", input="x", stream=True)
    return [part async for part in stream]


NO_OUTPUT: dict[str, tuple[str, list[bytes | Exception]]] = {
    "a made-up usage": (CHAT, [USED, DONE]),
    "a role alone": (CHAT, [PING, ROLE, DONE]),
    "a role and the end": (CHAT, [ROLE]),
    "a role and an error": (CHAT, [ROLE, ERROR, DONE]),
    "a role and a cut": (CHAT, [ROLE, httpx.ReadError("cut")]),
    "a role and half an event": (CHAT, [ROLE, chunk({"content": "Hel"})[:-9]]),
    "a role and bare JSON": (CHAT, [ROLE, json.dumps(envelope("overloaded", "x")).encode()]),
    "an error for a finish reason": (CHAT, [ROLE, chunk(finish="error"), DONE]),
    "a provider's own code": (
        CHAT,
        [
            event(
                {
                    **CHUNK_HEAD,
                    "choices": None,
                    "base_resp": {"status_code": 2, "status_msg": "busy"},
                }
            )
        ],
    ),
    "a torn event": (CHAT, [b'data: {"id": "c", \n\n', DONE]),
    "an event that is no object": (CHAT, [ROLE, b"data: null\n\n", STOP, DONE]),
    "words": (RESPONSES, [b"data: upstream is busy\n\n"]),
    "an error object": (CHAT, [event({"object": "error", "message": "busy", "code": None})]),
    "created and the end": (RESPONSES, [*BEGUN]),
    "created and an error": (RESPONSES, [*BEGUN, typed("error", code="overloaded", message="x")]),
    "created and a failure": (
        RESPONSES,
        [*BEGUN, ADDED, typed("response.failed", response={"error": {"code": "server_error"}})],
    ),
    "completed without output": (RESPONSES, [*BEGUN, COMPLETED]),
    "an empty delta": (RESPONSES, [*BEGUN, ADDED, typed("response.output_text.delta", delta="")]),
}


@pytest.mark.parametrize("name", NO_OUTPUT)
async def test_until_the_first_output_it_is_an_attempt(name: str) -> None:
    """A failure, a cut or an end behind the events that always come is retried as any failure."""
    api, parts = NO_OUTPUT[name]
    whole = WHOLE if api == CHAT else SPOKEN
    client, inner = scripted(stream_of(*parts), stream_of(*whole), **FAST)
    bare, _ = scripted(stream_of(*whole))
    assert await seen_of(client, api) == await seen_of(bare, api)
    assert len(inner.sent) == 2
    assert len(inner.closed) == len(inner.opened)
    assert all(shown.in_flight == 0 for shown in snapshot(client).partitions)


@pytest.mark.parametrize("name", ["a made-up usage", "created and the end"])
async def test_what_holds_nothing_says_so(name: str) -> None:
    """Where no attempt brings more, the error names what came, and that it may be billed."""
    api, parts = NO_OUTPUT[name]
    client, inner = scripted(stream_of(*parts), max_retries=2, **FAST)
    with pytest.raises(InvalidAnswerError, match="holds nothing") as caught:
        await seen_of(client, api)
    assert len(inner.sent) == 3
    told = diagnose(caught.value)
    assert (told.rule, told.kind) == ("no-output", FailureKind.INVALID_ANSWER)
    assert "before any output" in told.message
    assert told.may_be_billed


ANSWERS: dict[str, tuple[str, list[bytes]]] = {
    "role, text": (CHAT, WHOLE),
    "an empty answer that is meant": (CHAT, [ROLE, STOP, DONE]),
    "an empty answer that was paid": (
        CHAT,
        [
            STOP,
            event({**CHUNK_HEAD, "choices": [], "usage": {**USAGE, "completion_tokens": 3}}),
            DONE,
        ],
    ),
    "length": (CHAT, [chunk(finish="length"), DONE]),
    "content filter": (CHAT, [chunk(finish="content_filter"), DONE]),
    "a tool call": (CHAT, [chunk({"tool_calls": [{"index": 0}]}), chunk(finish="tool_calls")]),
    "a refusal": (CHAT, [ROLE, chunk({"refusal": "no"}), STOP, DONE]),
    "reasoning": (CHAT, [ROLE, chunk({"reasoning_content": "hm"}), STOP, DONE]),
    "filters first": (
        CHAT,
        [event({**CHUNK_HEAD, "choices": [], "prompt_filter_results": []}), *WHOLE],
    ),
    "deltas and an empty output": (RESPONSES, SPOKEN),
    "incomplete": (RESPONSES, [*BEGUN, typed("response.incomplete", response=RESPONSE)]),
    "a failure after output": (
        RESPONSES,
        [*BEGUN, DELTA, typed("response.failed", response={"error": {"message": "x"}})],
    ),
}


@pytest.mark.parametrize("opening", ["hold", "pass"])
@pytest.mark.parametrize("name", ANSWERS)
async def test_an_answer_passes_byte_for_byte(name: str, opening: Any) -> None:
    """Ordinary streams are one send, and their bytes and chunks those that came."""
    api, parts = ANSWERS[name]
    client, inner = scripted(stream_of(*parts), opening=opening, **FAST)
    if api == CHAT:
        manager = client.chat.completions.with_streaming_response.create(
            model="m", messages=MESSAGES, stream=True
        )
    else:
        manager = client.responses.with_streaming_response.create(  # type: ignore[assignment]
            model="m", input="x", stream=True
        )
    async with manager as response:
        assert [part async for part in response.http_response.aiter_raw()] == parts
    assert len(inner.sent) == 1


class Slow(ClosingStream):
    """A stream whose parts come a second after each other."""

    async def __anext__(self) -> bytes:
        if self._parts:
            await anyio.sleep(1)
        return await super().__anext__()


@in_virtual_time
@pytest.mark.parametrize(("opening", "after"), [("hold", 4.0), ("pass", 1.0)])
async def test_the_first_output_is_not_delayed(opening: Any, after: float) -> None:
    """The call returns at the very chunk that brings output; who wants the opening has it."""
    client, inner = scripted(stream_of(*SPOKEN), stall_timeout=1.5, **FAST)

    async def slowly(_request: Any) -> Any:
        return httpx.Response(200, headers=SSE, stream=Slow([*SPOKEN], []))

    inner.behave = slowly
    started = anyio.current_time()
    with override(opening=opening):
        stream = await client.responses.create(model="m", input="x", stream=True)
    assert anyio.current_time() - started == pytest.approx(after)
    assert len([part async for part in stream]) == len(SPOKEN)


async def test_who_wants_the_opening_at_once_loses_its_protection() -> None:
    """With ``opening="pass"`` an error behind the first event is the caller's."""
    client, inner = scripted(stream_of(ROLE, ERROR), stream_of(*WHOLE), opening="pass", **FAST)
    with pytest.raises(openai.APIError, match="too much to do"):
        await seen_of(client)
    assert len(inner.sent) == 1


@pytest.mark.parametrize(
    "opening",
    [[ROLE] * 400, [chunk({"role": "assistant"}, more="x" * 60_000)] * 12],
)
async def test_what_is_held_is_bounded(opening: list[bytes]) -> None:
    """Beyond so many events or bytes the stream is handed over as it comes."""
    client, inner = scripted(stream_of(*opening, ERROR), stream_of(*WHOLE), **FAST)
    seen = []
    with pytest.raises(openai.APIError, match="too much to do"):
        async for part in await stream_from(client):
            seen.append(part)  # noqa: PERF401 - it raises
    assert len(seen) == len(opening)
    assert len(inner.sent) == 1
    assert HEAD_CAP < 1 << 20


LONE = {**COMPLETION, "choices": [{"index": 0, "finish_reason": "stop", "message": {}}]}


async def test_a_lone_stop_is_asked_once_more_and_then_handed_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is of no use to anybody, but a provider may mean it: a warning says so."""
    heard: list[Event] = []
    client, inner = scripted(stream_of(STOP, DONE), on_event=heard.append, **FAST)
    seen = await seen_of(client)
    assert [part.choices[0].finish_reason for part in seen] == ["stop"]
    assert len(inner.sent) == len(inner.closed) == 2
    assert [item.attempts for item in heard if isinstance(item, HollowAnswer)] == [2]
    warned = [record for record in caplog.records if "without content" in record.getMessage()]
    assert [record.levelno for record in warned] == [logging.WARNING]
    client, inner = scripted((200, LONE, JSON), **FAST)
    answer = await client.chat.completions.create(model="m", messages=MESSAGES)
    assert answer.choices[0].finish_reason == "stop"
    assert len(inner.sent) == 2


async def test_an_answer_without_choices_and_usage_may_be_a_stand_ins() -> None:
    """It is asked for once more; what has not even been counted is no failure that is hidden."""
    heard: list[Event] = []
    bare: Answer = (200, {**COMPLETION, "choices": []}, JSON)
    client, inner = scripted(bare, on_event=heard.append, **FAST)
    answer = await client.chat.completions.create(model="m", messages=MESSAGES)
    assert answer.choices == []
    assert len(inner.sent) == 2
    assert [item.attempts for item in heard if isinstance(item, HollowAnswer)] == [2]


async def test_a_lone_stop_is_better_than_an_error() -> None:
    """What the bare SDK would have given is never lost, whatever comes of asking again."""
    limited: Answer = (429, envelope("", "slow down"), {})
    client, inner = scripted(stream_of(STOP, DONE), limited, max_retries=2, **FAST)
    assert len(await seen_of(client)) == 1
    assert len(inner.sent) == 3
    client, inner = scripted(stream_of(STOP, DONE), max_retries=0, **FAST)
    assert len(await seen_of(client)) == len(inner.sent) == 1
    client, inner = scripted(stream_of(STOP, DONE), stream_of(*WHOLE), **FAST)
    assert len(await seen_of(client)) == 4
    assert all(shown.in_flight == 0 for shown in snapshot(client).partitions)


CHOICE = COMPLETION["choices"][0]  # type: ignore[index]
EMPTY: dict[str, Any] = {
    "choices is empty": {**COMPLETION, "choices": [], "usage": USAGE},
    "choices is null": {**COMPLETION, "choices": None},
    "an error for a finish reason": {
        **COMPLETION, "choices": [{**CHOICE, "finish_reason": "error"}],
    },
    "a provider's base_resp": {
        **COMPLETION, "choices": None, "base_resp": {"status_code": 1002, "status_msg": "busy"},
    },
    "a provider's error_code": {"error_code": 336100, "error_msg": "try again later"},
}  # fmt: skip


@pytest.mark.parametrize("name", EMPTY)
async def test_a_success_that_holds_nothing_is_no_answer(name: str) -> None:
    """It is retried, and says what it is: not that it carries an error, if it does not."""
    good: Answer = (200, COMPLETION, JSON)
    client, inner = scripted((200, EMPTY[name], JSON), good, **FAST)
    assert await ask(client) == "Hi"
    assert len(inner.sent) == 2
    client, _ = scripted((200, EMPTY[name], JSON), max_retries=0, **FAST)
    with pytest.raises(InvalidAnswerError) as caught:
        await ask(client)
    assert ("holds nothing" in str(caught.value)) is ("provider" not in name)


async def test_other_routes_that_hold_nothing() -> None:
    """A response without output, embeddings without data, speech without a byte."""
    done = {**RESPONSE, "status": "completed"}
    client, inner = scripted((200, done, JSON), max_retries=1, **FAST)
    with pytest.raises(InvalidAnswerError, match="holds nothing"):
        await client.responses.create(model="m", input="x")
    for rows in ([], None, [{"object": "embedding", "index": 0, "embedding": []}]):
        inner.answers = [(200, {"object": "list", "model": "m", "data": rows}, JSON)]
        with pytest.raises(InvalidAnswerError, match="holds nothing"):
            await client.embeddings.create(model="m", input="x")
    inner.answers = [(200, b"", {"content-type": "audio/mpeg"})]
    sent = len(inner.sent)
    with pytest.raises(InvalidAnswerError, match="holds nothing"):
        await client.audio.speech.create(model="t", voice="alloy", input="x")
    assert len(inner.sent) == sent + 1  # paid media: nobody knows whether it was made
    inner.answers = [(200, [b"", b"ID3", b".."], {"content-type": "audio/mpeg"})]
    sound = await client.audio.speech.create(model="t", voice="alloy", input="x")
    assert sound.content == b"ID3.."


@pytest.mark.parametrize(
    ("code", "kind", "sends"),
    [("invalid_prompt", "invalid_request", 1), ("server_error", "server_error", 2)],
)
async def test_a_response_that_failed_is_judged_by_its_error(
    code: str, kind: str, sends: int
) -> None:
    """A whole answer with a status of failed names its error, as the event of a stream does."""
    failed = {**RESPONSE, "status": "failed", "error": {"code": code, "message": "x"}}
    client, inner = scripted(*[(200, failed, {})] * 2, **{**FAST, "max_retries": 1})
    with pytest.raises(openai.OpenAIError) as caught:
        await client.responses.create(model="m", input="x")
    told = diagnose(caught.value)
    assert told is not None
    assert told.kind == kind
    assert len(inner.sent) == sends


async def test_an_error_behind_a_byte_order_mark_is_read() -> None:
    """The mark stands before the JSON, and says nothing of it."""
    body = b"\xef\xbb\xbf" + json.dumps(envelope("overloaded_error", "x")).encode()
    client, _ = scripted((200, body, {}), **{**FAST, "max_retries": 0})
    with pytest.raises(openai.OpenAIError) as caught:
        await client.chat.completions.create(model="m", messages=[])
    told = diagnose(caught.value)
    assert told is not None
    assert told.kind == "rate_limited"


async def test_the_bytes_tell_what_came_and_not_the_label() -> None:
    """A stream labelled JSON is a stream; JSON labelled as a stream is what it says."""
    client, inner = scripted((200, WHOLE, JSON), **FAST)
    assert len(await seen_of(client)) == 4
    busy = json.dumps(envelope("overloaded", "busy")).encode()
    for parts, label in (([busy], SSE), ([PING, PING, busy], SSE), ([busy], JSON)):
        inner.answers, sent = [(200, parts, label), stream_of(*WHOLE)], len(inner.sent)
        assert len(await seen_of(client)) == 4
        assert len(inner.sent) == sent + 2
    inner.answers = [(200, COMPLETION, JSON)]
    with pytest.raises(InvalidAnswerError, match="a whole answer came where a stream"):
        await seen_of(client)


async def test_an_error_object_in_mid_stream_is_raised() -> None:
    """The same reader judges first and later events: it never kills the caller's loop."""
    for broken in (
        event({"object": "error", "message": "died", "code": None}),
        chunk(finish="error"),
        event({"code": 500, "message": "died"}),
    ):
        client, inner = scripted(stream_of(ROLE, chunk({"content": "Hel"}), broken, DONE), **FAST)
        with pytest.raises(openai.APIError):
            await seen_of(client)
        assert len(inner.sent) == 1


def test_what_is_output_is_decided_without_a_loop() -> None:
    """On routes without an opening every event is output."""
    assert Opening("POST /images/generations").take({"type": "anything"}) is Part.OUTPUT
    assert Opening(CHAT).take({"usage": {}}) is Part.OPENING
    assert Opening(CHAT).take([]) is Part.OUTPUT


openings = st.lists(st.sampled_from([ROLE, USED, PING, chunk()]), max_size=4)
outputs = st.lists(st.integers(1, 9).map(lambda n: chunk({"content": "x" * n})), max_size=3)
endings = st.sampled_from([[STOP, DONE], [DONE], [], [ERROR], [STOP], [chunk(finish="length")]])


@settings(max_examples=80)
@given(openings, outputs, endings, st.integers(0, 3_000), st.integers(1, 300))
def test_one_attempt_or_an_error(
    opening: list[bytes], output: list[bytes], end: list[bytes], cut: int, size: int
) -> None:
    """The caller sees what the bare client sees of one attempt, or an error; nothing is mixed."""
    body = b"".join([*opening, *output, *end])[:cut]
    parts = [body[at : at + size] for at in range(0, len(body), size)]

    async def main() -> None:
        client, inner = scripted(stream_of(*parts), stream_of(*WHOLE), **FAST)
        try:
            seen = await seen_of(client)
        except openai.APIError:
            return
        of_one = parts if len(inner.sent) == 1 else WHOLE
        assert seen == await seen_of(bare_client(Scripted([stream_of(*of_one)])))
        assert len(inner.sent) == 2 or b'"finish_reason": "' in body

    anyio.run(main)


@on_asyncio
@pytest.mark.parametrize(
    ("name", "sends"),
    [("stream_usage_only", 2), ("stream_lone_stop", 2), ("responses_error_after_opening", 2)],
)
async def test_over_a_real_socket(name: str, sends: int) -> None:
    """The embedded gateway does what real ones do, and its next answer is the caller's."""
    async with Gateway() as gateway:
        base = openai.AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.api_key)
        client = wrap(base, **FAST)
        gateway.script(name)
        assert len(await seen_of(client, RESPONSES if "responses" in name else CHAT)) > 1
        assert len(gateway.requests) == sends
        gateway.always("model_not_found", model="m")  # its channel goes,
        with pytest.raises(openai.APIStatusError):
            await ask(client)
        gateway.recover()  # and comes back
        assert await ask(client)
        await client.close()


async def test_an_unknown_route_may_answer_in_bytes() -> None:
    """Who asks for the response itself gets what came: not everything is JSON."""
    for headers in ({}, {"content-type": "application/octet-stream"}):
        client, inner = scripted((200, b"\x00\x01\xff" * 9, headers), max_retries=1, **FAST)
        echo = await client.post("/echo", body={}, cast_to=httpx.Response)
        assert len(echo.content) == 27
        assert len(inner.sent) == 1


def call(arguments: str, index: int = 0, **more: Any) -> bytes:
    """A part of a tool call."""
    function = {"name": "f", "arguments": arguments}
    return chunk({"tool_calls": [{"index": index, "function": function, **more}]})


@pytest.mark.parametrize(
    ("parts", "finish", "is_whole"),
    [
        (['{"city": ', '"Par'], "stop", False),
        (['{"city": ', '"Par'], "tool_calls", True),
        (['{"city": "Paris"', "}"], "stop", True),
        (['{"city": tr'], "stop", False),
        (['{"city": 7'], "stop", False),
        (["{"], "stop", False),
        ([""], "stop", True),
        (["Paris, please"], "stop", True),
        (['{"city": "Par"}', '{"x"'], "stop", True),
    ],
)
async def test_arguments_that_break_off_at_a_stop(
    parts: list[str], finish: str, is_whole: bool
) -> None:
    """A gateway's own ``stop`` under a cut tool call is told; a model's own nonsense is not."""
    calls = [call(part) for part in parts]
    client, inner = scripted(stream_of(ROLE, *calls, chunk(finish=finish), DONE), **FAST)
    if is_whole:
        assert len(await seen_of(client)) == len(parts) + 2
    else:
        with pytest.raises(IncompleteStreamError, match="arguments of a tool call break off"):
            await seen_of(client)
    assert len(inner.sent) == 1
