"""Calls inside an open stream of the same partition: they are made, or it is said why not."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import anyio
import pytest
import trio
import trio.testing

from comet_resilience import Event, FixedLimit, Standstill, StepBack, snapshot
from comet_resilience.limits.holding import held_here

from ..conftest import (
    COMPLETION,
    MESSAGES,
    Answer,
    ask,
    engine_of,
    httpx,
    run_in_virtual_time,
    scripted,
)

CHUNK = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n'
LAST = b'data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
STREAM: Answer = (200, [CHUNK, LAST, b"data: [DONE]\n\n"], {"content-type": "text/event-stream"})

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("ignore:Async generator '(openai|httpx):ResourceWarning"),
]


class Busy:
    """A gateway that answers streams by streams, after a moment, and counts what is open."""

    def __init__(self) -> None:
        self.open = self.most = self.answered = 0

    async def answer(self, request: Any) -> Any:
        """Answer by a stream if one is wanted."""
        self.open += 1
        self.most = max(self.most, self.open)
        await anyio.sleep(0.002)
        self.answered += 1
        body = b"".join([part async for part in request.stream])
        if b'"stream":true' not in body.replace(b" ", b""):
            self.open -= 1
            return httpx.Response(200, json=COMPLETION)
        stream = Chunks(self)
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=stream)


class Chunks(httpx.AsyncByteStream):  # type: ignore[misc]
    def __init__(self, gateway: Busy) -> None:
        self._gateway, self._parts = gateway, [CHUNK, LAST, b"data: [DONE]\n\n"]

    def __aiter__(self) -> Chunks:
        return self

    async def __anext__(self) -> bytes:
        if not self._parts:
            raise StopAsyncIteration
        await anyio.lowlevel.checkpoint()
        return self._parts.pop(0)

    async def aclose(self) -> None:
        self._gateway.open -= 1


def busy_client(**options: Any) -> tuple[Any, Busy]:
    """A wrapped client over a gateway that counts."""
    client, inner = scripted(STREAM, **options)
    gateway = Busy()
    inner.behave = gateway.answer
    return client, gateway


async def inside(client: Any, *calls: Callable[[], Awaitable[Any]], model: str = "m") -> None:
    """Make calls while a stream is open, then read it to its end."""
    stream = await client.chat.completions.create(model=model, messages=MESSAGES, stream=True)
    async with stream:
        async for _event in stream:
            for call in calls:
                await call()
            calls = ()


Shape = Callable[[Any], Coroutine[Any, Any, None]]


async def _nested(client: Any) -> None:
    await inside(client, lambda: ask(client))


async def _several(client: Any) -> None:
    await inside(client, *[lambda: ask(client)] * 3)


async def _deep(client: Any) -> None:
    await inside(client, lambda: inside(client, lambda: inside(client, lambda: ask(client))))


async def _in_tasks(client: Any) -> None:
    async def both() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, client)
            tasks.start_soon(ask, client)

    await inside(client, both)


async def _raw(client: Any) -> None:
    """A body that is no event stream for the SDK holds a slot as well."""
    create = client.chat.completions.with_streaming_response.create
    async with create(model="m", messages=MESSAGES, stream=True) as response:
        await ask(client)
        async for _ in response.iter_bytes():
            pass


SHAPES: list[Shape] = [_nested, _several, _deep, _in_tasks, _raw]
ALGORITHMS: dict[str, Callable[[], Any]] = {
    "one": lambda: FixedLimit(1),
    "five": lambda: FixedLimit(5),
    "learnt": lambda: StepBack(2, 1, 2),
}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__.strip("_"))
async def test_calls_inside_open_streams_are_all_made(shape: Shape, algorithm: str) -> None:
    """As with the bare SDK, and never with more than one attempt beyond the limit."""
    client, gateway = busy_client(algorithm=ALGORITHMS[algorithm])
    with anyio.fail_after(100):
        async with anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(shape, client)
    (shown,) = snapshot(client).partitions
    assert (shown.in_flight, shown.waiting, gateway.open) == (0, 0, 0)
    depth = 3 if shape is _deep else 1
    assert gateway.most <= shown.limit + depth


async def test_a_slot_is_lent_only_where_none_would_come_back() -> None:
    """One reader reads on: its slot comes back by itself, so the others wait for it."""
    client, gateway = busy_client(algorithm=lambda: FixedLimit(2))

    async def read() -> None:
        await inside(client, lambda: anyio.sleep(0.01))

    with anyio.fail_after(100):
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(read)
                tasks.start_soon(ask, client)
    assert gateway.most == 2


async def test_a_borrower_that_is_cancelled_gives_the_slot_back() -> None:
    """While it waits and while it is sent."""
    client, _gateway = busy_client(algorithm=lambda: FixedLimit(1))

    async def impatient(seconds: float) -> None:
        async def call() -> None:
            with anyio.move_on_after(seconds):
                await ask(client)

        await inside(client, call)

    for seconds in (0.0, 0.005, 1.0):
        with anyio.fail_after(100):
            async with anyio.create_task_group() as tasks:
                for _ in range(5):
                    tasks.start_soon(impatient, seconds)
        (shown,) = snapshot(client).partitions
        assert (shown.in_flight, shown.waiting) == (0, 0)


async def test_what_one_client_holds_is_nothing_to_another() -> None:
    """Nor is what was given back, was dropped, or belongs to a client that is gone."""
    one, _ = busy_client(algorithm=lambda: FixedLimit(1))
    other, _ = busy_client(algorithm=lambda: FixedLimit(1))
    limiter, foreign = engine_of(one).limiter, engine_of(other).limiter
    stream = await one.chat.completions.create(model="m", messages=MESSAGES, stream=True)
    assert len(held_here(limiter)) == 1
    assert held_here(foreign) == ()
    await stream.close()
    assert held_here(limiter) == ()
    stream = await one.chat.completions.create(model="m", messages=MESSAGES, stream=True)
    del stream
    gc.collect()
    await anyio.lowlevel.checkpoint()
    snapshot(one)  # takes back what was dropped
    assert held_here(limiter) == ()


def test_slots_of_two_models_that_wait_for_each_other_come_free_after_some_seconds() -> None:
    """What no single partition can see ends at its first look without movement."""
    heard: list[Event] = []
    client, _ = busy_client(algorithm=lambda: FixedLimit(1), on_event=heard.append)

    async def cross(outer: str, inner: str) -> None:
        async def call() -> None:
            await anyio.sleep(0.1)
            await ask(client, model=inner)

        await inside(client, call, model=outer)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cross, "a", "b")
            nursery.start_soon(cross, "b", "a")

    run_in_virtual_time(main)
    assert all(shown.in_flight == 0 for shown in snapshot(client).partitions)
    assert any(isinstance(event, Standstill) for event in heard)
