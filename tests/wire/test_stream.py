"""A body on its way to the caller reports how it ends, once."""

from __future__ import annotations

import gc
from collections import deque
from typing import Any

import pytest

from comet_resilience.wire.stream import CloseInner, Head, look_ahead, watch
from tests.conftest import ClosingStream, httpx

pytestmark = pytest.mark.anyio


class Notes:
    """A watcher that writes down what it hears."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.lacking: list[bytes] = []
        self.close_inner: CloseInner | None = None

    def passed(self, chunk: bytes) -> bytes:
        """Let everything pass."""
        return chunk

    def broke(self, error: BaseException) -> BaseException:
        """Replace the exception."""
        self.heard.append("broke")
        return KeyError(str(error))

    def ended(self) -> bytes:
        """Read to the end."""
        self.heard.append("ended")
        return self.lacking.pop() if self.lacking else b""

    def closed(self) -> None:
        """Closed."""
        self.heard.append("closed")

    def abandoned(self, close_inner: CloseInner) -> None:
        """Dropped."""
        self.heard.append("abandoned")
        self.close_inner = close_inner


class Watched:
    """A response whose body is watched."""

    def __init__(self, *parts: bytes | Exception, head: tuple[bytes, ...] = ()) -> None:
        self.closed: list[object] = []
        self.notes = Notes()
        self.response = httpx.Response(200, stream=ClosingStream(list(parts), self.closed))
        watch(self.response, Head(chunks=deque(head)), self.notes)


async def test_read_to_the_end() -> None:
    """The head comes first, then the rest, then the end; closing afterwards is harmless."""
    watched = Watched(b"b", b"c", head=(b"a",))
    assert await watched.response.aread() == b"abc"
    await watched.response.aclose()
    assert watched.notes.heard == ["ended", "closed"]


async def test_what_an_end_lacks_is_put_behind_it() -> None:
    """Whatever the watcher adds comes last, and then the end is asked for once more."""
    watched = Watched(b"a")
    watched.notes.lacking = [b"\n"]
    assert await watched.response.aread() == b"a\n"
    assert watched.notes.heard[:2] == ["ended", "ended"]


async def test_closed_early() -> None:
    """Closing before the end closes the connection."""
    watched = Watched(b"a", b"b")
    async for _ in watched.response.stream:
        break
    await watched.response.aclose()
    assert watched.notes.heard == ["closed"]
    assert len(watched.closed) == 1


async def test_a_body_that_fails() -> None:
    """The watcher decides what the caller gets; the cause stays."""
    watched = Watched(b"a", httpx.ReadError("gone"))
    with pytest.raises(KeyError, match="gone") as caught:
        await watched.response.aread()
    assert isinstance(caught.value.__cause__, httpx.ReadError)
    assert watched.notes.heard[0] == "broke"


async def test_dropped_and_collected() -> None:
    """A response that nobody closes is reported with the way to close its connection."""
    watched = Watched(b"a", b"b")
    del watched.response
    gc.collect()
    assert watched.notes.heard == ["abandoned"]
    assert watched.notes.close_inner is not None
    await watched.notes.close_inner()
    assert len(watched.closed) == 1


async def test_a_body_that_is_read_already() -> None:
    """Its stream is never closed by anybody, so it is over at once."""
    notes = Notes()
    watch(httpx.Response(200, content=b"all"), Head(), notes)
    assert notes.heard == ["closed"]


async def ahead(*parts: bytes | Exception, **headers: str) -> Head:
    """Look ahead in a stream of these parts."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await look_ahead(
        httpx.Response(200, headers=named, stream=ClosingStream(list(parts), [])), None
    )


async def test_looking_ahead() -> None:
    """It stops at the first real event and keeps what was read, chunk by chunk."""
    head = await ahead(b": ping\n\n", b"data: 1\n", b"\ndata: 2\n\n", b"data: 3\n\n")
    assert head.event is not None
    assert head.event.data == "1"
    assert list(head.chunks) == [b": ping\n\n", b"data: 1\n", b"\ndata: 2\n\n"]
    assert [part async for part in head.iterator] == [b"data: 3\n\n"]


async def test_looking_ahead_in_vain() -> None:
    """A stream without events tells what it held instead, and what ended it."""
    assert (await ahead(b": ping\n\n", b'{"error": 1}')).stray == b'{"error": 1}\n'
    assert isinstance((await ahead(httpx.ReadError("x"))).error, httpx.ReadError)
    assert (await ahead(b"?", content_encoding="unheard-of")).unreadable
    assert (await ahead(b"data: " + b"x" * 2_000_000)).oversized


async def test_an_event_without_its_blank_line() -> None:
    """What a stream ends with counts as an event, as the first look is concerned."""
    head: Any = await ahead(b"data: 1")
    assert head.event.data == "1"
