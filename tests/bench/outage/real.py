"""Calls that meet an outage on real sockets: the bare SDK, then the wrapped client."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import anyio
import openai

from comet_resilience import wrap
from comet_resilience.events import Event, LimitChanged
from comet_resilience.wire.family import family_of_sdk

from .server import Kind, ServerProcess

httpx: Any = family_of_sdk()
MESSAGES: Any = [{"role": "user", "content": "x"}]
#: Seconds after the end of the outage at which the calls that still try are cut off.
PATIENCE: Final = 120.0
#: The client's timeout where the server hangs, and elsewhere.
SHORT_TIMEOUT, TIMEOUT = 2.0, 60.0
#: Requests for each call that the bar allows.
REQUESTS: Final = 2.5


@dataclass(frozen=True, kw_only=True)
class Trial:
    """An outage, and who meets it. ``options`` are keywords of ``wrap``.

    With ``after`` the server is up for so many seconds before.
    """

    kind: Kind
    seconds: float
    calls: int = 100
    models: int = 1
    retries: int = 6
    after: float = 0.0
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """As the table calls it."""
        models = f", {self.models} models" if self.models > 1 else ""
        after = f" after {self.after:g} s" if self.after else ""
        return f"{self.kind} for {self.seconds:g} s{after}, {self.calls} calls{models}"


@dataclass(frozen=True, kw_only=True)
class Passage:
    """What one client came to.

    ``while_down`` counts sends before the end, connections that were refused included; ``at_once``
    and ``burst`` are the server's after the end, ``limit`` the greatest of the limiter's.
    """

    answered: int
    last: float
    sends: int
    while_down: int
    at_once: int
    burst: int
    limit: int
    errors: Mapping[str, int]

    def __str__(self) -> str:
        return (
            f"{self.answered}, {self.last:.1f} s, {self.sends}, {self.while_down}, {self.at_once}"
        )


class CountingTransport(httpx.AsyncBaseTransport):  # type: ignore[misc]
    """Notes when each request goes to the network, whatever becomes of it there."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.sent_at: list[float] = []

    async def handle_async_request(self, request: Any) -> Any:
        self.sent_at.append(time.monotonic())
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


async def meet(trial: Trial, *, wrapped: bool) -> Passage:
    """Let the calls of a trial meet its outage."""
    with ServerProcess(trial.kind) as server:
        limits = httpx.Limits(max_connections=1000, max_keepalive_connections=100)
        network = CountingTransport(httpx.AsyncHTTPTransport(limits=limits))  # the SDK's own limits
        timeout = SHORT_TIMEOUT if trial.kind is Kind.HUNG else TIMEOUT
        bare = openai.AsyncOpenAI(
            base_url=f"http://127.0.0.1:{server.port}/v1",
            api_key="k",
            max_retries=trial.retries,
            http_client=httpx.AsyncClient(transport=network, timeout=timeout),
            timeout=timeout,
        )
        widest: dict[Any, int] = {}

        def note(event: Event) -> None:
            if isinstance(event, LimitChanged):
                widest[event.partition] = max(event.old, event.new, widest.get(event.partition, 0))

        client = wrap(bare, on_event=note, **trial.options) if wrapped else bare
        async with bare:
            return await _watch(trial, server, client, network, widest)


async def _watch(
    trial: Trial, server: ServerProcess, client: Any, network: CountingTransport, widest: Any
) -> Passage:
    answered_at: list[float] = []
    errors: dict[str, int] = {}
    ended = began = 0.0

    async def call(number: int) -> None:
        model = f"m{number % trial.models}"
        try:
            await client.chat.completions.create(model=model, messages=MESSAGES)
        except openai.OpenAIError as error:
            errors[type(error).__name__] = errors.get(type(error).__name__, 0) + 1
        else:
            answered_at.append(time.monotonic())

    async def outage() -> None:
        nonlocal ended
        await anyio.sleep(trial.after)
        server.tell("down")
        await anyio.sleep(trial.seconds)
        ended = time.monotonic()
        server.tell("up")

    if trial.after:
        server.tell("up")
        await anyio.sleep(0.2)
    began = time.monotonic()
    with anyio.move_on_after(trial.after + trial.seconds + PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(outage)
            for number in range(trial.calls):
                tasks.start_soon(call, number)
    seen = server.counts()
    return Passage(
        answered=len(answered_at),
        last=max(answered_at, default=began) - began,
        sends=len(network.sent_at),
        while_down=sum(began + trial.after <= when < ended for when in network.sent_at),
        at_once=seen["at_once"],
        burst=seen["burst"],
        limit=sum(widest.values()),
        errors=errors,
    )


def misses(trial: Trial, sdk: Passage | None, ours: Passage) -> list[str]:
    """The bars that a trial missed, in words."""
    missed = []
    most = max(REQUESTS * trial.calls, trial.retries + 1)
    if sdk is not None and ours.answered < sdk.answered:
        missed.append(f"{sdk.answered - ours.answered} calls fewer")
    if sdk is not None and sdk.answered == trial.calls and ours.last > sdk.last:
        missed.append(f"{ours.last - sdk.last:.1f} s later")
    if ours.sends > most:
        missed.append(f"more than {most:g} requests")
    if trial.calls > 100 and ours.limit and ours.at_once > ours.limit:
        missed.append(f"{ours.at_once} at once above the limit of {ours.limit}")
    return missed
