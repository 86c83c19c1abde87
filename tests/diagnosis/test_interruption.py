"""Cancelled by the caller: the exception of the timeout says where the request was."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import anyio
import openai
import pytest
import trio
import trio.testing

from comet_resilience import Diagnosis, diagnose, support_report
from tests.conftest import (
    BROKEN,
    KEY,
    LIMITED,
    OK,
    Scripted,
    ask,
    run_in_virtual_time,
    scripted,
)

pytestmark = pytest.mark.anyio
ASYNCIO = pytest.mark.parametrize("anyio_backend", ["asyncio"])
#: The SDK leaves its own generators unexhausted where it is cancelled.
SLOTS: Any = {"max_concurrency": 1, "initial_concurrency": 1}


def occupied(**options: Any) -> tuple[openai.AsyncOpenAI, Scripted]:
    """A client whose only slot is taken for ever by the first that asks."""
    client, inner = scripted(OK, **SLOTS, **options)

    inner.hold()
    return client, inner


async def until_waiting(client: openai.AsyncOpenAI, tasks: Any, number: int) -> None:
    """Let ``number`` requests begin: one holds the slot, the others wait."""
    for _ in range(number):
        tasks.start_soon(ask, client)
    await anyio.wait_all_tasks_blocked()


def of_queue(error: BaseException, ahead: int) -> Diagnosis:
    """What is said of a request that was cancelled while it was queued."""
    told = diagnose(error)
    assert told.rule == "cancelled-in-queue"
    assert told.attempts == ()
    assert not told.may_be_billed
    assert told.retryable
    assert told.route == "POST /chat/completions"
    assert told.model == "m"
    assert told.queued == told.elapsed
    assert told.limiter is not None
    assert (told.limiter.limit, told.limiter.in_flight) == (1, 1)
    assert told.limiter.waiting == ahead
    others = "1 request was" if ahead == 1 else f"{ahead} requests were"
    assert f" s in the queue: {others} ahead of it" in told.reason
    assert "in the queue" in str(told)
    assert KEY not in str(told) + str(support_report(error))
    return told


async def test_scope_that_fails_tells_of_the_queue() -> None:
    """``anyio.fail_after``: found below its ``TimeoutError``, on both loops."""
    client, inner = occupied()
    async with anyio.create_task_group() as tasks:
        await until_waiting(client, tasks, 4)
        with pytest.raises(TimeoutError) as caught:
            with anyio.fail_after(0.01):
                await ask(client)
        of_queue(caught.value, ahead=3)
        tasks.cancel_scope.cancel()
    assert inner.sent == []


def test_trio_tells_of_the_queue_and_for_how_long() -> None:
    """``trio.fail_after``, in virtual time: the seconds are those that were waited."""

    async def main() -> None:
        client, _ = occupied()
        async with anyio.create_task_group() as tasks:
            await until_waiting(client, tasks, 3)
            with pytest.raises(trio.TooSlowError) as caught:
                with trio.fail_after(3.2):
                    await ask(client)
            told = of_queue(caught.value, ahead=2)
            assert told.queued == pytest.approx(3.2)
            assert "after 3.20 s in the queue: 2 requests were ahead of it" in told.summary
            tasks.cancel_scope.cancel()

    run_in_virtual_time(main)


@ASYNCIO
@pytest.mark.parametrize("way", ["timeout", "wait_for", "cancel"])
async def test_asyncio_tells_of_the_queue(way: str) -> None:
    """``asyncio.timeout``, ``asyncio.wait_for`` and a task that is cancelled."""
    client, _ = occupied()

    async def ended() -> None:
        if way == "timeout":
            async with asyncio.timeout(0.01):
                await ask(client)
        elif way == "wait_for":
            await asyncio.wait_for(ask(client), 0.01)
        else:
            task = asyncio.create_task(ask(client))
            await anyio.wait_all_tasks_blocked()
            task.cancel()
            await task

    async with anyio.create_task_group() as tasks:
        await until_waiting(client, tasks, 2)
        with pytest.raises((TimeoutError, asyncio.CancelledError)) as caught:
            await ended()
        of_queue(caught.value, ahead=1)
        tasks.cancel_scope.cancel()


async def test_request_in_flight_says_so_and_may_be_billed() -> None:
    """Cancelled after it was sent: the attempt is named, and that it may cost something."""
    client, _ = occupied()
    with pytest.raises(TimeoutError) as caught:
        with anyio.fail_after(0.01):
            await ask(client)
    told = diagnose(caught.value)
    assert told.rule == "cancelled-in-attempt"
    assert "after attempt 1 was sent" in told.reason
    assert told.may_be_billed
    assert told.queued <= told.elapsed


@ASYNCIO
async def test_task_cancelled_between_two_attempts_shows_what_failed() -> None:
    """Cancelled while it backed off: the attempts are there, and the last one's status."""
    client, inner = scripted(BROKEN, backoff_initial=60.0, backoff_max=60.0)
    task = asyncio.create_task(ask(client))
    await anyio.wait_all_tasks_blocked()
    assert len(inner.closed) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    told = diagnose(caught.value)
    assert told.rule == "cancelled-in-backoff"
    assert [attempt.status for attempt in told.attempts] == [500]
    assert "after attempt 1 failed" in told.reason
    assert told.queued <= told.elapsed
    assert told.elapsed >= told.attempts[0].elapsed


def test_retry_in_the_queue_has_kept_its_place() -> None:
    """A retry is ahead of whoever came after it, so no number of others is told."""

    async def main() -> None:
        client, inner = scripted(LIMITED, **SLOTS, backoff_initial=1.0, backoff_max=1.0)

        async def behave(request: Any) -> Any:
            if not inner.sent:
                await until_waiting(client, tasks, 2)
                return await inner.answer(request)
            return await anyio.sleep_forever()

        inner.behave = behave
        caught: list[BaseException] = []

        async def limited() -> None:
            try:
                with trio.fail_after(50):
                    await ask(client)
            except trio.TooSlowError as error:
                caught.append(error)
                tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(limited)
        told = diagnose(caught[0])
        assert told.rule == "cancelled-in-queue"
        assert "s in the queue: a retry, at its old place in the queue; limit 1" in told.reason
        assert [attempt.status for attempt in told.attempts] == [429]
        assert 45 < told.queued < 50
        assert told.elapsed == pytest.approx(50)

    run_in_virtual_time(main)


@ASYNCIO
async def test_note_keeps_nothing_alive() -> None:
    """Once the traceback is gone, no request, body or client hangs on the exception."""
    client, inner = occupied()
    requests: list[weakref.ref[Any]] = []

    async def watched(request: Any) -> Any:
        requests.append(weakref.ref(request))
        await anyio.sleep_forever()

    inner.behave = watched
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0.01):
            await ask(client)
    error: BaseException = caught.value.with_traceback(None)
    assert error.__cause__ is not None
    error.__cause__.__traceback__ = None
    error.__cause__.__context__ = None
    alive = weakref.ref(client)
    del client, inner, watched, caught
    gc.collect()
    assert alive() is None
    assert [request() for request in requests] == [None]
    assert diagnose(error).rule == "cancelled-in-attempt"
