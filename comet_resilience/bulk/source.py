"""The items, from an iterable or an async iterable, one at a time and no sooner than wanted."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Any, Generic, TypeVar, cast

ItemT = TypeVar("ItemT")


class Source(Generic[ItemT]):
    """Both kinds of iterables as one async iterator. Nothing is read ahead.

    It is no generator: one that is left half way would need the event loop to clean it up.
    """

    def __init__(self, items: Iterable[ItemT] | AsyncIterable[ItemT]) -> None:
        self._later: AsyncIterator[ItemT] | None = None
        self._now: Iterator[ItemT] = iter(())
        if isinstance(items, AsyncIterable):
            self._later = aiter(items)
        else:
            self._now = iter(items)

    def __aiter__(self) -> Source[ItemT]:
        return self

    async def __anext__(self) -> ItemT:
        if self._later is not None:
            return await anext(self._later)
        for item in self._now:
            return item
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Let an async generator clean up while its event loop runs; all else is its owner's."""
        if isinstance(self._later, AsyncGenerator):
            await self._later.aclose()


def size_of(items: object) -> int | None:
    """Return the number of items, ``None`` if only reading them would tell."""
    try:
        return len(cast("Any", items))
    except TypeError:
        return None
