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


def _build(self: ResilientTransport, inner: Any = None, **options: Unpack[Options]) -> None:
    is_ours = inner is None
    inner = DefaultTransport() if is_ours else inner
    if not hasattr(inner, "handle_async_request"):
        raise TypeError(f"inner={inner!r}: expected an async transport of httpx2 or httpx")
    config = Config.from_options(options)
    fleet = config.as_fleet
    if fleet is not None and fleet.account is None:
        raise ValueError("fleet: expected Fleet(..., account=...): no client's key names it")
    forget_in_children(inner)
    engine = Engine(config, account_of("", "", fleet.account if fleet else None))
    _set_up(self, inner, engine, only_calls=False, is_fitting=is_ours)


def _set_up(
    transport: ResilientTransport,
    inner: Transport,
    engine: Engine,
    *,
    only_calls: bool,
    is_fitting: bool,
) -> None:
    transport.__dict__.update(
        _inner=inner, _engine=engine, _only_calls=only_calls, _is_fitting=is_fitting
    )


class ResilientTransport:
    """An async transport for httpx2 or httpx that retries and limits what the inner one sends.

    ``wrap`` puts it into a client; build it yourself only for an http client of your own:
    ``AsyncOpenAI(http_client=httpx2.AsyncClient(transport=ResilientTransport()))``. Proxies of
    the environment do not apply to an http client that is given a transport, whosever it is.

    Args:
        inner: The transport that sends each attempt. By default a new one such as the SDK makes
            for itself, of httpx2 or httpx, whichever your http client is of; give one for a
            proxy, certificates, a local address or connection limits of your own.
        max_retries: Attempts after the first one (retries, a whole number, 0 to 1000).
        backoff_initial: Longest wait before the first retry; doubles each time (s, a number, 0 to
            3600).
        backoff_max: No wait of our own is longer than this (s, a number, 0 to 86400).
        max_retry_after: Give up at once if the server asks for a longer wait (s, a number, 0 to
            86400).
        wait: Wait generator of ``backoff`` or of its kind: ``backoff.fibo``,
            ``partial(backoff.constant, interval=2)``; ``expo`` begins with ``backoff_initial``,
            those of others are seconds as they come.
        jitter: Function from the longest wait to the one that is waited, such as
            ``backoff.random_jitter``; ours draws evenly from three quarters of it on, of up to
            2 s from two fifths on.
        retry_ambiguous: Which requests are sent again although the first may have been done and
            billed: ``text`` (all but images, videos, speech), ``all``, ``none``.
        deadline: For the whole request, queue, attempts and waits, until its answer begins (s, a
            number, 0.001 to 86400, or None).
        initial_concurrency: What each partition and its account start with, within the next two
            (requests, a whole number, 1 to 100000).
        min_concurrency: An open partition's limit stays at or above this (requests, a whole
            number, 1 to 100000).
        max_concurrency: A partition's limit stays at or below this (requests, a whole number, 1 to
            100000).
        max_queue: How many may wait in one partition; more are refused before they are sent
            (requests, a whole number, 0 to 10000000, or None).
        queue_timeout: Longest wait for a slot (s, a number, 0 to 86400, or None).
        priority: Whose turn it is in the queue: ``high``, ``normal``, ``low``, ``bulk`` (of
            ``run_all``), or a whole number from -10 (first) to 10 (last); nobody starves.
        stall_timeout: Longest wait for the first event of a stream and between events; keep-alives
            do not count (s, a number, 0.001 to 86400, or None).
        incomplete_stream: A stream that ends without its terminal sign: ``raise``, or only
            ``warn``.
        opening: The events before a stream's first output: ``hold`` them back, so that a failure
            there is retried, or ``pass`` them at once.
        partition: Function from a request to what it shares a limit with: (route, model).
        algorithm: Makes each partition's limit algorithm; ``lambda: FixedLimit(5)`` fixes it.
        budget: Requests and tokens that the account is allowed in a time, ``Budget(requests=500,
            tokens=200_000, per=60)``, or a mapping from models to theirs, ``*`` for all others.
        fleet: Share each limit with other processes through Redis or Valkey: a URL, a function
            that makes a client, or ``Fleet(...)``.
        rules: Rows of your own, tried before the table's.
        on_event: Called with each event, one function or several.
        journal: A file, or a function, that gets one line per attempt, without content.

    Raises:
        TypeError: If ``inner`` is no async transport, or a keyword is unknown; at the first
            request, if ``inner`` is of httpx and the http client of httpx2, or the reverse.
        ValueError: If a keyword's value is out of its bounds, or ``fleet`` names no account:
            there is no client here whose key could be the name.
        ImportError: If ``fleet`` is a URL and redis-py is not installed.

    """

    _inner: Transport
    _engine: Engine
    _only_calls: bool
    _is_fitting: bool

    @implemented_by(_build)
    def __init__(
        self,
        inner: Any = None,
        *,
        max_retries: int = 6,
        backoff_initial: float = 0.5,
        backoff_max: float = 30.0,
        max_retry_after: float = 60.0,
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
        _set_up(transport, inner, engine, only_calls=True, is_fitting=True)
        return transport

    def handle_async_request(self, request: Any) -> Awaitable[Any]:
        """Send a request as often as it takes; return its answer, or raise the SDK's exception.

        No ``async def``: what waits below by the thousand need not wait in one frame more.
        """
        engine, call, loop = self._engine, call_of(request), running_loop()
        if engine.connections is not None:
            engine.connections.note_use(loop)
        if call is None and self._only_calls:
            return self._pass(request)
        if call is not None and is_elsewhere(request, call):
            strip_private_headers(request)
            return self._pass(request)
        if not self._is_fitting:
            check_families(self._inner, request)
            self._is_fitting = True
        attempts = RetryLoop(engine, self._inner, request, read_request(request, call), loop)
        answer, info = attempts.run(), attempts.context.info
        if engine.instrumentations:
            hooked = InstrumentedRequest(
                engine.instrumentations, engine.observers, info, loop, attempts.log.queued_now
            )
            answer = hooked.run(answer)
        if engine.nesting.given_up:
            answer = engine.nesting.follow(request, info, answer)
        return answer

    def _pass(self, request: Request) -> Awaitable[Response]:
        return self._inner.handle_async_request(request)

    @property
    def is_a_clients_own(self) -> bool:
        """Tell whether it serves one wrapped client and lets the requests of others pass."""
        return self._only_calls

    def snapshot(self) -> Snapshot:
        """Return the state of the limiter, for each partition."""
        return self._engine.limiter.snapshot()

    async def aclose(self) -> None:
        """Close the inner transport, and leave the fleet."""
        self._engine.close()
        await self._inner.aclose()

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._engine.close()
        await self._inner.__aexit__(*exception)
