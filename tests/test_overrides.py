"""Keywords for a block of code: what changes inside of it, for whom, and what cannot change."""

from __future__ import annotations

import gc
import json
from collections.abc import AsyncIterator, Generator
from typing import Any, get_type_hints

import anyio
import openai
import pytest

from comet_resilience import (
    Config,
    DeadlineExceededError,
    FixedLimit,
    IncompleteStreamError,
    Options,
    PerCallOptions,
    QueueTimeoutError,
    RetryScheduled,
    diagnose,
    override,
    snapshot,
)
from comet_resilience.overrides import PER_CALL, current_block

from .conftest import (
    BROKEN,
    COMPLETION,
    FAST,
    OK,
    ask,
    scripted,
    stream_from,
)

SHARED = sorted(set(get_type_hints(Options)) - PER_CALL)
EVENTS = {"content-type": "text/event-stream"}


def event(content: str) -> bytes:
    """One event of a stream, without a finish reason."""
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": None}
    chunk = {**COMPLETION, "object": "chat.completion.chunk", "choices": [choice]}
    return f"data: {json.dumps(chunk)}\n\n".encode()


async def read(stream: Any) -> list[str]:
    """The texts of a stream."""
    return [chunk.choices[0].delta.content async for chunk in stream]


def test_the_keywords_of_one_request() -> None:
    """Exactly these concern one request and no other."""
    assert set(PER_CALL) == {
        "max_retries", "backoff_initial", "backoff_max", "max_retry_after", "retry_ambiguous",
        "deadline", "queue_timeout", "priority", "stall_timeout", "incomplete_stream", "opening",
        "wait", "jitter",
    }  # fmt: skip
    assert get_type_hints(PerCallOptions).items() <= get_type_hints(Options).items()


@pytest.mark.parametrize("name", SHARED)
def test_what_is_shared_cannot_change_and_the_error_says_why(name: str) -> None:
    """The message names the keyword, the reason, where it belongs, and what can change."""
    options: Any = {name: getattr(Config(), name)}
    with pytest.raises(TypeError, match=rf"override\(\) cannot change {name}: \w+ .*wrap\(\)"):
        override(**options)


@pytest.mark.parametrize(
    "options",
    [{"max_retries": -1}, {"deadline": 0}, {"retry_ambiguous": "some"}, {"retries": 3}],
    ids=str,
)
def test_values_are_checked_as_those_of_wrap(options: Any) -> None:
    """The same exception with the same words."""
    with pytest.raises((TypeError, ValueError)) as expected:
        Config.from_options(options)
    with pytest.raises(expected.type) as caught:
        override(**options)
    assert str(caught.value) == str(expected.value)


def test_blocks_nest_and_leave_no_trace() -> None:
    """The inner word wins, the rest is inherited, and after the block all is as before."""
    with override(deadline=3.0, max_retries=0):
        with override(max_retries=2):
            inner = current_block()
            assert inner is not None
            assert inner.options == {"deadline": 3.0, "max_retries": 2}
        outer = current_block()
        assert outer is not None
        assert outer.options == {"deadline": 3.0, "max_retries": 0}
    assert current_block() is None


def test_an_exception_leaves_no_trace_either() -> None:
    """A block ends however it ends, and one value may be entered again."""
    again = override(deadline=1.0)
    for _ in range(2):
        with pytest.raises(KeyError), again:
            raise KeyError
        assert current_block() is None


def test_blocks_may_end_in_any_order() -> None:
    """Who leaves a block takes back its own word only, and no word outlives its block."""

    def inside(seconds: int) -> Generator[None, None, None]:
        with override(deadline=seconds):
            yield

    first, second = inside(1), inside(2)
    next(first)
    next(second)
    first.close()
    block = current_block()
    assert block is not None
    assert block.options["deadline"] == 2
    second.close()
    assert current_block() is None


@pytest.mark.anyio
@pytest.mark.filterwarnings("ignore:Async generator")
async def test_a_block_ends_with_a_generator_that_was_dropped() -> None:
    """The event loop closes it in a context of its own; the reader's is not to keep the block."""

    async def numbers() -> AsyncIterator[int]:
        with override(max_retries=0):
            yield 1
            yield 2

    async def read_one() -> None:
        async for _ in numbers():
            break

    with override(deadline=7):
        for _ in range(3):
            await read_one()
            gc.collect()
            await anyio.wait_all_tasks_blocked()
        block = current_block()
        assert block is not None
        assert block.options == {"deadline": 7}
    assert current_block() is None


@pytest.mark.anyio
@pytest.mark.parametrize("is_inherited", [True, False])
async def test_leaving_a_block_in_another_task_leaves_that_tasks_own(is_inherited: bool) -> None:
    """A block that is closed by somebody else takes nothing of theirs along, and is over."""
    entered = override(max_retries=0)

    async def close() -> None:
        with override(deadline=5):
            entered.__exit__(None, None, None)
            block = current_block()
            assert block is not None
            assert block.options["deadline"] == 5
        assert current_block() is None

    async with anyio.create_task_group() as tasks:
        if is_inherited:
            entered.__enter__()
        tasks.start_soon(close)
        if not is_inherited:
            entered.__enter__()
    assert current_block() is None


def test_only_bounds_are_checked_once() -> None:
    """Inside one block the merged configuration is made once for a client, not per request."""
    config, other = Config(max_retries=3), Config(max_retries=4)
    with override(deadline=2.0):
        block = current_block()
        assert block is not None
        assert block.over(config) is block.over(config)
        assert block.over(config) == Config(max_retries=3, deadline=2.0)
        assert block.over(other) == Config(max_retries=4, deadline=2.0)


