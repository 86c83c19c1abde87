"""The gateway: its decisions, apart from how the bytes travel.

`Gateway` is told how to fail, how much it can take and how long it needs, and remembers what it
was asked. It answers over a socket (`async with Gateway() as gateway`) or in memory
(`gateway.transport()`); both ways call `begin()` and carry the reply.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self

import anyio
import openai

from ..client import wrap
from ..wire.family import family_of_sdk
from .capacity import Capacity, ConcurrencyCap
from .endpoints import FRONT_END_PATH
from .failures import Rate, failure
from .handler import Handler, Latency
from .received import ReceivedRequest, receive
from .replies import FRONT_END, ORIGIN, Exchange, Reply
from .script import Script, Scripted
from .server import Server
from .statistics import Outcome, Recorder, Sample, Statistics
from .transport import GatewayTransport

if TYPE_CHECKING:
    from types import ModuleType, TracebackType
    from typing import Unpack

    from ..config import Options
    from .capacity import Refusal

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

    `GatewayInThread` and the pytest fixture ``comet_gateway`` have the same methods; those that are
    about the event loop it runs on (`transport`, `begin`, `now`, `limit_at`) are here alone.
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
        self._handler = Handler(**self._settings)
        self._script = Script()
        self._recorder = Recorder(self.limit_at)
        self._started: float | None = None
        self._server: Server | None = None
        #: Every request that arrived, in order.
        self.requests: list[ReceivedRequest] = []

    # -- what it is told ------------------------------------------------------------------------

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
        """Fail the next *times* matching requests, with a *name* in `FAILURES` or a *status*.

        *path* is a pattern such as "/chat/*"; *changes* are fields of `Reply`. Raises `ValueError`
        for an unknown name and unless exactly one of *name* and *status* is given, `TypeError` for
        a change that is no field.
        """
        reply = failure(name, status=status, retry_after=retry_after, **changes)
        self._script.add(reply, times=times, path=path, model=model)

    def cut_streams(
        self, times: int = 1, *, path: str | None = None, model: str | None = None
    ) -> None:
        """Break the next *times* matching requests off after two events of a chat stream."""
        self.fail("stream_cut", times, path=path, model=model)

    def always(self, reply: Scripted, *, path: str | None = None, model: str | None = None) -> None:
        """Answer every matching request with *reply*, once what is scripted has been used up."""
        self._script.add(reply, times=None, path=path, model=model)

    def recover(self) -> None:
        """Forget all that was scripted."""
        self._script.clear()

    def limit(
        self,
        capacity: Capacity | Mapping[str, Capacity] | int | None,
        *,
        retry_after: float | None = None,
    ) -> None:
        """Take so many requests at once and refuse the rest with 429; None for no limit.

        *capacity* may be any capacity model, too; *retry_after* is for a number. Raises
        `ValueError` for a number below 0, and for *retry_after* beside anything else.
        """
        if isinstance(capacity, int):
            capacity = ConcurrencyCap(capacity, retry_after)
        elif retry_after is not None:
            raise ValueError("retry_after goes with a number; a capacity model has its own")
        self.change(capacity=capacity)

    def change(self, /, **settings: Any) -> None:
        """Take these keywords of `Gateway` from now on; *keys* are for life.

        Raises `TypeError` for other keywords and `ValueError` for values that make no sense.
        """
        if "keys" in settings:
            raise TypeError("change() cannot change the keys: clients hold them")
        unknown = [name for name in settings if name not in {*self._settings, "capacity"}]
        if unknown:
            names = ", ".join(sorted({*self._settings, "capacity"} - {"keys"}))
            raise TypeError(f"change() has no keyword {unknown[0]!r}; it has: {names}")
        capacity = settings.pop("capacity", self._capacity)
        merged = {**self._settings, **settings}
        self._handler, self._settings, self._capacity = Handler(**merged), merged, capacity

    # -- what it has seen -----------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        """The number of requests it works on now; those it refused do not count."""
        return self.statistics().in_flight

    @property
    def peak_in_flight(self) -> int:
        """The largest number of requests it worked on at once."""
        return self.statistics().peak_in_flight

    @property
    def answered(self) -> int:
        """The number of good answers it sent to their last byte."""
        return self.statistics().answered

    @property
    def refused(self) -> int:
        """The number of requests the capacity model refused."""
        return self.statistics().refused

    @property
    def samples(self) -> list[Sample]:
        """(seconds, in flight, limit) at each change of the number in flight, for a plot."""
        return self._recorder.samples

    def statistics(self) -> Statistics:
        """Return all counts at this moment."""
        return self._recorder.statistics()

    def limit_at(self, now: float) -> int | None:
        """Return the number of requests it takes at once at *now*; None without such a limit."""
        if not isinstance(self._capacity, Mapping):
            return None if self._capacity is None else self._capacity.limit_at(now)
        limits = [capacity.limit_at(now) for capacity in {*self._capacity.values()}]
        numbers = [limit for limit in limits if limit is not None]
        return sum(numbers) if numbers and len(numbers) == len(limits) else None

    def now(self) -> float:
        """Return the seconds since it was started, or since it was first used in memory."""
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
        """The base URL for a client."""
        return f"{self.origin}/v1"

    @property
    def api_key(self) -> str:
        """A key that it accepts."""
        return next(iter(self._keys or ()), "comet-test-key")

    def client(self, **options: Unpack[Options]) -> openai.AsyncOpenAI:
        """Make a wrapped client of the gateway; *options* are the keywords of `wrap`.

        It reaches a gateway that has not been started in memory.
        """
        http_client = None
        if self._server is None:
            http = family_of_sdk()
            http_client = http.AsyncClient(transport=self.transport(), follow_redirects=True)
        bare = openai.AsyncOpenAI(
            base_url=self.base_url, api_key=self.api_key, http_client=http_client
        )
        return wrap(bare, **options)

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
        """Close every connection at once; raise an error that happened within the gateway."""
        if self._server is not None:
            server, self._server = self._server, None
            await server.stop()
            # An error of the caller's block may well follow from ours; a cancellation does not.
            if exc is None or isinstance(exc, Exception):
                server.raise_bug()

    def __repr__(self) -> str:
        arrived, now = len(self.requests), self.in_flight
        return f"<Gateway at {self.base_url}: {arrived} requests, {now} in flight>"

    # -- deciding -------------------------------------------------------------------------------

    def begin(
        self, method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes
    ) -> Exchange:
        """Take in a request and decide the reply. For the sides that carry the bytes."""
        now = self.now()
        request = receive(len(self.requests) + 1, now, method, target, headers, body)
        self.requests.append(request)
        admitted = self._script.reply_to(request) or self._handler.admit(request)
        if isinstance(admitted, Reply):
            return self._exchange(request, admitted)
        capacity = self._capacity_for(request)
        refusal = None if capacity is None else capacity.enter(now)
        if refusal is not None:
            return self._exchange(request, _too_many(refusal), refused=True)
        try:
            reply = self._handler.serve(admitted, request)
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
            self._recorder.begin(request.at)
        places = {ORIGIN: self.origin, FRONT_END: self.front_end}
        filled = reply.filled({**self._handler.values(request), **places})
        return Exchange(request, filled, partial(self._end, filled, capacity, refused))

    def _end(self, reply: Reply, capacity: Capacity | None, refused: bool, delivered: bool) -> None:
        now = self.now()
        _leave(capacity, now)
        outcome = Outcome.REFUSED if refused else _outcome(reply, delivered=delivered)
        self._recorder.end(now, outcome)


def _too_many(refusal: Refusal) -> Reply:
    return failure("rate_limited", retry_after=refusal.retry_after)


def _leave(capacity: Capacity | None, now: float) -> None:
    if capacity is not None:
        capacity.leave(now)


def _outcome(reply: Reply, *, delivered: bool) -> Outcome:
    if not delivered:
        return Outcome.ABANDONED
    return Outcome.ANSWERED if reply.complete and reply.status < 400 else Outcome.FAILED
