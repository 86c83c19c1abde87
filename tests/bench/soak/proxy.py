"""A TCP proxy on loopback that delays, slices, cuts, resets and swallows.

What befalls a request is drawn when its first bytes arrive, from the seed and its number, so that
a run can be repeated as far as the order of arrival can.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final, Self

#: What can happen to a request that passes.
MISCHIEF: Final[tuple[str, ...]] = (
    "delay",  # nothing happens for a while, then all goes on
    "slice",  # the answer comes in pieces of a few bytes
    "refuse",  # the connection is reset before the request has gone on
    "reset",  # the connection is reset somewhere in the answer
    "cut",  # the connection is closed properly somewhere in the answer
    "blackhole",  # the request is swallowed, and nothing ever comes
)
_CHUNK = 65_536
_SLICE = 7
_GONE = (ConnectionError, asyncio.IncompleteReadError, OSError)


class Proxy:
    """Listens on a free port and passes on to *port*; *shares* says how often what happens."""

    def __init__(
        self, port: int, shares: Mapping[str, float], *, seed: int = 0, delay: float = 0.1
    ) -> None:
        assert set(shares) <= set(MISCHIEF)
        self._target = port
        self._shares = shares
        self._seed = seed
        self._delay = delay
        self._tasks: set[asyncio.Task[None]] = set()
        self.requests = 0
        self.counts: Counter[str] = Counter()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def draw(self) -> str:
        """What happens to the next request, "" for nothing."""
        self.requests += 1
        draw = random.Random(f"{self._seed}/{self.requests}").random()
        for name, share in self._shares.items():
            if draw < share:
                self.counts[name] += 1
                return name
            draw -= share
        return ""

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(_Passage(self.draw, self._delay, reader, writer)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: writer.close())  # also where it never began

    async def _serve(self, passage: _Passage) -> None:
        # Either side is gone, or the proxy closes: asyncio would log what it is told.
        with contextlib.suppress(*_GONE, asyncio.CancelledError):
            await passage.run(self._target)


class _Passage:
    """One connection through the proxy, with the mood of its latest request."""

    def __init__(
        self,
        draw: Callable[[], str],
        delay: float,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._draw = draw
        self._delay = delay
        self._reader = reader
        self._writer = writer
        self._mood = ""
        self._answering = True

    async def run(self, port: int) -> None:
        """Pass bytes on in both directions until one of them ends."""
        there, onward = await asyncio.open_connection("127.0.0.1", port)
        ways = [
            asyncio.ensure_future(self._requests(onward)),
            asyncio.ensure_future(self._answers(there)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            onward.close()  # before anything that a cancellation can reach
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            with contextlib.suppress(*_GONE):
                await onward.wait_closed()

    async def _requests(self, onward: asyncio.StreamWriter) -> None:
        while data := await self._reader.read(_CHUNK):
            if self._answering:  # the first bytes since the last answer: a new request
                self._answering, self._mood = False, self._draw()
            if self._mood == "refuse":
                self._reset()
                return
            if self._mood == "delay":
                await asyncio.sleep(self._delay)
            if self._mood != "blackhole":
                onward.write(data)
                await onward.drain()

    async def _answers(self, there: asyncio.StreamReader) -> None:
        while data := await there.read(_CHUNK):
            self._answering = True
            if self._mood in ("reset", "cut"):
                self._writer.write(data[: len(data) // 2])
                await self._writer.drain()
                if self._mood == "reset":
                    self._reset()
                return
            size = _SLICE if self._mood == "slice" else _CHUNK
            for start in range(0, len(data), size):
                self._writer.write(data[start : start + size])
                await self._writer.drain()
                if size == _SLICE:
                    await asyncio.sleep(0)

    def _reset(self) -> None:
        """Say RST instead of good-bye."""
        connection = self._writer.get_extra_info("socket")
        linger = struct.pack("ii", 1, 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._writer.transport.abort()
