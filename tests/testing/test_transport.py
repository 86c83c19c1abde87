"""The gateway in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from comet_resilience.testing import Gateway, Reply
from tests.conftest import MESSAGES, in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    import openai

pytestmark = [
    pytest.mark.anyio,
    # The SDK leaves its generators behind when it has seen "[DONE]", and trio says so.
    pytest.mark.filterwarnings("ignore:Async generator '(openai|httpx):ResourceWarning"),
]


async def _body(response: Any, seen: bytearray) -> None:
    async for chunk in response.aiter_raw():
        seen += chunk


@in_virtual_time
async def test_waits_are_virtual(client_of: Callable[[Gateway], openai.AsyncOpenAI]) -> None:
    """An answer that takes ten minutes takes none, and the gateway knows the time."""
    gateway = Gateway(latency=300.0, chunk_delay=50.0)
    stream = await client_of(gateway).chat.completions.create(
        model="m", messages=MESSAGES, stream=True
    )
    assert gateway.now() == 300.0
    chunks = [chunk async for chunk in stream]
    assert gateway.now() == 300.0 + 50.0 * len(chunks)  # [DONE] is one more chunk
    assert (gateway.answered, gateway.in_flight) == (1, 0)


@in_virtual_time
@pytest.mark.parametrize(
    ("reply", "seconds"),
    [
        (Reply(hang=True), 30.0),
        (Reply(delay=31.0), 30.0),
        (Reply(body=(b"a", b"b"), chunk_delay=31.0), 30.0),
    ],
)
async def test_the_read_timeout_holds(family: ModuleType, reply: Reply, seconds: float) -> None:
    """A client that waits for bytes in vain gives up, and its slot is free."""
    gateway = Gateway()
    gateway.script(reply)
    async with family.AsyncClient(transport=gateway.transport(), timeout=30.0) as http:
        with pytest.raises(family.ReadTimeout):
            await http.get(gateway.base_url)
    assert gateway.now() == seconds
    assert (gateway.statistics().abandoned, gateway.in_flight) == (1, 0)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("dropped", "RemoteProtocolError"),
        ("unreachable", "ConnectError"),
        ("stream_cut", "RemoteProtocolError"),
    ],
)
async def test_faults_are_of_the_family(family: ModuleType, name: str, fault: str) -> None:
    """A broken connection is the exception of the client's own family, with its request."""
    gateway = Gateway()
    gateway.fail(name)
    async with family.AsyncClient(transport=gateway.transport()) as http:
        with pytest.raises(getattr(family, fault)) as caught:
            await http.get(gateway.base_url)
    assert str(caught.value.request.url) == gateway.base_url
    assert (gateway.statistics().failed, gateway.in_flight) == (1, 0)


async def test_a_cut_body_arrives_up_to_the_cut(family: ModuleType) -> None:
    """The bytes before the cut are there, then the connection breaks."""
    gateway, seen = Gateway(), bytearray()
    gateway.script(Reply(body=(b"abc", b"def"), cut_after=4))
    async with (
        family.AsyncClient(transport=gateway.transport()) as http,
        http.stream("GET", gateway.base_url) as response,
    ):
        with pytest.raises(family.RemoteProtocolError, match="peer closed"):
            await _body(response, seen)
    assert seen == b"abcd"


async def test_a_closed_stream_frees_its_slot(
    client_of: Callable[[Gateway], openai.AsyncOpenAI],
) -> None:
    """Who stops to read leaves; the answer counts as abandoned."""
    gateway = Gateway()
    client = client_of(gateway)
    async with await client.chat.completions.create(
        model="m", messages=MESSAGES, stream=True
    ) as stream:
        await anext(aiter(stream))
        assert gateway.in_flight == 1
    assert (gateway.in_flight, gateway.statistics().abandoned) == (0, 1)


async def test_the_last_byte_frees_the_slot(family: ModuleType) -> None:
    """With the last byte in hand the client finds its slot free, closed or not."""
    gateway = Gateway()
    gateway.script(Reply(body=(b"a", b"b")))
    async with (
        family.AsyncClient(transport=gateway.transport()) as http,
        http.stream("GET", gateway.base_url) as response,
    ):
        chunks = response.aiter_raw()
        assert (await anext(chunks), gateway.in_flight) == (b"a", 1)
        assert (await anext(chunks), gateway.in_flight) == (b"b", 0)
        await chunks.aclose()
    assert gateway.answered == 1


@in_virtual_time
async def test_a_cancelled_request_frees_its_slot(
    client_of: Callable[[Gateway], openai.AsyncOpenAI],
) -> None:
    """A client that is cancelled while it waits is gone at once."""
    gateway = Gateway(latency=60.0)
    with anyio.move_on_after(5.0):
        await client_of(gateway).chat.completions.create(model="m", messages=MESSAGES)
    assert (gateway.now(), gateway.in_flight, gateway.statistics().abandoned) == (5.0, 0, 1)


async def test_the_family_is_a_name_or_a_module(family: ModuleType) -> None:
    """The family may be named, given, or left to what is installed."""
    gateway, name = Gateway(), family.__name__
    for given in (None, name, family):
        assert repr(gateway.transport(given)) == f"<GatewayTransport for {name}>"
    with pytest.raises(ImportError):
        gateway.transport("no_such_family")
