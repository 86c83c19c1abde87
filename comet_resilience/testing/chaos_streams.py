"""Bodies that go wrong on their way: cut, stalled or slow."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import anyio

from ..wire.family import family_of


def read_timeout(request: Any) -> float:
    """Seconds that the client of a request waits for bytes; infinite if it has no limit."""
    seconds = request.extensions.get("timeout", {}).get("read")
    return math.inf if seconds is None else float(seconds)


def disturbed_response(
    response: Any, request: Any, *, at: int | None, wait: float, chunk_delay: float
) -> Any:
    """The same response with a body that breaks in its chunk number *at* (from 0), if any.

    Half of that chunk still arrives. A body of known length breaks in its first chunk, any other
    that is shorter where its end would be. *wait* is how long nothing comes before it is over, in
    seconds: 0 for a cut. *chunk_delay* passes before each chunk.
    """
    if at and "content-length" in response.headers:
        at = 0
    family = family_of(request)
    stream = _stream_class(family)(response.stream, request, at, wait, chunk_delay)
    return family.Response(
        response.status_code,
        headers=response.headers.raw,
        stream=stream,
        extensions=response.extensions,
    )


class _DisturbedStream:
    """Mixed with the stream class of a family. No generator: trio warns of half-read ones."""

    def __init__(
        self, inner: Any, request: Any, at: int | None, wait: float, chunk_delay: float
    ) -> None:
        self._inner = inner
        self._chunks = inner.__aiter__()
        self._request = request
        self._left = at
        self._wait = wait
        self._chunk_delay = chunk_delay
        self._is_over = False

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> bytes:
        if self._is_over:
            await self._break()
        if self._chunk_delay:
            await anyio.sleep(self._chunk_delay)
        try:
            chunk: bytes = await self._chunks.__anext__()
        except StopAsyncIteration:
            if self._left is not None:
                await self._break()
            raise
        if self._left == 0:
            self._is_over = True
            return chunk[: len(chunk) // 2]
        if self._left is not None:
            self._left -= 1
        return chunk

    async def _break(self) -> None:
        """Raise what a client sees: after a silence its own timeout, else the end too soon."""
        family = family_of(self._request)
        if self._wait:
            await anyio.sleep(self._wait)
            raise family.ReadTimeout("chaos: stall", request=self._request)
        message = "chaos: peer closed connection without sending complete message body"
        raise family.RemoteProtocolError(message, request=self._request)

    async def aclose(self) -> None:
        """Close the body that was disturbed."""
        await self._inner.aclose()


@cache
def _stream_class(family: Any) -> Any:
    return type("DisturbedByteStream", (_DisturbedStream, family.AsyncByteStream), {})
