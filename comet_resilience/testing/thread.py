"""A gateway that lives in a thread, for tests of every style.

Tests may be functions that call `asyncio.run`, coroutines under pytest-asyncio or anyio, on trio,
or have no event loop at all: the gateway has a loop of its own, and its methods can be called from
anywhere.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

from anyio.from_thread import start_blocking_portal

from .gateway import Gateway

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Unpack

    import openai

    from ..config import Options
    from .capacity import Capacity
    from .received import ReceivedRequest
    from .script import Scripted
    from .statistics import Sample, Statistics

T = TypeVar("T")


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

    def script(self, *replies: Scripted, path: str | None = None, model: str | None = None) -> None:
        """See `Gateway.script`."""
        self._call(partial(self._gateway.script, *replies, path=path, model=model))

    def fail(
        self,
        /,
        name: str | int | None = None,
        times: int = 1,
        *,
        status: int | None = None,
        retry_after: float | str | None = None,
        path: str | None = None,
        model: str | None = None,
        **changes: Any,
    ) -> None:
        """See `Gateway.fail`."""
        fail = partial(self._gateway.fail, name, times, status=status, retry_after=retry_after)
        self._call(partial(fail, path=path, model=model, **changes))

    def cut_streams(
        self, times: int = 1, *, path: str | None = None, model: str | None = None
    ) -> None:
        """See `Gateway.cut_streams`."""
        self._call(partial(self._gateway.cut_streams, times, path=path, model=model))

    def always(self, reply: Scripted, *, path: str | None = None, model: str | None = None) -> None:
        """See `Gateway.always`."""
        self._call(partial(self._gateway.always, reply, path=path, model=model))

    def recover(self) -> None:
        """See `Gateway.recover`."""
        self._call(self._gateway.recover)

    def limit(
        self,
        capacity: Capacity | Mapping[str, Capacity] | int | None,
        *,
        retry_after: float | None = None,
    ) -> None:
        """See `Gateway.limit`."""
        self._call(partial(self._gateway.limit, capacity, retry_after=retry_after))

    def change(self, /, **settings: Any) -> None:
        """See `Gateway.change`."""
        self._call(partial(self._gateway.change, **settings))

    def statistics(self) -> Statistics:
        """See `Gateway.statistics`."""
        return self._call(self._gateway.statistics)

    def _call(self, method: Callable[[], T]) -> T:
        """Call a method of the gateway on its event loop, between two of its steps."""
        return self._portal.call(method)

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
