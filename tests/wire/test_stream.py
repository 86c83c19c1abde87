"""A body on its way to the caller gives its slot back once, however it ends."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from comet_resilience.verdict.vocabulary import Signal
from comet_resilience.wire.stream import watch

from ..conftest import ClosingStream, httpx

pytestmark = pytest.mark.anyio


class Watched:
    """A response whose body is watched, and what was heard of its end."""

    def __init__(self, *parts: bytes | Exception) -> None:
        self.closed: list[object] = []
        self.ends: list[Signal] = []
        self.abandoned: list[Any] = []
        self.response = httpx.Response(200, stream=ClosingStream(list(parts), self.closed))
        watch(self.response, self.ends.append, self.abandoned.append)


async def test_read_to_the_end() -> None:
    """Reading everything is a success, once, also when closed afterwards."""
    watched = Watched(b"a", b"b")
    assert await watched.response.aread() == b"ab"
    await watched.response.aclose()
    await watched.response.stream.aclose()
    assert watched.ends == [Signal.SUCCESS]
    assert watched.abandoned == []


async def test_closed_early() -> None:
    """Closing before the end gives the slot back and closes the connection."""
    watched = Watched(b"a", b"b")
    async for _ in watched.response.stream:
        break
    await watched.response.aclose()
    assert watched.ends == [Signal.SUCCESS]
    assert len(watched.closed) == 1


async def test_a_body_that_fails() -> None:
    """A fault inside the body teaches the limit nothing, and passes to the caller."""
    watched = Watched(b"a", httpx.ReadError("gone"))
    with pytest.raises(httpx.ReadError):
        await watched.response.aread()
    assert watched.ends == [Signal.IGNORED]


async def test_dropped_and_collected() -> None:
    """A response that nobody closes is reported with the way to close its connection."""
    watched = Watched(b"a", b"b")
    del watched.response
    gc.collect()
    assert watched.ends == []
    (close_inner,) = watched.abandoned
    await close_inner()
    assert len(watched.closed) == 1


async def test_a_body_that_is_read_already() -> None:
    """Its stream is never closed by anybody, so its slot comes back at once."""
    ends: list[Signal] = []
    watch(httpx.Response(200, content=b"all"), ends.append, lambda _: None)
    assert ends == [Signal.SUCCESS]
