"""Observers: each event goes once to the log and to every function, whatever they do."""

from __future__ import annotations

import json
import logging
from typing import Any
from unittest.mock import MagicMock

import pytest

from comet_resilience import (
    AttemptFinished,
    Event,
    FailureKind,
    GateClosed,
    GateOpened,
    GaveUp,
    LimitChanged,
    RequestInfo,
    RetryScheduled,
    StreamAbandoned,
)
from comet_resilience.call.hooks import Instrumentation
from comet_resilience.log_lines import describe
from comet_resilience.observers import Observers

from .conftest import OK, ask, refused_attempt, scripted

INFO = RequestInfo(route="POST /chat/completions", model="m")
FINISHED = refused_attempt()
EVENTS: list[tuple[Event, int, str]] = [
    (FINISHED, logging.DEBUG, "429"),
    (
        RetryScheduled(
            request=INFO,
            attempt=2,
            delay=1.5,
            reason="because",
            status=500,
            kind=FailureKind.SERVER_ERROR,
        ),
        logging.INFO,
        "attempt 2 in 1.50 s: because",
    ),
    (
        GaveUp(request=INFO, attempts=3, kind=FailureKind.TIMEOUT, status=None, reason="enough"),
        logging.WARNING,
        "gave up: enough",
    ),
    (
        LimitChanged(partition=("r", "m"), old=8, new=4, reason="less", in_flight=4, waiting=2),
        logging.DEBUG,
        "8 -> 4: less (4 in flight, 2 waiting)",
    ),
    (
        GateClosed(partition=None, host="api.test", reason="connect", waiting=99, next_canary=0.4),
        logging.WARNING,
        "outage of api.test: connect; 99 requests wait, next canary in 0.4 s",
    ),
    (
        GateOpened(partition=("r", "m"), host="api.test", after=11.31, waiting=99),
        logging.INFO,
        "outage of r m at api.test over after 11.3 s",
    ),
    (StreamAbandoned(request=INFO), logging.WARNING, "async with"),
]


@pytest.mark.parametrize(("event", "level", "words"), EVENTS)
def test_each_event_is_one_line_of_the_log(
    event: Event, level: int, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Level and words of each event are those that are promised."""
    caplog.set_level(logging.DEBUG, logger="comet_resilience")
    Observers([]).emit(event)
    (record,) = caplog.records
    assert record.levelno == level
    assert words in record.getMessage()
    assert "\n" not in describe(event)


@pytest.mark.parametrize(("event", "level", "words"), EVENTS)
def test_each_line_has_its_fields(
    event: Event, level: int, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Plain values under names of their own, which a JSON formatter can write."""
    caplog.set_level(logging.DEBUG, logger="comet_resilience")
    Observers([]).emit(event)
    ours = {k: v for k, v in vars(caplog.records[0]).items() if k.startswith("comet_")}
    assert ours["comet_event"] == type(event).__name__
    assert json.loads(json.dumps(ours)) == ours
    assert not {"comet_reason", "comet_code", "comet_request"} & set(ours)
    del level, words


def test_a_failing_observer_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    """The others still hear of everything, and the log is not flooded."""
    heard: list[Event] = []

    def broken(_event: Event) -> None:
        raise RuntimeError("no")

    observers = Observers([broken, heard.append])
    for _ in range(3):
        observers.emit(FINISHED)
    assert heard == [FINISHED] * 3
    assert sum("observer failed" in record.getMessage() for record in caplog.records) == 1


def test_nobody_listens() -> None:
    """Without observers and DEBUG logging no event need be made for a success."""
    assert not Observers([]).wanted()
    assert Observers([print]).wanted()


class Bus:
    """A user's event bus, whose methods have names of their own meaning."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def __call__(self, event: Event) -> None:
        self.heard.append(event)

    def watch(self, *_: object) -> None:
        raise AssertionError("it was handed something of ours")

    begin = answered = finished = view = watch


class Registered(Instrumentation):
    """An observer that says what it is."""

    def __init__(self) -> None:
        self.watched: list[object] = []
        self.begun: list[object] = []

    def __call__(self, event: Event) -> None:
        pass

    def watch(self, limiter: object) -> None:
        self.watched.append(limiter)

    def begin(self, request: RequestInfo) -> Any:
        self.begun.append(request)


@pytest.mark.anyio
async def test_only_an_instrumentation_gets_request_hooks() -> None:
    """Methods that happen to have the right names get events, and nothing else of ours."""
    bus, registered, mock = Bus(), Registered(), MagicMock()
    client, _ = scripted(OK, on_event=[bus, registered, mock])
    await ask(client)
    assert [type(event) for event in bus.heard] == [AttemptFinished]
    assert [call[0] for call in mock.method_calls] == []
    assert len(registered.watched) == len(registered.begun) == 1
