"""The gateway on a socket: HTTP/1.1 on a free port of the loopback interface.

Each connection has one task. While an answer is waiting to be sent, a second task reads, because
that is how one notices that the client has gone: the answer is then given up and its slot is free.
What a client does never harms the server; an error within the gateway closes the connection and is
raised when the server stops, so that no test passes in spite of it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

import anyio
import h11
from anyio.abc import ByteStream, SocketAttribute, TaskGroup

if TYPE_CHECKING:
    from .replies import Exchange, Reply, Responder

_CONNECTION_LOST: Final = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream)

_Received = tuple[str, str, list[tuple[str, str]], bytes]


class Server:
    """A listener that gives each connection a task of its own."""

    __slots__ = ("_bugs", "_listener", "_responder", "_tasks", "port")

    def __init__(self, responder: Responder) -> None:
        self._responder = responder
        self._bugs: list[Exception] = []
        self.port: int = 0

    async def start(self) -> None:
        """Listen. From its return on, clients can connect to `port`."""
        self._listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
        self.port = self._listener.extra(SocketAttribute.local_port)  # noqa: S610 - not Django
        self._tasks: TaskGroup = await anyio.create_task_group().__aenter__()
        self._tasks.start_soon(self._listener.serve, self._serve, self._tasks)

    async def stop(self) -> None:
        """Close the connections and the port at once."""
        self._tasks.cancel_scope.cancel()
        try:
            # Without the exception of the caller's block, which would come out in a group.
            await self._tasks.__aexit__(None, None, None)
        finally:
            with anyio.CancelScope(shield=True):
                await self._listener.aclose()

    def raise_bug(self) -> None:
        """Raise the first error within the gateway, if there was one."""
        if self._bugs:
            raise self._bugs[0]

    async def _serve(self, stream: ByteStream) -> None:
        async with stream:
            try:
                await _Connection(self._responder, stream).run()
            except _CONNECTION_LOST:
                pass  # Clients may go whenever they like.
            except Exception as bug:  # noqa: BLE001 - raised by raise_bug()
                self._bugs.append(bug)


class _Connection:
    """One connection, from its first request to its end."""

    __slots__ = ("_protocol", "_responder", "_stream")

    def __init__(self, responder: Responder, stream: ByteStream) -> None:
        self._responder = responder
        self._stream = stream
        self._protocol = h11.Connection(h11.SERVER)

    async def run(self) -> None:
        """Answer requests until either side closes."""
        try:
            while (received := await self._next_request()) is not None:
                exchange = self._responder.begin(*received)
                if not await self._answer(exchange) or self._protocol.our_state is not h11.DONE:
                    return
                self._protocol.start_next_cycle()
        except h11.RemoteProtocolError as error:
            await self._reject(error)

    # -- receiving ------------------------------------------------------------------------------

    async def _next_request(self) -> _Received | None:
        head = await self._next_event()
        if not isinstance(head, h11.Request):
            return None  # The connection was closed between two requests.
        body = bytearray()
        while isinstance(event := await self._next_event(), h11.Data):
            body += event.data
        headers = [
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in head.headers
        ]
        return head.method.decode("ascii"), head.target.decode("latin-1"), headers, bytes(body)

    async def _next_event(self) -> object:
        while (event := self._protocol.next_event()) is h11.NEED_DATA:
            if self._protocol.they_are_waiting_for_100_continue:
                await self._write(h11.InformationalResponse(status_code=100, headers=[]))
            self._protocol.receive_data(await self._receive())
        return event

    async def _receive(self) -> bytes:
        try:
            return await self._stream.receive()
        except anyio.EndOfStream:
            return b""

    async def _reject(self, error: h11.RemoteProtocolError) -> None:
        if self._protocol.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            headers = [("Connection", "close"), ("Content-Length", "0")]
            status = error.error_status_hint
            await self._write(h11.Response(status_code=status, headers=headers), h11.EndOfMessage())

    # -- answering ------------------------------------------------------------------------------

    async def _answer(self, exchange: Exchange) -> bool:
        """Send the reply; return whether the connection can go on."""
        try:
            if exchange.reply.waits:
                await self._send_watching(exchange)
            else:
                await self._send(exchange)
        finally:
            exchange.end(delivered=False)
        return exchange.reply.complete

    async def _send_watching(self, exchange: Exchange) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch, tasks.cancel_scope)
            # Here, since outside of the task group it would come out in an exception group.
            with suppress(*_CONNECTION_LOST):
                await self._send(exchange)
            tasks.cancel_scope.cancel()

    async def _watch(self, scope: anyio.CancelScope) -> None:
        try:
            while data := await self._stream.receive():
                self._protocol.receive_data(data)  # Early, but it belongs to the next request.
        except _CONNECTION_LOST:
            scope.cancel()

    async def _send(self, exchange: Exchange) -> None:
        reply = exchange.reply
        await anyio.sleep(reply.delay)
        if reply.hang:
            await anyio.sleep_forever()
        if not (reply.drop or reply.refuse):
            await self._send_response(reply, with_body=exchange.request.method != "HEAD")
        # Before anything is awaited: a client that has the last byte must find its slot free.
        exchange.end(delivered=True)

    async def _send_response(self, reply: Reply, *, with_body: bool) -> None:
        headers = [(name.encode(), value.encode()) for name, value in reply.wire_headers()]
        events: list[h11.Event] = [h11.Response(status_code=reply.status, headers=headers)]
        for place, chunk in enumerate(reply.chunks() if with_body else ()):
            if place and reply.chunk_delay:
                await self._write(*events)
                await anyio.sleep(reply.chunk_delay)
                events = []
            events.append(h11.Data(data=chunk))
        if reply.complete:
            events.append(h11.EndOfMessage())
        await self._write(*events)

    async def _write(self, *events: h11.Event) -> None:
        await self._stream.send(b"".join(self._protocol.send(event) or b"" for event in events))
