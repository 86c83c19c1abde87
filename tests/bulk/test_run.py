"""Bulk work with the real SDK, on both event loops: every item once, and no task left behind."""

from __future__ import annotations

import asyncio
import sys
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import openai
import pytest
from anyio.lowlevel import checkpoint

from comet_resilience import (
    BulkResults,
    FixedLimit,
    Progress,
    Signal,
    override,
    run_all,
    snapshot,
)
from comet_resilience.bulk.checkpoint import Checkpoint
from comet_resilience.overrides import current_block
from tests.conftest import BROKEN, OK, Answer, ask, bare_client, on_asyncio, scripted

pytestmark = pytest.mark.anyio
Ask = Callable[[int], Awaitable[int]]


class Service:
    """A wrapped client in front of scripted answers, and a function that asks it."""

    def __init__(self, *answers: Answer, limit: int = 8, seconds: float = 0.0, **options: Any):
        self.client, self.inner = scripted(
            *answers or (OK,), **{"algorithm": lambda: FixedLimit(limit), **options}
        )
        self.seconds = seconds
        self.begun: list[int] = []
        self.cancelled: list[int] = []
        self.inner.behave = self._answer

    async def _answer(self, request: Any) -> Any:
        await anyio.sleep(self.seconds)
        return await self.inner.answer(request)

    async def ask(self, item: int) -> int:
        """Ask for an item; the answer is ten times the item."""
        self.begun.append(item)
        try:
            await ask(self.client)
        except anyio.get_cancelled_exc_class():
            self.cancelled.append(item)
            raise
        return 10 * item

    async def fail_at_five(self, item: int) -> int:
        """Ask, and fail for item 5 once there was an answer."""
        if item == 5:
            await ask(self.client)
            raise LookupError(item)
        return await self.ask(item)


async def tasks_after(block: Callable[[], Awaitable[object]]) -> int:
    """How many tasks more there are after a block, but for those of the event loop itself."""
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
        await anyio.sleep(0.5)
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
    """Results that nobody takes are bounded by a few times the limit."""
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
    """What was paid for is handed over first."""
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
    """A task that the function waited for and somebody cancelled: an error of its item."""
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


@pytest.mark.parametrize("options", [{"queue_timeout": 0.01}, {"max_queue": 0}], ids=str)
async def test_the_wait_for_a_slot_fails_no_call(options: Any) -> None:
    """Neither by ``queue_timeout`` nor by ``max_queue``: it is the run that lets calls wait."""
    service = Service(limit=1, seconds=0.05, **options)
    async with run_all(service.ask, range(6), client=service.client, errors="raise") as results:
        assert len([result async for result in results]) == 6


@pytest.mark.parametrize("around", [None, "normal", "high"])
async def test_other_calls_go_before_those_of_the_run(around: Any) -> None:
    """Unless a block around it says otherwise: the run is below everything else by default."""
    service, order = Service(limit=1), []
    gone_on = anyio.Event()

    async def hold(request: Any) -> Any:
        await gone_on.wait()
        return await service.inner.answer(request)

    async def call(name: str) -> None:
        await ask(service.client)
        order.append(name)

    async def other() -> None:
        with override(priority="normal"):
            await call("other")

    service.inner.behave = hold
    block = override(**({} if around is None else {"priority": around}))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call, "running")
        await anyio.wait_all_tasks_blocked()
        with block:
            async with run_all(call, ["bulk"], client=service.client) as results:
                await anyio.wait_all_tasks_blocked()
                tasks.start_soon(other)
                await anyio.wait_all_tasks_blocked()
                gone_on.set()
                async for _ in results:
                    pass
    first, last = ("other", "bulk") if around is None else ("bulk", "other")
    assert order == ["running", first, last]


async def test_blocks_around_the_run_hold_for_its_calls() -> None:
    """``override`` is inherited."""
    service = Service(BROKEN)
    with override(max_retries=0):
        async with run_all(service.ask, range(10), client=service.client) as results:
            async for _, result in results:
                assert isinstance(result, openai.InternalServerError)
    assert len(service.inner.sent) == 10


