"""Retries above ours are noticed, once, and nothing else is taken for them."""

from __future__ import annotations

import contextlib
import logging
import sys
from types import ModuleType
from typing import Any

import anyio
import openai
import pytest

from comet_resilience import ResilientTransport, wrap
from comet_resilience.call.nesting import KEPT, WINDOW
from tests.conftest import (
    BROKEN,
    KEY,
    OK,
    Answer,
    Scripted,
    ask,
    bare_client,
    httpx,
    in_virtual_time,
    scripted,
)

pytestmark = pytest.mark.anyio

FAST: Any = {"backoff_initial": 0.0, "max_retries": 1}
MALFORMED: Answer = (400, {"error": {"message": "no", "code": "invalid_request"}}, {})


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Any:
    """A function that gives the warnings of nested retries so far."""
    caplog.set_level(logging.WARNING, logger="comet_resilience")
    return lambda: [text for text in caplog.messages if "above us" in text]


async def ask_often(client: openai.AsyncOpenAI, times: int, wait: float = 0.0) -> None:
    """Make the same call again after each failure, as a retry decorator does."""
    for _ in range(times):
        with contextlib.suppress(openai.OpenAIError):
            await ask(client)
        await anyio.sleep(wait)


async def test_a_retry_loop_around_the_call_is_noticed_at_its_second_repetition(
    warnings: Any,
) -> None:
    """The warning says what came back, how often, what it costs and what to switch off."""
    client, inner = scripted(BROKEN, **FAST)
    await ask_often(client, 2)
    assert warnings() == []
    await ask_often(client, 1)
    (warning,) = warnings()
    assert warning.startswith(
        "POST /chat/completions model=m: it seems that something retries above us"
    )
    assert "came back 2 times" in warning
    assert "first after 2 attempts" in warning
    assert "tenacity, backoff" in warning
    assert KEY not in warning
    assert len(inner.sent) == 6


async def test_each_client_warns_once(warnings: Any) -> None:
    """However long it goes on; another client has a warning of its own."""
    for told in (1, 2):
        client, _ = scripted(BROKEN, **FAST)
        await ask_often(client, 8)
        assert len(warnings()) == told


async def test_repetitions_without_retries_of_their_own_count(warnings: Any) -> None:
    """A framework that sets ``max_retries=0`` for its own retries nests all the same."""
    client, _ = scripted(BROKEN, **FAST)
    await ask_often(client, 1)
    await ask_often(client.with_options(max_retries=0), 2)
    assert len(warnings()) == 1


async def test_the_sdk_above_is_noticed_at_once(warnings: Any) -> None:
    """An event hook that raises makes the SDK retry what was given up, and it says so itself."""

    async def strict(response: Any) -> None:
        if response.is_error:
            raise httpx.ReadError("a hook's own idea")

    inner = Scripted([BROKEN])
    client = bare_client(inner, max_retries=1)
    client._client.event_hooks = {"response": [strict]}
    with pytest.raises(openai.APIConnectionError):
        await ask(wrap(client, backoff_initial=0.0))
    (warning,) = warnings()
    assert "the SDK retries above us (x-stainless-retry-count: 1)" in warning
    assert "event hook" in warning
    assert len(inner.sent) == 4


async def test_a_transport_above_is_not_taken_for_the_sdk(warnings: Any) -> None:
    """One that sends the very request again sends our own count of retries with it."""

    class Stubborn(httpx.AsyncBaseTransport):  # type: ignore[misc]
        inner = ResilientTransport(Scripted([BROKEN]), **FAST)

        async def handle_async_request(self, request: Any) -> Any:
            for _ in range(2):
                await self.inner.handle_async_request(request)
            return await self.inner.handle_async_request(request)

    await ask_often(bare_client(Stubborn()), 1)
    (warning,) = warnings()
    assert "came back 2 times" in warning


async def test_a_transport_that_was_built_in_notices_too(warnings: Any) -> None:
    """The watch belongs to the transport, not to ``wrap``."""
    client = bare_client(ResilientTransport(Scripted([BROKEN]), **FAST))
    await ask_often(client, 3)
    assert len(warnings()) == 1


