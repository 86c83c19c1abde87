"""Mode 6: observers, journals, loggers and other functions of the caller that raise anything."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

import openai
import pytest

from comet_resilience import CallbackError, Event, LimitChanged, snapshot
from tests.conftest import (
    BROKEN,
    FAST,
    LIMITED,
    OK,
    STREAM,
    ask,
    engine_of,
    on_asyncio,
    scripted,
    sdk_leaves_generators,
)

from .counting import read

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.timeout(120),
    sdk_leaves_generators,
]


class OddError(Exception):
    """An exception that cannot even be shown."""

    def __str__(self) -> str:
        raise ValueError("no words")

    __repr__ = __str__


RAISED = [ValueError("x"), RecursionError(), StopIteration(), StopAsyncIteration(), MemoryError(),
          TimeoutError(), OSError(5, "x"), openai.OpenAIError("x"), OddError(),
          ExceptionGroup("x", [ValueError("y")])]  # fmt: skip


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
async def test_fm06_observer_that_raises_at_every_event(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """The request is unaffected, the failure logged once, and the next observer still hears."""
    heard: list[Event] = []

    def fail(_event: Event) -> None:
        raise error

    client, inner = scripted(LIMITED, BROKEN, OK, STREAM, on_event=[fail, heard.append], **FAST)
    logging.raiseExceptions, before = False, logging.raiseExceptions
    try:
        assert await ask(client) == "Hi"
        assert await read(client) == "Hello"
    finally:
        logging.raiseExceptions = before
    assert len(inner.sent) == 4
    assert len(heard) >= 6
    (shown,) = snapshot(client).partitions
    assert (shown.in_flight, shown.waiting) == (0, 0)
    complaints = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(complaints) == 1


@pytest.mark.parametrize("number", range(6))
async def test_fm06_observer_that_raises_at_one_event(number: int) -> None:
    """Whichever event it is: a failed request ends as it would have, a stream as well."""
    heard: list[Event] = []

    def fail(event: Event) -> None:
        heard.append(event)
        if len(heard) == number + 1:
            raise ValueError("observer")

    client, inner = scripted(BROKEN, max_retries=2, on_event=fail, **FAST)
    with pytest.raises(openai.InternalServerError, match="it broke"):
        await ask(client)
    assert len(inner.sent) == 3
    assert len(heard) >= 6
    assert snapshot(client).partitions[0].in_flight == 0


ENDINGS = [KeyboardInterrupt(), SystemExit(), GeneratorExit(), asyncio.CancelledError(),
           BaseException("x")]  # fmt: skip


@on_asyncio
@pytest.mark.parametrize("error", ENDINGS, ids=lambda error: type(error).__name__)
async def test_fm06_observer_that_raises_what_is_no_exception(error: BaseException) -> None:
    """What ends a program may pass; whether it does or not, no slot and no place stays taken."""
    times = 0

    def end(_event: Event) -> None:
        nonlocal times
        times += 1
        raise error

    client, inner = scripted(LIMITED, OK, on_event=end, **FAST)
    for _ in range(3):
        try:
            await ask(client)
        except BaseException as caught:  # noqa: BLE001 - passing it on is one of two right ways
            assert caught is error or caught.__context__ is error
        assert snapshot(client).partitions[0].in_flight == 0
        assert snapshot(client).partitions[0].waiting == 0
    assert times
    assert len(inner.closed) == len(inner.opened)


@on_asyncio
async def test_fm06_observer_that_ends_the_program_when_the_limit_moves() -> None:
    """Even where the event falls between a slot's grant and its use the slot comes back."""

    def end(event: Event) -> None:
        if isinstance(event, LimitChanged):
            raise SystemExit

    client, _ = scripted(LIMITED, OK, on_event=end, **FAST)
    for _ in range(8):
        with contextlib.suppress(SystemExit):
            await ask(client)
        assert snapshot_of(client).in_flight == snapshot_of(client).waiting == 0


def snapshot_of(client: Any) -> Any:
    """The only partition, without telling the observers."""
    limiter = engine_of(client).limiter
    (partition,) = limiter._partitions.values()
    return partition.slots


async def test_fm06_journal_that_raises() -> None:
    """A journal function that fails is an observer that fails."""

    def fail(_record: object) -> None:
        raise ValueError("disk")

    client, _ = scripted(LIMITED, OK, journal=fail, **FAST)
    assert await ask(client) == "Hi"


async def test_fm06_log_handler_that_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log handler that fails is the logging module's business, not the request's."""

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            self.handleError(record)

    monkeypatch.setattr(logging, "raiseExceptions", False)
    handler = Broken()
    logging.getLogger("comet_resilience").addHandler(handler)
    try:
        client, _ = scripted(LIMITED, OK, **FAST)
        assert await ask(client) == "Hi"
    finally:
        logging.getLogger("comet_resilience").removeHandler(handler)


async def test_fm06_partition_or_algorithm_that_raises_holds_nothing() -> None:
    """A bug in a function that decides is not hidden, and takes no slot with it."""

    def bug(*_: object) -> Any:
        raise LookupError("a bug")

    def partition(_info: object) -> str:
        raise LookupError("a bug")

    for options in ({"algorithm": bug}, {"partition": partition}):
        client, inner = scripted(OK, **{**FAST, **options})
        with pytest.raises(CallbackError, match="LookupError: a bug") as caught:
            await ask(client)
        assert isinstance(caught.value.__cause__, LookupError)
        assert not inner.sent
        assert all(shown.in_flight == 0 for shown in snapshot(client).partitions)
