"""A gateway that lives in a thread, for tests of every style.

Tests may be functions that call `asyncio.run`, coroutines under pytest-asyncio or anyio, on trio,
or have no event loop at all: the gateway has a loop of its own, and its methods can be called from
anywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

from anyio.from_thread import start_blocking_portal

from .gateway import Gateway

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Unpack

    import openai

    from ..config import Options
    from .received import ReceivedRequest
    from .statistics import Sample

P = ParamSpec("P")
T = TypeVar("T")


def _on_its_loop(
    method: Callable[Concatenate[Gateway, P], T],
) -> Callable[Concatenate[GatewayInThread, P], T]:
    """Return a method of a gateway as one to be called from anywhere, between two of its steps."""

    @wraps(method)
    def call(self: GatewayInThread, /, *args: P.args, **keywords: P.kwargs) -> T:
        return self._portal.call(partial(method, self._gateway, *args, **keywords))

    return call


class GatewayInThread:
    """A `Gateway` on a socket that is not bound to the event loop of the test.

    The keywords and methods are those of `Gateway`. Use it by `with`; an error within the gateway
    is raised at the end of the block.
    """

    def __init__(self, **settings: Any) -> None:
        self._gateway = Gateway(**settings)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._portal = stack.enter_context(start_blocking_portal())
            stack.enter_context(self._portal.wrap_async_context_manager(self._gateway))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.__exit__(exc_type, exc, traceback)

    script = _on_its_loop(Gateway.script)
    fail = _on_its_loop(Gateway.fail)
    cut_streams = _on_its_loop(Gateway.cut_streams)
    always = _on_its_loop(Gateway.always)
    recover = _on_its_loop(Gateway.recover)
    limit = _on_its_loop(Gateway.limit)
    change = _on_its_loop(Gateway.change)
    statistics = _on_its_loop(Gateway.statistics)

    @property
    def in_flight(self) -> int:
        """See `Gateway.in_flight`."""
        return self.statistics().in_flight

    @property
    def peak_in_flight(self) -> int:
        """See `Gateway.peak_in_flight`."""
        return self.statistics().peak_in_flight

    @property
    def answered(self) -> int:
        """See `Gateway.answered`."""
        return self.statistics().answered

    @property
    def refused(self) -> int:
        """See `Gateway.refused`."""
        return self.statistics().refused

    @property
    def samples(self) -> list[Sample]:
        """See `Gateway.samples`; a copy."""
        return list(self._gateway.samples)

    @property
    def requests(self) -> list[ReceivedRequest]:
        """Every request that arrived so far, in order; a copy."""
        return list(self._gateway.requests)

    @property
    def origin(self) -> str:
        """See `Gateway.origin`."""
        return self._gateway.origin

    @property
    def front_end(self) -> str:
        """See `Gateway.front_end`."""
        return self._gateway.front_end

    @property
    def base_url(self) -> str:
        """See `Gateway.base_url`."""
        return self._gateway.base_url

    @property
    def api_key(self) -> str:
        """See `Gateway.api_key`."""
        return self._gateway.api_key

    def client(self, **options: Unpack[Options]) -> openai.AsyncOpenAI:
        """See `Gateway.client`."""
        return self._gateway.client(**options)

    def __repr__(self) -> str:
        return repr(self._gateway)
