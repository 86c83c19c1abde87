"""Calls inside an open stream of the same partition: they are made, or it is said why not."""

from __future__ import annotations

import gc
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import aclosing
from typing import Any

import anyio
import pytest
import trio
import trio.testing

from comet_resilience import Event, FixedLimit, Standstill, StepBack, snapshot
from comet_resilience.limits.collecting import REST, Budget
from comet_resilience.limits.holding import held_here
from comet_resilience.limits.lookout import ALL, ALL_EVERY, LOOK_EVERY, YOUNG
from comet_resilience.limits.standstill import Stillness

from ..conftest import COMPLETION, MESSAGES, Answer, ask, httpx, scripted

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
        await anyio.sleep(0.01)
        self.answered += 1
        body = b"".join([part async for part in request.stream])
        if b'"stream":true' not in body.replace(b" ", b""):
            self.open -= 1
            return httpx.Response(200, json=COMPLETION)
        stream = _Chunks(self)
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=stream)


class _Chunks(httpx.AsyncByteStream):  # type: ignore[misc]
    def __init__(self, gateway: Busy) -> None:
        self._gateway, self._parts = gateway, [CHUNK, LAST, b"data: [DONE]\n\n"]

    def __aiter__(self) -> _Chunks:
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
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(shape, client)
    (shown,) = snapshot(client).partitions
    assert (shown.in_flight, shown.waiting, gateway.open) == (0, 0, 0)
    depth = 3 if shape is _deep else 1
    assert gateway.most <= shown.limit + depth


async def test_a_slot_is_lent_only_where_none_would_come_back() -> None:
    """One reader reads on: its slot comes back by itself, so the others wait for it."""
    client, gateway = busy_client(algorithm=lambda: FixedLimit(2))

    async def read() -> None:
        await inside(client, lambda: anyio.sleep(0.05))

    with anyio.fail_after(30):
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
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                for _ in range(5):
                    tasks.start_soon(impatient, seconds)
        (shown,) = snapshot(client).partitions
        assert (shown.in_flight, shown.waiting) == (0, 0)


async def test_what_one_client_holds_is_nothing_to_another() -> None:
    """Nor is what was given back, was dropped, or belongs to a client that is gone."""
    one, _ = busy_client(algorithm=lambda: FixedLimit(1))
    other, _ = busy_client(algorithm=lambda: FixedLimit(1))
    limiter: Any = one._client._transport._engine.limiter
    foreign: Any = other._client._transport._engine.limiter
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

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert all(shown.in_flight == 0 for shown in snapshot(client).partitions)
    assert any(isinstance(event, Standstill) for event in heard)


def test_a_standstill_is_told_once_with_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    """Somebody else holds all streams open and unread: one warning, one event, and a snapshot."""
    heard: list[Event] = []
    texts: list[str] = []
    client, _ = busy_client(algorithm=lambda: FixedLimit(2), on_event=heard.append)

    async def hold() -> None:
        stream = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
        async with aclosing(stream.response):
            await trio.sleep(23)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hold)
            nursery.start_soon(hold)
            await trio.sleep(1)
            assert snapshot(client).partitions[0].standstill is None
            nursery.start_soon(ask, client)
            nursery.start_soon(ask, client)
            await trio.sleep(17)
            assert snapshot(client).partitions[0].standstill == pytest.approx(17, abs=0.1)
            texts.append(str(snapshot(client)))

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    (told,) = (event for event in heard if isinstance(event, Standstill))
    assert (told.held, told.waiting, told.limit) == (2, 2, 2)
    (record,) = (each for each in caplog.records if "stalled for" in each.message)
    assert record.levelno == logging.WARNING
    assert "async with" in record.message
    assert "max_concurrency" in record.message
    assert "nothing moves for 17 s" in texts[0]
    assert snapshot(client).partitions[0].standstill is None


def test_streams_that_are_read_slowly_are_no_standstill() -> None:
    """An event every few seconds, for a minute, with others waiting: nothing is wrong."""
    heard: list[Event] = []
    client, inner = scripted(STREAM, algorithm=lambda: FixedLimit(1), on_event=heard.append)

    class Slow(_Chunks):
        async def __anext__(self) -> bytes:
            await trio.sleep(7)
            return await super().__anext__()

        async def aclose(self) -> None:
            """Count nothing."""

    async def answer(_request: object) -> Any:
        slow = Slow(Busy())
        slow._parts[1:1] = [CHUNK] * 8
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=slow)

    async def main() -> None:
        inner.behave = answer
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(inside, client)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert not [event for event in heard if isinstance(event, Standstill)]


def test_stillness_ends_with_any_movement() -> None:
    """A slot that came back, a read that began, a read under way."""
    still = Stillness()
    still.begin(0.0, (0, 0))
    still.look(5.0, (0, 0), True)
    assert (still.lasts(7.0), still.untold(), still.untold()) == (7.0, 5.0, None)
    for turns, held_up in (((1, 0), True), ((1, 2), True), ((1, 2), False)):
        still.look(10.0, turns, held_up)
        assert still.lasts(11.0) is None
        still.look(15.0, turns, True)
        assert still.untold() == 5.0


def test_a_thousand_partitions_have_the_objects_looked_at_as_often_as_one() -> None:
    """Within a minute of standstill: every five seconds the young, once all of them."""
    budget, found = Budget(), []
    for second in range(100, 160):
        for _partition in range(1_000):
            allowed = budget.allows(ALL, float(second))
            if allowed is not None:
                found.append(allowed)
                budget.spent(allowed, float(second), 0.01)
    assert found == [ALL] + [YOUNG] * 11


def test_collections_take_a_small_share_of_the_time_however_large_the_process_is() -> None:
    """Each is followed by fifty times its own length without any."""
    budget, now, spent = Budget(), 1_000.0, 0.0
    for _ in range(5_000):
        allowed = budget.allows(ALL, now)
        if allowed is not None:
            seconds = 14.0 if allowed == ALL else 2.0
            budget.spent(allowed, now, seconds)
            spent += seconds
        now += 1.0
    assert 0 < spent <= 5_000 / REST * 1.2
    assert budget.allows(YOUNG, 10.0) == YOUNG  # a clock that was set back, as tests have
    assert ALL_EVERY > LOOK_EVERY
