"""Bodies on their way to the caller, and the look at the beginning of an event stream.

A body that is handed on gives its slot back exactly once: when it is read to the end, closed,
fails, or is dropped and collected. Who watches decides what all of that means (``Watcher``).
"""

from __future__ import annotations

import contextlib
import weakref
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, Final, Protocol

import anyio

from .encoding import Decoder, OutOfReachError, decoder_of
from .family import family_of
from .response import BODY_CAP, BODY_SECONDS, CLOSE_SECONDS
from .sse import HEAD_CAP, Event, FirstEvent

CloseInner = Callable[[], Awaitable[None]]

#: A chunk that is kept costs this much besides its bytes: many small ones are no way round a cap.
_CHUNK_COST: Final = 64
#: So many events are held back while none of them is output.
_OPENING_CAP: Final = 256


class Watcher(Protocol):
    """The watcher that the body of a success reports to."""

    def passed(self, chunk: bytes) -> bytes:
        """Return what of a chunk may go to the caller. Raises to end the stream."""
        ...

    def broke(self, error: BaseException) -> BaseException:
        """Return the exception that the caller gets for a body that failed."""
        ...

    def ended(self) -> bytes:
        """Note that the body was read to its end; return what it lacks. Raises if it is none."""
        ...

    def closed(self) -> None:
        """Note that the body was closed before its end."""
        ...

    def abandoned(self, close_inner: CloseInner) -> None:
        """Note that the body was dropped, neither read nor closed. Called by a finalizer."""
        ...


class Timekeeper(Protocol):
    """The bound on silence in a body."""

    def patience(self) -> float:
        """Return the seconds that may pass before the next chunk."""
        ...

    def stalled(self) -> BaseException:
        """Return the exception that the caller gets for a silence that was longer."""
        ...


@dataclass(slots=True)
class Head:
    """The beginning of a stream: its first chunks, as they came, and its first real event.

    ``iterator`` gives the rest: a stream must not be iterated twice. Without an event the stream
    has ended, and ``stray`` is what it held instead; ``error`` is the exception that ended it, if
    any. ``unreadable`` says that nobody here can decode it, or not within bounds, ``oversized``
    that its first event, or what precedes it, is too large to be waited for. ``opened`` counts the
    events before it; ``is_cut`` says that its end is missing.
    """

    iterator: Any = None
    chunks: deque[bytes] = field(default_factory=deque)
    event: Event | None = None
    stray: bytes = b""
    error: Exception | None = None
    stalled: bool = False
    unreadable: bool = False
    oversized: bool = False
    opened: int = 0
    is_cut: bool = False


async def look_ahead(
    response: Any, patience: float | None, decides: Callable[[Event], bool] | None = None
) -> Head:
    """Read a stream until the first event that ``decides``, ``patience`` seconds for each event."""
    head, first = Head(iterator=response.stream.__aiter__()), FirstEvent(decides)
    decoder = decoder_of(response.headers.get("content-encoding", ""))
    if decoder is None:
        return Head(unreadable=True)
    with anyio.move_on_after(patience) as scope:
        try:
            await _read_head(head, first, decoder, partial(_renew, scope, first, patience))
        except OutOfReachError:
            head.unreadable = True
        except Exception as error:  # noqa: BLE001 - judged by the caller of this function
            head.error = error
    if scope.cancelled_caught:
        head.stalled = not first.is_body
        first.finish()
    head.stray, head.opened = first.stray, first.opened
    return head


def _renew(scope: anyio.CancelScope, first: FirstEvent, patience: float | None, came: bool) -> None:
    """Give the next event its time; what is no stream has as long as any error body."""
    if first.is_body:
        scope.deadline = min(scope.deadline, anyio.current_time() + BODY_SECONDS)
    elif came and patience is not None:
        scope.deadline = anyio.current_time() + patience


