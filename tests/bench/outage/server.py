"""A server that is down in one of the ways in which services are down, until it is told to be up.

It runs in a process of its own, so that it slows neither client down; its commands are lines on
its standard input: ``down``, ``up``, and ``counts``, which prints what it has seen as JSON. Its
first line of output is its port.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Final, Self

#: Seconds that an answer takes, good or bad.
ANSWER_TIME: Final = 0.05
#: Arrivals within so many seconds are one burst.
BURST_TIME: Final = 0.1
_BACKLOG: Final = 2_048


class Kind(StrEnum):
    """The way in which a service is down."""

    REFUSED = "refused"
    RESET = "reset"
    HUNG = "hung"
    STATUS_500 = "500"
    STATUS_502 = "502"
    STATUS_503 = "503"
    STATUS_504 = "504"
    STATUS_520 = "520"


def completion() -> bytes:
    """A whole answer to a chat completion."""
    message = {"role": "assistant", "content": "hi"}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    return json.dumps(
        {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    ).encode()


def failure(status: int) -> tuple[str, bytes]:
    """The content type and the body of a failed answer: pages from edges, JSON from gateways."""
    if status in {502, 504, 520}:
        words = {502: "Bad Gateway", 504: "Gateway Time-out"}.get(status, "unknown error")
        title = f"<title>{status} {words}</title>"
        return "text/html", f"<html><head>{title}</head><body>{words}</body></html>".encode()
    words = "Service temporarily unavailable" if status == 503 else "The server had an error"
    error = {"message": words, "type": "server_error", "param": None, "code": None}
    return "application/json", json.dumps({"error": error}).encode()


@dataclass(slots=True)
class Counts:
    """Requests that reached the server.

    ``at_once`` is the most in its hands at one time since it came up last, and ``burst`` the most
    that arrived within a tenth of a second since then.
    """

    while_down: int = 0
    while_up: int = 0
    at_once: int = 0
    burst: int = 0
    held: int = 0
    arrivals: list[float] = field(default_factory=list)

    def arrived(self, is_down: bool, now: float) -> None:
        """A request is here."""
        self.held += 1
        if is_down:
            self.while_down += 1
            return
        self.while_up += 1
        self.at_once = max(self.at_once, self.held)
        self.arrivals = [when for when in self.arrivals if when > now - BURST_TIME] + [now]
        self.burst = max(self.burst, len(self.arrivals))


class Server:
    """Listens on a port that stays its own while it refuses."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.down = True
        self.counts = Counts()
        self._socket = _bound(0)
        self.port: int = self._socket.getsockname()[1]
        self._listening: asyncio.Server | None = None
        self._connections: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}

    async def go_down(self) -> None:
        """Begin the outage: a process that refuses has died, and its connections with it."""
        self.down = True
        if self.kind is not Kind.REFUSED:
            await self._listen()
        elif self._listening is not None:
            self._listening.close()
            self._listening = None
            self._drop_connections()
            self._socket = _bound(self.port)  # nobody listens: the kernel refuses

    async def come_up(self) -> None:
        """End the outage."""
        self.down = False
        self.counts.at_once = self.counts.burst = 0
        await self._listen()

    async def close(self) -> None:
        """Drop the connections, and give the port back."""
        if self._listening is not None:
            self._listening.close()
        self._socket.close()
        tasks = list(self._connections.values())
        self._drop_connections()
        await asyncio.gather(*tasks)

    def _drop_connections(self) -> None:
        for writer in list(self._connections):
            _reset(writer)

    async def _listen(self) -> None:
        if self._listening is None:
            self._listening = await asyncio.start_server(
                self._serve, sock=self._socket, backlog=_BACKLOG
            )

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task: asyncio.Task[None] | None = asyncio.current_task()
        assert task is not None
        self._connections[writer] = task
        try:
            while True:
                await _read_request(reader)
                await self._answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            del self._connections[writer]
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        is_down = self.down
        self.counts.arrived(is_down, time.monotonic())
        try:
            if is_down and self.kind is Kind.RESET:
                _reset(writer)
                raise ConnectionResetError
            if is_down and self.kind is Kind.HUNG:
                await reader.read()  # until the client has enough of it
                raise ConnectionResetError
            await asyncio.sleep(ANSWER_TIME)
            status = int(self.kind) if is_down and self.kind.isdecimal() else 200
            type_, body = failure(status) if is_down else ("application/json", completion())
            head = f"HTTP/1.1 {status} X\r\ncontent-type: {type_}\r\ncontent-length: {len(body)}"
            writer.write(head.encode() + b"\r\n\r\n" + body)
            await writer.drain()
        finally:
            self.counts.held -= 1


async def _read_request(reader: asyncio.StreamReader) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = head.partition("content-length:")[2].partition("\r\n")[0].strip()
    await reader.readexactly(int(length or 0))


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close at once, by RST and not by FIN."""
    at_once = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
    writer.transport.abort()


def _bound(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    return listener


class ServerProcess:
    """The server as the benchmark holds it; use it by ``with``."""

    def __init__(self, kind: Kind) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __spec__.name, kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port = int(self._answer())

    def tell(self, command: str) -> None:
        """Send a command."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()

    def counts(self) -> dict[str, Any]:
        """What it has seen so far."""
        self.tell("counts")
        seen: dict[str, Any] = json.loads(self._answer())
        return seen

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.kill()
        self._process.communicate()


async def _obey(kind: Kind) -> None:
    server = Server(kind)
    await server.go_down()
    print(server.port, flush=True)
    commands = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := (await commands.readline()).decode().strip():
        if line == "counts":
            print(json.dumps(asdict(server.counts)), flush=True)
        else:
            await (server.come_up() if line == "up" else server.go_down())


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_obey(Kind(sys.argv[1])))
