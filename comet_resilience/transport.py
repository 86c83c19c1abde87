"""The transport: what sits between the SDK and the wire, and what its clients share."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Self, Unpack

from .config import Config, Options, by_route_and_model
from .events import Observers
from .journey import Journey
from .limits.algorithm import LimitAlgorithm, StepBack
from .limits.limiter import Limiter
from .limits.snapshot import Snapshot
from .support.journal import observer_for
from .tasks import NewTasks
from .wire.request import EXTENSION, describe, is_elsewhere, strip_private_headers


class Engine:
    """What all transports of one client share: configuration, limiter, observers."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.policy = config.retry_policy
        self.rules = tuple(config.rules)
        journal = () if config.journal is None else (observer_for(config.journal),)
        self.observers = Observers((*config.observers, *journal))
        self.new_tasks = NewTasks()
        self.partition = config.partition or by_route_and_model
        self.limiter = Limiter(
            make_algorithm=config.algorithm or self._step_back,
            max_queue=config.max_queue,
            queue_timeout=config.queue_timeout,
            observers=self.observers,
        )

    def _step_back(self) -> LimitAlgorithm:
        config = self.config
        return StepBack(config.initial_concurrency, config.min_concurrency, config.max_concurrency)


class ResilientTransport:
    """An async transport for httpx2 or httpx that retries and limits what the inner one sends.

    ``wrap`` puts it into a client; build it yourself only for an http client of your own:
    ``AsyncOpenAI(http_client=httpx2.AsyncClient(transport=ResilientTransport(inner)))``. The
    keywords are those of ``wrap``.

    Raises:
        TypeError: If ``inner`` is no async transport, or a keyword is unknown.
        ValueError: If a keyword's value is out of its bounds.

    """

    def __init__(self, inner: Any, **options: Unpack[Options]) -> None:
        if not hasattr(inner, "handle_async_request"):
            raise TypeError(f"inner={inner!r}: expected an async transport of httpx2 or httpx")
        self._inner = inner
        self._engine = Engine(Config.from_options(options))
        self._only_calls = False

    @classmethod
    def for_client(cls, inner: Any, engine: Engine) -> ResilientTransport:
        """A transport that shares its engine and leaves alone what is no call of the API.

        A wrapped client sends token exchanges and redirected downloads through it, too.
        """
        transport = cls.__new__(cls)
        transport.__dict__.update(_inner=inner, _engine=engine, _only_calls=True)
        return transport

    def handle_async_request(self, request: Any) -> Awaitable[Any]:
        """Send a request as often as it takes: its answer, or an exception of the SDK's.

        No ``async def``: what waits below by the thousand need not wait in one frame more.
        """
        if self._only_calls and EXTENSION not in request.extensions:
            return self._pass(request)
        if is_elsewhere(request):
            strip_private_headers(request)
            return self._pass(request)
        return Journey(self._engine, self._inner, request, describe(request)).run()

    def _pass(self, request: Any) -> Awaitable[Any]:
        response: Awaitable[Any] = self._inner.handle_async_request(request)
        return response

    def snapshot(self) -> Snapshot:
        """The state of the limiter, for each partition."""
        return self._engine.limiter.snapshot()

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._inner.__aexit__(*exception)
