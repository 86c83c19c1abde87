"""Streams: retried before the first event, honest after it, and never a leaked slot."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import openai
import pytest

from comet_resilience import (
    Budget,
    Event,
    FailureKind,
    IncompleteStreamError,
    InvalidAnswerError,
    StreamBroken,
    StreamFinished,
    WrongEndpointError,
    diagnose,
    snapshot,
    wrap,
)
from comet_resilience.testing import Gateway

from ..conftest import (
    DONE,
    FAST,
    JSON,
    MESSAGES,
    PING,
    SSE,
    WHOLE,
    Answer,
    ClosingStream,
    at_rest,
    chunk,
    envelope,
    event,
    httpx,
    in_virtual_time,
    scripted,
    sdk_leaves_generators,
    stream_from,
    stream_of,
)

pytestmark = [
    pytest.mark.anyio,
    sdk_leaves_generators,
]


TEXT = "Hello"
TAGGED = "Write the <title> first."


async def read(client: Any, **keywords: Any) -> str:
    """The text of a streamed completion."""
    text = ""
    async with await stream_from(client, **keywords) as stream:
        async for part in stream:
            text += (part.choices[0].delta.content or "") if part.choices else ""
    return text


async def test_a_stream_passes_untouched() -> None:
    """Every event arrives, in order, and the slot is held until the end and no longer."""
    client, inner = scripted(stream_of(PING, *WHOLE))
    stream: Any = await stream_from(client)
    assert snapshot(client).partitions[0].in_flight == 1
    text = ""
    async for part in stream:
        text += part.choices[0].delta.content or ""
    await stream.close()
    assert text == TEXT
    assert at_rest(client)
    assert len(inner.closed) == len(inner.opened) == 1


async def test_the_bytes_are_the_servers_own() -> None:
    """Chunk boundaries and bytes are those that came, keep-alives included."""
    parts = [PING, chunk("Hel"), chunk("lo")[:7], chunk("lo")[7:], chunk(finish="stop") + DONE]
    client, _ = scripted(stream_of(*parts))
    async with client.chat.completions.with_streaming_response.create(
        model="m", messages=MESSAGES, stream=True
    ) as response:
        seen = [part async for part in response.http_response.aiter_raw()]
    assert seen == parts


BEFORE_THE_FIRST_EVENT: list[Answer] = [
    stream_of(event({"error": {"message": "overloaded", "type": "x", "code": "overloaded"}})),
    stream_of(PING, event({"error": {"message": "slow", "code": "rate_limit_exceeded"}})),
    stream_of(PING, json.dumps(envelope("rate_limit_exceeded", "busy")).encode()),
    stream_of(event({"type": "error", "message": "try again", "code": "server_error"}, "error")),
    stream_of(event({"code": 503, "message": "overloaded"})),
    stream_of(event({"success": False, "message": "try again later"})),
    stream_of(event([{"error": {"code": 503, "message": "overloaded"}}])),
    stream_of(),
    stream_of(PING, PING),
    stream_of(DONE),
    stream_of(PING, httpx.ReadError("cut")),
    stream_of(httpx.ReadTimeout("slow")),
    stream_of(chunk("Hel")[:9], httpx.RemoteProtocolError("cut")),
    (200, json.dumps(envelope("rate_limit_exceeded", "busy")).encode(), {}),
    (503, json.dumps(envelope("", "busy")).encode(), SSE),
]


@pytest.mark.parametrize("first", BEFORE_THE_FIRST_EVENT)
async def test_until_the_first_event_it_is_an_attempt(first: Answer) -> None:
    """An error, an end or a cut before anything real came is retried like any failure."""
    client, inner = scripted(first, stream_of(*WHOLE), **FAST)
    assert await read(client) == TEXT
    assert len(inner.sent) == 2
    assert len(inner.closed) == len(inner.opened)
    assert at_rest(client)


async def test_an_error_event_that_cannot_get_better_is_raised() -> None:
    """A misspelt model in the first event is one send and a clear error."""
    client, inner = scripted(stream_of(event(envelope("model_not_found", "no such model"))), **FAST)
    with pytest.raises(InvalidAnswerError, match="no such model") as caught:
        await read(client)
    assert len(inner.sent) == 1
    assert caught.value.code == "model_not_found"
    assert diagnose(caught.value).kind is FailureKind.MODEL_UNAVAILABLE


@pytest.mark.parametrize("headers", [{"content-type": "text/html"}, SSE])
async def test_a_web_page_is_no_empty_stream(headers: dict[str, str]) -> None:
    """HTML where a stream was due is named, whatever it is labelled."""
    page = b"<!doctype html><html><title>Comet</title></html>"
    client, inner = scripted((200, page, headers), **FAST)
    with pytest.raises(WrongEndpointError):
        await read(client)
    assert len(inner.sent) == 1


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (httpx.ReadError("cut"), openai.APIConnectionError),
        (httpx.RemoteProtocolError("cut"), openai.APIConnectionError),
        (httpx.ReadTimeout("slow"), openai.APITimeoutError),
    ],
)
async def test_after_the_first_event_nothing_is_sent_again(
    fault: Exception, error: type[Exception]
) -> None:
    """A cut in the middle is the SDK's own class, and says what a retry would cost."""
    headers = {"x-cometapi-request-id": "20261102031415926535897Qx7LmZ2p"}
    client, inner = scripted(stream_of(chunk("Hel"), fault, **headers), **FAST)
    with pytest.raises(error) as caught:
        await read(client)
    assert len(inner.sent) == 1
    found = diagnose(caught.value)
    assert "1 event" in found.reason
    assert "billed again" in found.reason
    assert found.ids.gateway == headers["x-cometapi-request-id"]
    assert found.may_be_billed
    assert isinstance(caught.value.__cause__, type(fault))
    assert at_rest(client)