async def test_runs_inside_of_runs_and_side_by_side() -> None:
    """Each counts its own calls."""
    service = Service()

    async def ask_three(item: int) -> list[int]:
        await service.ask(item)
        async with run_all(service.ask, range(3), client=service.client, errors="raise") as inner:
            return sorted([result async for _, result in inner])

    async with (
        run_all(ask_three, range(10), client=service.client, errors="raise") as results,
        run_all(service.ask, range(10), client=service.client, errors="raise") as others,
    ):
        assert [result async for _, result in results] == [[0, 10, 20]] * 10
        assert len([result async for result in others]) == 10
        for run in (results, others):
            shown = run.progress()
            assert (shown.answered, shown.running, shown.limit) == (10, 0, 8)


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


# -- the file ----------------------------------------------------------------------------------


async def read_until(results: BulkResults[int, Any], count: int) -> list[int]:
    """Read so many results, handle them, and leave at the next."""
    seen: list[int] = []
    async for item, _ in results:
        if len(seen) == count:
            break
        seen.append(item)
    return seen


@pytest.mark.parametrize("store", [False, True])
async def test_a_run_goes_on_where_it_was_left(tmp_path: Path, store: bool) -> None:
    """What was handled is skipped; what was only answered is asked again, or stored."""
    service, file = Service(), tmp_path / "finished.jsonl"

    def run() -> Any:
        return run_all(
            service.ask, range(40), client=service.client, finished=file, store_results=store
        )

    async with run() as results:
        seen = await read_until(results, 10)
    answered, again = len(service.inner.sent), []
    service.inner.sent.clear()
    async with run() as results:
        async for item, result in results:
            assert result == 10 * item
            again.append(item)
        assert results.progress().over == 40
    assert sorted(seen + again) == list(range(40))
    if store:
        assert len(service.inner.sent) <= 40 - len(seen) - 1
    else:
        assert len(service.inner.sent) == 40 - len(seen)
    assert answered > len(seen)
    service.inner.sent.clear()
    async with run() as results:
        assert [pair async for pair in results] == []
    assert service.inner.sent == []


async def test_what_failed_is_run_again(tmp_path: Path) -> None:
    """An error is no result."""
    service, file = Service(BROKEN, OK, max_retries=0, limit=1), tmp_path / "f"
    for expected in (openai.InternalServerError, int):
        async with run_all(service.ask, [7], client=service.client, finished=file) as results:
            assert [type(result) async for _, result in results] == [expected]


async def test_items_with_equal_keys_are_one(tmp_path: Path) -> None:
    """The key decides, if one is given."""
    service = Service()
    async with run_all(
        service.ask,
        range(10),
        client=service.client,
        finished=tmp_path / "f",
        key=lambda item: item % 3,
        order="input",
    ) as results:
        assert [item async for item, _ in results] == [0, 1, 2]


async def test_a_result_that_cannot_be_stored_ends_the_run(tmp_path: Path) -> None:
    """What was paid for is handed over; each further call would be paid for in vain."""
    service = Service()

    async def whole(item: int) -> object:
        await service.ask(item)
        return object()

    taken: list[int] = []
    with pytest.raises(TypeError, match="object cannot be stored"):
        async with run_all(
            whole, range(100), client=service.client, finished=tmp_path / "f", store_results=True
        ) as results:
            async for item, _ in results:
                taken.append(item)
    assert len(service.begun) < 50
    assert sorted(taken) == sorted(service.begun)


async def test_a_result_that_is_not_kept_is_handed_over_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Once for the run; the next run asks again, and for nothing else."""
    service, wide = Service(), {3: (1, 2), 5: {1: "a"}, 7: float("nan")}

    async def some(item: int) -> object:
        await service.ask(item)
        return wide.get(item, item)

    async with run_all(
        some, range(20), client=service.client, finished=tmp_path / "f", store_results=True
    ) as results:
        found = {item: result async for item, result in results}
    assert {item: found[item] for item in wide} == wide
    assert len(found) == 20
    assert len([record for record in caplog.records if "store_results" in record.message]) == 1


async def test_a_full_disk_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error of the file is the error of the loop."""
    service = Service()

    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for store in (False, True):
        running = run_all(
            service.ask,
            range(100),
            client=service.client,
            finished=tmp_path / str(store),
            store_results=store,
        )
        with pytest.raises(OSError, match="No space left"):
            async with running as results:
                monkeypatch.setattr(Checkpoint, "answered" if store else "done", no_room)
                async for _ in results:
                    await checkpoint()


