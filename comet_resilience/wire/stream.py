"""The body of a success on its way to the caller: its end gives the slot back, exactly once.

It ends by being read to the end, by being closed, by failing, or by being dropped and collected.
"""

from __future__ import annotations

import weakref
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any

from ..verdict.vocabulary import Signal
from .family import family_of

OnEnd = Callable[[Signal], None]
OnAbandon = Callable[[Callable[[], Awaitable[None]]], None]


def watch(response: Any, on_end: OnEnd, on_abandon: OnAbandon) -> None:
    """Call ``on_end`` once when the body of a response is over.

    If the body is dropped without being closed, ``on_abandon`` is called instead, from the
    garbage collector, with the function that closes the connection.
    """
    if response.is_closed or response.is_stream_consumed:
        on_end(Signal.SUCCESS)  # a body that is read already never closes its stream
        return
    cls = _watched_class(family_of(response))
    response.stream = cls(response.stream, on_end, on_abandon)


@cache
def _watched_class(family: Any) -> Any:  # noqa: C901 - one small class
    """The wrapping stream, as a subclass of its family's base, which the client insists on.

    It is an iterator rather than a generator: a generator that nobody exhausts would need the
    event loop to clean it up.
    """

    class WatchedStream(family.AsyncByteStream):  # type: ignore[misc]
        def __init__(self, inner: Any, on_end: OnEnd, on_abandon: OnAbandon) -> None:
            self._inner = inner
            self._on_end: OnEnd | None = on_end
            self._finalizer = weakref.finalize(self, on_abandon, inner.aclose)
            self._finalizer.atexit = False

        def __aiter__(self) -> Any:
            self._iterator = self._inner.__aiter__()
            return self

        async def __anext__(self) -> bytes:
            try:
                chunk: bytes = await self._iterator.__anext__()
            except StopAsyncIteration:
                self._end(Signal.SUCCESS)
                raise
            except BaseException:
                self._end(Signal.IGNORED)
                raise
            return chunk

        async def aclose(self) -> None:
            try:
                await self._inner.aclose()
            finally:
                self._end(Signal.SUCCESS)

        def _end(self, signal: Signal) -> None:
            on_end, self._on_end = self._on_end, None
            if on_end is not None:
                self._finalizer.detach()
                on_end(signal)

    return WatchedStream
