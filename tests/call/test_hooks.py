"""Per-request instrumentation: what a hook hears, and when; and that it is no burden."""

from __future__ import annotations

import gc
from typing import Any

import anyio
import openai
import pytest

from comet_resilience import Event, RequestInfo
from comet_resilience.call.hooks import Instrumentation, Outcome
from comet_resilience.limits.limiter import Limiter

from ..conftest import (
    BROKEN,
    FAST,
    OK,
    STREAM,
    ask,
    at_rest,
    scripted,
    sdk_leaves_generators,
    stream_from,
)

pytestmark = [pytest.mark.anyio, sdk_leaves_generators]


class Told(Instrumentation):
    """An instrumentation, and the hook of its only request, that writes down what it hears."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.requests: list[RequestInfo] = []

    def __call__(self, event: Event) -> None:
        self.heard.append(type(event).__name__)
        self.requests.append(event.request)  # type: ignore[union-attr]

    def watch(self, limiter: Limiter) -> None:
        self.heard.append(f"watches {len(limiter.snapshot().partitions)}")

    def begin(self, request: RequestInfo) -> Told:
        self.heard.append("begin")
        self.requests.append(request)
        return self

    def answered(self) -> None:
        self.heard.append("answered")

    def finished(self, outcome: Outcome, queued: float) -> None:
        self.heard.append(f"{outcome} {queued:g}")


BEGUN = ["watches 0", "begin"]


async def test_a_success_is_heard_of_in_order() -> None:
    """All of it by the very same request object."""
    told = Told()
    client, _ = scripted(OK, on_event=told, **FAST)
    await ask(client)
    assert told.heard == [*BEGUN, "AttemptFinished", "answered", "succeeded 0"]
    assert len({id(request) for request in told.requests}) == 1


async def test_a_failure_is_heard_of_without_an_answer() -> None:
    """Given up, and by an exception that is nobody's."""
    told = Told()
    client, _ = scripted(BROKEN, ZeroDivisionError(), on_event=told, max_retries=0, **FAST)
    with pytest.raises(openai.InternalServerError):
        await ask(client)
    assert told.heard == [*BEGUN, "AttemptFinished", "GaveUp", "failed 0"]
    with pytest.raises((ZeroDivisionError, openai.APIConnectionError)):
        await ask(client)
    assert told.heard[5:] == ["begin", "failed 0"]


async def test_the_end_of_a_body_ends_its_request() -> None:
    """Read, closed early, dropped: each is heard of once."""
    told = Told()
    client, _ = scripted(STREAM, on_event=told, **FAST)
    async for _ in await stream_from(client):
        assert told.heard[-1] == "answered"
    async with await stream_from(client) as stream:
        await anext(stream)
    stream = await stream_from(client)
    stream.response.stream = None
    del stream
    gc.collect()
    await anyio.wait_all_tasks_blocked()
    ends = [heard for heard in told.heard if heard.endswith(" 0") and heard != "watches 0"]
    assert ends == ["succeeded 0", "succeeded 0", "abandoned 0"]


async def test_a_cancelled_request_is_told_from_a_failed_one() -> None:
    """Whatever the exception is of which the event loop makes a cancellation."""
    told = Told()
    client, inner = scripted(OK, on_event=told, **FAST)
    inner.hold()
    with anyio.move_on_after(0.01):
        await ask(client)
    assert told.heard == [*BEGUN, "cancelled 0"]


async def test_only_subclasses_accompany_requests() -> None:
    """An observer that merely has such methods gets events and nothing more."""
    methods = {name: vars(Told)[name] for name in ("__init__", "__call__", "begin", "watch")}
    told: Any = type("Alike", (), methods)()
    client, _ = scripted(OK, on_event=told, **FAST)
    await ask(client)
    assert told.heard == ["AttemptFinished"]


@pytest.mark.parametrize("method", ["begin", "answered", "finished"])
async def test_a_hook_that_fails_fails_no_request(
    method: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is named in the log."""

    def fail(*_: object) -> None:
        raise RuntimeError("no")

    failing = type("Failing", (Told,), {method: fail})()
    client, _ = scripted(OK, on_event=failing, **FAST)
    assert await ask(client) == "Hi"
    assert "on_event observer failed" in caplog.text


async def test_what_ends_the_program_leaves_no_slot_behind() -> None:
    """An interrupt while the hook is told of the answer closes it, and goes on."""

    class Interrupted(Told):
        def answered(self) -> None:
            raise KeyboardInterrupt

    client, inner = scripted(STREAM, on_event=Interrupted(), **FAST)
    with pytest.raises(KeyboardInterrupt):
        await stream_from(client)
    assert len(inner.closed) == 1
    assert at_rest(client)


async def test_without_an_instrumentation_no_hook_is_paid_for() -> None:
    """The retry loop itself is what is awaited, and the body has one watcher."""
    client, inner = scripted(STREAM, on_event=lambda _event: None)
    transport: Any = client._client._transport
    running: list[str] = []
    send = inner.answer

    async def look(request: Any) -> Any:
        response = await send(request)
        running.append(type(response.stream).__name__)
        return response

    inner.behave = look
    begin = transport.handle_async_request

    def begun(request: Any) -> Any:
        coroutine = begin(request)
        running.append(coroutine.__qualname__)
        return coroutine

    transport.handle_async_request = begun
    stream = await stream_from(client)
    async with stream:
        watched = stream.response.stream
        assert running == ["RetryLoop._run", "ClosingStream"]
        inside = getattr(watched, "_stream", watched)
        assert type(inside._inner).__name__ == "ClosingStream"
