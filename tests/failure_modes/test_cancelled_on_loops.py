"""Modes 1, 2 and 3 on real event loops: scopes, cancelled tasks, and grants that race."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Any

import anyio
import anyio.lowlevel
import openai
import pytest

from comet_resilience.verdict.vocabulary import Signal
from tests.conftest import on_asyncio, sdk_leaves_generators
from tests.limits.conftest import limiter_of

from .counting import CASES, Case

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.usefixtures("log_without_counts"),
    pytest.mark.timeout(120),
    sdk_leaves_generators,
]


async def checkpoints_of(make: Callable[[], Case]) -> int:
    """Return how many checkpoints of the wire a request passes when nobody cancels it."""
    case = make()
    with suppress(openai.OpenAIError):
        await case.journey(case.client)
    assert case.at_rest()
    return case.wire.passed


@pytest.mark.parametrize("name", CASES)
async def test_fm01_scope_cancelled_at_every_checkpoint(name: str) -> None:
    """``scope.cancel()`` at each checkpoint of the wire, on both loops: nothing is left behind.

    What we close afterwards is closed properly: clean-up is shielded from the cancellation.
    """
    make = CASES[name]
    places, before = await checkpoints_of(make), await goes_on()
    for place in range(1, places + 1):
        case, scope = make(), anyio.CancelScope()
        case.wire.at_checkpoint = lambda number, place=place, scope=scope: (  # type: ignore[misc]
            scope.cancel() if number == place else None
        )
        came = False
        with scope:
            with suppress(openai.OpenAIError):
                await case.journey(case.client)
            came = True
        assert scope.cancelled_caught or came
        assert case.at_rest()
        if "stream" in name or name == "bytes":
            assert not case.wire.torn_at
        else:  # a whole body is closed by the HTTP library, in the moment in which it is cancelled
            assert case.wire.torn_at in ([], [place], [place + 1])
            assert await goes_on() == before


async def goes_on() -> int:
    """Return how many tasks there are once what is over has ended."""
    for _ in range(3):
        await anyio.lowlevel.checkpoint()
    return len(anyio.get_running_tasks())


@on_asyncio
@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("name", CASES)
async def test_fm02_task_cancelled_at_every_turn_of_the_loop(name: str, times: int) -> None:
    """``Task.cancel()``, once, twice and thrice with a turn between: nothing is left behind."""
    make = CASES[name]
    for turns in count():
        case = make()
        task = asyncio.ensure_future(case.journey(case.client))
        for _ in range(turns):
            await asyncio.sleep(0)
        over = task.done()
        for _ in range(times):
            task.cancel()
            await asyncio.sleep(0)
        with suppress(openai.OpenAIError, asyncio.CancelledError):
            await task
        assert over or task.cancelled() or case.wire.sent
        assert case.at_rest()
        if over:
            return


@pytest.mark.parametrize("name", CASES)
async def test_fm02_cancelled_where_everything_is_cancelled(name: str) -> None:
    """Inside a scope that is cancelled from the start nothing is left behind either."""
    case = CASES[name]()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await case.journey(case.client)
    assert scope.cancelled_caught
    assert case.at_rest()


@on_asyncio
@pytest.mark.parametrize("cancel_first", [False, True])
async def test_fm03_grant_and_cancellation_in_the_same_tick(cancel_first: bool) -> None:
    """A slot that a dying waiter was given goes to the next; nobody else is passed over."""
    slots, served = limiter_of(), []
    first = await slots.acquire("k")

    async def wait(name: str) -> None:
        lease = await slots.acquire("k")
        served.append(name)
        lease.release(Signal.SUCCESS)

    dying, next_one = (asyncio.ensure_future(wait(name)) for name in ("dying", "next"))
    await asyncio.sleep(0)
    acts: list[Callable[[], Any]] = [lambda: first.release(Signal.SUCCESS), dying.cancel]
    for act in reversed(acts) if cancel_first else acts:
        act()
    await asyncio.wait([dying, next_one])
    assert dying.cancelled()
    assert served == ["next"]
    (shown,) = slots.snapshot().partitions
    assert (shown.in_flight, shown.waiting, shown.ok) == (0, 0, 2)


async def test_fm03_grants_race_cancellations_through_a_long_queue() -> None:
    """Every other waiter dies in the moment in which its turn comes; all the others are served."""
    slots, served = limiter_of(), []
    first = await slots.acquire("k")
    scopes = [anyio.CancelScope() for _ in range(40)]

    async def wait(number: int) -> None:
        with scopes[number]:
            lease = await slots.acquire("k")
            if number + 1 < len(scopes):
                lease.release(Signal.SUCCESS)  # the slot is the next one's, which now dies
                scopes[number + 1].cancel()
                await anyio.lowlevel.checkpoint()
            else:
                lease.release(Signal.SUCCESS)
            served.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(len(scopes)):
            tasks.start_soon(wait, number)
            await anyio.wait_all_tasks_blocked()
        first.release(Signal.SUCCESS)
    (shown,) = slots.snapshot().partitions
    assert (shown.in_flight, shown.waiting) == (0, 0)
    assert served