async def test_frameworks_in_use_are_named(warnings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what is imported is advised on."""
    monkeypatch.setitem(sys.modules, "langchain_core", ModuleType("langchain_core"))
    client, _ = scripted(BROKEN, **FAST)
    await ask_often(client, 3)
    (warning,) = warnings()
    assert "LangChain: leave .with_retry()" in warning
    assert "instructor" not in warning


async def test_a_person_who_presses_the_button_twice_is_no_retry(warnings: Any) -> None:
    """One repetition is not enough."""
    client, _ = scripted(BROKEN, **FAST)
    await ask_often(client, 2)
    assert warnings() == []


async def test_a_success_in_between_ends_the_count(warnings: Any) -> None:
    """The same question after an answer is a question."""
    client, inner = scripted(BROKEN, **FAST)
    for _ in range(3):
        inner.answers[:] = [BROKEN]
        await ask_often(client, 1)
        inner.answers[:] = [OK]
        await ask(client)
        await ask(client)
    assert warnings() == []


async def test_other_requests_are_no_repetition(warnings: Any) -> None:
    """Work that goes on to the next item is no retry."""
    client, _ = scripted(BROKEN, **FAST)
    for temperature in range(9):
        with contextlib.suppress(openai.OpenAIError):
            await ask(client, temperature=temperature / 10)
    assert warnings() == []


async def test_a_loop_in_place_of_our_retries_is_right(warnings: Any) -> None:
    """Who switches ours off may have others."""
    client, _ = scripted(BROKEN, max_retries=0)
    await ask_often(client, 5)
    assert warnings() == []


async def test_what_cannot_get_better_is_not_counted(warnings: Any) -> None:
    """A failure that cannot get better is another matter, which its diagnosis tells."""
    client, inner = scripted(MALFORMED, **FAST)
    await ask_often(client, 5)
    for _ in range(5):
        inner.answers[:] = [BROKEN, MALFORMED]
        await ask_often(client, 1)
    assert len(inner.sent) == 15
    assert warnings() == []


async def test_polls_are_repeated_rightly(warnings: Any) -> None:
    """A task is asked for again and again; that is what polling is."""
    client, _ = scripted(BROKEN, **FAST)
    for _ in range(5):
        with contextlib.suppress(openai.OpenAIError):
            await client.models.list()
    assert warnings() == []


@in_virtual_time
async def test_many_tasks_that_ask_the_same_are_no_retry(warnings: Any) -> None:
    """Users of a service ask alike, and at once; the tries of one call come one by one."""
    client, inner = scripted(BROKEN, **FAST)
    for _ in range(5):
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(ask_often, client, 1)
    assert warnings() == []
    assert len(inner.sent) == 30


@pytest.mark.parametrize("slow", [0, 1])
async def test_two_who_ask_while_a_repetition_is_under_way_are_no_retry(
    warnings: Any, slow: int
) -> None:
    """One began before the other's failure, so it cannot follow from it, whoever fails first."""
    client, inner = scripted(BROKEN, **FAST)
    await ask_often(client, 1)
    order: list[Any] = []

    async def one_is_slow(request: Any) -> Any:
        if request not in order:
            order.append(request)
        if order.index(request) == slow:
            await anyio.sleep(0.02)
        return await inner.answer(request)

    inner.behave = one_is_slow
    for _ in range(3):
        order.clear()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask_often, client, 1)
            tasks.start_soon(ask_often, client, 1)
    assert warnings() == []
    assert len(inner.sent) == 14


async def test_what_many_asked_at_once_is_no_retry_later_either(warnings: Any) -> None:
    """One of them who tries again is one of many."""
    client, _ = scripted(BROKEN, **FAST)
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(ask_often, client, 1)
    await ask_often(client, 4)
    assert warnings() == []


async def test_a_framework_with_a_task_for_each_try_is_noticed(warnings: Any) -> None:
    """The tries of one call need not share a task."""
    client, _ = scripted(BROKEN, **FAST)
    for _ in range(3):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask_often, client, 1)
    assert len(warnings()) == 1


@pytest.mark.parametrize(("others", "told"), [(KEPT - 1, 1), (KEPT, 0)])
async def test_only_the_latest_are_remembered(warnings: Any, others: int, told: int) -> None:
    """A long outage fills no memory."""
    client, _ = scripted(BROKEN, **FAST)
    await ask_often(client, 2)
    for number in range(others):
        with contextlib.suppress(openai.OpenAIError):
            await ask(client, seed=number)
    await ask_often(client, 1)
    assert len(warnings()) == told


async def test_a_repetition_that_was_cancelled_ends_the_count(warnings: Any) -> None:
    """Whoever gave up waiting for it did not see it fail."""

    async def hang(_request: Any) -> None:
        await anyio.sleep_forever()

    client, inner = scripted(BROKEN, **FAST)
    for _ in range(3):
        inner.behave = None
        await ask_often(client, 1)
        inner.behave = hang
        with anyio.move_on_after(0.01):
            await ask(client)
    assert warnings() == []


@in_virtual_time
async def test_the_same_question_much_later_is_no_retry(warnings: Any) -> None:
    """After a while it is somebody who asks again."""
    client, _ = scripted(BROKEN, **FAST)
    await ask_often(client, 4, wait=WINDOW + 1)
    assert warnings() == []
    await ask_often(client, 3, wait=WINDOW - 5)
    assert len(warnings()) == 1


async def test_an_upload_that_is_no_longer_at_hand_is_left_alone(warnings: Any) -> None:
    """Without its body a request cannot be compared."""
    client, _ = scripted(BROKEN, **FAST)
    for _ in range(4):
        with contextlib.suppress(openai.OpenAIError):
            await client.audio.transcriptions.create(model="w", file=("a.wav", b"RIFF" * 9))
    assert warnings() == []
