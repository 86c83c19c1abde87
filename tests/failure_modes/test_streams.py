"""Modes 4, 5 and 17: streams that are dropped, left early, or die in the middle.

And streams that are sliced, packed or broken on purpose: the caller sees what came.
"""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
import tracemalloc
import zlib
from collections.abc import Awaitable, Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import anyio
import anyio.lowlevel
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comet_resilience import (
    Event,
    FailureKind,
    IncompleteStreamError,
    StreamAbandoned,
    StreamBroken,
    diagnose,
    snapshot,
    wrap,
)
from comet_resilience.testing import Gateway
from tests.conftest import (
    FAST,
    KEY,
    MESSAGES,
    SSE,
    STREAM,
    WHOLE,
    Scripted,
    ask,
    bare_client,
    chunk,
    envelope,
    httpx,
    on_asyncio,
    scripted,
    sdk_leaves_generators,
    sliced,
    stream_from,
)

from .counting import at_rest

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.timeout(120),
    sdk_leaves_generators,
]


async def opened(client: Any) -> Any:
    """A stream whose first event has come."""
    stream = await stream_from(client)
    await anext(stream)
    return stream


async def test_fm04_dropped_stream_gives_its_slot_back_with_one_warning() -> None:
    """``del`` and a collection: free at the loop's next turn, the connection closed, one event."""
    heard: list[Event] = []
    client, inner = scripted(STREAM, on_event=heard.append)
    raw = await client.chat.completions.with_raw_response.create(
        model="m", messages=MESSAGES, stream=True
    )
    assert not at_rest(client)
    del raw
    gc.collect()
    for _ in range(3):
        await anyio.lowlevel.checkpoint()
    assert at_rest(client)
    assert len(inner.closed) == 1
    assert [type(event) for event in heard].count(StreamAbandoned) == 1
    assert KEY not in str(heard)


async def test_fm04_dropped_stream_lets_the_next_in_line_go() -> None:
    """The slot of a dropped stream goes to who waits, without any other request in between."""
    client, _ = scripted(STREAM, max_concurrency=1)
    raw = await client.chat.completions.with_raw_response.create(
        model="m", messages=MESSAGES, stream=True
    )
    async with anyio.create_task_group() as tasks:

        async def next_one() -> None:
            async with await opened(client):
                pass

        tasks.start_soon(next_one)
        await anyio.wait_all_tasks_blocked()
        del raw
        gc.collect()
    assert at_rest(client)


@on_asyncio
async def test_fm04_ten_dropped_streams_over_two_connections() -> None:
    """Real sockets, a pool of two: after ten dropped streams ten calls succeed."""
    async with Gateway(chunk_delay=0.001) as gateway:
        pool = httpx.AsyncClient(limits=httpx.Limits(max_connections=2), timeout=60)
        bare = openai.AsyncOpenAI(
            base_url=gateway.base_url, api_key=gateway.api_key, http_client=pool
        )
        client = wrap(bare, max_concurrency=2)
        for _ in range(10):
            stream = await opened(client)
            del stream
            gc.collect()
            await asyncio.sleep(0.01)
        for _ in range(10):
            await client.chat.completions.create(model="m", messages=MESSAGES)
        assert at_rest(client)
        await client.close()


async def _break(stream: Any) -> None:
    async for _ in stream:
        break
    await stream.close()


async def _close_twice(stream: Any) -> None:
    await stream.close()
    await stream.close()


async def _fail_inside(stream: Any) -> None:
    with pytest.raises(KeyError):
        async with stream:
            async for _ in stream:
                raise KeyError("in the consumer")


async def _leave_the_context(stream: Any) -> None:
    async with stream:
        pass


async def _read_all_and_close(stream: Any) -> None:
    async for _ in stream:
        pass
    await stream.close()


async def _read_all_the_bytes(stream: Any) -> None:
    async for _ in stream.response.aiter_bytes():
        pass
    await stream.response.aclose()


async def _cancel(stream: Any) -> None:
    with anyio.CancelScope() as scope:
        async with stream:
            async for _ in stream:
                scope.cancel()
                await anyio.lowlevel.checkpoint()


