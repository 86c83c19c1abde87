"""The results of a run: every item once, errors as values or raised, and no task left behind."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import anyio
import openai
import pytest
from anyio.lowlevel import checkpoint

from comet_resilience import (
    run_all,
    snapshot,
)
from tests.bulk.conftest import Service
from tests.conftest import BROKEN, OK

pytestmark = pytest.mark.anyio


async def tasks_after(block: Callable[[], Awaitable[object]]) -> int:
    """Return how many tasks more there are after a block, but for the event loop's own."""
    before = len(anyio.get_running_tasks())
    await block()
    await anyio.wait_all_tasks_blocked()
    return len(anyio.get_running_tasks()) - before


@pytest.mark.parametrize("order", ["completed", "input"])
async def test_every_item_once(order: Any) -> None:
    """Each result comes with its item, in the order that was asked for."""
    service = Service(seconds=0.001)
    async with run_all(service.ask, range(100), client=service.client, order=order) as results:
        pairs = [pair async for pair in results]
        assert [pair async for pair in results] == []
    if order == "completed":
        pairs.sort()
    assert pairs == [(item, 10 * item) for item in range(100)]
    assert len(service.inner.sent) == 100


@pytest.mark.parametrize("order", ["completed", "input"])
async def test_the_order_when_the_first_is_the_slowest(order: Any) -> None:
    """As they come, or each in its turn."""
    service, gone_on = Service(), anyio.Event()

    async def slow_first(item: int) -> int:
        result = await service.ask(item)
        if item == 0:
            await gone_on.wait()
        elif item == 4:
            gone_on.set()
        return result

    async with run_all(slow_first, range(5), client=service.client, order=order) as results:
        items = [item async for item, _ in results]
    if order == "completed":
        assert items[-1] == 0
        items.sort()
    assert items == [0, 1, 2, 3, 4]


async def test_only_so_many_begin_as_the_limiter_can_send() -> None:
    """Items are read as calls begin, and a call begins when it could soon be sent."""
    service, gone_on = Service(limit=16), anyio.Event()
    read = waiting = most = 0

    async def hold(request: Any) -> Any:
        await gone_on.wait()
        return await service.inner.answer(request)

    service.inner.behave = hold

    def items() -> Iterator[int]:
        nonlocal read
        while read < 500:
            read += 1
            yield read

    async def let_go() -> None:
        nonlocal waiting, most
        await anyio.wait_all_tasks_blocked()
        waiting, most = snapshot(service.client).partitions[0].waiting, read
        gone_on.set()

    async with (
        anyio.create_task_group() as tasks,
        run_all(service.ask, items(), client=service.client) as results,
    ):
        tasks.start_soon(let_go)
        assert len([result async for result in results]) == 500
    assert 1 <= waiting <= 3
    assert 16 + 1 <= most <= 16 + 3


async def test_no_more_than_a_few_begin_in_one_turn_of_the_loop() -> None:
    """However much room there is, other tasks have their turn."""
    service, begun_at_turn, turn, over = Service(limit=1_000), [], 0, False

    async def note(item: int) -> int:
        begun_at_turn.append(turn)
        return await service.ask(item)

    async def count() -> None:
        nonlocal turn
        while not over:
            await checkpoint()
            turn += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(count)
        async with run_all(note, range(500), client=service.client) as results:
            assert len([result async for result in results]) == 500
        over = True
    assert max(begun_at_turn.count(turn) for turn in set(begun_at_turn)) <= 2 * 8


@pytest.mark.parametrize("order", ["completed", "input"])
async def test_a_slow_reader_holds_the_run_back(order: Any) -> None:
    """Results that are not taken are bounded by a few times the limit."""
    service = Service(limit=2)
    async with run_all(service.ask, range(1_000), client=service.client, order=order) as results:
        await anext(results)
        await anyio.sleep(0.3)
        assert len(service.begun) <= 4 * 3 + 1
        await anext(results)


async def test_items_may_come_from_an_async_generator_which_is_closed() -> None:
    """Also when the loop is left before its end."""
    service, closed = Service(limit=1), []

    async def items() -> AsyncIterator[int]:
        try:
            for item in range(50):
                yield item
        finally:
            closed.append(True)

    async with run_all(service.ask, items(), client=service.client) as results:
        assert len([result async for result in results]) == 50
    async with run_all(service.ask, items(), client=service.client) as results:
        async for _ in results:
            break
    assert closed == [True, True]


