"""A client that was dropped without being closed: its connections end in good order."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.lowlevel
import openai
import pytest
import trio

from comet_resilience import wrap
from comet_resilience.testing import Gateway, GatewayInThread

from ..conftest import (
    ask,
    stream_from,
)

pytestmark = pytest.mark.anyio
#: Calls at once, each on a connection of its own.
CALLS: Final = 6


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Both event loops in real time: what is waited for are sockets."""
    use_uvloop = request.config.getoption("--uvloop", default=False)
    return request.param, {"use_uvloop": use_uvloop} if request.param == "asyncio" else {}


@pytest.fixture(autouse=True)
def _collected_when_told() -> Iterator[None]:
    """No collection but those that a test asks for; what it leaves is complained of here."""
    gc.collect()
    gc.disable()
    yield
    gc.collect()
    gc.enable()


def bare_of(gateway: Gateway | GatewayInThread, **keywords: Any) -> openai.AsyncOpenAI:
    """A bare client whose http client the SDK makes; a slow machine's connections stay open."""
    bare = openai.AsyncOpenAI(base_url=gateway.base_url, api_key="k", **keywords)
    transport: Any = bare._client._transport
    transport._pool._keepalive_expiry = 600.0  # five seconds are the usual
    return bare


def client_of(gateway: Gateway | GatewayInThread, **keywords: Any) -> openai.AsyncOpenAI:
    """A wrapped one."""
    return wrap(bare_of(gateway, **keywords))


def pooled(client: openai.AsyncOpenAI) -> list[Any]:
    """The connections in the pool of a client."""
    transport: Any = client._client._transport
    return list(transport._inner._pool._connections)


def sockets(client: openai.AsyncOpenAI) -> list[Any]:
    """The sockets of a client."""
    found = []
    for connection in pooled(client):
        stream = connection._connection._network_stream
        found.append(stream.get_extra_info("socket"))
    return found


async def ask_all(client: openai.AsyncOpenAI) -> None:
    """Some calls at once."""
    async with anyio.create_task_group() as tasks:
        for _ in range(CALLS):
            tasks.start_soon(ask, client)


async def until_closed(those: list[Any]) -> None:
    """Let the loop go on until all sockets are closed."""
    with anyio.fail_after(100):
        while any(one.fileno() != -1 for one in those):
            await anyio.lowlevel.checkpoint()


async def test_no_descriptor_is_free_before_its_connection_is_closed() -> None:
    """What a collection closes by the way, a later close would take from somebody else."""
    async with Gateway(latency=(0.05, 0.05)) as gateway:
        client = client_of(gateway)
        await ask_all(client)
        client.chat.completions  # noqa: B018 - resources and client hold each other
        those = sockets(client)
        assert len(those) == CALLS
        del client
        gc.collect()
        assert all(one.fileno() != -1 for one in those)
        second = client_of(gateway)
        with anyio.fail_after(100):
            await ask_all(second)
        await until_closed(those)
        await second.close()


async def test_a_copy_keeps_the_connections_of_the_client() -> None:
    """The last one that can use them closes them, not the first that is dropped."""
    async with Gateway() as gateway:
        client = client_of(gateway)
        await ask(client)
        those = sockets(client)
        copied = client.with_options(timeout=7)
        del client
        gc.collect()
        await ask(copied)
        assert sockets(copied)[0].fileno() == those[0].fileno() != -1
        del copied
        gc.collect()
        await until_closed(those)


async def test_the_bare_client_keeps_them_too() -> None:
    """Nothing of a bare client ends with the wrapped one; afterwards it ends as well as that."""
    async with Gateway() as gateway:
        bare = bare_of(gateway)
        client = wrap(bare)
        await ask(client)
        those = sockets(client)
        del client
        gc.collect()
        await ask(bare)
        del bare
        gc.collect()
        assert those[0].fileno() != -1
        await until_closed(those)