LEAVING: list[Callable[[Any], Awaitable[None]]] = [
    _break, _close_twice, _fail_inside, _leave_the_context, _read_all_and_close, _cancel,
]  # fmt: skip


@pytest.mark.parametrize("leave", LEAVING)
async def test_fm05_however_a_stream_is_left_its_slot_is_released_once(
    leave: Callable[[Any], Awaitable[None]],
) -> None:
    """Whatever the consumer does, one release: the slots are right in the middle and at the end."""
    client, inner = scripted(STREAM, STREAM, STREAM)
    kept = await opened(client)
    await leave(await opened(client))
    (shown,) = snapshot(client).partitions
    assert (shown.in_flight, shown.ok + shown.other) == (1, 1)
    await kept.close()
    assert at_rest(client)
    assert len(inner.closed) >= 2


async def test_fm05_bytes_read_whole_and_closed_twice() -> None:
    """``read()`` of a streamed response, then ``aclose()`` twice: one release."""
    client, _ = scripted((200, [b"ID3", b"..."], {"content-type": "audio/mpeg"}))
    async with client.audio.speech.with_streaming_response.create(
        model="t", voice="alloy", input="x"
    ) as response:
        assert await response.read() == b"ID3..."
        await response.http_response.aclose()
        await response.http_response.aclose()
    (shown,) = snapshot(client).partitions
    assert (shown.in_flight, shown.ok, shown.other) == (0, 1, 0)


@pytest.mark.parametrize("cut", [httpx.ReadError("cut"), None], ids=["reset", "clean_end"])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_fm17_cut_at_every_byte_offset(cut: Exception | None, backend: str) -> None:
    """After the first byte: never sent again; the whole text or an error; the slot free."""

    async def sweep() -> None:
        body = b"".join(WHOLE)
        first = len(WHOLE[0])
        client, inner = scripted(STREAM, max_retries=3, backoff_initial=0.0, backoff_max=0.0)
        for offset in range(first, len(body), 1 if cut and backend == "asyncio" else 5):
            sent = len(inner.sent)
            inner.answers = [(200, [body[:offset], *([cut] if cut else [])], SSE)]
            assert await _text_or_error(client) in ("Hello", "an error")
            assert len(inner.sent) == sent + 1
            assert at_rest(client)

    anyio.run(sweep, backend=backend)


async def _text_or_error(client: Any) -> str:
    text = ""
    try:
        async with await stream_from(client) as stream:
            async for part in stream:
                text += part.choices[0].delta.content or ""
    except openai.APIError as error:
        assert "billed again" in diagnose(error).reason
        return "an error"
    return text


async def test_fm17_error_event_under_200_counts_as_a_failure() -> None:
    """An error in the middle of a stream is raised, reported once, and no success for the limit."""
    heard: list[Event] = []
    late = b"data: " + json.dumps(envelope("rate_limit_exceeded", "busy")).encode() + b"\n\n"
    client, inner = scripted((200, [WHOLE[0], late], SSE), on_event=heard.append)
    with pytest.raises(openai.APIError, match="busy"):
        async with await opened(client) as stream:
            async for _ in stream:
                pass
    (shown,) = snapshot(client).partitions
    assert (shown.in_flight, shown.ok, shown.refused) == (0, 0, 1)
    assert sum(isinstance(event, StreamBroken) for event in heard) == 1
    assert len(inner.sent) == 1


MB = 1_048_576


class Flushing:
    """A packer that is fed part by part, and flushed after each."""

    def __init__(self, name: str) -> None:
        if name == "br":
            codec = import_module("brotli").Compressor(quality=1)
            self._pack, self._flush, self._finish = codec.process, codec.flush, codec.finish
        elif name == "zstd":
            module = import_module("zstandard")
            codec = module.ZstdCompressor().compressobj()
            self._pack, self._finish = codec.compress, codec.flush
            self._flush = lambda: codec.flush(module.COMPRESSOBJ_FLUSH_BLOCK)
        else:
            codec = zlib.compressobj(wbits={"gzip": 31, "deflate": 15, "raw": -15}[name])
            self._pack, self._finish = codec.compress, codec.flush
            self._flush = lambda: codec.flush(zlib.Z_SYNC_FLUSH)

    def packed(self, parts: list[bytes]) -> bytes:
        """All parts, a flush between any two."""
        packed: bytes = b"".join(self._pack(part) + self._flush() for part in parts)
        return packed + bytes(self._finish())


