"""Disturbances below a client, drawn from a seed.

    inner = ChaosTransport(httpx2.AsyncHTTPTransport(), seed=7, rate=0.05)
    client = wrap(AsyncOpenAI(http_client=httpx2.AsyncClient(transport=inner)))

It stands where the network stands, below whatever is to be tested. Request number n meets the same
disturbance in every run with the same seed, whatever befell the others; who comes n-th is up to
the caller. Both httpx families are served, and both event loops.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import TYPE_CHECKING, Any, Final, Self

import anyio

from ..wire.family import family_of
from ..wire.http import native
from .failures import Rate, choose, failure, shares_of
from .received import receive
from .replies import MODEL, RAY, REQUEST_ID, Exchange, Reply
from .transport import GatewayTransport

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

    from ..wire.http import ByteStream, Request, Response

#: Before anything was sent: nobody has heard of the request. Name and the family's exception.
_UNSENT: Final = {
    "connect": "ConnectError",
    "connect_timeout": "ConnectTimeout",
    "pool_timeout": "PoolTimeout",
    "write": "WriteError",
    "read_unsent": "ReadError",
}
#: After the server has answered: it did the work, and the answer is lost.
_LOST: Final = {
    "read": "ReadError",
    "protocol": "RemoteProtocolError",
    "read_timeout": "ReadTimeout",
}
#: The answer begins and goes wrong, or slowly, on its way.
_BODY: Final = ("cut", "slow", "stall")
#: Answers in place of the server's, by their names in `FAILURES`.
_ANSWERS: Final = (
    "rate_limited", "saturated", "server_error", "bad_gateway", "unavailable", "overloaded",
    "gateway_timeout", "edge_timeout", "error_under_200", "empty_200",
)  # fmt: skip

#: What there is, besides the names in `FAILURES` and statuses.
DISTURBANCES: Final = (*_UNSENT, *_LOST, *_BODY)
#: What a plain number as *rate* is spread over: all but those that last until a timeout.
EVERYDAY: Final = (*_UNSENT, *_LOST, "cut", "slow", *_ANSWERS)
#: How many of the last disturbances are remembered.
KEPT: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbance:
    """A disturbance of request *number* (from 1), named as in `DISTURBANCES` or `FAILURES`."""

    number: int
    name: str
    method: str
    path: str


class ChaosTransport:
    """An async transport that hands requests to *inner* and disturbs some of them.

    *rate* is the share that is disturbed, spread evenly over `EVERYDAY`, or a mapping from names in
    `DISTURBANCES` and `FAILURES`, or statuses, to shares. *latency* is added to every request, in
    seconds: a number or a range. A slow body waits *chunk_delay* seconds before each chunk.
    Raises `ValueError` for an unknown name, and for shares and times that make no sense.
    """

    def __init__(
        self,
        inner: Any,
        *,
        seed: int = 0,
        rate: Rate = 0.05,
        latency: float | tuple[float, float] = 0.0,
        chunk_delay: float = 0.02,
    ) -> None:
        self._inner = inner
        self._seed = seed
        self._shares = shares_of("rate", rate, everyday=EVERYDAY, others=DISTURBANCES)
        self._latency = latency if isinstance(latency, tuple) else (latency, latency)
        self._chunk_delay = chunk_delay
        if not (0 <= self._latency[0] <= self._latency[1] and chunk_delay >= 0):
            raise ValueError("latency and chunk_delay are seconds, 0 or more; a range must rise")
        self._answers: dict[tuple[str | int, ModuleType], GatewayTransport] = {}
        #: How many requests came, and how many of them *inner* got.
        self.requests: int = 0
        self.passed_on: int = 0
        #: How often each disturbance struck, and the latest of them in order.
        self.counts: Counter[str] = Counter()
        self.disturbances: deque[Disturbance] = deque(maxlen=KEPT)

    async def handle_async_request(self, request: Request) -> Response:
        """Send the request on, or let something happen to it."""
        self.requests += 1
        chance = Random(f"{self._seed}/{self.requests}")  # noqa: S311 - no secret
        name = choose(self._shares, chance.random())
        seconds = chance.uniform(*self._latency)
        if name is not None:
            self._note(name, request)
        if seconds:
            await anyio.sleep(seconds)
        if name is None:
            return await self._pass_on(request)
        if name in _UNSENT:
            raise _fault(request, _UNSENT[str(name)])
        if name in _LOST:
            response = await self._pass_on(request)
            await response.aclose()
            raise _fault(request, _LOST[str(name)])
        if name in _BODY:
            response = await self._pass_on(request)
            delay = self._chunk_delay if name == "slow" else 0.0
            breaks_at = None if name == "slow" else chance.randrange(3)
            silence = _read_timeout(request) if name == "stall" else 0.0
            return _disturbed_response(
                response, request, breaks_at=breaks_at, silence=silence, chunk_delay=delay
            )
        return await self._answer(name, request)

    def _note(self, name: str | int, request: Request) -> None:
        self.counts[str(name)] += 1
        self.disturbances.append(
            Disturbance(
                number=self.requests,
                name=str(name),
                method=request.method,
                path=request.url.path,
            )
        )

    async def _pass_on(self, request: Request) -> Response:
        self.passed_on += 1
        response: Response = await self._inner.handle_async_request(request)
        return response

    async def _answer(self, name: str | int, request: Request) -> Response:
        family = family_of(request)
        if (name, family) not in self._answers:
            self._answers[name, family] = GatewayTransport(_Always(failure(name)), family)
        response: Response = await self._answers[name, family].handle_async_request(request)
        return response

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._inner.__aexit__(*exception)

    def __repr__(self) -> str:
        struck = sum(self.counts.values())
        return f"<ChaosTransport seed {self._seed}: {struck} of {self.requests} requests disturbed>"


class _Always:
    """A responder with one reply for every request."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    def begin(
        self, method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes
    ) -> Exchange:
        """Reply as always."""
        request = receive(1, 0.0, method, target, headers, body)
        values = {REQUEST_ID: "chaos", RAY: "chaos", MODEL: request.model or ""}
        return Exchange(request, self._reply.filled(values), lambda _delivered: None)


