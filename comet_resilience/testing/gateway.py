"""The gateway: what it decides, apart from how the bytes travel.

`Gateway` is told how to fail, how much it can take and how long it needs, and remembers what it
was asked. It answers over a socket (`async with Gateway() as gateway`) or in memory
(`gateway.transport()`); both ways call `begin()` and carry the reply.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self

import anyio

from .desk import Desk, Latency
from .endpoints import FRONT_END_PATH
from .exchange import Exchange
from .failures import failure
from .ledger import Ledger, Outcome, Sample, Statistics
from .received import ReceivedRequest, receive
from .replies import FRONT_END, ORIGIN, Reply
from .script import Script, Scripted
from .server import Server
from .shares import Rate
from .transport import GatewayTransport

if TYPE_CHECKING:
    from types import ModuleType, TracebackType

    from .capacity import Capacity, Refusal

#: Where a gateway lives that has no socket: host names that exist nowhere.
_ORIGIN_IN_MEMORY: Final = "http://gateway.test"
_FRONT_END_IN_MEMORY: Final = "http://www.gateway.test"


class Gateway:
    """A gateway that fails as CometAPI fails.

    *capacity* guards every POST, one model for all or one for each AI model. *latency* is the time
    to the headers of a good answer and *chunk_delay* that between its chunks, in seconds: a number,
    a range, or a function of the request. *failure_rate* is the share of good requests that fail:
    a number for status 503, or a mapping from names in `FAILURES` to shares. *keys* are the keys
    that are accepted and *models* the ones that are served; by default any. *text* is the answer
    to everything. With *provider_limits* whole answers carry the ``x-ratelimit-*`` headers of the
    gateway's own accounts with its provider, another account from answer to answer.
    Raises `ValueError` for values that make no sense.
    """

    def __init__(
        self,
        *,
        capacity: Capacity | Mapping[str, Capacity] | None = None,
        latency: Latency = 0.0,
        chunk_delay: float = 0.0,
        failure_rate: Rate = 0.0,
        keys: Collection[str] | None = None,
        models: Iterable[str] | None = None,
        text: str = "The gateway has an answer for you.",
        provider_limits: bool = False,
        seed: int = 0,
    ) -> None:
        self._capacity = capacity
        self._keys = keys
        self._settings: dict[str, Any] = {
            "latency": latency,
            "chunk_delay": chunk_delay,
            "failure_rate": failure_rate,
            "keys": keys,
            "models": models,
            "text": text,
            "provider_limits": provider_limits,
            "seed": seed,
        }
        self._desk = Desk(**self._settings)
        self._script = Script()
        self._ledger = Ledger(self.limit_at)
        self._started: float | None = None
        self._server: Server | None = None
        #: Every request that arrived, in order.
        self.requests: list[ReceivedRequest] = []

    # -- telling it what to do ------------------------------------------------------------------

    def script(self, *replies: Scripted, path: str | None = None, model: str | None = None) -> None:
        """Answer the next matching requests with *replies*, in order; then as usual.

        An entry is a `Reply`, a name in `FAILURES`, a status, "ok" for a usual answer, or a
        function of the request that returns a `Reply`, or None for a usual answer. Scripted
        replies ask neither for a key nor for capacity. Raises `ValueError` for an unknown name.
        """
        for reply in replies:
            self._script.add(reply, times=1, path=path, model=model)

    def fail(
        self,
        name_or_status: str | int,
        times: int = 1,
        *,
        retry_after: float | str | None = None,
        path: str | None = None,
        model: str | None = None,
        **changes: Any,
    ) -> None:
        """Fail the next *times* matching requests; *changes* are fields of `Reply`.

        *path* is a pattern such as "/chat/*". Raises `ValueError` for an unknown name.
        """
        reply = failure(name_or_status, retry_after=retry_after, **changes)
        self._script.add(reply, times=times, path=path, model=model)

    def always(self, reply: Scripted, *, path: str | None = None, model: str | None = None) -> None:
        """Answer every matching request with *reply*, once what is scripted has been used up."""
        self._script.add(reply, times=None, path=path, model=model)

    def recover(self) -> None:
        """Forget all that was scripted."""
        self._script.clear()

    def change(self, **settings: Any) -> None:
        """Take these keywords of `Gateway` from now on; *keys* are for life.

        Raises `TypeError` for other keywords and `ValueError` for values that make no sense.
        """
        if "keys" in settings:
            raise TypeError("change() cannot change the keys: clients hold them")
        capacity = settings.pop("capacity", self._capacity)
        merged = {**self._settings, **settings}
        self._desk, self._settings, self._capacity = Desk(**merged), merged, capacity

    # -- what it has seen -----------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        """How many requests it works on now; those it refused do not count."""
        return self.statistics().in_flight

    @property
    def peak_in_flight(self) -> int:
        """The most requests it worked on at once."""
        return self.statistics().peak_in_flight

    @property
    def answered(self) -> int:
        """How many good answers it sent to their last byte."""
        return self.statistics().answered

    @property
    def refused(self) -> int:
        """How many requests the capacity model refused."""
        return self.statistics().refused

    @property
    def samples(self) -> list[Sample]:
        """(seconds, in flight, limit) at each change of the number in flight, for a plot."""
        return self._ledger.samples

    def statistics(self) -> Statistics:
        """Return all counts at this moment."""
        return self._ledger.statistics()

    def limit_at(self, now: float) -> int | None:
        """Return how many requests it takes at once at *now*; None without such a limit."""
        if not isinstance(self._capacity, Mapping):
            return None if self._capacity is None else self._capacity.limit_at(now)
        limits = [capacity.limit_at(now) for capacity in {*self._capacity.values()}]
        known = [limit for limit in limits if limit is not None]
        return sum(known) if known and len(known) == len(limits) else None

    def now(self) -> float:
        """Seconds since it was started, or since it was first used in memory."""
        moment = anyio.current_time()
        if self._started is None:
            self._started = moment
        return moment - self._started

    # -- where it is ----------------------------------------------------------------------------

    @property
    def origin(self) -> str:
        """Scheme, host and port; an address that exists in memory only, unless it is started."""
        server = self._server
        return _ORIGIN_IN_MEMORY if server is None else f"http://127.0.0.1:{server.port}"

    @property
    def front_end(self) -> str:
        """Its web pages, to which a wrong path leads. Another host, so the key stays behind."""
        server = self._server
        host = _FRONT_END_IN_MEMORY if server is None else f"http://localhost:{server.port}"
        return f"{host}{FRONT_END_PATH}"

    @property
    def base_url(self) -> str:
        """What to give to the client as base URL."""
        return f"{self.origin}/v1"

    @property
    def api_key(self) -> str:
        """A key that it accepts."""
        return next(iter(self._keys or ()), "comet-test-key")

    def transport(self, family: str | ModuleType | None = None) -> GatewayTransport:
        """Make an in-memory transport for an httpx or httpx2 `AsyncClient`, without sockets.

        *family* is the module or its name; by default the one that the installed SDK stands on.
        Raises `ImportError` when there is none.
        """
        return GatewayTransport(self, family)

    async def __aenter__(self) -> Self:
        """Start to listen on a free port of the loopback interface."""
        self._server = Server(self)
        await self._server.start()
        self.now()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close every connection at once; raise what went wrong within the gateway, if anything."""
        if self._server is not None:
            server, self._server = self._server, None
            await server.stop()
            # An error of the caller's block may well follow from ours; a cancellation does not.
            if exc is None or isinstance(exc, Exception):
                server.raise_bug()

    def __repr__(self) -> str:
        seen, now = len(self.requests), self.in_flight
        return f"<Gateway at {self.base_url}: {seen} requests, {now} in flight>"

    # -- deciding -------------------------------------------------------------------------------

    def begin(
        self, method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes
    ) -> Exchange:
        """Take in a request and decide the reply. For those who carry the bytes."""
        now = self.now()
        request = receive(len(self.requests) + 1, now, method, target, headers, body)
        self.requests.append(request)
        passed = self._script.reply_to(request) or self._desk.admit(request)
        if isinstance(passed, Reply):
            return self._exchange(request, passed)
        capacity = self._capacity_for(request)
        refusal = None if capacity is None else capacity.enter(now)
        if refusal is not None:
            return self._exchange(request, _too_many(refusal), refused=True)
        try:
            reply = self._desk.serve(passed, request)
        except BaseException:
            _leave(capacity, now)
            raise
        return self._exchange(request, reply, capacity=capacity)

    def _capacity_for(self, request: ReceivedRequest) -> Capacity | None:
        if request.method != "POST":
            return None  # Lists and polls produce nothing.
        if isinstance(self._capacity, Mapping):
            return self._capacity.get(request.model or "")
        return self._capacity

    def _exchange(
        self,
        request: ReceivedRequest,
        reply: Reply,
        *,
        capacity: Capacity | None = None,
        refused: bool = False,
    ) -> Exchange:
        if not refused:
            self._ledger.begin(request.at)
        places = {ORIGIN: self.origin, FRONT_END: self.front_end}
        filled = reply.filled({**self._desk.values(request), **places})
        return Exchange(request, filled, partial(self._end, filled, capacity, refused))

    def _end(self, reply: Reply, capacity: Capacity | None, refused: bool, delivered: bool) -> None:
        now = self.now()
        _leave(capacity, now)
        outcome = Outcome.REFUSED if refused else _outcome(reply, delivered=delivered)
        self._ledger.end(now, outcome)


def _too_many(refusal: Refusal) -> Reply:
    return failure("rate_limited", retry_after=refusal.retry_after)


def _leave(capacity: Capacity | None, now: float) -> None:
    if capacity is not None:
        capacity.leave(now)


def _outcome(reply: Reply, *, delivered: bool) -> Outcome:
    if not delivered:
        return Outcome.ABANDONED
    return Outcome.ANSWERED if reply.complete and reply.status < 400 else Outcome.FAILED
