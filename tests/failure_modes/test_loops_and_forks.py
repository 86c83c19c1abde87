"""Modes 7, 8 and 13: several event loops, forked processes, clocks that jump."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from typing import Any

import anyio
import openai
import pytest

from comet_resilience import FixedLimit, StepBack, snapshot, wrap
from comet_resilience.limits.eventloop import running_loop
from comet_resilience.testing import Gateway
from comet_resilience.verdict.vocabulary import Signal
from tests.conftest import (
    LIMITED,
    MESSAGES,
    OK,
    ask,
    at_rest,
    engine_of,
    envelope,
    run_in_virtual_time,
    scripted,
)

from .counting import ClosedAtFirst

pytestmark = pytest.mark.timeout(120)
KEY = ("POST /chat/completions", "m")


@contextmanager
def gateway_in_a_thread() -> Iterator[Gateway]:
    """A gateway on real sockets with an event loop of its own."""
    gateway, ready, over = Gateway(latency=(0.0, 0.0)), threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        async with gateway:
            loops.append(asyncio.get_running_loop())
            ready.set()
            await over.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(100)
        yield gateway
    finally:
        loops[0].call_soon_threadsafe(over.set)
        thread.join(100)


def test_fm07_consecutive_event_loops_share_one_limit() -> None:
    """One client in three ``asyncio.run``: what it learned stays, what was left behind does not."""
    client, inner = scripted(LIMITED, OK, algorithm=lambda: StepBack(4, 1, 4))

    async def some() -> None:
        await asyncio.gather(*(ask(client) for _ in range(6)))
        stuck = asyncio.ensure_future(
            engine_of(client).limiter.acquire(KEY)
        )  # cancelled by the end
        await asyncio.sleep(0)
        if stuck.done():
            (await stuck).abandon()

    for _ in range(3):
        asyncio.run(some())
    assert len(inner.sent) == 19
    assert at_rest(client)


def test_fm07_waiters_of_a_dead_loop_are_passed_over() -> None:
    """A loop that was closed under its waiters takes no slot with it."""
    client, _ = scripted(OK, algorithm=lambda: FixedLimit(1))
    held = engine_of(client).limiter.acquire_nowait(KEY)
    assert held is not None
    dead = asyncio.new_event_loop()
    waiting = dead.create_task(ask(client))
    dead.run_until_complete(asyncio.sleep(0.01))
    assert snapshot(client).partitions[0].waiting == 1
    waiting._log_destroy_pending = False  # type: ignore[attr-defined]
    dead.close()

    async def after() -> None:
        next_one = asyncio.ensure_future(ask(client))
        await asyncio.sleep(0)
        held.release(Signal.SUCCESS)
        assert await next_one == "Hi"

    asyncio.run(after())
    assert at_rest(client)
    waiting.get_coro().close()


def test_fm07_two_loops_that_take_turns_in_one_thread() -> None:
    """A timer that was armed before another loop ran still wakes its waiter."""
    client, _ = scripted(OK, algorithm=lambda: ClosedAtFirst(0.05))
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    try:
        waiting = first.create_task(ask(client))
        first.run_until_complete(asyncio.sleep(0.01))
        other = second.create_task(ask(client))
        second.run_until_complete(asyncio.sleep(0.01))
        assert first.run_until_complete(asyncio.wait_for(waiting, 100)) == "Hi"
        assert second.run_until_complete(asyncio.wait_for(other, 100)) == "Hi"
    finally:
        first.close()
        second.close()
    assert at_rest(client)


def test_fm07_loops_in_threads_share_one_limit() -> None:
    """Four loops in four threads, two of asyncio and two of trio: never above the limit of two."""
    client, inner = scripted(OK, algorithm=lambda: FixedLimit(2))
    running, most, lock = 0, 0, threading.Lock()

    async def count(request: Any) -> Any:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        await anyio.sleep(0.0005)
        with lock:
            running -= 1
        return await inner.answer(request)

    async def many() -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(25):
                tasks.start_soon(ask, client)

    inner.behave = count
    threads = [
        threading.Thread(target=anyio.run, args=(many,), kwargs={"backend": backend})
        for backend in ("asyncio", "trio", "asyncio", "trio")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=100)
        assert not thread.is_alive()
    assert (most, len(inner.sent)) == (2, 100)
    assert at_rest(client)


def in_a_child(work: Callable[[], object]) -> bool:
    """Return True if something works in a forked process."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if work() else 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