# -- progress ----------------------------------------------------------------------------------


async def test_progress_is_told_twice_a_second_and_at_the_end() -> None:
    """With all that a bar shows."""
    service, seen = Service(BROKEN, OK, limit=4, seconds=0.2, max_retries=0), list[Progress]()
    async with run_all(
        service.ask, iter(range(20)), client=service.client, progress=seen.append, total=20
    ) as results:
        assert len([pair async for pair in results]) == 20
    middle, last = seen[0], seen[-1]
    assert (last.total, last.answered, last.failed, last.running) == (20, 19, 1, 0)
    assert (last.eta, last.limit, last.refused) == (0.0, 4, 0)
    assert middle.running > 0
    assert middle.rate > 0
    assert middle.eta is not None
    assert 2 <= len(seen) <= 5


async def test_a_progress_that_fails_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged once."""
    service = Service(seconds=0.2)

    def fail(_: Progress) -> None:
        raise ValueError("terminal gone")

    async with run_all(service.ask, range(30), client=service.client, progress=fail) as results:
        assert len([pair async for pair in results]) == 30
    assert caplog.text.count("progress failed") == 1


async def test_the_bar(capsys: pytest.CaptureFixture[str]) -> None:
    """Counts, rate, time left, limit, refusals and failures."""
    service = Service()
    async with run_all(service.ask, range(9), client=service.client, progress=True) as results:
        assert len([pair async for pair in results]) == 9
    shown = capsys.readouterr().out
    for part in ("9/9", "/s", "eta 0:00:00", "limit 8", "refused 0", "failed 0"):
        assert part in shown


async def test_the_bar_names_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra, and the way without."""
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    service = Service()
    with pytest.raises(ImportError, match=r"comet-resilience\[progress\]"):
        run_all(service.ask, [1], client=service.client, progress=True)


# -- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"order": "random"}, ValueError, "order='random': expected one of 'completed', 'input'"),
        ({"errors": "ignore"}, ValueError, "errors='ignore'"),
        ({"store_results": True}, ValueError, "finished"),
        ({"key": str}, ValueError, "finished"),
        ({"client": "client"}, TypeError, r"made by wrap\(\).*got str"),
    ],
)
async def test_arguments_are_checked_at_once(options: Any, error: Any, words: str) -> None:
    """Before the block is entered."""
    service = Service()
    given: Any = {"client": service.client, **options}
    with pytest.raises(error, match=words):
        run_all(service.ask, [1], **given)


async def test_a_client_must_be_wrapped() -> None:
    """Or there would be no limiter to set the pace."""
    service = Service()
    bare = bare_client(service.inner)
    with pytest.raises(TypeError, match=r"made by wrap\(\), .* got AsyncOpenAI as it is"):
        run_all(service.ask, [1], client=bare)


async def test_a_copy_of_a_wrapped_client_will_do() -> None:
    """``with_options`` shares the limiter."""
    service = Service()
    async with run_all(
        service.ask, range(5), client=service.client.with_options(timeout=5)
    ) as results:
        assert len([pair async for pair in results]) == 5


# -- memory ------------------------------------------------------------------------------------


@on_asyncio
@pytest.mark.timeout(180)
async def test_a_hundred_thousand_items_take_no_memory() -> None:
    """Through the real limiter, with a lease in place of a call of the SDK."""
    service = Service()
    limiter = service.client._client._transport._engine.limiter  # type: ignore[attr-defined]

    async def take_a_slot(item: int) -> int:
        block = current_block()
        assert block is not None
        assert block.witness is not None
        block.witness(limiter, "m")
        lease = await limiter.acquire("m")
        lease.release(Signal.SUCCESS)
        return item

    blocks, count = [], 0
    async with run_all(take_a_slot, range(100_000), client=service.client) as results:
        async for _ in results:
            count += 1
            if count % 10_000 == 0:
                blocks.append(sys.getallocatedblocks())
            if count == 90_000:  # it slows everything down
                tracemalloc.start()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert count == 100_000
    assert max(blocks) - blocks[0] < 20_000
    assert peak < 500_000
