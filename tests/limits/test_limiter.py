"""Slots and the queue: given out in order, given back once, never lost."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
from typing import Any

import anyio
import pytest
import trio.testing

from comet_resilience import Event, FixedLimit, LimitChanged, StepBack
from comet_resilience.errors import QueueFullError, QueueTimeoutError
from comet_resilience.limits.limiter import Limiter
from comet_resilience.limits.partition import Lease
from comet_resilience.limits.partitions import IDLE_KEPT
from comet_resilience.verdict.vocabulary import Signal

from .conftest import KEY, limiter_of


def state_of(limiter: Limiter) -> tuple[int, int]:
    """In flight and waiting, in the only partition."""
    (shown,) = limiter.snapshot().partitions
    return shown.in_flight, shown.waiting


@pytest.mark.anyio
async def test_first_come_first_served() -> None:
    """Slots go to waiters in the order of their arrival, one wake-up for each freed slot."""
    limiter, served = limiter_of(), []
    first = await limiter.acquire(KEY)

    async def wait(name: int) -> None:
        lease = await limiter.acquire(KEY)
        served.append(name)
        lease.release(Signal.SUCCESS)

    async with anyio.create_task_group() as tasks:
        for name in range(20):
            tasks.start_soon(wait, name)
            await anyio.wait_all_tasks_blocked()
        first.release(Signal.SUCCESS)
    assert served == list(range(20))
    assert state_of(limiter) == (0, 0)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_a_retry_that_finds_room_does_not_queue() -> None:
    """It gets its slot at once, as any newcomer would, and keeps the place of its request."""
    limiter = limiter_of()
    lease = await limiter.acquire(KEY)
    lease.release(Signal.IGNORED)
    (await limiter.acquire(KEY)).release(Signal.SUCCESS)
    with trio.testing.assert_no_checkpoints():
        again = await limiter.acquire(KEY, lease.order)
    assert again.order == lease.order
    again.release(Signal.SUCCESS)
    assert state_of(limiter) == (0, 0)


@pytest.mark.anyio
async def test_a_newcomer_never_passes_a_waiter() -> None:
    """A freed slot belongs to the waiter at once, so nobody can slip in before it runs."""
    limiter = limiter_of()
    first = await limiter.acquire(KEY)
    async with anyio.create_task_group() as tasks:
        got: list[Lease] = []

        async def wait() -> None:
            got.append(await limiter.acquire(KEY))

        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        first.release(Signal.SUCCESS)
        assert limiter.acquire_nowait(KEY) is None
        await anyio.wait_all_tasks_blocked()
        assert len(got) == 1


@pytest.mark.anyio
async def test_a_retry_keeps_its_place() -> None:
    """A request that comes back after a failure stands before those who came later."""
    limiter, served = limiter_of(), []
    early = await limiter.acquire(KEY)
    early.release(Signal.IGNORED)
    busy = await limiter.acquire(KEY)

    async def wait(name: str, order: int | None) -> None:
        lease = await limiter.acquire(KEY, order)
        served.append(name)
        lease.release(Signal.SUCCESS)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait, "later", None)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(wait, "retry", early.order)
        await anyio.wait_all_tasks_blocked()
        busy.release(Signal.SUCCESS)
    assert served == ["retry", "later"]


@pytest.mark.anyio
async def test_releasing_twice_is_releasing_once() -> None:
    """Only the first release of a lease counts."""
    limiter = limiter_of()
    lease = await limiter.acquire(KEY)
    lease.release(Signal.SUCCESS)
    lease.release(Signal.OVERLOAD)
    lease.accept()
    lease.abandon()
    assert state_of(limiter) == (0, 0)
    (shown,) = limiter.snapshot().partitions
    assert (shown.ok, shown.refused, shown.other) == (1, 0, 0)


@pytest.mark.anyio
async def test_a_grant_that_races_a_cancellation_goes_to_the_next() -> None:
    """A slot given to a waiter that is cancelled in the same moment is handed on."""
    limiter, served = limiter_of(), []
    first = await limiter.acquire(KEY)

    async def wait(name: str, scope: anyio.CancelScope) -> None:
        with scope:
            lease = await limiter.acquire(KEY)
            served.append(name)
            lease.release(Signal.SUCCESS)

    scopes = [anyio.CancelScope(), anyio.CancelScope()]
    async with anyio.create_task_group() as tasks:
        for name, scope in zip(("dying", "next"), scopes, strict=True):
            tasks.start_soon(wait, name, scope)
            await anyio.wait_all_tasks_blocked()
        first.release(Signal.SUCCESS)
        scopes[0].cancel()
    assert "next" in served
    assert state_of(limiter) == (0, 0)


@pytest.mark.anyio
@pytest.mark.parametrize("steps", range(6))
async def test_cancelling_at_any_moment_loses_nothing(steps: int) -> None:
    """However far a waiter got before it was cancelled, no slot and no place is lost."""
    limiter = limiter_of()
    first = await limiter.acquire(KEY)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(limiter.acquire, KEY)
        for step in range(steps):
            await anyio.lowlevel.checkpoint()
            if step == 2:
                first.release(Signal.SUCCESS)
        tasks.cancel_scope.cancel()
    first.release(Signal.SUCCESS)
    in_flight, waiting = state_of(limiter)
    assert waiting == 0
    assert in_flight <= 1  # a waiter that got its slot keeps it: it returned before the cancel


@pytest.mark.anyio
async def test_the_queue_is_bounded() -> None:
    """Above max_queue a newcomer is refused at once; a retry is still let in."""
    limiter = limiter_of(max_queue=1)
    first = await limiter.acquire(KEY)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(limiter.acquire, KEY)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(QueueFullError, match="max_queue=1"):
            await limiter.acquire(KEY)
        tasks.start_soon(limiter.acquire, KEY, first.order)
        await anyio.wait_all_tasks_blocked()
        assert state_of(limiter) == (1, 2)
        tasks.cancel_scope.cancel()
    assert state_of(limiter) == (1, 0)


@pytest.mark.anyio
async def test_waiting_is_bounded() -> None:
    """After queue_timeout seconds the waiter gives up and leaves no trace."""
    limiter = limiter_of()
    await limiter.acquire(KEY)
    with pytest.raises(QueueTimeoutError, match="queue_timeout=0.01 s"):
        await limiter.acquire(KEY, queue_timeout=0.01)
    assert state_of(limiter) == (1, 0)


@pytest.mark.anyio
async def test_many_who_left_do_not_pile_up() -> None:
    """Waiters that were cancelled are swept out of the queue."""
    limiter = limiter_of()
    await limiter.acquire(KEY)
    for _ in range(5):
        async with anyio.create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(limiter.acquire, KEY)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
    assert limiter._partitions[KEY]._queue.places <= 64


@pytest.mark.anyio
async def test_time_alone_reopens_a_closed_partition(anyio_backend: tuple[str, Any]) -> None:
    """With everything refused and nothing in flight, a timer lets the next canary go."""
    if anyio_backend[0] != "trio":
        pytest.skip("waits: on virtual time only")
    limiter = limiter_of(lambda: StepBack(4, 1, 100))
    leases = [await limiter.acquire(KEY) for _ in range(4)]
    limiter.rest(leases[0].partition, 1)  # one that is alone would not be held
    for lease in leases:
        lease.release(Signal.OVERLOAD)
    started = anyio.current_time()
    for _ in range(3):
        canary = await limiter.acquire(KEY)
        canary.release(Signal.OVERLOAD)
    assert 0 < anyio.current_time() - started < 60
    assert state_of(limiter) == (0, 0)


@pytest.mark.anyio
async def test_moves_of_the_limit_are_told_with_their_reason() -> None:
    """Each change reaches the observers and the snapshot, in words."""
    heard: list[Event] = []
    limiter = limiter_of(lambda: StepBack(4, 1, 100), on_event=heard.append)
    leases = [await limiter.acquire(KEY) for _ in range(4)]
    leases[-1].release(Signal.OVERLOAD)
    changes = [event for event in heard if isinstance(event, LimitChanged)]
    assert changes
    assert all(change.reason and change.partition == KEY for change in changes)
    (shown,) = limiter.snapshot().partitions
    assert shown.changes == tuple(changes)
    assert str(limiter.snapshot()).splitlines()[1].startswith("POST /chat/completions m")


@pytest.mark.anyio
async def test_an_observer_may_look_at_the_limiter() -> None:
    """Observers run outside the lock: asking for a snapshot inside of one does not hang."""
    seen: list[object] = []
    limiter = limiter_of(
        lambda: StepBack(4, 1, 100), on_event=lambda _: seen.append(limiter.snapshot())
    )
    leases = [await limiter.acquire(KEY) for _ in range(4)]
    leases[0].release(Signal.OVERLOAD)
    assert seen


@pytest.mark.anyio
async def test_partitions_are_independent_and_the_idle_ones_forgotten() -> None:
    """However many model names there are, they leave a bounded number of partitions."""
    limiter = limiter_of()
    held = await limiter.acquire(("POST /x", "held"))
    for number in range(3 * IDLE_KEPT):
        lease = await limiter.acquire(("POST /x", f"model-{number}"))
        lease.release(Signal.SUCCESS)
    partitions = limiter.snapshot().partitions
    assert len(partitions) <= 2 * (IDLE_KEPT + 2)
    assert ("POST /x", "held") in {shown.partition for shown in partitions}
    held.release(Signal.SUCCESS)


def test_consecutive_event_loops() -> None:
    """One limiter serves one ``asyncio.run`` after the other, also if one ended with waiters."""
    limiter = limiter_of()

    async def leave_a_waiter() -> None:
        lease = await limiter.acquire(KEY)
        first = asyncio.ensure_future(limiter.acquire(KEY))
        second = asyncio.ensure_future(limiter.acquire(KEY))
        await asyncio.sleep(0)
        assert state_of(limiter) == (1, 2)
        lease.release(Signal.SUCCESS)
        (await first).release(Signal.IGNORED)
        (await second).release(Signal.SUCCESS)
        held = await limiter.acquire(KEY)
        waiter = asyncio.ensure_future(limiter.acquire(KEY))  # the end of the run cancels it
        await asyncio.sleep(0)
        held.release(Signal.SUCCESS) if waiter.done() else held.abandon()

    for _ in range(3):
        asyncio.run(leave_a_waiter())
    assert state_of(limiter) == (0, 0)


def test_loops_in_threads_share_one_limit() -> None:
    """Four event loops in four threads wake each other and never exceed the limit."""
    limiter = limiter_of(lambda: FixedLimit(2))
    running, most, lock = 0, 0, threading.Lock()

    async def work() -> None:
        nonlocal running, most
        lease = await limiter.acquire(KEY)
        with lock:
            running += 1
            most = max(most, running)
        await asyncio.sleep(0)
        with lock:
            running -= 1
        lease.release(Signal.SUCCESS)

    async def many() -> None:
        await asyncio.gather(*(work() for _ in range(50)))

    threads = [threading.Thread(target=asyncio.run, args=(many(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=100)
        assert not thread.is_alive()
    assert most <= 2
    assert state_of(limiter) == (0, 0)


def test_a_dropped_lease_comes_back_without_a_lock() -> None:
    """A finalizer gives its slot back without waiting; the next in line gets it."""
    limiter = limiter_of()

    async def drop() -> None:
        lease = await limiter.acquire(KEY)
        waiter = asyncio.ensure_future(limiter.acquire(KEY))
        await asyncio.sleep(0)
        lease.abandon()
        (await waiter).release(Signal.SUCCESS)

    asyncio.run(drop())
    gc.collect()
    assert state_of(limiter) == (0, 0)


@pytest.mark.skipif(sys.platform == "win32", reason="fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_starts_afresh() -> None:
    """The parent's requests are not the child's: the child has all slots, the parent keeps its."""
    limiter = limiter_of()
    lease = limiter.acquire_nowait(KEY)
    assert lease is not None
    child = os.fork()
    if child == 0:
        os._exit(0 if limiter.acquire_nowait(KEY) is not None else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert state_of(limiter) == (1, 0)
    lease.release(Signal.SUCCESS)
