"""A proxy of the http client's that makes no connection: what is sent again, and what is said."""

from __future__ import annotations

import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.abc
import openai
import pytest

from comet_resilience import FailureKind, diagnose, support_report, wrap

from .conftest import FAST, KEY, at_rest, failure_of, httpx, in_real_time

pytestmark = pytest.mark.anyio
PASSWORD = "walrus-and-carpenter"


@asynccontextmanager
async def proxy_that_says(status: str) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Run a proxy that refuses each request with a status; yield its address and what it read."""
    read: list[bytes] = []

    async def refuse(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            read.append((await stream.receive()).partition(b"\r\n")[0])
            await stream.send(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 - not Django's
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, refuse)
        yield f"http://joe:{PASSWORD}@127.0.0.1:{port}", read
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def wrapped(proxy: str, scheme: str) -> AsyncIterator[openai.AsyncOpenAI]:
    """Make a wrapped client whose http client goes through a proxy."""
    async with httpx.AsyncClient(proxy=proxy) as http_client:
        options: Any = {"api_key": KEY, "base_url": f"{scheme}://gateway.test/v1"}
        yield wrap(openai.AsyncOpenAI(http_client=http_client, **options), max_retries=2, **FAST)


@in_real_time
@pytest.mark.parametrize("status", ["407 Proxy Authentication Required", "502 Bad Gateway"])
async def test_a_proxy_that_makes_no_connection_is_named_and_tried_again(status: str) -> None:
    """As often as by the SDK, with the SDK's class, its cause, and no word of the password."""
    async with proxy_that_says(status) as (proxy, read), wrapped(proxy, "https") as client:
        caught = await failure_of(client)
        assert type(caught) is openai.APIConnectionError
        assert type(caught.__cause__) is httpx.ProxyError
        assert read == [b"CONNECT gateway.test:443 HTTP/1.1"] * 3
        found = diagnose(caught)
        assert found.rule == "proxy"
        assert "HTTPS_PROXY" in found.advice[0]
        shown = "".join([*traceback.format_exception(caught), str(support_report(caught))])
        assert "the proxy made no connection" in shown
        assert PASSWORD not in shown
        assert at_rest(client)


@in_real_time
async def test_a_picture_is_sent_again_where_the_proxy_let_nothing_through() -> None:
    """Nothing can have been done or billed behind a tunnel that was never opened."""
    refused = proxy_that_says("503 Service Unavailable")
    async with refused as (proxy, read), wrapped(proxy, "https") as client:
        with pytest.raises(openai.APIConnectionError) as caught:
            await client.images.generate(model="m", prompt="a walrus")
        assert len(read) == 3
        assert not diagnose(caught.value).may_be_billed


@in_real_time
async def test_a_407_to_a_plain_request_is_no_fault_of_the_request() -> None:
    """A proxy answers plain HTTP itself: it is asked once, and its credentials are named."""
    refused = proxy_that_says("407 Proxy Authentication Required")
    async with refused as (proxy, read), wrapped(proxy, "http") as client:
        caught = await failure_of(client)
        assert isinstance(caught, openai.APIStatusError)
        assert len(read) == 1
        found = diagnose(caught)
        assert found.kind is FailureKind.CONNECTION
        assert "credentials" in found.reason
        assert "password" in found.advice[0]
