"""Modes 4, 5 and 17: streams that are dropped, left early, or die in the middle."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import openai
import pytest

from comet_resilience import Event, StreamAbandoned, StreamBroken, diagnose, snapshot, wrap
from comet_resilience.testing import Gateway
from tests.conftest import MESSAGES, SSE, STREAM, WHOLE, envelope, httpx, on_asyncio, scripted

from .counting import limiter_of

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.timeout(30),
    # The SDK leaves its own generators, and the HTTP library's, unexhausted after [DONE].
    pytest.mark.filterwarnings("ignore:Async generator '(openai|httpx|httpcore):ResourceWarning"),
]


async def opened(client: Any) -> Any:
    """A stream whose first event has come."""
    stream = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
    await anext(stream)
    return stream


def at_rest(client: Any) -> bool:
    """Whether no slot is held and nobody waits."""
    return all(shown.in_flight == shown.waiting == 0 for shown in snapshot(client).partitions)


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
        pool = httpx.AsyncClient(limits=httpx.Limits(max_connections=2), timeout=10)
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
        assert all(p.timer is None for p in limiter_of(client)._partitions.values())

    anyio.run(sweep, backend=backend)


async def _text_or_error(client: Any) -> str:
    text = ""
    try:
        async with await client.chat.completions.create(
            model="m", messages=MESSAGES, stream=True
        ) as stream:
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