async def test_an_error_event_in_the_middle_is_the_sdks_own() -> None:
    """The SDK raises its APIError; the diagnosis is found from it, the limit learns of load."""
    error = event({"error": {"message": "too many", "code": "rate_limit_exceeded"}})
    client, inner = scripted(stream_of(chunk("Hel"), error), **FAST)
    with pytest.raises(openai.APIError) as caught:
        await read(client)
    assert len(inner.sent) == 1
    assert diagnose(caught.value).kind is FailureKind.RATE_LIMITED
    assert "1 event" in diagnose(caught.value).reason or "2 events" in diagnose(caught.value).reason
    (shown,) = snapshot(client).partitions
    assert (shown.in_flight, shown.refused) == (0, 1)


SILENT = event({"message": "died", "code": "y"}, "error")


@pytest.mark.parametrize("size", [1, 7, len(SILENT), 10_000])
async def test_an_error_that_the_sdk_takes_for_content_is_raised(size: int) -> None:
    """An event named error without an ``error`` member never becomes an empty chunk."""
    for data in (SILENT, b"event: error\ndata: died\n\n"):
        whole = chunk("Hel") + data + DONE
        parts = [whole[at : at + size] for at in range(0, len(whole), size)]
        client, inner = scripted(stream_of(*parts), **FAST)
        with pytest.raises(openai.APIError, match="died") as caught:
            await read(client)
        assert not isinstance(caught.value, IncompleteStreamError)
        told = diagnose(caught.value)
        assert told.message == "died"
        assert told.summary in caught.value.__notes__
        assert "the answer had begun after" in told.reason
        assert len(inner.sent) == 1
        assert at_rest(client)


async def test_what_came_before_a_silent_error_is_handed_over() -> None:
    """The part of a chunk before the error reaches the caller, the error follows."""
    client, _ = scripted(stream_of(chunk("Hel") + chunk("lo") + SILENT + DONE), **FAST)
    stream: Any = await stream_from(client)
    text = ""
    with pytest.raises(openai.APIError, match="died"):
        async for part in stream:
            text += part.choices[0].delta.content
    assert text == TEXT
    packed = gzip.compress(chunk("Hel") + SILENT + DONE)
    client, _ = scripted(stream_of(packed, **{"content-encoding": "gzip"}), **FAST)
    with pytest.raises(openai.APIError, match="died"):
        await read(client)
    assert at_rest(client)


@pytest.mark.parametrize(
    "parts",
    [
        [chunk("Hel")],
        [chunk("Hel"), DONE],
        [chunk("Hel") + DONE],
        [chunk("Hel"), b"data: [DO", b"NE]\n\n"],
    ],
)
async def test_half_an_answer_is_never_passed_off_as_whole(parts: list[bytes]) -> None:
    """A stream that ends without a finish reason raises, also with an end mark."""
    heard: list[Event] = []
    client, _ = scripted(stream_of(*parts), on_event=heard.append, **FAST)
    text = ""
    stream: Any = await stream_from(client)
    with pytest.raises(IncompleteStreamError) as caught:
        async for part in stream:
            text += part.choices[0].delta.content or ""
    assert text == "Hel"
    assert isinstance(caught.value, openai.APIConnectionError)
    assert sum(isinstance(item, StreamBroken) for item in heard) == 1
    assert at_rest(client)