CODECS = ["", "gzip", "deflate", "raw"]
CODECS += ["br"] if find_spec("brotli") else []
# Which package of zstd the SDK's HTTP library takes depends on its version.


# Which package of zstd the SDK's HTTP library takes depends on its version.
ZSTD = "zstd" in bare_client(Scripted([]))._client.headers["accept-encoding"]
CODECS += ["zstd"] if ZSTD and find_spec("zstandard") else []


async def events(client: Any) -> tuple[list[str], Exception | None]:
    """Return what a caller sees of a stream, and how it ends."""
    seen: list[str] = []
    try:
        stream = await stream_from(client)
        async for event in stream:
            seen.append(event.to_json())  # noqa: PERF401 - it may raise
    except openai.OpenAIError as error:
        return seen, error
    return seen, None


fillers = st.sampled_from([b": ping\n\n", b"\n", b": c\r\n", b"retry: 5\n", b""])


texts = st.text(max_size=300).map(lambda text: chunk("x" + text))


usage = st.just(chunk().replace(b'"choices": [{', b'"usage": {}, "choices": [{'))


contents = st.lists(st.tuples(fillers, texts | usage), max_size=8)


ends = st.sampled_from(["\n", "\r\n", "\r"])


@settings(max_examples=80)
@given(
    middle=contents,
    end=ends,
    codec=st.sampled_from(CODECS),
    sizes=st.lists(st.integers(1, 400), min_size=1, max_size=4),
    flushes=st.lists(st.integers(1, 700), min_size=1, max_size=4),
)
def test_a_whole_stream_is_seen_as_the_bare_client_sees_it(
    middle: list[tuple[bytes, bytes]], end: str, codec: str, sizes: list[int], flushes: list[int]
) -> None:
    """Any encoding, slicing and flushing: the same events, one attempt, and no complaint."""
    parts = [chunk("Hi"), *(part for pair in middle for part in pair), chunk(finish="stop")]
    plain = b"".join([*parts, b"data: [DONE]\n\n"]).replace(b"\n", end.encode())
    body = Flushing(codec).packed(sliced(plain, flushes)) if codec else plain
    headers = SSE | ({"content-encoding": codec.replace("raw", "deflate")} if codec else {})

    async def main() -> None:
        # With its first byte alone even the HTTP library cannot tell the two forms of deflate.
        first = [max(2, sizes[0]), *sizes[1:]] if codec == "raw" else sizes
        inner = Scripted([(200, sliced(body, first), headers)])
        bare, _ = await events(bare_client(inner, max_retries=0))
        client, inner = scripted((200, sliced(body, first), headers), **FAST)
        wrapped, error = await events(client)
        assert error is None
        assert wrapped == bare
        assert len(inner.sent) == 1
        (shown,) = snapshot(client).partitions
        assert (shown.in_flight, shown.ok) == (0, 1)

    asyncio.run(main())


@pytest.mark.parametrize("codec", CODECS[1:])
@pytest.mark.anyio
async def test_a_stream_of_megabytes_in_one_read_is_whole(codec: str) -> None:
    """A proxy that packs a whole stream into one chunk packs many megabytes into it."""
    plain = chunk("Hi" * 1_500) * 1_000 + chunk(finish="stop") + b"data: [DONE]\n\n"
    assert len(plain) > 3 * MB
    headers = SSE | {"content-encoding": codec.replace("raw", "deflate")}
    client, inner = scripted((200, [Flushing(codec).packed([plain])], headers), **FAST)
    count = 0
    async for _ in await stream_from(client):
        count += 1
    assert count == 1_001
    assert len(inner.sent) == 1


@pytest.mark.anyio
async def test_only_what_the_caller_sees_is_counted_as_come() -> None:
    """The HTTP libraries show one gzip member: an end that stands in the second has not come."""
    first = gzip.compress(chunk("Hi"))
    body = first + gzip.compress(chunk(finish="stop") + b"data: [DONE]\n\n")
    client, _ = scripted((200, [body], SSE | {"content-encoding": "gzip"}), **FAST)
    seen, error = await events(client)
    assert len(seen) == 1
    assert isinstance(error, IncompleteStreamError)