async def test_a_body_keeps_its_connection() -> None:
    """A response that is read after its client was dropped is read to its end."""
    async with Gateway(text="word " * 200) as gateway:
        client = client_of(gateway)
        stream = await stream_from(client)
        response, those = stream.response, sockets(client)
        stream._client = None
        stream._iterator = iter(())
        del stream, client
        gc.collect()
        await anyio.lowlevel.checkpoint()
        lines = [line async for line in response.aiter_lines() if line]
        assert lines[-1] == "data: [DONE]"
        del response
        gc.collect()
        await until_closed(those)


async def test_a_client_of_ones_own_is_left_to_its_owner() -> None:
    """Whoever makes an http client closes it, as with the bare SDK."""
    async with Gateway() as gateway, openai.DefaultAsyncHttpxClient() as own:
        client = client_of(gateway, http_client=own)
        await ask(client)
        those = sockets(client)
        kind = type(own)
        del client
        gc.collect()
        await anyio.wait_all_tasks_blocked()
        assert those[0].fileno() != -1
        assert type(own) is kind is openai.DefaultAsyncHttpxClient


async def test_a_closed_client_leaves_nothing_to_do() -> None:
    """Who closes a client has closed it."""
    async with Gateway() as gateway:
        client = client_of(gateway)
        await ask(client)
        those = sockets(client)
        await client.close()
        assert those[0].fileno() == -1
        del client
        gc.collect()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("run", [asyncio.run, trio.run])
def test_nothing_is_done_on_another_loop_where_the_loop_has_ended(run: Any) -> None:
    """A later loop of the process has nothing to do with connections of an earlier one."""
    failures: list[object] = []

    def note_closes(client: openai.AsyncOpenAI) -> None:
        """Kept apart: a connection in a variable holds its loop, and that all the others."""
        for connection in pooled(client):
            connection.aclose = lambda: failures.append("closed")

    async def drop(clients: list[openai.AsyncOpenAI]) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, what: failures.append(what))
        note_closes(clients[0])
        clients.clear()
        gc.collect()
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1

    with GatewayInThread() as gateway:
        clients = [client_of(gateway)]
        run(ask_all, clients[0]) if run is trio.run else run(ask_all(clients[0]))
        asyncio.run(drop(clients))
    assert failures == []


def test_each_loop_closes_its_own() -> None:
    """Two loops in two threads share a client: no thread touches the other's connections."""
    closed: list[tuple[str, int]] = []
    opened: dict[str, int] = {}

    def note(connection: Any, name: str) -> None:
        close = connection.aclose

        async def aclose() -> None:
            closed.append((name, threading.get_ident()))
            await close()

        connection.aclose = aclose

    with GatewayInThread() as gateway:
        clients = [client_of(gateway)]
        both, dropped = threading.Barrier(2), threading.Event()

        async def use(name: str) -> None:
            before = pooled(clients[0])
            await ask(clients[0])
            for connection in pooled(clients[0]):
                if connection not in before:
                    note(connection, name)
            opened[name] = threading.get_ident()

        async def others() -> None:
            # One after the other, so that each has a connection of its own.
            held = pooled(clients[0])
            for connection in held:
                connection.is_available = lambda: False
            await use("second")
            both.wait()
            await asyncio.to_thread(dropped.wait, 20)
            await until_noted("second")

        async def until_noted(name: str) -> None:
            with anyio.fail_after(100):
                while name not in dict(closed):
                    await anyio.lowlevel.checkpoint()

        async def main() -> None:
            await use("first")
            thread = threading.Thread(target=lambda: asyncio.run(others()))
            thread.start()
            await asyncio.to_thread(both.wait)
            clients.clear()
            gc.collect()
            dropped.set()
            await until_noted("first")
            await asyncio.to_thread(thread.join)

        asyncio.run(main())
    assert sorted(closed) == sorted(opened.items())


@pytest.mark.parametrize("how", ["global", "local", "forked"])
def test_the_interpreter_ends_in_peace(how: str) -> None:
    """Nothing hangs and nothing is complained of, wherever an unclosed client ends."""
    script = Path(__file__).with_name("unclosed.py")
    ran = subprocess.run(  # noqa: S603 - a program of our own
        [sys.executable, str(script), how], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.split() == ["Hi"] * (3 if how == "forked" else 1)
