"""The few members of an HTTP library's objects that the rest of the package may use, as types.

httpx and httpx2 have unrelated classes; both have these. Whatever else an object has, its files
and form fields, its stream and its counters, is read in this room alone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, MutableMapping
from typing import Any, Protocol, Self


class QueryParams(Protocol):
    """The query of a URL."""

    def multi_items(self) -> list[tuple[str, str]]:
        """Return all pairs, those of one name one by one."""
        ...


class URL(Protocol):
    """The address of a request; ``netloc`` is encoded and ``path`` decoded."""

    scheme: str
    host: str
    netloc: bytes
    path: str
    username: str
    password: str
    params: QueryParams


class Request(Protocol):
    """A request on its way; ``extensions`` are what else travels with it, by name."""

    method: str
    url: URL
    headers: MutableMapping[str, str]
    extensions: MutableMapping[str, Any]


class ByteStream(Protocol):
    """A body as it comes."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...
    async def aclose(self) -> None:
        """Close the connection, or give it back."""


class Response(Protocol):
    """A response whose body may still be to come; ``extensions`` as in a request."""

    status_code: int
    headers: Mapping[str, str]
    extensions: MutableMapping[str, Any]

    async def aread(self) -> bytes:
        """Read the whole body, decoded."""
        ...

    async def aclose(self) -> None:
        """Close the response."""


class Transport(Protocol):
    """The sender of requests."""

    async def handle_async_request(self, request: Any, /) -> Any:
        """Send a request; return its response, the body still to come."""
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *exception: object) -> None: ...


def native(thing: Request | Response) -> Any:
    """Return the very same object for those who ask for a class of its own library."""
    return thing
