"""An event as a line of the log: its level, its words, and its fields for structured logs."""

from __future__ import annotations

import logging
from dataclasses import fields
from typing import Final

from .escaping import escaped, name_of_key, printable
from .events import (
    AlgorithmRetired,
    AttemptFinished,
    Event,
    FleetChanged,
    FleetState,
    GateClosed,
    GateOpened,
    GaveUp,
    HollowAnswer,
    LimitChanged,
    RateChanged,
    RetryScheduled,
    Standstill,
    StreamAbandoned,
    StreamBroken,
    StreamFinished,
)
from .verdict.usage import Usage
from .verdict.vocabulary import RequestInfo

#: The status of a request that was refused for load.
_REFUSED: Final = 429
#: Fields of events that are in the words of the line alone.
_ONLY_IN_WORDS: Final = frozenset({"reason", "error", "code"})


def level_of(event: Event) -> int:
    """Return the level of an event's line."""
    if isinstance(event, AlgorithmRetired):
        return logging.ERROR
    if isinstance(
        event,
        GaveUp | Standstill | StreamAbandoned | StreamBroken | GateClosed | HollowAnswer,
    ):
        return logging.WARNING
    if isinstance(event, RetryScheduled):
        return logging.WARNING if event.status == _REFUSED else logging.INFO
    if isinstance(event, GateOpened):
        return logging.INFO
    if isinstance(event, FleetChanged):
        as_expected = (event.old, event.new) == (FleetState.JOINING, FleetState.SHARED)
        return logging.DEBUG if as_expected else logging.WARNING
    return logging.DEBUG


def fields_of(event: Event) -> dict[str, object]:
    """Return an event's fields for structured logs: ``extra=`` of its line.

    Plain text and numbers; the words of providers are in the line alone.
    """
    found: dict[str, object] = {"comet_event": type(event).__name__}
    for declared in fields(event):
        value = getattr(event, declared.name)
        if declared.name == "request":
            found |= {"comet_route": printable(value.route), "comet_model": printable(value.model)}
        elif declared.name == "usage":
            found |= {f"comet_{one.name}": getattr(value, one.name, None) for one in fields(Usage)}
        elif declared.name == "partition":
            found["comet_partition"] = None if value is None else name_of_key(value)
        elif declared.name not in _ONLY_IN_WORDS:
            found[f"comet_{declared.name}"] = printable(value) if isinstance(value, str) else value
    return found


def describe(event: Event) -> str:
    """Return an event as one printable line for a log."""
    return escaped(_describe(event))


def _describe(event: Event) -> str:
    if isinstance(event, GateClosed | GateOpened):
        return _describe_outage(event)
    if isinstance(event, LimitChanged | RateChanged | AlgorithmRetired | Standstill | FleetChanged):
        return _describe_limit(event)
    name = name_of(event.request)
    if isinstance(event, AttemptFinished):
        outcome = event.fault or event.status
        what = f"attempt {event.attempt}: {outcome} {event.code} after {event.elapsed:.2f} s"
        why = f" ({event.reason})" if event.reason else ""
        return f"{name} {what}{why} request_id={event.request_id or '-'}"
    if isinstance(event, RetryScheduled):
        again = f"attempt {event.attempt} in {event.delay:.2f} s"
        return f"{name} {event.kind} ({_answer_of(event)}): {again}: {event.reason}"
    if isinstance(event, GaveUp):
        return f"{name} {event.kind} ({_answer_of(event)}): gave up: {event.reason}"
    if isinstance(event, HollowAnswer):
        return f"{name} an answer without content was handed over: {event.reason}"
    return _describe_stream(name, event)


def _describe_stream(name: str, event: StreamFinished | StreamBroken | StreamAbandoned) -> str:
    if isinstance(event, StreamFinished):
        took = "" if event.usage is None else f": {event.usage}"
        return f"{name} stream of {event.events} events ended after {event.elapsed:.2f} s{took}"
    if isinstance(event, StreamBroken):
        return f"{name} {event.kind}: stream broken after {event.events} events: {event.reason}"
    return (
        f"{name} response dropped without being closed; its slot was released."
        " Use 'async with', or read streams to their end."
    )


def _answer_of(event: RetryScheduled | GaveUp) -> str:
    return "no response" if event.status is None else f"status {event.status}"


def name_of(request: RequestInfo) -> str:
    """Return a request's name in a line for a log: its route and model."""
    return f"{printable(request.route)} model={printable(request.model) or '-'}"


def _describe_outage(event: GateClosed | GateOpened) -> str:
    host = printable(event.host)
    where = host if event.partition is None else f"{name_of_key(event.partition)} at {host}"
    if isinstance(event, GateOpened):
        over = f"outage of {where} over after {event.after:.1f} s"
        return f"{over}: {event.waiting} waiting requests are sent in steps"
    waits = f"{event.waiting} requests wait, next canary in {event.next_canary:.1f} s"
    return f"outage of {where}: {event.reason}; {waits}"


def _describe_limit(
    event: LimitChanged | RateChanged | AlgorithmRetired | Standstill | FleetChanged,
) -> str:
    """Return the line of an event that concerns no single request."""
    if isinstance(event, LimitChanged):
        return (
            f"limit of {name_of_key(event.partition)} {event.old} -> {event.new}: {event.reason}"
            f" ({event.in_flight} in flight, {event.waiting} waiting)"
        )
    if isinstance(event, RateChanged):
        rate = "no longer paced"
        if event.new is not None:
            rate = f"paced at about {event.new} requests a minute (learnt)"
        return f"{name_of_key(event.partition)} is {rate}: {event.reason}"
    if isinstance(event, AlgorithmRetired):
        return (
            f"the limit algorithm of {name_of_key(event.partition)} failed in {event.reason};"
            f" it is retired, and at most {event.limit} requests are sent at once"
        )
    if isinstance(event, Standstill):
        return f"{name_of_key(event.partition)} stalled for {event.seconds:.0f} s: {event.reason}"
    return f"fleet {event.old} -> {event.new}: {event.reason}"
