"""The gateway on a socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import openai
import pytest

from comet_resilience.testing import ConcurrencyCap, Gateway, Reply
from tests.conftest import MESSAGES, in_real_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import ModuleType

    from anyio.abc import SocketStream

pytestmark = [
    pytest.mark.anyio,
    in_real_time,
    # The SDK leaves its generators behind when it has seen "[DONE]", and trio says so.
    pytest.mark.filterwarnings("ignore:Async generator '(openai|httpx|httpcore):ResourceWarning"),
]

_GET = b"GET /v1/models HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer k\r\n"
_POST = b"POST /v1/embeddings HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer k\r\n"


@pytest.fixture
async def gateway(anyio_backend: object) -> AsyncIterator[Gateway]:
    """Give a gateway that listens."""
    async with Gateway() as gateway:
        yield gateway


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[openai.AsyncOpenAI]:
    """Give an SDK client with the transport that it has by default."""
    async with openai.AsyncOpenAI(
        base_url=gateway.base_url, api_key=gateway.api_key, max_retries=0, timeout=60.0
    ) as client:
        yield client


async def _connect(gateway: Gateway) -> SocketStream:
    return await anyio.connect_tcp("127.0.0.1", int(gateway.origin.rpartition(":")[2]))


async def _read_all(stream: SocketStream) -> bytes:
    received = b""
    try:
        while True:
            received += await stream.receive()
    except anyio.EndOfStream:
        return received


async def _until(gateway: Gateway, in_flight: int) -> None:
    with anyio.fail_after(100):
        while gateway.in_flight != in_flight:  # noqa: ASYNC110 - the gateway has no event for it
            await anyio.sleep(0.001)


async def _body(response: Any, seen: bytearray) -> None:
    async for chunk in response.aiter_raw():
        seen += chunk


async def _fail_within(gateway: Gateway, client: openai.AsyncOpenAI) -> None:
    async with gateway:
        there = client.with_options(base_url=gateway.base_url)
        with pytest.raises(openai.APIConnectionError):
            await there.chat.completions.create(model="m", messages=MESSAGES)


async def test_the_sdk_is_answered(gateway: Gateway, client: openai.AsyncOpenAI) -> None:
    """Plain and streamed answers come over the real transport."""
    plain = await client.chat.completions.create(model="m", messages=MESSAGES)
    stream = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
    words = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert plain.choices[0].message.content == "".join(words)
    film = await client.images.edit(model="m", prompt="p", image=("a.png", b"x" * 100_000))
    assert film.data is not None
    assert [request.number for request in gateway.requests] == [1, 2, 3]


async def test_a_wrong_path_over_the_socket(gateway: Gateway, client: openai.AsyncOpenAI) -> None:
    """The redirect leads to a page that is there, under another host name."""
    wrong = client.with_options(base_url=gateway.origin)
    page: Any = await wrong.chat.completions.create(model="m", messages=MESSAGES)
    assert '<div id="root">' in page
    assert gateway.requests[-1].headers["host"].startswith("localhost:")


async def test_a_connection_is_used_again(gateway: Gateway) -> None:
    """Requests follow each other on one connection, even if the second one comes early."""
    async with await _connect(gateway) as stream:
        await stream.send(_GET + b"\r\n" + _GET + b"Connection: close\r\n\r\n")
        received = await _read_all(stream)
    assert received.count(b"HTTP/1.1 200") == 2
    assert len(gateway.requests) == 2


async def test_early_bytes_belong_to_the_next_request(gateway: Gateway) -> None:
    """What comes while an answer is waiting is read then and answered afterwards."""
    gateway.script(Reply(delay=0.01), "ok")
    async with await _connect(gateway) as stream:
        await stream.send(_GET + b"\r\n")
        await stream.send(_GET + b"Connection: close\r\n\r\n")
        received = await _read_all(stream)
    assert received.count(b"HTTP/1.1 200") == 2


async def test_chunked_bodies_and_continue(gateway: Gateway) -> None:
    """A body may come in chunks, after the gateway has said that it wants it."""
    async with await _connect(gateway) as stream:
        head = b"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
        await stream.send(_POST + head)
        assert (await stream.receive()).startswith(b"HTTP/1.1 100")
        await stream.send(b'7\r\n{"model\r\n19\r\n": "m", "input": "Hello"}\r\n0\r\n\r\n')
        received = await _read_all(stream)
    assert received.startswith(b"HTTP/1.1 200")
    assert gateway.requests[0].model == "m"


@pytest.mark.parametrize(
    "nonsense",
    [b"\x00\x01\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", _POST + b"Content-Length: x\r\n\r\n"],
)
async def test_nonsense_is_rejected(gateway: Gateway, nonsense: bytes) -> None:
    """What is not HTTP gets a 400, is no request, and does no harm."""
    async with await _connect(gateway) as stream:
        await stream.send(nonsense)
        assert (await _read_all(stream)).startswith(b"HTTP/1.1 400")
    async with await _connect(gateway) as stream:
        await stream.send(_GET + b"Connection: close\r\n\r\n")
        assert (await _read_all(stream)).startswith(b"HTTP/1.1 200")
    assert len(gateway.requests) == 1


async def test_half_a_request_does_no_harm(gateway: Gateway) -> None:
    """A client that leaves while it sends has sent nothing."""
    async with await _connect(gateway) as stream:
        await stream.send(_POST + b"Content-Length: 100\r\n\r\n{")
    async with await _connect(gateway) as stream:
        await stream.send(_GET + b"Connection: close\r\n\r\n")
        await _read_all(stream)
    assert len(gateway.requests) == 1


async def test_head_has_no_body(gateway: Gateway) -> None:
    """The answer to HEAD ends with its headers."""
    gateway.script(Reply(body=b"12345"))
    async with await _connect(gateway) as stream:
        await stream.send(b"HEAD / HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n")
        received = await _read_all(stream)
    assert b"Content-Length: 5" in received
    assert received.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("name", ["dropped", "unreachable"])
async def test_a_dropped_connection(
    gateway: Gateway, client: openai.AsyncOpenAI, name: str
) -> None:
    """A connection may be closed without an answer; the next request gets one."""
    gateway.fail(name)
    with pytest.raises(openai.APIConnectionError) as caught:
        await client.models.list()
    assert type(caught.value.__cause__).__name__ == "RemoteProtocolError"
    assert (await client.models.list()).data
    assert gateway.statistics().failed == 1


@pytest.mark.parametrize(
    ("reply", "arrives"),
    [
        (Reply(body=b"abcdef", cut_after=4), b"abcd"),
        (Reply(body=b"abcdef", cut_after=6), b"abcdef"),
        (Reply(body=b"abcdef", cut_after=0), b""),
        (Reply(body=(b"abc", b"def"), cut_after=4), b"abcd"),
        (Reply(body=(b"abc", b"def"), cut_after=4, chunk_delay=0.001), b"abcd"),
        (Reply(cut_after=0), b""),
    ],
)
async def test_a_cut_connection(
    gateway: Gateway, family: ModuleType, reply: Reply, arrives: bytes
) -> None:
    """The bytes before the cut arrive, and the client notices that something is missing."""
    gateway.script(reply)
    seen = bytearray()
    async with (
        family.AsyncClient() as http,
        http.stream("GET", gateway.base_url) as response,
    ):
        with pytest.raises(family.RemoteProtocolError):
            await _body(response, seen)
    assert (response.status_code, bytes(seen)) == (200, arrives)
    await _until(gateway, in_flight=0)
    assert gateway.statistics().failed == 1


async def test_a_client_that_leaves_frees_its_slot(
    gateway: Gateway, client: openai.AsyncOpenAI
) -> None:
    """A slot is not held for a client that has stopped to wait."""
    gateway.script("hanging", Reply(delay=60.0), Reply(body=(b"a", b"b"), chunk_delay=60.0))
    for _ in range(3):
        with anyio.move_on_after(0.05):
            await client.models.list()
        await _until(gateway, in_flight=0)
    assert gateway.statistics().abandoned == len(gateway.requests)


async def test_a_stream_holds_its_slot_to_the_end(client: openai.AsyncOpenAI) -> None:
    """A slot is taken until the last byte has been sent, and free when the client has it."""
    async with Gateway(capacity=ConcurrencyCap(1), chunk_delay=60.0) as gateway:
        client = client.with_options(base_url=gateway.base_url)
        stream = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
        with pytest.raises(openai.RateLimitError):
            await client.chat.completions.create(model="m", messages=MESSAGES)
        await stream.close()
        await _until(gateway, in_flight=0)
        gateway.change(chunk_delay=0.001)
        stream = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
        async for _ in stream:
            pass
        await client.chat.completions.create(model="m", messages=MESSAGES)
    assert (gateway.answered, gateway.refused, gateway.peak_in_flight) == (2, 1, 1)


async def test_as_many_clients_as_slots_are_never_refused(client: openai.AsyncOpenAI) -> None:
    """A slot is free before the client can ask again, so a true gate gets no refusal."""
    async with Gateway(capacity=ConcurrencyCap(4)) as gateway:
        client = client.with_options(base_url=gateway.base_url)

        async def caller() -> None:
            for _ in range(15):
                await client.chat.completions.create(model="m", messages=MESSAGES)

        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(caller)
    assert (gateway.answered, gateway.refused) == (60, 0)
    assert gateway.peak_in_flight <= 4


async def test_leaving_closes_everything(family: ModuleType) -> None:
    """At its end the gateway drops who is waiting, at once, and the port is closed."""
    server = Gateway()
    server.always("hanging")
    async with family.AsyncClient(timeout=60.0) as http:

        async def wait(url: str) -> None:
            with pytest.raises(family.RemoteProtocolError):
                await http.get(url)

        url = ""
        with anyio.fail_after(100):
            async with anyio.create_task_group() as tasks, server:
                url = server.base_url
                tasks.start_soon(wait, url)
                await _until(server, in_flight=1)
        with pytest.raises(family.ConnectError):
            await http.get(url)
    assert (server.in_flight, server.statistics().abandoned) == (0, 1)


async def test_the_error_of_the_block_comes_out_as_it_is() -> None:
    """An exception within the block is not wrapped into a group."""
    with pytest.raises(KeyError, match="mine"):
        async with Gateway():
            raise KeyError("mine")


async def test_a_cancelled_block_ends() -> None:
    """A timeout around the gateway ends it like any other code."""
    with anyio.move_on_after(0.01) as scope:
        async with Gateway():
            await anyio.sleep_forever()
    assert scope.cancelled_caught


async def test_a_bug_comes_out_at_the_end(client: openai.AsyncOpenAI) -> None:
    """An error within the gateway is raised when it ends, whatever the client made of it."""
    with pytest.raises(ZeroDivisionError):
        await _fail_within(Gateway(latency=lambda _: 1 / 0), client)