async def test_it_may_be_asked_only_to_warn(caplog: pytest.LogCaptureFixture) -> None:
    """With ``incomplete_stream="warn"`` the stream ends as it would have, with a warning."""
    client, _ = scripted(stream_of(chunk("Hel"), DONE), incomplete_stream="warn", **FAST)
    assert await read(client) == "Hel"
    assert any("stream broken" in record.getMessage() for record in caplog.records)
    assert at_rest(client)


async def test_every_choice_needs_its_finish_reason() -> None:
    """With two choices begun one finish reason is not enough; not every provider gives two."""
    first, second = chunk(finish="stop"), chunk(finish="stop", index=1)
    begun = [chunk("a"), chunk("b", index=1)]
    client, _ = scripted(
        stream_of(*begun, first, DONE),
        stream_of(*begun, first, second, DONE),
        stream_of(chunk("a"), first, DONE),
        stream_of(chunk("a"), DONE),
    )
    with pytest.raises(IncompleteStreamError):
        await read(client, n=2)
    assert await read(client, n=2) == "ab"
    assert await read(client, n=2) == "a"
    with pytest.raises(IncompleteStreamError):
        await read(client, n=2)


CUT_OFF = httpx.ReadError("the server hung up")


@pytest.mark.parametrize("encoding", ["", "gzip"])
async def test_after_the_end_mark_a_connection_may_break(encoding: str) -> None:
    """The answer is whole: how the server closes takes nothing away from it."""
    parts, body = (
        ([*WHOLE, CUT_OFF], {})
        if not encoding
        else ([gzip.compress(b"".join(WHOLE)), CUT_OFF], {"content-encoding": encoding})
    )
    client, _ = scripted(stream_of(*parts, **body))
    text, response = (
        "",
        await client.chat.completions.with_raw_response.create(
            model="m", messages=MESSAGES, stream=True
        ),
    )
    async for data in response.http_response.aiter_bytes():
        text += data.decode()
    assert text.count("data: ") == len(WHOLE)
    assert await read(scripted(stream_of(*parts, **body))[0]) == TEXT
    assert at_rest(client)


@pytest.mark.parametrize("parts", [WHOLE[:2], WHOLE[:3], [*WHOLE[:2], DONE]])
async def test_before_its_end_a_break_is_one(parts: list[bytes]) -> None:
    """Without the end mark, or with one that is none, a broken connection is told."""
    client, _ = scripted(stream_of(*parts, CUT_OFF))
    with pytest.raises(openai.APIError):
        await read(client)


@in_virtual_time
async def test_after_the_end_mark_silence_is_no_stall() -> None:
    """A server that keeps the connection open has nothing more to say."""

    class Open(ClosingStream):
        async def __anext__(self) -> bytes:
            if not self._parts:
                await anyio.sleep(3_600)
            return await super().__anext__()

    client, inner = scripted(stream_of(*WHOLE), stall_timeout=5.0, **FAST)

    async def answered(_request: Any) -> Any:
        return httpx.Response(200, headers=SSE, stream=Open(list(WHOLE), []))

    inner.behave = answered
    response = await client.chat.completions.with_raw_response.create(
        model="m", messages=MESSAGES, stream=True
    )
    body = b"".join([part async for part in response.http_response.aiter_raw()])
    assert body == b"".join(WHOLE)


@pytest.mark.parametrize("missing", [b"\n", b"\n\n"])
async def test_the_blank_line_behind_the_last_event_may_be_missing(missing: bytes) -> None:
    """The SDK drops such an event, and its words with it; here it counts."""
    last = chunk("lo", finish="stop").removesuffix(missing)
    client, _ = scripted(stream_of(chunk("Hel"), last))
    assert await read(client) == TEXT


async def test_an_error_without_its_blank_line_is_still_an_error() -> None:
    """Nor is half an event made whole."""
    error = event({"error": {"message": "it broke", "code": "server_error"}}).rstrip()
    for last in (error, chunk("lo", finish="stop")[:-9]):
        client, _ = scripted(stream_of(chunk("Hel"), last))
        with pytest.raises(openai.APIError):
            await read(client)


