"""`DefaultAioHttpClient`: the SDK's other HTTP stack, over real sockets, wrapped like the first.

Runs where `openai[aiohttp]` is installed, of either major version. aiohttp knows asyncio alone.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from dataclasses import replace
from importlib.util import find_spec
from socket import SO_LINGER, SOL_SOCKET

import anyio
import openai
import pytest
from anyio.abc import SocketAttribute, SocketStream

from comet_resilience import Fault, WrongEndpointError, diagnose, snapshot, wrap
from comet_resilience.testing import Gateway, stream_reply

from .conftest import FAST, ask, on_asyncio

#: openai 2 finds aiohttp through httpx-aiohttp, openai 3 has that on board.
BRIDGE = "httpx_aiohttp" if int(openai.__version__.partition(".")[0]) < 3 else "aiohttp"

pytestmark = [
    pytest.mark.anyio,
    on_asyncio,
    pytest.mark.skipif(not find_spec(BRIDGE), reason="needs openai[aiohttp]"),
]


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    """A gateway on a real socket."""
    async with Gateway(text="Hi") as served:
        yield served


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[openai.AsyncOpenAI]:
    """A wrapped client over aiohttp."""
    async with openai.DefaultAioHttpClient(timeout=60.0) as http_client:
        bare = openai.AsyncOpenAI(
            base_url=gateway.base_url, api_key=gateway.api_key, http_client=http_client
        )
        yield wrap(bare, **FAST)


async def test_a_success_passes(client: openai.AsyncOpenAI, gateway: Gateway) -> None:
    """An answer comes through, and its slot comes back."""
    assert await ask(client) == "Hi"
    assert len(gateway.requests) == 1
    assert snapshot(client).partitions[0].in_flight == 0


async def test_a_429_is_retried_and_a_503_too(client: openai.AsyncOpenAI, gateway: Gateway) -> None:
    """What passes is sent again, body and all, until it succeeds."""
    gateway.fail("rate_limited", times=2)
    gateway.fail("unavailable")
    assert await ask(client) == "Hi"
    assert [request.model for request in gateway.requests] == ["m"] * 4


async def test_a_stream_is_followed_to_its_end(
    client: openai.AsyncOpenAI, gateway: Gateway
) -> None:
    """A failure before the first event is retried; afterwards everything comes through."""
    gateway.fail("unavailable")
    stream = await client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "Hello"}], stream=True
    )
    texts = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
    assert "".join(texts) == "Hi"
    assert len(gateway.requests) == 2
    assert snapshot(client).partitions[0].in_flight == 0


async def test_half_a_stream_is_none(client: openai.AsyncOpenAI, gateway: Gateway) -> None:
    """A stream that is cut in the middle raises the SDK's own class and gives its slot back."""
    gateway.fail("stream_cut")
    stream = await client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "Hello"}], stream=True
    )
    with pytest.raises(openai.APIConnectionError):
        _ = [chunk async for chunk in stream]
    assert len(gateway.requests) == 1
    assert snapshot(client).partitions[0].in_flight == 0


async def test_a_stream_that_is_left_is_closed(
    client: openai.AsyncOpenAI, gateway: Gateway
) -> None:
    """Leaving a stream early frees the slot at once."""
    events = ['data: {"choices": [{"delta": {"content": "Hi"}}]}\n\n'] * 50
    gateway.always(replace(stream_reply(*events), chunk_delay=0.01))
    async with await client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "Hello"}], stream=True
    ) as stream:
        await anext(aiter(stream))
        assert snapshot(client).partitions[0].in_flight == 1
    assert snapshot(client).partitions[0].in_flight == 0


async def test_a_wrong_path_is_named(client: openai.AsyncOpenAI, gateway: Gateway) -> None:
    """The gateway's 301 to its web pages is neither followed nor retried."""
    gateway.always("wrong_path")
    with pytest.raises(WrongEndpointError):
        await ask(client)
    assert len(gateway.requests) == 1


async def test_an_error_body_reaches_the_exception(
    client: openai.AsyncOpenAI, gateway: Gateway
) -> None:
    """A malformed request under status 500 is told as what it is, and sent once."""
    gateway.always("invalid_request")
    with pytest.raises(openai.InternalServerError) as caught:
        await ask(client)
    assert caught.value.code == "invalid_request"
    assert diagnose(caught.value).kind == "invalid_request"
    assert len(gateway.requests) == 1


async def test_nobody_listens(gateway: Gateway) -> None:
    """A refused connection is a connection fault: nothing was sent, so anything is retried."""
    async with openai.DefaultAioHttpClient() as http_client:
        nowhere = openai.AsyncOpenAI(
            base_url="http://127.0.0.1:9/v1", api_key="k", http_client=http_client
        )
        with pytest.raises(openai.APIConnectionError) as caught:
            await wrap(nowhere, max_retries=1, **FAST).images.generate(model="m", prompt="p")
    diagnosis = diagnose(caught.value)
    assert len(diagnosis.attempts) == 2
    assert diagnosis.may_be_billed is False


async def test_a_dropped_connection_may_have_been_billed(
    client: openai.AsyncOpenAI, gateway: Gateway
) -> None:
    """The bridge calls a server that hung up a connect timeout; no image is paid for twice."""
    gateway.always("dropped")
    with pytest.raises(openai.APIConnectionError) as caught:
        await client.images.generate(model="m", prompt="p")
    assert len(gateway.requests) == 1
    diagnosis = diagnose(caught.value)
    assert diagnosis.may_be_billed is True
    assert diagnosis.attempts[-1].fault in (Fault.PROTOCOL, Fault.READ)


async def test_a_dropped_connection_is_retried_for_text(
    client: openai.AsyncOpenAI, gateway: Gateway
) -> None:
    """Text is asked for again."""
    gateway.fail("dropped", times=2)
    assert await ask(client) == "Hi"
    assert len(gateway.requests) == 3


@pytest.mark.parametrize("said", [b"", b"garbage\r\n\r\n"])
async def test_a_server_that_breaks_after_it_was_asked(said: bytes) -> None:
    """A reset, or an answer that is no HTTP, comes after the request: an image may be billed."""
    asked: list[bytes] = []

    async def break_off(stream: SocketStream) -> None:
        asked.append(await stream.receive())
        if said:
            await stream.send(said)
        linger = struct.pack("ii", 1, 0)  # closing resets the connection
        raw = stream.extra(SocketAttribute.raw_socket)  # noqa: S610 - not Django
        raw.setsockopt(SOL_SOCKET, SO_LINGER, linger)
        await stream.aclose()

    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        openai.DefaultAioHttpClient() as http_client,
        anyio.create_task_group() as group,
    ):
        group.start_soon(listener.serve, break_off)
        port = listener.extra(SocketAttribute.local_port)  # noqa: S610 - not Django
        bare = openai.AsyncOpenAI(
            base_url=f"http://127.0.0.1:{port}/v1", api_key="k", http_client=http_client
        )
        with pytest.raises(openai.APIConnectionError) as caught:
            await wrap(bare, **FAST).images.generate(model="m", prompt="p")
        diagnosis = diagnose(caught.value)
        assert len(asked) == 1
        assert diagnosis.attempts[-1].fault in (Fault.PROTOCOL, Fault.READ)
        assert diagnosis.may_be_billed is True
        group.cancel_scope.cancel()
