"""Standstills by open answers that nobody reads: noticed and told once, and nothing else is."""

from __future__ import annotations

import logging
from contextlib import aclosing
from typing import Any

import pytest
import trio
import trio.testing

from comet_resilience import Event, FixedLimit, Standstill, snapshot
from comet_resilience.limits.standstill import Holders, Stillness

from ..conftest import (
    MESSAGES,
    ask,
    httpx,
    run_in_virtual_time,
    scripted,
)
from .test_holding import CHUNK, STREAM, Busy, Chunks, busy_client, inside

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("ignore:Async generator '(openai|httpx):ResourceWarning"),
]


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

    run_in_virtual_time(main)
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

    class Slow(Chunks):
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

    run_in_virtual_time(main)
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


class Reading:
    """An open answer whose reads are counted by hand."""

    def __init__(self) -> None:
        self.turns = 0


def test_a_deadlock_is_where_whoever_holds_a_slot_waits_for_one() -> None:
    """With several requests each; a read under way, or one that does not wait, may yet end it."""
    holders, one, other = Holders(), Reading(), Reading()
    holders.block(one)
    holders.block(one)
    assert not holders.all_wait(2)
    holders.block(other)
    assert holders.all_wait(2)
    holders.unblock(one)
    assert holders.all_wait(2)
    one.turns = 1
    assert not holders.all_wait(2)
    one.turns = 2
    holders.unblock(one)
    assert not holders.all_wait(2)
    assert holders.all_wait(1)
    holders.forget(other)
    holders.unblock(other)  # its request leaves after its slot came back
    assert not holders.all_wait(0)
