"""Modes 10, 11 and 27: in which order requests wait, how many may, and how they come back."""

from __future__ import annotations

import asyncio
import gc
import random
import tracemalloc
from collections import Counter
from typing import Any

import anyio
import openai
import pytest

from comet_resilience import QueueFullError, StepBack, diagnose, snapshot
from comet_resilience.limits.algorithm import RETRY_AFTER_SPREAD
from comet_resilience.verdict.vocabulary import Signal
from tests.conftest import (
    COMPLETION,
    LIMITED,
    OK,
    ask,
    envelope,
    httpx,
    run_in_virtual_time,
    scripted,
)
from tests.limits.conftest import limiter_of

pytestmark = pytest.mark.timeout(120)
MANY, MEASURED = 20_000, 5_000


def test_fm10_nobody_is_passed_by_a_newcomer() -> None:
    """While newcomers never cease each request is sent in order of arrival, retries included."""

    async def main() -> None:
        client, inner = scripted(OK, max_concurrency=2, initial_concurrency=2, backoff_initial=0.0)
        served: list[str] = []
        waits: list[float] = []

        async def answer(request: Any) -> Any:
            name = request.headers["x-name"]
            await anyio.sleep(1)
            if name in ("7", "8") and name not in served:
                served.append(name)
                return httpx.Response(503, json=envelope("", "down"))
            served.append(name)
            return httpx.Response(200, json=COMPLETION)

        async def call(number: int) -> None:
            started = anyio.current_time()
            await ask(client, extra_headers={"x-name": str(number)})
            waits.append(anyio.current_time() - started)

        inner.behave = answer
        async with anyio.create_task_group() as tasks:
            for number in range(60):
                tasks.start_soon(call, number)
                await anyio.sleep(0.4)
        again = [served.index(name, served.index(name) + 1) for name in ("7", "8")]
        assert all(place <= 12 for place in again)  # back at the head, not behind the others
        firsts = sorted(range(60), key=lambda number: served.index(str(number)))
        assert all(abs(place - number) <= 1 for place, number in enumerate(firsts))
        assert max(waits) < 30

    run_in_virtual_time(main)


def test_fm11_of_twenty_thousand_the_queue_takes_its_bound() -> None:
    """All above ``max_queue`` are refused at once, before any slot is free."""

    async def main() -> None:
        slots, outcomes = limiter_of(max_queue=1_000), Counter[str]()
        held = await slots.acquire("k")

        async def one() -> None:
            try:
                lease = await slots.acquire("k")
            except QueueFullError:
                outcomes["refused"] += 1
            else:
                outcomes["served"] += 1
                lease.release(Signal.SUCCESS)

        tasks = [asyncio.ensure_future(one()) for _ in range(MANY)]
        await asyncio.sleep(0)
        assert outcomes == {"refused": MANY - 1_000}
        held.release(Signal.SUCCESS)
        await asyncio.wait(tasks)
        assert outcomes["served"] == 1_000
        (shown,) = slots.snapshot().partitions
        assert (shown.in_flight, shown.waiting) == (0, 0)

    asyncio.run(main())


def test_fm11_twenty_thousand_may_wait_at_a_kilobyte_each() -> None:
    """Unbounded on purpose: each waiter costs at most 1 KB here, and all of them are served."""

    async def main() -> None:
        slots = limiter_of()
        held = await slots.acquire("k")
        waiters = [slots._enqueue("k", None) for _ in range(MANY - MEASURED)]
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        waiters += [slots._enqueue("k", None) for _ in range(MEASURED)]
        used = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        assert used / MEASURED <= 1_024
        (shown,) = slots.snapshot().partitions
        assert shown.waiting == MANY
        for waiter in waiters[::2]:
            slots._leave(waiter)
        held.release(Signal.SUCCESS)
        for waiter in waiters[1::2]:
            await waiter.parking
            assert waiter.lease is not None
            waiter.lease.release(Signal.SUCCESS)
        (shown,) = slots.snapshot().partitions
        assert (shown.in_flight, shown.waiting) == (0, 0)

    asyncio.run(main())


def test_fm11_the_sdk_does_not_retry_what_the_queue_refused() -> None:
    """A refusal is the SDK's own kind of error, raised once, and nothing was sent."""

    async def main() -> None:
        client, inner = scripted(OK, max_concurrency=1, initial_concurrency=1, max_queue=5)
        opened = inner.hold()
        errors: list[openai.OpenAIError] = []

        async def call() -> None:
            try:
                await ask(client)
            except openai.OpenAIError as error:
                errors.append(error)

        async with anyio.create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(call)
            await anyio.wait_all_tasks_blocked()
            assert len(errors) == 94
            opened.set()
        assert all(isinstance(error, QueueFullError) for error in errors)
        assert all(not diagnose(error).attempts for error in errors)
        assert len(inner.sent) == 6

    run_in_virtual_time(main)


def test_fm27_a_thousand_clients_do_not_come_back_together() -> None:
    """Told the same time, gates open spread out: no tenth of a second sees more than its share."""
    draw = random.Random(27).random
    opened = Counter[int]()
    for _ in range(1_000):
        gate = StepBack(8, 1, 64)
        for _ in range(4):
            if gate.closed_until is None:
                gate.refused(gate.sent(0.0, 1), 0.0, 0, 30.0, draw())
        assert gate.closed_until is not None
        assert gate.closed_until >= 30.0
        opened[int(gate.closed_until * 10)] += 1
    assert max(opened.values()) <= 2 * 1_000 / (30.0 * RETRY_AFTER_SPREAD * 10)


def test_fm27_after_the_pause_one_goes_first_and_then_more() -> None:
    """Three hundred that wait: one canary, then a ramp; never more at once than the limit says."""

    async def main() -> None:
        client, inner = scripted(LIMITED, max_queue=None, max_concurrency=64)
        started, sends, most = anyio.current_time(), list[float](), 0

        async def answer(_request: Any) -> Any:
            nonlocal most
            sends.append(anyio.current_time() - started)
            shown = snapshot(client).partitions[0]
            most = max(most, shown.in_flight)
            if sends[-1] < 5.0:
                headers = {"retry-after": "5"}
                return httpx.Response(429, json=envelope("", "busy"), headers=headers)
            await anyio.sleep(0.2)
            return httpx.Response(200, json=COMPLETION)

        inner.behave = answer
        async with anyio.create_task_group() as tasks:
            for _ in range(300):
                tasks.start_soon(ask, client)
        later = [moment for moment in sends if moment >= 5.0]
        assert len(later) == 300
        assert sum(moment < later[0] + 0.19 for moment in later) == 1
        bins = Counter(int(moment * 10) for moment in later)
        assert max(bins.values()) <= most <= 64

    run_in_virtual_time(main)
