"""Bulk work with the real SDK, on both event loops: every item once, and no task left behind."""

from __future__ import annotations

import sys
import tracemalloc
from pathlib import Path
from typing import Any

import anyio
import openai
import pytest
from anyio.lowlevel import checkpoint

from comet_resilience import (
    BulkResults,
    Progress,
    Signal,
    override,
    run_all,
)
from comet_resilience.bulk.checkpoint import Checkpoint
from comet_resilience.overrides import current_block
from tests.bulk.conftest import Service
from tests.conftest import (
    BROKEN,
    COMPLETION,
    JSON,
    MESSAGES,
    OK,
    Answer,
    ask,
    bare_client,
    chunk,
    engine_of,
    event,
    in_virtual_time,
    on_asyncio,
)

pytestmark = pytest.mark.anyio


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
    """Handled items are skipped; items only answered are asked for again, or stored."""
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
    """Results that were paid for are returned; further calls would be paid for in vain."""
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


@in_virtual_time
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


@pytest.mark.filterwarnings("ignore:Async generator '(openai|httpx|httpcore):ResourceWarning")
async def test_the_tokens_of_a_run_are_told_and_those_of_others_are_not() -> None:
    """Of whole answers and of streams, with nobody else listening."""
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    told: Answer = (200, {**COMPLETION, "usage": usage}, JSON)
    last = event({"choices": [], "usage": usage})
    streamed: Answer = (
        200, chunk("Hi") + chunk(None, "stop") + last + b"data: [DONE]\n\n",
        {"content-type": "text/event-stream"},
    )  # fmt: skip
    seen: list[Progress] = []
    whole, stream = Service(told), Service(streamed)

    async def read(item: int) -> None:
        answer: Any = await stream.client.chat.completions.create(
            model="m", messages=MESSAGES, stream=True
        )
        async for _ in answer:
            pass

    for ask_for, client in ((whole.ask, whole.client), (read, stream.client)):
        run = run_all(ask_for, range(3), client=client, errors="raise", progress=seen.append)
        async with run as results:
            assert len([result async for result in results]) == 3
            await ask(whole.client)  # no item of the run
        assert seen[-1].tokens == 30
        assert "30 tokens (" in str(seen[-1])


async def test_a_progress_that_fails_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged once."""
    service = Service(seconds=0.2)

    def fail(_: Progress) -> None:
        raise ValueError("terminal gone")

    async with run_all(service.ask, range(30), client=service.client, progress=fail) as results:
        assert len([pair async for pair in results]) == 30
    assert caplog.text.count("progress failed") == 1


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


@on_asyncio
@pytest.mark.timeout(180)
async def test_thirty_thousand_items_take_no_memory() -> None:
    """Through the real limiter, with a lease in place of a call of the SDK."""
    service = Service()
    limiter = engine_of(service.client).limiter

    async def take_a_slot(item: int) -> int:
        block = current_block()
        assert block is not None
        assert block.witness is not None
        block.witness(limiter, "m")
        lease = await limiter.acquire("m")
        lease.release(Signal.SUCCESS)
        return item

    blocks, count = [], 0
    async with run_all(take_a_slot, range(30_000), client=service.client) as results:
        async for _ in results:
            count += 1
            if count % 3_000 == 0:
                blocks.append(sys.getallocatedblocks())
            if count == 27_000:  # it slows everything down
                tracemalloc.start()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert count == 30_000
    assert max(blocks) - blocks[0] < 1_000
    assert peak < 300_000