async def _read_head(
    head: Head, first: FirstEvent, decoder: Decoder, renew: Callable[[bool], None]
) -> None:
    held = opened = 0
    async for chunk in head.iterator:
        head.chunks.append(chunk)
        held += len(chunk) + _CHUNK_COST
        for piece in decoder(chunk):
            head.event = first.feed(piece)
            head.oversized = first.bytes_read > HEAD_CAP or first.opened > _OPENING_CAP
            if head.event is not None or head.oversized:
                return
        if first.is_body and first.bytes_read > BODY_CAP:
            break
        if held > HEAD_CAP:
            head.oversized = True
            return
        renew(first.opened > opened)
        opened = first.opened
    head.event = first.finish()
    head.is_cut = head.event is not None


async def first_bytes(response: Any) -> Head:
    """Read a body until anything has come of it."""
    head = Head(iterator=response.stream.__aiter__())
    async for chunk in head.iterator:
        if chunk:
            head.chunks.append(chunk)
            break
    return head


async def replay(response: Any, head: Head) -> None:
    """Put what was read of an ended stream in place of it, so that it can be read once more."""
    with anyio.move_on_after(CLOSE_SECONDS, shield=True), contextlib.suppress(Exception):
        await response.stream.aclose()
    response.stream = _replayed_class(family_of(response))(head.chunks)


class ReplayedStream:
    """The chunks of a stream that has ended, but for its family's base class."""

    def __init__(self, chunks: deque[bytes]) -> None:
        self._chunks = chunks

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> bytes:
        if not self._chunks:
            raise StopAsyncIteration
        return self._chunks.popleft()

    async def aclose(self) -> None:
        """Nothing is open any more."""


@cache
def _replayed_class(family: Any) -> Any:
    return type("ReplayedStream", (ReplayedStream, family.AsyncByteStream), {})


def watch(
    response: Any, head: Head, watcher: Watcher, timekeeper: Timekeeper | None = None
) -> WatchedStream | None:
    """Put a watched stream in place of a response's own; ``head`` was read from it already.

    Returns it, or ``None`` where the body was read already.
    """
    if response.is_closed or response.is_stream_consumed:
        watcher.closed()  # a body that is read already never closes its stream
        return None
    cls = _watched_class(family_of(response))
    watched: WatchedStream = cls(response.stream, head, watcher, timekeeper)
    response.stream = watched
    return watched


async def _nothing_more() -> bytes:
    raise StopAsyncIteration


class WatchedStream:
    """The stream in place of a response's own, but for its family's base class.

    It is an iterator rather than a generator: a generator that nobody exhausts would need the
    event loop to clean it up.
    """

    def __init__(
        self, inner: Any, head: Head, watcher: Watcher, timekeeper: Timekeeper | None
    ) -> None:
        self._inner = inner
        self._head = head.chunks
        self._watcher = watcher
        iterator = inner.__aiter__() if head.iterator is None else head.iterator
        self._next: Callable[[], Awaitable[bytes]] = iterator.__anext__
        self._timekeeper = timekeeper
        self.turns: int = 0  # odd while somebody reads
        self._finalizer = weakref.finalize(self, watcher.abandoned, inner.aclose)
        self._finalizer.atexit = False

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> bytes:
        self.turns += 1
        try:
            chunk = self._head.popleft() if self._head else await self._pull()
            return self._watcher.passed(chunk)
        except StopAsyncIteration:
            if lacking := self._watcher.ended():
                self._next = _nothing_more
                return lacking
            self._finalizer.detach()
            raise
        except BaseException as error:
            self._finalizer.detach()
            shown = self._watcher.broke(error)
            if shown is error:
                raise
            raise shown from error
        finally:
            self.turns += 1

    def _pull(self) -> Awaitable[bytes]:
        return self._next() if self._timekeeper is None else self._pull_in_time(self._timekeeper)

    async def _pull_in_time(self, timekeeper: Timekeeper) -> bytes:
        with anyio.move_on_after(timekeeper.patience()):
            return await self._next()
        raise timekeeper.stalled()

    async def aclose(self) -> None:
        """Close the connection, cancelled or not, within a bounded time; the body is over."""
        self._finalizer.detach()
        try:
            with anyio.move_on_after(CLOSE_SECONDS, shield=True):
                await self._inner.aclose()
        finally:
            self._watcher.closed()


@cache
def _watched_class(family: Any) -> Any:
    """Return the same as a subclass of its family's stream, which the client insists on."""
    return type("WatchedStream", (WatchedStream, family.AsyncByteStream), {})
