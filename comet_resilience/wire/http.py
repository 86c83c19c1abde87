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
    """Where a request goes."""

    @property
    def scheme(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def netloc(self) -> bytes: ...
    @property
    def path(self) -> str: ...
    @property
    def username(self) -> str: ...
    @property
    def password(self) -> str: ...
    @property
    def params(self) -> QueryParams: ...


class Request(Protocol):
    """A request on its way."""

    @property
    def method(self) -> str: ...
    @property
    def url(self) -> URL: ...
    @property
    def headers(self) -> MutableMapping[str, str]: ...
    @property
    def extensions(self) -> MutableMapping[str, Any]: ...


class ByteStream(Protocol):
    """A body as it comes."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...
    async def aclose(self) -> None:
        """Close the connection, or give it back."""
        ...


class Response(Protocol):
    """A response whose body may still be to come."""

    @property
    def status_code(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def extensions(self) -> MutableMapping[str, Any]: ...
    async def aread(self) -> bytes:
        """Read the whole body, decoded."""
        ...

    async def aclose(self) -> None:
        """Close the response."""
        ...


class Transport(Protocol):
    """What sends a request."""

    async def handle_async_request(self, request: Any, /) -> Any:
        """Send a request; return its response, the body still to come."""
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *exception: Any) -> None: ...


def native(thing: Request | Response) -> Any:
    """Return the very same object for those who ask for a class of its own library."""
    return thing