async def test_a_stream_over_several_lines_and_line_ends() -> None:
    """CR, CRLF, a byte order mark, comments and data over several lines are all events."""
    odd = (
        b"\xef\xbb\xbf: hi\r\n\r\n"
        + chunk("Hel").replace(b"\n", b"\r\n")
        + chunk("lo").replace(b'"created": 1, ', b'"created": 1,\ndata: ')
        + chunk(finish="stop").replace(b"\n", b"\r")
        + DONE
    )
    client, _ = scripted(stream_of(odd))
    assert await read(client) == TEXT


@pytest.mark.parametrize("compressed", [False, True])
async def test_chunked_at_every_size(compressed: bool) -> None:
    """However the body is sliced, the whole text arrives once."""
    body = b"".join([PING, *WHOLE])
    headers = {"content-encoding": "gzip"} if compressed else {}
    body = gzip.compress(body) if compressed else body
    for size in (1, 2, 3, 5, 7, 11, 64, len(body)):
        parts = [body[at : at + size] for at in range(0, len(body), size)]
        client, _ = scripted(stream_of(*parts, **headers), **FAST)
        assert await read(client) == TEXT, size
        assert at_rest(client)


async def test_cut_at_every_byte(anyio_backend_name: str) -> None:
    """A cut at any offset gives the whole text or an error, never less without a word."""
    step = 1 if anyio_backend_name == "asyncio" else 5
    body = b"".join([PING, *WHOLE])
    complete = body.index(b'"finish_reason": "stop"') + len(b'"finish_reason": "stop"')
    client, inner = scripted(stream_of(b""), max_retries=0, **FAST)
    for offset in range(0, len(body), step):
        for end in ([httpx.ReadError("cut")], []):
            inner.answers = [stream_of(body[:offset], *end)]
            text = ""
            try:
                text = await read(client)
            except openai.APIError:
                continue
            assert text == TEXT
            assert offset >= complete
    assert at_rest(client)


@in_virtual_time
async def test_stalls_are_measured_on_events() -> None:
    """Keep-alives do not count: no event for stall_timeout seconds ends the stream."""

    class Stalling(httpx.AsyncByteStream):  # type: ignore[misc]
        def __init__(self, *parts: bytes) -> None:
            self._parts = list(parts)

        def __aiter__(self) -> Any:
            return self

        async def __anext__(self) -> bytes:
            if self._parts:
                return self._parts.pop(0)
            await anyio.sleep(1)
            return PING

        async def aclose(self) -> None:
            """Nothing to close."""

    client, inner = scripted(stream_of(*WHOLE), stall_timeout=5.0, **FAST)

    async def stall(_request: Any) -> Any:
        inner.behave = None
        return httpx.Response(200, headers=SSE, stream=Stalling())

    inner.behave = stall
    started = anyio.current_time()
    assert await read(client) == TEXT  # before the first event: retried
    assert anyio.current_time() - started == pytest.approx(5.0)

    async def stall_later(_request: Any) -> Any:
        return httpx.Response(200, headers=SSE, stream=Stalling(chunk("Hel")))

    inner.behave = stall_later
    started = anyio.current_time()
    with pytest.raises(openai.APITimeoutError) as caught:
        await read(client)
    assert anyio.current_time() - started == pytest.approx(5.0)
    assert "1 event" in diagnose(caught.value).reason
    assert at_rest(client)


@in_virtual_time
async def test_a_slow_reader_is_no_stall() -> None:
    """Only the time in which the reader waits for the server counts."""
    client, _ = scripted(stream_of(*WHOLE), stall_timeout=2.0, **FAST)
    text = ""
    async with await stream_from(client) as stream:
        async for event in stream:
            text += event.choices[0].delta.content or ""
            await anyio.sleep(3)
    assert text == TEXT
    assert at_rest(client)


async def test_however_a_caller_stops_the_slot_is_free() -> None:
    """Break, close twice, an exception, a cancelled task: one release each time."""
    client, inner = scripted(stream_of(*WHOLE), **FAST)

    async def open_stream() -> Any:
        inner.answers = [stream_of(*WHOLE)]
        return await stream_from(client)

    stream = await open_stream()
    async for _ in stream:
        break
    await stream.close()
    await stream.close()
    assert at_rest(client)
    with pytest.raises(KeyError):
        async with await open_stream() as stream:
            raise KeyError("in the consumer")
    assert at_rest(client)
    async with client.chat.completions.with_streaming_response.create(
        model="m", messages=MESSAGES
    ) as response:
        await response.read()
    assert at_rest(client)
    with anyio.CancelScope() as scope:
        async with await open_stream() as stream:
            async for _ in stream:
                scope.cancel()
                await anyio.lowlevel.checkpoint()
    assert at_rest(client)
    assert len(inner.closed) >= len(inner.opened)


