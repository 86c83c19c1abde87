"""Dropped answers that only the garbage collector can give back do not stop a service for good."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest
import trio.testing

from comet_resilience import FixedLimit, snapshot
from comet_resilience.limits.lookout import ALL_EVERY, LOOK_EVERY, Lookout

from ..conftest import MESSAGES, OK, Answer, ask, scripted

CHUNK = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n'
STREAM: Answer = (200, [CHUNK, CHUNK], {"content-type": "text/event-stream"})
OPTIONS: Any = {"algorithm": lambda: FixedLimit(1)}


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    """As in a process that has nothing to do: no object is made, and none collected."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")
def test_a_dropped_stream_stops_the_others_for_some_seconds_not_for_good() -> None:
    async def main() -> None:
        client, _ = scripted(STREAM, OK, **OPTIONS)
        stream = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
        del stream  # in a cycle with its own generator
        began = trio.current_time()
        await ask(client)
        assert LOOK_EVERY <= trio.current_time() - began <= 2 * LOOK_EVERY
        assert snapshot(client).partitions[0].in_flight == 0

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_it_looks_where_nothing_moved_for_a_while() -> None:
    lookout = Lookout()
    lookout.begin(100.0, moved=3)
    assert lookout.at == 100.0 + LOOK_EVERY
    assert lookout.look(104.0, moved=3) is None  # not yet
    assert lookout.look(105.0, moved=4) is None  # something moved
    assert lookout.at == 105.0 + LOOK_EVERY
    assert lookout.look(110.0, moved=4) == 1


def test_it_looks_at_all_objects_rarely() -> None:
    lookout, now, generations = Lookout(), 0.0, []
    lookout.begin(now, moved=0)
    for _ in range(2 * ALL_EVERY):
        now += LOOK_EVERY
        generations.append(lookout.look(now, moved=0))
    assert generations == [*[1] * (ALL_EVERY - 1), 2] * 2


def test_it_begins_afresh_when_the_queue_was_empty() -> None:
    lookout = Lookout()
    lookout.begin(0.0, moved=0)
    assert lookout.look(5.0, moved=0) == 1
    lookout.begin(1_000.0, moved=0)
    assert lookout.look(1_001.0, moved=0) is None
