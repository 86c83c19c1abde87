"""A gateway that lives in a thread, for tests of every style.

Tests may be functions that call `asyncio.run`, coroutines under pytest-asyncio or anyio, on trio,
or have no event loop at all: the gateway has a loop of its own, and its methods can be called from
anywhere.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

import openai
from anyio.from_thread import start_blocking_portal

from ..client import wrap
from .capacity import Capacity, ConcurrencyCap
from .gateway import Gateway

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Unpack

    from ..config import Options
    from .ledger import Statistics
    from .received import ReceivedRequest
    from .script import Scripted


class GatewayInThread:
    """A `Gateway` on a socket that is not bound to the event loop of the test.

    The keywords are those of `Gateway`. Use it by `with`; an error within the gateway is raised at
    the end of the block.
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

    # -- telling it what to do ------------------------------------------------------------------

    def fail(
        self,
        name: str | int | None = None,
        *,
        status: int | None = None,
        times: int = 1,
        retry_after: float | str | None = None,
        path: str | None = None,
        model: str | None = None,
        **changes: Any,
    ) -> None:
        """Fail the next *times* matching requests, with a *name* in `FAILURES` or a *status*.

        *path* is a pattern such as "/chat/*"; *changes* are fields of `Reply`. Raises `ValueError`
        for an unknown name, and unless exactly one of *name* and *status* is given.
        """
        what = status if name is None else name
        if what is None or (name is not None and status is not None):
            raise ValueError('fail() takes a name or a status: fail("saturated"), fail(status=503)')
        self._call("fail", what, times, retry_after=retry_after, path=path, model=model, **changes)

    def script(self, *replies: Scripted, path: str | None = None, model: str | None = None) -> None:
        """See `Gateway.script`."""
        self._call("script", *replies, path=path, model=model)

    def always(self, reply: Scripted, *, path: str | None = None, model: str | None = None) -> None:
        """See `Gateway.always`."""
        self._call("always", reply, path=path, model=model)

    def cut_streams(self, times: int = 1, *, path: str | None = None) -> None:
        """Break the next *times* matching requests off after two events of a chat stream."""
        self.fail("stream_cut", times=times, path=path)

    def change(self, **settings: Any) -> None:
        """See `Gateway.change`: `change(latency=0.1, chunk_delay=0.01, failure_rate=0.05)`."""
        self._call("change", **settings)

    def limit(self, capacity: Capacity | int | None, *, retry_after: float | None = None) -> None:
        """Take so many requests at once and refuse the rest with 429; None for no limit.

        *capacity* may be any capacity model, too; *retry_after* is for a number.
        """
        if isinstance(capacity, int):
            capacity = ConcurrencyCap(capacity, retry_after)
        self.change(capacity=capacity)

    def recover(self) -> None:
        """Forget all that was scripted."""
        self._call("recover")

    # -- reaching it and looking at it ----------------------------------------------------------

    @property
    def base_url(self) -> str:
        """What to give to the client as base URL."""
        return self._gateway.base_url

    @property
    def api_key(self) -> str:
        """A key that it accepts."""
        return self._gateway.api_key

    def client(self, **options: Unpack[Options]) -> openai.AsyncOpenAI:
        """Make a wrapped client of the gateway; *options* are the keywords of `wrap`."""
        return wrap(openai.AsyncOpenAI(base_url=self.base_url, api_key=self.api_key), **options)

    @property
    def requests(self) -> list[ReceivedRequest]:
        """Every request that arrived so far, in order; a copy."""
        return list(self._gateway.requests)

    def statistics(self) -> Statistics:
        """See `Gateway.statistics`."""
        statistics: Statistics = self._call("statistics")
        return statistics

    def __repr__(self) -> str:
        return repr(self._gateway)

    def _call(self, name: str, *arguments: Any, **keywords: Any) -> Any:
        """Call a method of the gateway in its own thread, between two of its steps."""
        return self._portal.call(lambda: getattr(self._gateway, name)(*arguments, **keywords))