def _fault(request: Request, name: str) -> Exception:
    error: Exception = getattr(family_of(request), name)(f"chaos: {name}", request=request)
    return error


def _read_timeout(request: Request) -> float:
    """Return the seconds that the client waits for bytes; infinity if it has no limit."""
    seconds = request.extensions.get("timeout", {}).get("read")
    return math.inf if seconds is None else float(seconds)


def _disturbed_response(
    response: Response,
    request: Request,
    *,
    breaks_at: int | None,
    silence: float,
    chunk_delay: float,
) -> Response:
    """Return the same response with a body that breaks in chunk number *breaks_at* (from 0).

    Half of that chunk still arrives. A body of known length breaks in its first chunk, and one with
    fewer chunks at its end; with None it comes whole. *silence* is the time without a byte before
    the break, in seconds: 0 for a cut. *chunk_delay* passes before each chunk.
    """
    if breaks_at and "content-length" in response.headers:
        breaks_at = 0
    family, own = family_of(request), native(response)
    stream = _stream_class(family)(own.stream, request, breaks_at, silence, chunk_delay)
    broken: Response = family.Response(
        own.status_code, headers=own.headers.raw, stream=stream, extensions=own.extensions
    )
    return broken


class _DisturbedStream:
    """A body that breaks, or comes slowly; mixed with the stream class of a family.

    It is no generator, because trio warns of each one that is not read to its end.
    """

    def __init__(
        self,
        inner: ByteStream,
        request: Request,
        breaks_at: int | None,
        silence: float,
        chunk_delay: float,
    ) -> None:
        self._inner = inner
        self._chunks = aiter(inner)
        self._request = request
        self._left = breaks_at
        self._silence = silence
        self._chunk_delay = chunk_delay
        self._is_over = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._is_over:
            await self._break()
        if self._chunk_delay:
            await anyio.sleep(self._chunk_delay)
        try:
            chunk = await anext(self._chunks)
        except StopAsyncIteration:
            if self._left is not None:
                await self._break()
            raise
        if self._left == 0:
            self._is_over = True
            return chunk[: len(chunk) // 2]
        if self._left is not None:
            self._left -= 1
        return chunk

    async def _break(self) -> None:
        """Raise the client's own timeout after a silence, else the error of an early end."""
        family = family_of(self._request)
        if self._silence:
            await anyio.sleep(self._silence)
            raise family.ReadTimeout("chaos: stall", request=self._request)
        message = "chaos: peer closed connection without sending complete message body"
        raise family.RemoteProtocolError(message, request=self._request)

    async def aclose(self) -> None:
        """Close the body that was disturbed."""
        await self._inner.aclose()


@cache
def _stream_class(family: ModuleType) -> Any:
    return type("DisturbedByteStream", (_DisturbedStream, family.AsyncByteStream), {})
