"""The two HTTP libraries: telling them apart, and putting a transport into a client.

openai 3 stands on httpx2, openai 2 on httpx; their classes are unrelated, and either may be
missing. Neither is imported here: whatever a client, request or exception is made of has been
imported by its maker.
"""

from __future__ import annotations

import contextlib
import copy
import ssl
import sys
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any, Final, Self

import anyio
import openai

from ..verdict.vocabulary import Fault
from .forking import forget_in_children

NAMES: Final = ("httpx2", "httpx")

#: Exceptions of both families by name; a subclass is found before its base.
FAULTS: Final = {
    "ConnectTimeout": Fault.CONNECT_TIMEOUT,
    "ReadTimeout": Fault.READ_TIMEOUT,
    "WriteTimeout": Fault.WRITE_TIMEOUT,
    "PoolTimeout": Fault.POOL_TIMEOUT,
    "TimeoutException": Fault.READ_TIMEOUT,
    "ConnectError": Fault.CONNECT,
    "ReadError": Fault.READ,
    "WriteError": Fault.WRITE,
    "CloseError": Fault.READ,
    "NetworkError": Fault.READ,
    "ProxyError": Fault.PROXY,
    "RemoteProtocolError": Fault.PROTOCOL,
    "DecodingError": Fault.PROTOCOL,
    "LocalProtocolError": Fault.LOCAL,
    "UnsupportedProtocol": Fault.LOCAL,
    "TransportError": Fault.READ,
}

#: What the bridge to aiohttp hides: it calls a server that hung up a connect timeout, and what
#: was never sent may be sent again, paid or not.
_AIOHTTP_FAULTS: Final = {
    "ClientSSLError": Fault.TLS,
    "ClientProxyConnectionError": Fault.PROXY,
    "ClientConnectorError": Fault.CONNECT,
    "ConnectionTimeoutError": Fault.CONNECT_TIMEOUT,
    "ServerTimeoutError": Fault.READ_TIMEOUT,
    "ServerDisconnectedError": Fault.PROTOCOL,
    "ClientConnectionError": Fault.READ,
    "ClientResponseError": Fault.PROTOCOL,
}

#: What a pooled connection says whose event loop has ended, as between two ``asyncio.run``. It
#: may have sent the request before it notices.
_LOOP_IS_GONE: Final = "Event loop is closed"


def family_of(thing: Any) -> Any:
    """Return the HTTP library that a client, request or response belongs to.

    Raises:
        TypeError: If it is neither httpx2's nor httpx's.

    """
    return _family(thing.__class__)


def library_of(thing: object) -> str:
    """Return the HTTP library that something belongs to, with its version, ``""`` if to none."""
    with contextlib.suppress(Exception):
        family = family_of(thing)
        return f"{family.__name__} {family.__version__}"
    return ""


def family_of_sdk() -> Any:
    """Return the HTTP library of the installed SDK's clients; both may be installed."""
    return _family(openai.DefaultAsyncHttpxClient)


class DefaultTransport:
    """A transport such as the SDK's default client has, of the family of what it is to send.

    Both families may be installed, and an SDK may take http clients of either: which one it is
    for shows in its first request.
    """

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def handle_async_request(self, request: Any) -> Awaitable[Any]:
        """Send a request by the transport of its family."""
        family = family_of(request)
        transport = self._made.get(family.__name__)
        if transport is None:
            allowed = openai.DEFAULT_CONNECTION_LIMITS
            limits = family.Limits(
                max_connections=allowed.max_connections,
                max_keepalive_connections=allowed.max_keepalive_connections,
                keepalive_expiry=allowed.keepalive_expiry,
            )
            transport = self._made[family.__name__] = family.AsyncHTTPTransport(limits=limits)
            forget_in_children(transport)
        answer: Awaitable[Any] = transport.handle_async_request(request)
        return answer

    async def aclose(self) -> None:
        """Close all connections."""
        for transport in list(self._made.values()):
            await transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()


def check_families(transport: object, request: object) -> None:
    """Refuse a transport of one family for the requests of the other, which it would not know.

    A transport of neither may know both.

    Raises:
        TypeError: If they belong to different families.

    """
    name = _family_name(type(transport))
    wanted = family_of(request).__name__
    if name not in (None, wanted):
        raise TypeError(
            f"inner={transport!r}: expected a transport of {wanted}, as the http client is, which"
            f" this was given to; it is one of {name}"
        )


@lru_cache(maxsize=256)
def _family(cls: Any) -> Any:
    name = _family_name(cls)
    if name is None:
        words = f"{cls.__module__}.{cls.__qualname__} belongs neither to httpx2 nor to httpx"
        raise TypeError(words)
    return sys.modules[name]


def _family_name(cls: type) -> str | None:
    roots = (base.__module__.partition(".")[0] for base in cls.__mro__)
    return next((root for root in roots if root in NAMES), None)


def fault_of(error: BaseException) -> Fault | None:
    """Return the fault that an exception stands for; ``None`` if it is something else."""
    fault = _named(error, NAMES, FAULTS)
    beneath = error if fault is None else error.__cause__
    fault = _named(beneath, ("aiohttp",), _AIOHTTP_FAULTS) or fault
    if fault is not None:
        return fault
    if isinstance(error, ssl.SSLError):
        return Fault.TLS
    if type(error) is RuntimeError and str(error) == _LOOP_IS_GONE:
        return Fault.READ
    if isinstance(error, (ConnectionError, anyio.EndOfStream, anyio.BrokenResourceError)):
        return Fault.READ
    return None


def _named(
    error: BaseException | None, roots: tuple[str, ...], faults: dict[str, Fault]
) -> Fault | None:
    for base in type(error).__mro__:
        if base.__name__ in faults and base.__module__.partition(".")[0] in roots:
            return faults[base.__name__]
    return None


def with_transport(http_client: Any, wrap_transport: Callable[[Any], Any]) -> Any:
    """Return a twin of an ``AsyncClient`` with wrapped transports; the original stays as it is.

    Everything else is shared: proxies (a mount each), event hooks, headers, cookies, TLS and
    timeouts. The twin keeps the original alive, whose end is that of the common connections.
    """
    wrapped: dict[int, Any] = {}

    def wrap_once(transport: Any) -> Any:
        if transport is None:  # a mount that says "not through the proxy"
            return None
        forget_in_children(transport)
        return wrapped.setdefault(id(transport), wrap_transport(transport))

    twin = copy.copy(http_client)
    if hasattr(type(http_client), "__del__"):
        twin.__class__ = without_finalizer(http_client.__class__)
    twin.__dict__.update(
        _transport=wrap_once(http_client._transport),  # noqa: SLF001 - there is no public way
        _mounts={pattern: wrap_once(mount) for pattern, mount in http_client._mounts.items()},  # noqa: SLF001
        _comet_resilience_original=http_client,
    )
    return twin


def transport_of(http_client: Any) -> Any:
    """Return the main transport of an ``AsyncClient``."""
    return http_client._transport  # noqa: SLF001 - there is no public way


@lru_cache(maxsize=256)
def without_finalizer(cls: Any) -> Any:
    """Return a class that is like another but does nothing when an instance is collected."""
    members = {"__del__": lambda _self: None, "__module__": cls.__module__, "__doc__": cls.__doc__}
    twin = type(cls.__name__, (cls,), members)
    twin.__qualname__ = cls.__qualname__
    return twin
