"""The transport that the HTTP client calls: between the SDK and the wire."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Self, Unpack

from .call.engine import Engine
from .call.hooks import InstrumentedRequest
from .call.retry_loop import RetryLoop
from .config import Config, Options
from .fleet.scope import account_of
from .limits.eventloop import running_loop
from .limits.snapshot import Snapshot
from .wire.family import DefaultTransport, check_families
from .wire.forking import forget_in_children
from .wire.http import Request, Response, Transport
from .wire.request import call_of, is_elsewhere, read_request, strip_private_headers


class ResilientTransport:
    """An async transport for httpx2 or httpx that retries and limits what the inner one sends.

    ``wrap`` puts it into a client; build it yourself only for an http client of your own:
    ``AsyncOpenAI(http_client=httpx2.AsyncClient(transport=ResilientTransport()))``. Proxies of
    the environment do not apply to an http client that is given a transport, whosever it is.

    Args:
        inner: The transport that sends each attempt. By default a new one such as the SDK makes
            for itself, of httpx2 or httpx, whichever your http client is of; give one for a
            proxy, certificates, a local address or connection limits of your own.
        **options: The keywords of ``wrap``, which explains each of them.

    Raises:
        TypeError: If ``inner`` is no async transport, or a keyword is unknown; at the first
            request, if ``inner`` is of httpx and the http client of httpx2, or the reverse.
        ValueError: If a keyword's value is out of its bounds, or ``fleet`` names no account:
            there is no client here whose key could be the name.
        ImportError: If ``fleet`` is a URL and redis-py is not installed.

    """

    def __init__(self, inner: Any = None, **options: Unpack[Options]) -> None:
        self._is_fitting = inner is None  # of the HTTP library whose requests it gets
        inner = DefaultTransport() if inner is None else inner
        if not hasattr(inner, "handle_async_request"):
            raise TypeError(f"inner={inner!r}: expected an async transport of httpx2 or httpx")
        config = Config.from_options(options)
        fleet = config.as_fleet
        if fleet is not None and fleet.account is None:
            raise ValueError("fleet: expected Fleet(..., account=...): no client's key names it")
        forget_in_children(inner)
        self._inner: Transport = inner
        self._engine = Engine(config, account_of("", "", fleet.account if fleet else None))
        #: Whether it serves one wrapped client and lets the requests of others pass.
        self.is_a_clients_own: bool = False

    @classmethod
    def for_client(cls, inner: Transport, engine: Engine) -> ResilientTransport:
        """Make a transport that shares its engine and leaves alone what is no call of the API.

        A wrapped client sends token exchanges and redirected downloads through it, too.
        """
        transport = cls.__new__(cls)
        transport._inner, transport._engine = inner, engine  # noqa: SLF001 - of this very class
        transport._is_fitting = True  # noqa: SLF001
        transport.is_a_clients_own = True
        return transport

    def handle_async_request(self, request: Any) -> Awaitable[Any]:
        """Send a request as often as it takes; return its answer, or raise the SDK's exception.

        No ``async def``: what waits below by the thousand need not wait in one frame more.
        """
        engine, call, loop = self._engine, call_of(request), running_loop()
        if engine.connections is not None:
            engine.connections.note_use(loop)
        if call is None and self.is_a_clients_own:
            return self._pass(request)
        if call is not None and is_elsewhere(request, call):
            strip_private_headers(request)
            return self._pass(request)
        if not self._is_fitting:
            check_families(self._inner, request)
            self._is_fitting = True
        retry_loop = RetryLoop(engine, self._inner, request, read_request(request, call), loop)
        answer, info = retry_loop.run(), retry_loop.context.info
        if engine.instrumentations:
            hooked = InstrumentedRequest(
                engine.instrumentations, engine.observers, info, loop, retry_loop.log.queued_now
            )
            answer = hooked.run(answer)
        if engine.nesting.given_up:
            answer = engine.nesting.follow(request, info, answer)
        return answer

    def _pass(self, request: Request) -> Awaitable[Response]:
        return self._inner.handle_async_request(request)

    def snapshot(self) -> Snapshot:
        """Return the state of the limiter, for each partition."""
        return self._engine.limiter.snapshot()

    async def aclose(self) -> None:
        """Close the inner transport, and leave the fleet."""
        self._engine.close()
        await self._inner.aclose()

    def __repr__(self) -> str:
        # Not as it shows itself: it may hold requests, and what is secret in them.
        return f"<ResilientTransport over {type(self._inner).__name__}>"

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._engine.close()
        await self._inner.__aexit__(*exception)
