"""Dropped answers that only the garbage collector can give back do not stop a service for good."""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
import trio
import trio.testing

from comet_resilience import FixedLimit, snapshot
from comet_resilience.limits import collecting
from comet_resilience.limits.collecting import Budget
from comet_resilience.limits.lookout import ALL_EVERY, LOOK_EVERY, Lookout

from ..conftest import (
    MESSAGES,
    OK,
    Answer,
    ask,
    run_in_virtual_time,
    scripted,
)

CHUNK = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n'
STREAM: Answer = (200, [CHUNK, CHUNK], {"content-type": "text/event-stream"})
OPTIONS: Any = {"algorithm": lambda: FixedLimit(1)}


@pytest.fixture(autouse=True)
def no_collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a new process that has nothing to do: no object is made, and none collected.

    The budget for collections is the process's: neither what other tests have spent of it nor
    the speed of the machine decides here.
    """
    monkeypatch.setattr(collecting, "_budget", Budget())
    monkeypatch.setattr(collecting, "time", SimpleNamespace(thread_time=lambda: 0.0))
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")
@pytest.mark.parametrize("looks", [1, 2], ids=["young", "old"])
def test_a_dropped_stream_stops_the_others_for_some_seconds_not_for_good(looks: int) -> None:
    """One that has survived two collections is found by the second look."""

    async def main() -> None:
        client, _ = scripted(STREAM, OK, **OPTIONS)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drop_a_stream, client, looks)
        began = trio.current_time()
        await ask(client)
        assert looks * LOOK_EVERY <= trio.current_time() - began <= (looks + 1) * LOOK_EVERY
        assert snapshot(client).partitions[0].in_flight == 0

    run_in_virtual_time(main)


async def drop_a_stream(client: Any, looks: int) -> None:
    """Leave a stream behind, in a cycle with its own generator; old if it takes two looks."""
    stream = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
    if looks == 2:
        gc.collect(0)
        gc.collect(1)
    del stream


def looks_of(lookout: Lookout, begin: float, seconds: float, moved: int = 0) -> dict[float, int]:
    """Look once a second: at which seconds what was collected."""
    found = {}
    for second in range(1, int(seconds) + 1):
        generation = lookout.look(begin + second, moved, begun=1)
        if generation is not None:
            found[begin + second] = generation
    return found


def test_nobody_looks_before_somebody_waits() -> None:
    assert Lookout().at == math.inf
    assert looks_of(Lookout(), 0.0, 100.0) == {}


def test_it_looks_where_nothing_moved_for_a_while() -> None:
    lookout = Lookout()
    lookout.begin(100.0, released=3)
    assert lookout.at == 100.0 + LOOK_EVERY
    assert lookout.look(104.9, released=3, begun=1) is None  # not yet
    assert lookout.look(105.0, released=4, begun=1) is None  # something moved
    assert lookout.at == 105.0 + LOOK_EVERY
    assert lookout.look(109.9, released=4, begun=1) is None
    assert lookout.look(110.0, released=4, begun=1) == 1
    assert lookout.look(115.0, released=5, begun=1) is None
    assert lookout.look(120.0, released=5, begun=1) == 1  # the first look in a row, again


def test_all_objects_are_looked_at_by_the_second_look_and_then_rarely() -> None:
    lookout = Lookout()
    lookout.begin(0.0, released=0)
    found = looks_of(lookout, 0.0, 200.0)
    assert list(found) == [LOOK_EVERY * count for count in range(1, 41)]
    all_at = [second for second, generation in found.items() if generation == 2]
    assert all_at == [2 * LOOK_EVERY + ALL_EVERY * count for count in range(4)]
    assert set(found.values()) == {1, 2}


def test_slow_answers_do_not_make_it_look_at_all_objects_each_time() -> None:
    """Answers that take 20 s, one after another: the first look at all, then one a minute."""
    lookout, found = Lookout(), {}
    lookout.begin(0.0, released=0)
    for moved in range(9):
        found.update(looks_of(lookout, 20.0 * moved, 20.0, moved))
    all_at = [second for second, generation in found.items() if generation == 2]
    assert all_at == [10.0, 75.0, 135.0]


def test_it_begins_afresh_when_the_queue_was_empty() -> None:
    lookout = Lookout()
    lookout.begin(0.0, released=0)
    assert lookout.look(5.0, released=0, begun=1) == 1
    lookout.begin(1_000.0, released=0)
    assert lookout.look(1_004.0, released=0, begun=1) is None
    assert lookout.look(1_005.0, released=0, begun=1) == 1  # not the second in a row


def test_where_no_answer_is_in_hand_none_can_have_been_dropped() -> None:
    """Answers that are awaited may take as long as they like."""
    lookout = Lookout()
    lookout.begin(0.0, released=0)
    looks = [lookout.look(5.0 * look, released=0, begun=0) for look in range(1, 100)]
    assert looks == [None] * 99
    assert lookout.at == 500.0
    assert lookout.look(500.0, released=0, begun=1) == 1


@pytest.mark.parametrize("handed_over", [False, True])
def test_a_service_is_not_disturbed_by_answers_that_are_slow(
    handed_over: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a stream that somebody has and does not read may be one that nobody has any more."""
    collected: list[int] = []
    monkeypatch.setattr(gc, "collect", collected.append)

    async def main() -> None:
        client, inner = scripted(STREAM, OK, **OPTIONS)
        streams: list[Any] = []

        async def open_a_stream() -> None:
            create = client.chat.completions.create
            streams.append(await create(model="m", messages=MESSAGES, stream=True))

        if handed_over:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(open_a_stream)
        else:
            inner.behave = lambda _request: anyio.sleep(60)
        with trio.move_on_after(28):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask, client)
                nursery.start_soon(ask, client)
        for stream in streams:
            await stream.close()

    run_in_virtual_time(main)
    assert collected == ([1, 2, 1, 1, 1] if handed_over else [])
