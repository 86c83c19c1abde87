"""The gateway in memory: a transport for an httpx or httpx2 client, without sockets.

It waits with anyio only, so that under the clock of `trio.testing.MockClock` minutes pass in
milliseconds. Which of the two families it speaks is settled when it is made; neither is imported
before. The read timeout of the request holds for each wait; any host name is served.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Self

import anyio

from ..wire.family import family_of_sdk

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .replies import Exchange, Responder


class GatewayTransport:
    """A transport for an httpx or httpx2 client that leads to a gateway."""

    __slots__ = ("_family", "_responder", "_stream_class")

    def __init__(self, responder: Responder, family: str | ModuleType | None = None) -> None:
        self._responder = responder
        self._family: Any = family if isinstance(family, ModuleType) else _load(family)
        # The client accepts nothing but a stream of its own family.
        bases = (_ReplyStream, self._family.AsyncByteStream)
        self._stream_class: Any = type("GatewayByteStream", bases, {})

    async def handle_async_request(self, request: Any) -> Any:
        """Answer a request of the family with a response of the family.

        Raises the family's `ConnectError`, `RemoteProtocolError` and `ReadTimeout`.
        """
        body = b"".join([chunk async for chunk in request.stream])
        target = request.url.raw_path.decode("ascii")
        headers = request.headers.multi_items()
        exchange = self._responder.begin(request.method, target, headers, body)
        wire = _Wire(self._family, request)
        try:
            await wire.respond(exchange)
        except BaseException:
            exchange.end(delivered=False)
            raise
        return self._family.Response(
            exchange.reply.status,
            headers=[(k.encode(), v.encode()) for k, v in exchange.reply.wire_headers()],
            stream=self._stream_class(exchange, wire),
            extensions={"http_version": b"HTTP/1.1"},
        )

    async def aclose(self) -> None:
        """Do nothing: there are no connections."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<GatewayTransport for {self._family.__name__}>"


class _Wire:
    """The behaviour of a socket towards one request: waits, timeouts, breaks."""

    __slots__ = ("_family", "_request")

    def __init__(self, family: Any, request: Any) -> None:
        self._family = family
        self._request = request

    async def respond(self, exchange: Exchange) -> None:
        """Wait for the headers, or raise the error that a client would see instead."""
        reply = exchange.reply
        await self.wait(float("inf") if reply.hang else reply.delay)
        if reply.refuse or reply.drop:
            exchange.end(delivered=True)
        if reply.refuse:
            raise self._family.ConnectError("connection refused", request=self._request)
        if reply.drop:
            raise self._broken("Server disconnected without sending a response.")

    async def wait(self, seconds: float) -> None:
        """Sleep, but no longer than the client reads."""
        timeout = self._request.extensions.get("timeout", {}).get("read")
        with anyio.move_on_after(timeout) as scope:
            await anyio.sleep(seconds)
        if scope.cancelled_caught:
            raise self._family.ReadTimeout("the read timed out", request=self._request)

    def cut(self) -> Exception:
        """Make the error of a client whose response ends too early."""
        return self._broken("peer closed connection without sending complete message body")

    def _broken(self, message: str) -> Exception:
        error: Exception = self._family.RemoteProtocolError(message, request=self._request)
        return error


class _ReplyStream:
    """The body of a reply; mixed with the stream class of a family.

    It is no generator, because trio warns of each one that a client does not read to its end, and
    the SDK never does: it stops at "[DONE]".
    """

    def __init__(self, exchange: Exchange, wire: _Wire) -> None:
        self._exchange = exchange
        self._wire = wire
        self._chunks = exchange.reply.chunks()
        self._next = 0

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self._read()
        except BaseException:
            self._exchange.end(delivered=False)
            raise

    async def aclose(self) -> None:
        """Abandon the reply, unless it is over."""
        self._exchange.end(delivered=False)

    async def _read(self) -> bytes:
        reply, place = self._exchange.reply, self._next
        if place >= len(self._chunks):
            self._exchange.end(delivered=True)
            raise StopAsyncIteration if reply.complete else self._wire.cut()
        if place and reply.chunk_delay:
            await self._wire.wait(reply.chunk_delay)
        self._next += 1
        if self._next == len(self._chunks) and reply.complete:
            # To hand the last byte over is to have sent it: nobody asks for more.
            self._exchange.end(delivered=True)
        return self._chunks[place]


def _load(name: str | None) -> Any:
    return family_of_sdk() if name is None else import_module(name)
