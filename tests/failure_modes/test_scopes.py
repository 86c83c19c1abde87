"""Mode 9: ``asyncio.timeout`` and anyio scopes around and inside each other, and our deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import anyio
import anyio.lowlevel
import openai
import pytest

from comet_resilience import DeadlineExceededError, FixedLimit, diagnose
from tests.conftest import (
    COMPLETION,
    LIMITED,
    OK,
    SSE,
    WHOLE,
    Answer,
    EndlessStream,
    ask,
    engine_of,
    envelope,
    httpx,
    in_virtual_time,
    on_asyncio,
    scripted,
    sdk_leaves_generators,
)

from .counting import at_rest

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.timeout(120),
    sdk_leaves_generators,
]
SHORT, LONG = 0.02, 60.0


async def _hang(_request: Any) -> Any:
    await anyio.sleep_forever()


async def _hang_in_the_body(_request: Any) -> Any:
    return httpx.Response(200, stream=EndlessStream([b'{"id": "x", '], []))


async def _hang_before_the_first_event(_request: Any) -> Any:
    return httpx.Response(200, headers=SSE, stream=EndlessStream([b": PING\n\n"], []))


async def _hang_after_the_first_event(_request: Any) -> Any:
    return httpx.Response(200, headers=SSE, stream=EndlessStream([WHOLE[0]], []))


async def _stream(client: Any) -> None:
    async with await client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "x"}], stream=True
    ) as stream:
        async for _ in stream:
            pass


async def _queued(client: Any) -> None:
    lease = await engine_of(client).limiter.acquire(("POST /chat/completions", "m"))
    try:
        await ask(client)
    finally:
        lease.abandon()


Place = tuple[Answer, Callable[[Any], Awaitable[Any]] | None, Callable[[Any], Awaitable[Any]]]
LATER: Answer = (429, envelope("", "later"), {"retry-after": "50"})
PLACES: dict[str, Place] = {
    "queue": (OK, None, _queued),
    "send": (OK, _hang, ask),
    "backoff": (LATER, None, ask),
    "body": (OK, _hang_in_the_body, ask),
    "first_event": (OK, _hang_before_the_first_event, _stream),
    "later_event": (OK, _hang_after_the_first_event, _stream),
}


def place(name: str, **options: Any) -> tuple[Any, Callable[[], Awaitable[Any]]]:
    """A client, and a call of it that waits for ever at some place."""
    answer, behave, call = PLACES[name]
    client, inner = scripted(answer, algorithm=lambda: FixedLimit(1), **options)
    inner.behave = behave
    return client, lambda: call(client)


@on_asyncio
@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("native_outside", [True, False])
@pytest.mark.parametrize("outer_ends_it", [True, False])
async def test_fm09_asyncio_timeout_and_anyio_scope_both_ways_round(
    name: str, native_outside: bool, outer_ends_it: bool
) -> None:
    """Whichever of the two ends it, it is the one that says so; the other knows nothing of it."""
    client, call = place(name, stall_timeout=LONG, queue_timeout=LONG)
    native_seconds = SHORT if native_outside is outer_ends_it else LONG
    scope = anyio.CancelScope(deadline=anyio.current_time() + LONG + SHORT - native_seconds)
    native = asyncio.timeout(native_seconds)
    if name == "backoff" and native_seconds == LONG:
        with scope, pytest.raises(openai.RateLimitError):  # a scope's end is seen beforehand
            await call()
        return
    timed_out = False
    try:
        if native_outside:
            async with native:
                with scope:
                    await call()
        else:
            with scope:
                async with native:
                    await call()
    except TimeoutError:
        timed_out = True
    assert (timed_out, scope.cancelled_caught) == (native.expired(), not native.expired())
    assert native.expired() is (native_seconds == SHORT)
    await asyncio.sleep(0)  # an abandoned lease comes back with the loop's next turn
    assert at_rest(client)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


@pytest.mark.parametrize("name", ["queue", "send", "backoff", "body", "first_event"])
@pytest.mark.parametrize("deadline_is_inside", [True, False])
async def test_fm09_our_deadline_and_the_callers_scope(name: str, deadline_is_inside: bool) -> None:
    """Our ``deadline`` and the caller's scope: the shorter one ends it, by its own means."""
    ours, theirs = (SHORT, LONG) if deadline_is_inside else (LONG, SHORT)
    client, call = place(name, deadline=ours)
    with anyio.move_on_after(theirs) as scope:
        error: type[Exception] = DeadlineExceededError
        if name == "backoff":  # no wait is begun that is longer than what is left
            error = openai.RateLimitError
        if deadline_is_inside or name == "backoff":
            with pytest.raises(error):
                await call()
        else:
            await call()
    assert scope.cancelled_caught is (not deadline_is_inside and name != "backoff")
    await anyio.lowlevel.checkpoint()
    assert at_rest(client)


@in_virtual_time
async def test_fm09_the_deadline_counts_queue_backoff_and_body() -> None:
    """Two seconds in the queue, three of backoff, and a body that never ends: five in all."""
    client, inner = scripted(OK, algorithm=lambda: FixedLimit(1), deadline=7.0)
    held = await engine_of(client).limiter.acquire(("POST /chat/completions", "m"))
    sent: list[float] = []

    async def answer(request: Any) -> Any:
        sent.append(anyio.current_time() - started)
        if len(sent) == 1:
            return httpx.Response(429, headers={"retry-after": "3"}, json=envelope("", ""))
        return await _hang_in_the_body(request)

    inner.behave = answer
    started, error = anyio.current_time(), None
    async with anyio.create_task_group() as tasks:

        async def let_go() -> None:
            await anyio.sleep(2)
            held.abandon()

        tasks.start_soon(let_go)
        try:
            await ask(client)
        except DeadlineExceededError as caught:
            error = caught
    assert error is not None
    assert anyio.current_time() - started == pytest.approx(7.0)
    assert sent[0] == pytest.approx(2.0)
    assert 5.0 <= sent[1] <= 5.2
    assert diagnose(error).queued == pytest.approx(2.0, abs=0.01)
    assert at_rest(client)


async def test_fm09_no_scope_of_ours_is_open_around_a_yield() -> None:
    """Two streams read in turn, their callers' scopes closed out of step with them."""
    client, _ = scripted((200, list(WHOLE), SSE), stall_timeout=LONG, deadline=LONG)
    async with AsyncExitStack() as stack:
        streams = []
        for _ in range(2):
            with anyio.fail_after(LONG):
                stream: Any = await client.chat.completions.create(
                    model="m", messages=[{"role": "user", "content": "x"}], stream=True
                )
                await anext(stream)
            streams.append(stream)
            stack.push_async_callback(stream.close)
        first, second = streams
        for stream in (first, second, first, second):
            with anyio.fail_after(LONG):
                await anext(stream)
    assert at_rest(client)


async def test_fm09_a_timeout_that_comes_too_late_changes_nothing() -> None:
    """A scope whose time is over once the answer is there leaves the answer alone."""
    client, inner = scripted(LIMITED, (200, COMPLETION, {}), backoff_initial=0.0, backoff_max=0.0)
    answer = None
    with anyio.move_on_after(LONG) as scope:
        answer = await ask(client)
        scope.cancel()
    assert answer == "Hi"
    assert len(inner.sent) == 2
    assert at_rest(client)
