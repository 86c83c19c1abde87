"""The transport that the HTTP client calls: between the SDK and the wire."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Self, Unpack

import backoff

from .call.engine import Engine
from .call.hooks import InstrumentedRequest
from .call.retry_loop import RetryLoop
from .config import (
    AlgorithmFactory,
    Config,
    IncompleteStream,
    Journal,
    Opening,
    Options,
    Partition,
)
from .events import Observer
from .fleet.scope import Fleet, RedisSource, account_of
from .keywords import implemented_by
from .limits.budget import Budget
from .limits.eventloop import running_loop
from .limits.priority import Priority
from .limits.snapshot import Snapshot
from .verdict.retry import Jitter, RetryAmbiguous, WaitGenerator
from .verdict.rule import Rule
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
        max_retries: Retries after the first attempt (0 to 1000 retries).
        backoff_initial: Longest wait before the first retry; doubles with each further one (0 to
            3600 seconds).
        backoff_max: Upper bound of the waits that the server does not ask for (0 to 86400
            seconds).
        max_retry_after: Give up at once if the server asks for a longer wait (0 to 86400 seconds).
        wait: Wait generator as in the package ``backoff``: ``backoff.fibo``,
            ``partial(backoff.constant, interval=2)``; ``backoff_initial`` applies to ``expo``
            alone.
        jitter: Function that turns the longest wait into the actual one, such as
            ``backoff.random_jitter``; by default 75 to 100 % of it, or 40 to 100 % of waits up to
            2 s.
        retry_ambiguous: What is retried although the failed attempt may have been carried out and
            billed: ``text`` (all but images, videos, speech), ``all``, ``none``.
        deadline: Time for the whole request until its answer begins, with all attempts and waits
            (0.001 to 86400 seconds, or None).
        initial_concurrency: Limit that each partition and its account start at, within ``min_``
            and ``max_concurrency`` (1 to 100000 requests).
        min_concurrency: Lower bound of a partition's limit, unless refusals have closed it (1 to
            100000 requests).
        max_concurrency: Upper bound of a partition's limit (1 to 100000 requests).
        max_queue: How many requests may wait in one partition; further ones fail at once, unsent
            (0 to 10000000 requests, or None).
        queue_timeout: Longest wait for a slot (0 to 86400 seconds, or None).
        priority: Place in the queue: ``high``, ``normal``, ``low``, ``bulk`` (the default of
            ``run_all``), or a whole number from -10 (first) to 10 (last); nobody starves.
        stall_timeout: Longest wait for the next event of a stream, the first included; keep-alives
            do not count (0.001 to 86400 seconds, or None).
        incomplete_stream: What to do where a stream ends without its terminal event: ``raise``, or
            only ``warn``.
        opening: Events before a stream's first output: ``hold`` them back, so that a failure among
            them is retried, or ``pass`` them on at once.
        partition: Function from a request to the key of the limit that it shares; by default
            (route, model).
        algorithm: Function that makes a partition's limit algorithm: ``lambda: FixedLimit(5)``.
        budget: Requests and tokens allowed per period, ``Budget(requests=500, tokens=200_000,
            per=60)``, or a mapping from models to budgets, ``*`` for all others.
        fleet: Share each limit with other processes through Redis or Valkey: a URL, a function
            that makes a client, or ``Fleet(...)``.
        rules: Rules of your own, tried before those of the table.
        on_event: Function, or several, called with each event.
        journal: File or function that gets one line per attempt, without content.

    Raises:
        TypeError: If ``inner`` is no async transport, or a keyword is unknown; at the first
            request, if ``inner`` is of httpx and the http client of httpx2, or the reverse.
        ValueError: If a keyword's value is out of its bounds, or ``fleet`` names no account:
            there is no client here whose key could be the name.
        ImportError: If ``fleet`` is a URL and redis-py is not installed.

    """

    def _set_up(self, inner: Any = None, **options: Unpack[Options]) -> None:
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

    @implemented_by(_set_up)
    def __init__(
        self,
        inner: Any = None,
        *,
        max_retries: int = 6,
        backoff_initial: float = 0.5,
        backoff_max: float = 30.0,
        max_retry_after: float = 120.0,
        wait: WaitGenerator = backoff.expo,
        jitter: Jitter | None = None,
        retry_ambiguous: RetryAmbiguous = "text",
        deadline: float | None = None,
        initial_concurrency: int = 8,
        min_concurrency: int = 1,
        max_concurrency: int = 512,
        max_queue: int | None = 10000,
        queue_timeout: float | None = None,
        priority: Priority = "normal",
        stall_timeout: float | None = None,
        incomplete_stream: IncompleteStream = "raise",
        opening: Opening = "hold",
        partition: Partition | None = None,
        algorithm: AlgorithmFactory | None = None,
        budget: Budget | Mapping[str, Budget] | None = None,
        fleet: RedisSource | Fleet | None = None,
        rules: Sequence[Rule] = (),
        on_event: Observer | Sequence[Observer] | None = None,
        journal: Journal | None = None,
    ) -> None:
        raise NotImplementedError

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