async def test_responses_streams() -> None:
    """Typed events: complete with response.completed, retried when the first is a failure."""
    failed = {
        "type": "response.failed",
        "response": {"error": {"code": "server_error", "message": "x"}},
    }
    created = {"type": "response.created", "sequence_number": 0, "response": {"error": None}}
    delta = {"type": "response.output_text.delta", "sequence_number": 1, "delta": "Hi"}
    completed = {"type": "response.completed", "sequence_number": 2, "response": {"error": None}}
    begun = event(created, "response.created") + event(delta, "response.output_text.delta")
    whole = stream_of(begun, event(completed, "response.completed"))
    client, inner = scripted(stream_of(event(failed, "response.failed")), whole, **FAST)
    kinds = [
        part.type async for part in await client.responses.create(model="m", input="x", stream=True)
    ]
    assert kinds == ["response.created", "response.output_text.delta", "response.completed"]
    assert len(inner.sent) == 2
    inner.answers = [stream_of(begun)]
    with pytest.raises(IncompleteStreamError):
        async for _ in await client.responses.create(model="m", input="x", stream=True):
            pass
    cancelled = event({**completed, "type": "response.cancelled"}, "response.cancelled")
    for last in (event(completed, "response.completed"), cancelled, cancelled.rstrip()):
        inner.answers = [stream_of(begun, last, CUT_OFF)]
        if not last.endswith(b"\n\n"):
            inner.answers = [stream_of(begun, last)]
        stream = await client.responses.create(model="m", input="x", stream=True)
        assert len([part async for part in stream]) == 3


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_stream_that_is_not_encoded_as_it_says(encoding: str) -> None:
    """Nonsense instead of a compressed stream is no answer, before and after events."""
    header = {"content-encoding": encoding}
    client, inner = scripted(stream_of(b"\xfenonsense", **header), stream_of(*WHOLE), **FAST)
    assert await read(client) == TEXT
    assert len(inner.sent) == 2
    packer = zlib.compressobj(wbits=31 if encoding == "gzip" else 15)
    begun = packer.compress(chunk("Hel")) + packer.flush(zlib.Z_FULL_FLUSH)
    inner.answers = [stream_of(begun, b"\xff" * 40, **header)]
    with pytest.raises(IncompleteStreamError) as caught:
        await read(client)
    assert diagnose(caught.value).kind is FailureKind.INVALID_ANSWER
    assert len(inner.sent) == 3
    assert at_rest(client)


async def test_deflate_without_its_header() -> None:
    """Some servers leave the zlib header out, and the HTTP libraries read it all the same."""
    packer = zlib.compressobj(wbits=-15)
    packed = packer.compress(b"".join(WHOLE)) + packer.flush()
    client, inner = scripted(stream_of(packed, **{"content-encoding": "deflate"}), **FAST)
    assert await read(client) == TEXT
    assert len(inner.sent) == 1


async def test_an_error_event_of_a_responses_stream_is_handed_on_and_raised() -> None:
    """The SDK's event for it reaches the caller, and half an answer does not look whole."""
    created = {"type": "response.created", "sequence_number": 0, "response": {"error": None}}
    delta = {"type": "response.output_text.delta", "sequence_number": 1, "delta": "Hi"}
    begun = event(created, "response.created") + event(delta)
    flat = {"type": "error", "code": "server_error", "message": "died", "sequence_number": 1}
    client, inner = scripted(stream_of(begun, event(flat, "error")), **FAST)
    kinds: list[str] = []
    with pytest.raises(openai.APIError, match="died") as caught:
        async for part in await client.responses.create(model="m", input="x", stream=True):
            kinds.append(part.type)  # noqa: PERF401 - it raises
    assert kinds == ["response.created", "response.output_text.delta", "error"]
    assert diagnose(caught.value).code == "server_error"
    assert len(inner.sent) == 1
    assert at_rest(client)
    failed = {"type": "response.failed", "response": {"error": {"code": "c", "message": "x"}}}
    inner.answers = [stream_of(begun, event(failed))]
    stream = await client.responses.create(model="m", input="x", stream=True)
    assert [part.type async for part in stream][2:] == ["response.failed"]