async def test_a_source_of_the_callers_stays_theirs_to_close() -> None:
    """A channel is no generator: what is left in it is still there after the loop."""
    service = Service(limit=1)
    send, receive = anyio.create_memory_object_stream[int](50)
    async with send, receive:
        for item in range(50):
            send.send_nowait(item)
        async with run_all(service.ask, receive, client=service.client) as results:
            async for _ in results:
                break
        assert receive.statistics().open_receive_streams == 1
        assert receive.receive_nowait() > 0


async def test_an_error_of_the_items_comes_after_all_results() -> None:
    """Results that were paid for come first."""
    service = Service()

    def items() -> Iterator[int]:
        yield from range(5)
        raise LookupError("no more")

    seen = []
    with pytest.raises(LookupError, match="no more"):
        async with run_all(service.ask, items(), client=service.client) as results:
            async for item, _ in results:
                seen.append(item)
    assert sorted(seen) == [0, 1, 2, 3, 4]


async def test_errors_are_values() -> None:
    """The SDK's and any other; the rest goes on."""
    service = Service(BROKEN, *[OK] * 9, max_retries=0)
    failed: dict[int, BaseException] = {}
    async with run_all(service.fail_at_five, range(20), client=service.client) as results:
        async for item, result in results:
            if isinstance(result, Exception):
                failed[item] = result
            else:
                assert result == 10 * item
    assert [type(failed[item]) for item in sorted(failed)] == [
        openai.InternalServerError,
        LookupError,
    ]


@pytest.mark.parametrize("order", ["completed", "input"])
async def test_errors_are_raised(order: Any) -> None:
    """As they are, not in a group; the rest is cancelled before the block is left."""
    service = Service(seconds=0.01)

    async def block() -> None:
        with pytest.raises(LookupError) as caught:
            async with run_all(
                service.fail_at_five,
                range(1_000),
                client=service.client,
                errors="raise",
                order=order,
            ) as results:
                async for item, result in results:
                    assert result == 10 * item
        assert caught.value.args == (5,)

    assert await tasks_after(block) == 0
    assert len(service.begun) < 50
    assert service.cancelled


async def test_no_exception_ends_the_loop_in_silence() -> None:
    """``StopAsyncIteration`` out of the function that asks is an error like others."""
    service = Service()

    async def stop(_: int) -> int:
        raise StopAsyncIteration

    with pytest.raises(RuntimeError, match="StopAsyncIteration was raised"):
        async with run_all(stop, [1], client=service.client, errors="raise") as results:
            async for _ in results:
                raise AssertionError


@pytest.mark.parametrize("how", ["break", "raise", "group", "aclose", "cancel"])
async def test_however_the_loop_is_left_no_task_is(how: str) -> None:
    """And an exception of the block comes out as it went in."""
    service = Service(seconds=0.01)

    async def block() -> None:
        async with run_all(service.ask, range(1_000), client=service.client) as results:
            async for _ in results:
                if how == "break":
                    break
                if how == "raise":
                    raise LookupError("mine")
                if how == "group":
                    raise ExceptionGroup("mine", [LookupError("one alone")])
                if how == "aclose":
                    await results.aclose()
                    assert len(service.cancelled) > 0
                    await checkpoint()
                if how == "cancel":
                    scope.cancel()

    async def guarded() -> None:
        if how in ("raise", "group"):
            expected = LookupError if how == "raise" else ExceptionGroup
            with pytest.raises(expected, match="mine"):
                await block()
            return
        with scope:
            await block()

    scope = anyio.CancelScope()
    assert await tasks_after(guarded) == 0
    assert scope.cancelled_caught is (how == "cancel")
    assert service.cancelled
    (shown,) = snapshot(service.client).partitions
    assert (shown.in_flight, shown.waiting) == (0, 0)


async def test_a_call_that_was_cancelled_from_elsewhere_is_not_lost() -> None:
    """A task that the function waited for was cancelled: an error of its item."""
    if sys.modules.get("trio") and not asyncio._get_running_loop():
        pytest.skip("trio cancels by scopes alone")
    service = Service()

    async def wait_for_a_cancelled_task(item: int) -> int:
        task = asyncio.ensure_future(asyncio.sleep(60))
        asyncio.get_running_loop().call_soon(task.cancel)
        await task
        return item

    async with run_all(wait_for_a_cancelled_task, [1], client=service.client) as results:
        ((item, error),) = [pair async for pair in results]
    assert item == 1
    assert isinstance(error, RuntimeError)


async def test_one_task_reads() -> None:
    """Two at once would not know which result is done with."""
    service = Service()
    gone_on = anyio.Event()

    async def wait(item: int) -> int:
        await gone_on.wait()
        return item

    async with (
        run_all(wait, [1], client=service.client) as results,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(anext, results)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(RuntimeError, match="by one task at a time"):
            await anext(results)
        gone_on.set()