def endless(codec: str, unit: bytes) -> bytes:
    """Something that packs well."""
    return Flushing(codec).packed([unit * (8 * MB // len(unit))])


HEADS: dict[str, Callable[[str], bytes]] = {
    "zeros": lambda codec: endless(codec, b"\0" * MB),
    "one event": lambda codec: Flushing(codec).packed([b"data: " + b"x" * 8 * MB]),
    "comments": lambda codec: endless(codec, b": keep-alive\n\n"),
    "empty lines": lambda codec: endless(codec, b"\n" * MB),
    "empty blocks": lambda codec: Flushing(codec).packed([b""] * 100_000),
}


@pytest.mark.parametrize("codec", CODECS[1:])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("size", [16, 65_536])
def test_a_packed_head_costs_no_memory(head: str, codec: str, size: int) -> None:
    """Before the first event little is kept: of bytes, of what they decode to, and of chunks."""
    body = HEADS[head](codec)
    headers = SSE | {"content-encoding": codec.replace("raw", "deflate")}

    async def peak_of(*parts: bytes) -> int:
        client, _ = scripted((200, [*parts], headers), max_retries=0, **FAST)
        tracemalloc.start()
        try:
            async with client.chat.completions.with_streaming_response.create(
                model="m", messages=MESSAGES, stream=True
            ):
                pass
        except openai.OpenAIError:
            pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    asyncio.run(peak_of(body[:1]))  # the SDK imports megabytes at its first call
    assert asyncio.run(peak_of(*sliced(body, [max(size, len(body) // 6_000)]))) < 2 * MB


@pytest.mark.anyio
@pytest.mark.parametrize("codec", [*(c for c in CODECS[1:] if c != "raw"), "gzip, deflate"])
@pytest.mark.parametrize("garbage", [b"\xff\x00garbage that is no such thing" * 3, b"{", b"\xff"])
async def test_a_body_that_cannot_be_decoded_is_judged_by_its_status(
    codec: str, garbage: bytes
) -> None:
    """Whatever a codec raises: 400 once, 503 with retries, 200 is no answer; nobody's fault."""
    headers = {"content-encoding": codec, "content-type": "application/json"}
    client, inner = scripted((400, garbage, headers), max_retries=2, **FAST)
    with pytest.raises(openai.BadRequestError) as refused:
        await ask(client)
    assert diagnose(refused.value).kind is FailureKind.INVALID_REQUEST
    assert len(inner.sent) == 1
    client, inner = scripted((503, garbage, headers), max_retries=2, **FAST)
    with pytest.raises(openai.InternalServerError) as failed:
        await ask(client)
    assert diagnose(failed.value).kind is FailureKind.UNAVAILABLE
    assert len(inner.sent) == 3
    client, inner = scripted((200, garbage, headers), max_retries=2, **FAST)
    with pytest.raises(openai.APIStatusError) as unread:
        await ask(client)
    assert diagnose(unread.value).kind is FailureKind.INVALID_ANSWER
    client, inner = scripted((200, [garbage], SSE | {"content-encoding": codec}), **FAST)
    _, error = await events(client)
    assert isinstance(error, openai.APIStatusError)
    assert diagnose(error).kind is FailureKind.INVALID_ANSWER


@pytest.mark.anyio
async def test_an_error_without_its_last_line_end_is_told() -> None:
    """A stream that dies in the middle of its own error event says why it died."""
    data = json.dumps(envelope("overloaded", "too much to do")).encode()
    for last in (b"data: " + data, b"event: error\ndata: " + data + b"\n", data):
        client, inner = scripted((200, [chunk("Hi"), last], SSE), **FAST)
        seen, error = await events(client)
        assert len(seen) == len(inner.sent) == 1
        assert error is not None
        assert diagnose(error).message == "too much to do"


def test_both_families_are_meant() -> None:
    """The module runs on whichever HTTP library the SDK stands on."""
    assert isinstance(bare_client(Scripted([]))._client, httpx.AsyncClient)
    assert wrap(bare_client(Scripted([]))) is not None