RETRIED = ["stream_error", "stream_empty", "stream_pings_then_error"]
RAISED = ["stream_no_finish", "stream_cut", "stream_malformed", "stream_error_late"]


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
@pytest.mark.parametrize("name", [*RETRIED, *RAISED])
async def test_over_a_real_socket(name: str) -> None:
    """What the gateway can do to a stream is retried before the first event and raised after it."""
    async with Gateway() as gateway:
        client = wrap(
            openai.AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.api_key), **FAST
        )
        gateway.script(name)
        try:
            text = await read(client)
        except openai.APIError as error:
            assert name in RAISED
            assert "billed again" in diagnose(error).reason
            assert len(gateway.requests) == 1
        else:
            assert name in RETRIED
            assert text
            assert len(gateway.requests) == 2
        assert at_rest(client)
        await client.close()


async def test_what_is_no_event_stream_passes() -> None:
    """Sound under stream=True is handed on as it is; its end gives the slot back."""
    client, _ = scripted((200, [b"ID3", b"..."], {"content-type": "audio/mpeg"}))
    async with client.audio.speech.with_streaming_response.create(
        model="m", voice="alloy", input="x"
    ) as response:
        assert b"".join([part async for part in response.iter_bytes()]) == b"ID3..."
    assert at_rest(client)


@pytest.mark.parametrize(
    "answer",
    [
        (200, b"", {}),
        (201, b" ", {"content-type": "text/plain"}),
        (202, b"", {}),
        (204, b"", {}),
        (200, b'"ok"', JSON),
        (200, b"3", JSON),
        (200, b"null", JSON),
        (200, TAGGED.encode(), {"content-type": "text/markdown"}),
    ],
)
async def test_an_unknown_route_may_have_little_to_say(answer: Answer) -> None:
    """Nothing, or a single value, is what the SDK makes of it; the request may have been billed."""
    client, inner = scripted(answer, **FAST)
    said = await client.post("/suno/submit/music", body={}, cast_to=object)
    assert said in ("", " ", None, "ok", 3, TAGGED)
    assert len(inner.sent) == 1
    assert at_rest(client)


@pytest.mark.parametrize("body", [b"", b"queued", b'{"cut'])
async def test_what_an_unknown_route_may_have_done_is_not_done_twice(body: bytes) -> None:
    """A success that calls itself JSON and is none is told, not asked for again; reading is."""
    client, inner = scripted((200, body, JSON), max_retries=1, **FAST)
    with pytest.raises(InvalidAnswerError) as caught:
        await client.post("/suno/submit/music", body={}, cast_to=object)
    assert len(inner.sent) == 1
    assert diagnose(caught.value).may_be_billed
    with pytest.raises(InvalidAnswerError):
        await client.get("/suno/fetch", cast_to=object)
    assert len(inner.sent) == 3


_USAGE = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}


@pytest.mark.parametrize(
    ("parts", "completion", "is_estimate"),
    [
        ((chunk("12345678"), chunk(finish="stop"), event(_USAGE), DONE), 4, False),
        ((chunk("12345678"), chunk("12345678"), chunk(finish="stop"), DONE), 4, True),
    ],
)
@pytest.mark.parametrize("packs", [bytes, gzip.compress])
async def test_a_stream_is_charged_to_its_budget_when_it_ends(
    parts: tuple[bytes, ...],
    completion: int,
    is_estimate: bool,
    packs: Callable[[bytes], bytes],
) -> None:
    """By the usage that it names, or by what was seen, and the observers hear of it."""
    heard: list[Event] = []
    encoding = {} if packs is bytes else {"content-encoding": "gzip"}
    whole = list(parts) if packs is bytes else [packs(b"".join(parts))]
    client, _ = scripted(
        stream_of(*whole, **encoding), budget=Budget(tokens=100_000), on_event=heard.append
    )
    await read(client)
    [finished] = [one for one in heard if isinstance(one, StreamFinished)]
    assert finished.usage is not None
    assert finished.usage.is_estimate is is_estimate
    assert finished.usage.completion_tokens == completion
    assert snapshot(client).budgets[0].tokens == finished.usage.total_tokens
    assert at_rest(client)