@pytest.mark.anyio
async def test_the_blocks_number_of_retries_is_the_last_word() -> None:
    """It counts more than the client's, and than ``with_options``; outside, theirs holds."""
    client, inner = scripted(BROKEN, **FAST, max_retries=1)
    for block, expected in ((override(max_retries=2), 3), (override(deadline=9.0), 5)):
        inner.sent.clear()
        with block, pytest.raises(openai.InternalServerError):
            await ask(client.with_options(max_retries=4))
        assert len(inner.sent) == expected
    with override(max_retries=0), pytest.raises(openai.InternalServerError) as caught:
        await ask(client)
    assert diagnose(caught.value).reason == "retries are off"
    inner.sent.clear()
    with pytest.raises(openai.InternalServerError):
        await ask(client)
    assert len(inner.sent) == 2


@pytest.mark.anyio
async def test_the_blocks_backoff_decides_the_waits() -> None:
    """The policy of a retry comes from the block too."""
    waits: list[float] = []

    def note(seen: object) -> None:
        if isinstance(seen, RetryScheduled):
            waits.append(seen.delay)

    client, _ = scripted(BROKEN, BROKEN, OK, backoff_initial=50.0, on_event=note)
    with override(backoff_initial=0.0):
        assert await ask(client) == "Hi"
    assert waits == [0.0, 0.0]


@pytest.mark.anyio
async def test_a_deadline_for_one_block() -> None:
    """It ends a request that would go on for ever, and no other."""
    client, inner = scripted(OK, **FAST)

    inner.delay(0.05)
    with override(deadline=0.01), pytest.raises(DeadlineExceededError, match=r"deadline=0.01 s"):
        await ask(client)
    assert await ask(client) == "Hi"


@pytest.mark.anyio
async def test_a_queue_timeout_for_one_block() -> None:
    """A request of the block does not wait longer; ``None`` takes the client's bound away."""
    client, inner = scripted(OK, algorithm=lambda: FixedLimit(1), queue_timeout=0.01)
    gone_on = inner.hold()
    answers: list[str | None] = []

    async def patient() -> None:
        answers.append(await ask(client))

    async with anyio.create_task_group() as tasks:
        with override(queue_timeout=None):
            tasks.start_soon(patient)
            tasks.start_soon(patient)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(QueueTimeoutError, match=r"queue_timeout=0.01 s"):
            await ask(client)
        with override(queue_timeout=0.02), pytest.raises(QueueTimeoutError, match="=0.02 s"):
            await ask(client)
        gone_on.set()
    assert answers == ["Hi", "Hi"]


@pytest.mark.anyio
async def test_a_priority_for_one_block() -> None:
    """The urgent one is next, however many wait; among equals order is that of arrival."""
    client, inner = scripted(OK, algorithm=lambda: FixedLimit(1), priority="low")
    gone_on, order = inner.hold(), []

    async def call(name: str) -> None:
        await ask(client)
        order.append(name)

    arrivals: list[tuple[str, Any]] = [
        ("running", {}), ("a", {}), ("bulk", {"priority": "bulk"}), ("b", {"priority": 5}),
        ("high", {"priority": "high"}), ("c", {}),
    ]  # fmt: skip
    async with anyio.create_task_group() as tasks:
        for name, options in arrivals:
            with override(**options):
                tasks.start_soon(call, name)
            await anyio.wait_all_tasks_blocked()
        (shown,) = snapshot(client).partitions
        assert shown.waiting_by_priority == ((-5, 1), (5, 3), (10, 1))
        assert "5 (1 high, 3 low, 1 bulk)" in str(snapshot(client))
        gone_on.set()
    assert order == ["running", "high", "a", "b", "c", "bulk"]


@pytest.mark.anyio
async def test_a_retry_stands_at_the_head_of_its_own_priority() -> None:
    """Before others of it that came later, and behind a higher one that came since."""
    client, inner = scripted(BROKEN, OK, **{**FAST, "algorithm": lambda: FixedLimit(1)})
    gone_on, order = inner.hold(), []

    async def call(name: str) -> None:
        await ask(client)
        order.append(name)

    low, high = override(priority="low"), override(priority="high")
    async with anyio.create_task_group() as tasks:
        for name, block in [("fails once", low), ("later", low), ("high", high)]:
            with block:
                tasks.start_soon(call, name)
            await anyio.wait_all_tasks_blocked()
        gone_on.set()
    assert order == ["high", "fails once", "later"]


@pytest.mark.anyio
async def test_tasks_inherit_and_others_never_see_it() -> None:
    """A task that begins inside keeps the block after it ended; one from outside has none."""
    client, inner = scripted(BROKEN, **FAST, max_retries=1)
    attempts: dict[str, int] = {}
    go = anyio.Event()

    async def fail(name: str) -> None:
        await go.wait()
        with pytest.raises(openai.InternalServerError) as caught:
            await ask(client)
        attempts[name] = len(diagnose(caught.value).attempts)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(fail, "outside")
        with override(max_retries=3):
            tasks.start_soon(fail, "inside")
            await anyio.wait_all_tasks_blocked()
        go.set()
    assert attempts == {"outside": 2, "inside": 4}
    assert len(inner.sent) == 6


@pytest.mark.anyio
async def test_a_stream_keeps_the_word_under_which_it_began() -> None:
    """Read after the block, it is still judged by the block."""
    client, _ = scripted((200, [event("half")], EVENTS), **FAST)
    with override(incomplete_stream="warn"):
        lenient = await stream_from(client)
    strict = await stream_from(client)
    with override(incomplete_stream="warn"), pytest.raises(IncompleteStreamError):
        await read(strict)
    assert await read(lenient) == ["half"]
