"""The words and the few things that they know of themselves."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields

import pytest

from comet_resilience.verdict.rules import classify
from comet_resilience.verdict.vocabulary import (
    Fault,
    Observation,
    Operation,
    RequestIds,
    RequestInfo,
    Signal,
)


@pytest.mark.parametrize("fault", Fault)
def test_fault_before_sending(fault: Fault) -> None:
    """Only what broke before the request was out cannot have been received."""
    before = {"connect", "connect_timeout", "pool_timeout", "proxy", "tls", "queue", "gate"}
    before |= {"local"}
    assert fault.before_sending == (fault.value in before)


@pytest.mark.parametrize("fault", Fault)
def test_fault_is_timeout(fault: Fault) -> None:
    """Waiting too long has several names."""
    late = {
        "connect_timeout",
        "pool_timeout",
        "read_timeout",
        "write_timeout",
        "deadline",
        "stalled",
    }
    assert fault.is_timeout == (fault.value in late)


def test_signals_of_load_and_of_outage() -> None:
    """Every overload moves a limit, every outage counts for the gate, and nothing is both."""
    overloads = {signal for signal in Signal if signal.is_overload}
    assert overloads == {Signal.OVERLOAD, Signal.OVERLOAD_ACCOUNT, Signal.OVERLOAD_MODEL}
    outages = {signal for signal in Signal if signal.is_outage}
    assert outages == {Signal.OUTAGE, Signal.CUT, Signal.UNREACHABLE}


def test_paid_media() -> None:
    """Pictures, films and speech are paid each; text, transcripts and polling are not of them."""
    paid = {operation for operation in Operation if operation.is_paid_media}
    assert paid == {Operation.MEDIA, Operation.JOB}


def test_ids_are_true_if_there_is_one() -> None:
    """Any id is worth keeping."""
    assert not RequestIds()
    assert RequestIds(edge="9a1b2c3d4e5f6071-FRA")
    assert RequestIds(gateway="g")
    assert RequestIds(provider="p")


def test_values_are_frozen() -> None:
    """Nobody changes a fact afterwards."""
    for value in (
        Observation(),
        RequestIds(),
        RequestInfo(route="GET /models"),
        classify(Observation()),
    ):
        with pytest.raises(FrozenInstanceError):
            setattr(value, fields(value)[0].name, "x")


def test_verdict_tells_whether_to_retry() -> None:
    """Everything but a final failure may be sent again."""
    assert classify(Observation(status=503)).retryable
    assert not classify(Observation(status=400)).retryable