fork = pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
quiet_fork = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")


@fork
@quiet_fork
def test_fm07_consecutive_event_loops_over_real_sockets() -> None:
    """A pooled connection of a loop that has ended is a broken connection: the call succeeds.

    In a process of its own, because sockets of loops that have ended are never closed.
    """

    def calls() -> bool:
        client = wrap(
            openai.AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.api_key),
            backoff_initial=0.01,
            backoff_max=0.01,
        )
        return all(asyncio.run(ask(client)) for _ in range(4)) and at_rest(client)

    with gateway_in_a_thread() as gateway:
        assert in_a_child(calls)


@fork
@quiet_fork
def test_fm08_forked_child_has_all_slots_and_the_parent_keeps_its_own() -> None:
    """The parent holds the only slot and the lock; its child calls at once."""
    client, _ = scripted(OK, algorithm=lambda: FixedLimit(1))
    held = engine_of(client).limiter.acquire_nowait(KEY)
    assert held is not None
    with engine_of(client).limiter._lock:
        assert in_a_child(lambda: asyncio.run(ask(client)) == "Hi" and at_rest(client))
    assert snapshot(client).partitions[0].in_flight == 1
    held.release(Signal.SUCCESS)
    assert asyncio.run(ask(client)) == "Hi"


@fork
@quiet_fork
def test_fm08_forked_child_shares_no_socket_with_its_parent() -> None:
    """The parent's pooled connection is not the child's: each gets its own answer, on its own."""
    with gateway_in_a_thread() as gateway:
        client = wrap(openai.AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.api_key))

        async def parent() -> None:
            assert await ask(client)
            assert in_a_child(lambda: asyncio.run(asyncio.wait_for(ask(client), 100)))
            assert await ask(client)
            await client.close()

        asyncio.run(parent())
        assert len(gateway.requests) == 3
        assert at_rest(client)


@pytest.mark.parametrize("jump", [86_400.0, -86_400.0])
def test_fm13_waits_know_nothing_of_the_wall_clock(
    jump: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the wall clock jumps a day at each look: hints, dates, gates and deadlines hold."""
    clock, looks = time.time, iter(range(10**9))
    monkeypatch.setattr(time, "time", lambda: clock() + jump * next(looks))
    now = 1_793_589_240.0
    date = {"date": formatdate(now, usegmt=True)}
    hints: list[tuple[dict[str, str], float]] = [
        ({"retry-after": "20"}, 20.0),
        ({"retry-after-ms": "1500"}, 1.5),
        ({**date, "retry-after": formatdate(now + 30, usegmt=True)}, 30.0),
    ]

    async def main() -> None:
        begun = anyio.current_time()
        for headers, least in hints:
            client, inner = scripted((429, envelope("", ""), headers), OK, backoff_initial=0.0)
            started = anyio.current_time()
            assert await ask(client) == "Hi"
            assert least <= anyio.current_time() - started <= least * 1.06
            assert len(inner.sent) == 2
        client, inner = scripted(LIMITED, LIMITED, LIMITED, OK, deadline=3_600.0)
        assert await ask(client) == "Hi"
        assert anyio.current_time() - begun < 120
        assert running_loop().now() >= 0

    run_in_virtual_time(main)


def test_fm13_durations_are_never_negative(monkeypatch: pytest.MonkeyPatch) -> None:
    """What events and snapshots say of time comes from the monotonic clock."""
    clock, looks = time.time, iter(range(10**9))
    monkeypatch.setattr(time, "time", lambda: clock() - 86_400 * next(looks))
    seen: list[Any] = []
    client, _ = scripted(LIMITED, OK, on_event=seen.append, backoff_initial=0.0, backoff_max=0.0)

    async def main() -> None:
        await client.chat.completions.create(model="m", messages=MESSAGES)

    asyncio.run(main())
    durations = [getattr(event, name, 0) for event in seen for name in ("elapsed", "queued")]
    assert all(0 <= duration < 60 for duration in durations)
    closed_for = snapshot(client).partitions[0].closed_for
    assert closed_for is None or 0 <= closed_for <= 60
