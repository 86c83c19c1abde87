"""A service whose weather is told, in memory and in virtual time, behind the real SDK.

A ``Sky`` decides what becomes of each send. trio's clock jumps over every wait, so an hour takes
seconds, and the figures depend on the seed alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, Protocol

import anyio
import openai
import trio
import trio.testing

from comet_resilience import snapshot, wrap
from comet_resilience.events import Event, LimitChanged
from comet_resilience.testing import Capacity
from comet_resilience.wire.family import family_of_sdk

from .server import completion, failure

httpx: Any = family_of_sdk()
#: Retries of both clients.
RETRIES: Final = 6
#: Seconds that a refusal takes: the median, and the spread of its lognormal.
REFUSAL_TIME, REFUSAL_SPREAD = 0.12, 0.3
#: How often the gate is looked at, in seconds.
LOOK: Final = 0.25
REFUSED: Final = "refused"


@dataclass(frozen=True, slots=True)
class Sent:
    """One send, as the service sees it; ``call`` is the same for all attempts of a call."""

    at: float
    call: str
    model: str


@dataclass(frozen=True, slots=True)
class Fate:
    """What comes back after ``seconds``: a status, or ``REFUSED`` for no connection at all."""

    seconds: float
    status: int | str = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    error: Mapping[str, Any] | None = None


class Sky(Protocol):
    """What decides."""

    async def meet(self, sent: Sent) -> Fate:
        """Return the fate of a send; may wait for a turn."""
        ...

    def left(self, sent: Sent) -> object:
        """A send that was answered with success is over."""


class Rolling:
    """A service that fails with some chance while its outage lasts; never while the sun shines.

    ``is_down`` says whether at a time; ``service`` draws seconds of service.
    """

    def __init__(
        self,
        random: Random,
        is_down: Callable[[float], bool],
        status: int | str = 503,
        chance: float = 1.0,
        service: Callable[[Random], float] = lambda _: 0.3,
    ) -> None:
        self._random, self._is_down, self._status = random, is_down, status
        self._chance, self._service = chance, service

    async def meet(self, sent: Sent) -> Fate:
        if self._is_down(sent.at) and self._random.random() < self._chance:
            return Fate(refusal_time(self._random), self._status)
        return Fate(self._service(self._random))

    def left(self, sent: Sent) -> None:
        pass


class Limited:
    """A gateway with a capacity, which refuses above it with a fixed hint."""

    def __init__(
        self,
        random: Random,
        capacity: Capacity,
        service: Callable[[Random], float],
        retry_after: float | None,
        fate: Callable[[float, Mapping[str, str]], Fate] = lambda s, h: Fate(s, 429, h),
    ) -> None:
        self._random, self._capacity, self._service = random, capacity, service
        self._hint = {} if retry_after is None else {"retry-after": f"{retry_after:g}"}
        self._fate = fate
        self.refused = 0

    async def meet(self, sent: Sent) -> Fate:
        if self._capacity.enter(sent.at) is not None:
            self.refused += 1
            return self._fate(refusal_time(self._random), self._hint)
        return Fate(self._service(self._random))

    def left(self, sent: Sent) -> None:
        self._capacity.leave(anyio.current_time())


def refusal_time(random: Random) -> float:
    """Seconds until a refusal arrives."""
    return random.lognormvariate(math.log(REFUSAL_TIME), REFUSAL_SPREAD)


class WeatherTransport(httpx.AsyncBaseTransport):  # type: ignore[misc]
    """Carries sends to a sky, and keeps them."""

    def __init__(self, sky: Sky) -> None:
        self._sky = sky
        self.sent: list[Sent] = []

    async def handle_async_request(self, request: Any) -> Any:
        model = json.loads(await request.aread())["model"]
        sent = Sent(anyio.current_time(), request.headers["x-call"], model)
        self.sent.append(sent)
        fate = await self._sky.meet(sent)
        if fate.status == 200:
            try:
                await anyio.sleep(fate.seconds)
            finally:
                self._sky.left(sent)
            as_json = {"content-type": "application/json"}
            return httpx.Response(200, headers=as_json, content=completion())
        await anyio.sleep(fate.seconds)
        if fate.status == REFUSED:
            raise httpx.ConnectError("connection refused", request=request)
        content_type, body = failure(int(fate.status))
        if fate.error is not None:
            body = json.dumps({"error": fate.error}).encode()
        headers = {"content-type": content_type, **fate.headers}
        return httpx.Response(int(fate.status), headers=headers, content=body)


@dataclass(slots=True)
class Call:
    """One call: when it began and ended, and whether it was answered (``None``: not yet)."""

    name: str
    began: float
    ended: float = math.inf
    answered: bool | None = None
    error: str = ""


class Crowd:
    """Callers at one client, under one sky; what they saw."""

    def __init__(self, sky: Sky, options: Mapping[str, Any] | None) -> None:
        self.transport = WeatherTransport(sky)
        bare: Any = openai.AsyncOpenAI(
            base_url="http://weather.test/v1",
            api_key="k",
            max_retries=RETRIES,
            http_client=httpx.AsyncClient(transport=self.transport, timeout=None),
        )
        bare._platform = "Unknown"  # a thread asks for it otherwise, and virtual time jumps
        self.wrapped = options is not None
        self.client = bare if options is None else wrap(bare, on_event=self._note, **options)
        self.calls: list[Call] = []
        self.shut: list[tuple[float, float]] = []
        self.changes: list[tuple[float, LimitChanged]] = []

    def _note(self, event: Event) -> None:
        if isinstance(event, LimitChanged):
            self.changes.append((anyio.current_time(), event))

    async def call(self, name: str, model: str = "m") -> Call:
        """One call, to its end."""
        call = Call(f"{name}/{len(self.calls)}", anyio.current_time())
        self.calls.append(call)
        messages: Any = [{"role": "user", "content": "x"}]
        try:
            await self.client.chat.completions.create(
                model=model, messages=messages, extra_headers={"x-call": call.name}
            )
        except openai.OpenAIError as error:
            call.answered, call.error = False, type(error).__name__
        else:
            call.answered = True
        call.ended = anyio.current_time()
        return call

    async def keep_calling(self, name: str, think: float, first: float, model: str = "m") -> None:
        """One caller after the other's answer, for ever."""
        await anyio.sleep(first)
        while True:
            await self.call(name, model)
            await anyio.sleep(think)

    async def watch_gate(self) -> None:
        """Look at the gate again and again."""
        while self.wrapped:
            for partition in snapshot(self.client).partitions:
                if partition.closed_for is not None:
                    self.shut.append((anyio.current_time(), partition.closed_for))
            await anyio.sleep(LOOK)

    async def batch(self, number: int, within: float = math.inf) -> float:
        """So many calls at once; return the seconds that they took."""
        began = anyio.current_time()
        with anyio.move_on_after(within):
            async with anyio.create_task_group() as tasks:
                for caller in range(number):
                    tasks.start_soon(self.call, str(caller))
        return anyio.current_time() - began

    async def steady(self, callers: int, until: float, random: Random, think: float = 1.0) -> None:
        """So many callers, each with a pause after each call, until a time."""
        with anyio.CancelScope(deadline=until):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.watch_gate)
                for caller in range(callers):
                    first = random.uniform(0.0, 1.0)
                    tasks.start_soon(self.keep_calling, str(caller), think, first)

    def first_sends(self) -> dict[str, float]:
        """When each call was sent for the first time."""
        firsts: dict[str, float] = {}
        for sent in self.transport.sent:
            firsts.setdefault(sent.call, sent.at)
        return firsts


def in_virtual_time(main: Callable[[], Awaitable[Any]]) -> Any:
    """Run on trio, with a clock that jumps; it begins at 0."""
    return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
