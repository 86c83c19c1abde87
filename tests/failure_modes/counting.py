"""An inner transport that counts its checkpoints and its connections, and the requests swept over.

Every await of it is a checkpoint at which a sweep may cancel; every response that it opens must
have been closed, to the end, when a request is over.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.lowlevel
import openai

from comet_resilience import FixedLimit, wrap
from comet_resilience.limits.eventloop import running_loop
from comet_resilience.verdict.vocabulary import Signal
from tests import conftest
from tests.conftest import (
    BROKEN,
    LIMITED,
    MESSAGES,
    OK,
    SSE,
    STREAM,
    WHOLE,
    Answer,
    ClosingStream,
    ask,
    bare_client,
    engine_of,
    envelope,
    httpx,
)

#: Waits of our own are as short as they can be: the sweeps on asyncio wait them for real.
BRIEF_WAITS: Any = {"backoff_initial": 0.0002, "backoff_max": 0.0002}


_ERROR = b"data: " + json.dumps(envelope("rate_limit_exceeded", "busy")).encode() + b"\n\n"
REFUSED_STREAM: Answer = (200, [b": PING\n\n", _ERROR], SSE)


class Body(ClosingStream):
    """A body with a checkpoint before each part, and one while it is closed."""

    def __init__(self, wire: Wire, parts: list[bytes | Exception]) -> None:
        super().__init__(parts, [])
        self._wire = wire
        self._is_open = True
        wire.connections += 1

    async def __anext__(self) -> bytes:
        await self._wire.checkpoint()
        return await super().__anext__()

    async def aclose(self) -> None:
        """Give the connection back, properly where there is the time for it."""
        at = self._wire.passed + 1
        try:
            await self._wire.checkpoint()
        except BaseException:
            self._wire.torn_at.append(at)
            raise
        finally:
            self._wire.connections -= self._is_open
            self._is_open = False


@dataclass
class Wire:
    """The inner transport: prepared answers in turn, the last one for ever."""

    answers: list[Answer]
    connections: int = 0
    sent: int = 0
    passed: int = 0
    #: At which checkpoints closing a body was cut short.
    torn_at: list[int] = field(default_factory=list)
    at_checkpoint: Callable[[int], None] = field(default=lambda _number: None)

    async def checkpoint(self) -> None:
        """One await, announced before it begins."""
        self.passed += 1
        self.at_checkpoint(self.passed)
        await anyio.lowlevel.checkpoint()

    async def handle_async_request(self, request: Any) -> Any:
        """Send and answer, with a checkpoint before either."""
        self.sent += 1
        await self.checkpoint()
        async for _ in request.stream:
            pass
        await self.checkpoint()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        status, body, headers = answer
        parts: list[Any] = body if isinstance(body, list) else [json.dumps(body).encode()]
        return httpx.Response(status, headers=headers, stream=Body(self, parts))

    async def aclose(self) -> None:
        """Nothing to close."""


class ClosedAtFirst(FixedLimit):
    """A gate that is closed for the first few hundredths of a second."""

    def __init__(self, seconds: float) -> None:
        super().__init__(1)
        self._seconds = seconds

    def tick(self, now: float) -> None:
        """Open when the time has come."""
        if self.closed_until is None and self._seconds:
            self.closed_until, self._seconds = now + self._seconds, 0.0
            self.wake_at, self.limit = self.closed_until, 0
        elif self.closed_until is not None and now >= self.closed_until:
            self.closed_until, self.wake_at, self.limit = None, None, 1


def at_rest(client: openai.AsyncOpenAI) -> bool:
    """Return True if no slot is held, nobody waits and no timer of the limiter is armed."""
    partitions = engine_of(client).limiter._partitions.values()
    return conftest.at_rest(client) and not any(p.timer.at is not None for p in partitions)


@dataclass
class Case:
    """A request to sweep over: the client, its wire, and what is awaited."""

    client: openai.AsyncOpenAI
    wire: Wire
    journey: Callable[[openai.AsyncOpenAI], Awaitable[object]]

    def at_rest(self) -> bool:
        """Return True if no slot, place or connection is left, and no timer of a limiter set."""
        return self.wire.connections == 0 and at_rest(self.client)


def _case(journey: Callable[[Any], Awaitable[object]], *answers: Answer, **options: Any) -> Case:
    wire = Wire(list(answers))
    keys: Any = options.pop("api_key", None)
    bare = bare_client(wire, **({"api_key": keys} if keys else {}))
    options = {"algorithm": lambda: FixedLimit(1), **BRIEF_WAITS, **options}
    return Case(wrap(bare, **options), wire, journey)


async def read(client: Any) -> str:
    """A streamed completion, read to its end."""
    text = ""
    async with await client.chat.completions.create(
        model="m", messages=MESSAGES, stream=True
    ) as stream:
        async for part in stream:
            text += (part.choices[0].delta.content or "") if part.choices else ""
    return text


async def read_bytes(client: Any) -> bytes:
    """A body that passes as it comes."""
    async with client.audio.speech.with_streaming_response.create(
        model="t", voice="alloy", input="x"
    ) as response:
        return b"".join([part async for part in response.iter_bytes()])


async def behind_another(client: Any) -> object:
    """A request that waits until the only slot is free."""
    limiter, loop = engine_of(client).limiter, running_loop()
    lease = limiter.acquire_nowait(("POST /chat/completions", "m"))
    assert lease is not None
    call_off = loop.call_at(loop.now() + 0.0005, lambda: lease.release(Signal.SUCCESS))
    try:
        return await ask(client)
    finally:
        call_off()
        lease.release(Signal.SUCCESS)


async def _new_key() -> str:
    await anyio.lowlevel.checkpoint()
    return "k"


#: What is swept over, by name; each makes a new client.
CASES: dict[str, Callable[[], Case]] = {
    "success": lambda: _case(ask, OK),
    "retry_after_429": lambda: _case(ask, LIMITED, OK),
    "retry_after_fault": lambda: _case(ask, httpx.ConnectError("no"), OK),
    "retry_with_fresh_key": lambda: _case(ask, LIMITED, OK, api_key=_new_key),
    "within_a_deadline": lambda: _case(ask, LIMITED, OK, deadline=60.0),
    "retries_used_up": lambda: _case(ask, BROKEN, max_retries=2),
    "body_breaks_off": lambda: _case(ask, (200, [b"{", httpx.ReadError("cut")], {}), OK),
    "behind_another": lambda: _case(behind_another, OK),
    "behind_another_in_time": lambda: _case(behind_another, OK, queue_timeout=60.0),
    "closed_gate": lambda: _case(ask, OK, algorithm=lambda: ClosedAtFirst(0.0005)),
    "stream": lambda: _case(read, STREAM),
    "stream_in_time": lambda: _case(read, STREAM, stall_timeout=60.0),
    "stream_refused_at_first": lambda: _case(read, REFUSED_STREAM, STREAM),
    "stream_that_is_cut": lambda: _case(read, (200, [*WHOLE[:1], httpx.ReadError("cut")], SSE)),
    "bytes": lambda: _case(read_bytes, (200, [b"ID3", b"..."], {"content-type": "audio/mpeg"})),
}
