"""A line of a journal as it counts for saturation: read, checked and bounded. Pure."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeAlias

#: Names of routes and models are cut to this many characters.
NAME_SHOWN: Final = 120

#: A route and a model.
Key: TypeAlias = tuple[str, str]


class Above(NamedTuple):
    """The account above an attempt, with its figures when that was sent."""

    account: str
    in_flight: int
    limit: int


class Sample(NamedTuple):
    """The fields of one attempt that count; times are in seconds of the Unix clock."""

    time: float
    sent: float
    key: Key
    refused: bool
    failed: bool
    in_flight: int
    limit: int
    tokens: int
    above: Above | None = None


class Tokens(NamedTuple):
    """The tokens that a stream names in its second line; it is no attempt of its own."""

    key: Key
    tokens: int


def parse_line(line: bytes) -> Sample | Tokens | None:
    """Return what a line of a journal tells, ``None`` if it is none."""
    try:
        record = json.loads(line)
        if record["version"] != 1:
            return None
        time = datetime.fromisoformat(record["time"])
        if time.tzinfo is None or not 1970 < time.year < 2200:
            return None
        if record.get("event") == "stream_finished":
            return Tokens(_key(record), _tokens(record))
        return _sample(record, time.timestamp())
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None


def _sample(record: dict[str, Any], time: float) -> Sample | None:
    kind, status, in_flight, limit = (
        record[name] for name in ("kind", "status", "in_flight", "limit")
    )
    if not (isinstance(in_flight, int) and 0 <= in_flight < 10**9):
        return None
    if not (isinstance(limit, int) and 0 <= limit < 10**9):
        return None
    refused = kind == "rate_limited" or (kind is None and status == 429)
    failed = not refused and (kind is not None or status is None)
    sent = time - _latency(record.get("latency"))
    above, tokens = _above(record), _tokens(record)
    return Sample(time, sent, _key(record), refused, failed, in_flight, limit, tokens, above)


def _above(record: dict[str, Any]) -> Above | None:
    """Return the account of a line; ``None`` where none stands above."""
    name, in_flight, limit = (
        record.get(field) for field in ("account", "account_in_flight", "account_limit")
    )
    if not isinstance(name, str) or not all(
        type(count) is int and 0 <= count < 10**9 for count in (in_flight, limit)
    ):
        return None
    return Above(name[:NAME_SHOWN], in_flight, limit)  # type: ignore[arg-type]


def _latency(value: object) -> float:
    """Return how long an attempt took until its answer began, 0 if that is nonsense."""
    return float(value) if isinstance(value, (int, float)) and 0 <= value < 10**6 else 0.0


def _key(record: dict[str, Any]) -> Key:
    route, model = record["route"], record["model"]
    if not (isinstance(route, str) and isinstance(model, str)):
        raise TypeError("route and model are texts")
    return route[:NAME_SHOWN], model[:NAME_SHOWN]


def _tokens(record: dict[str, Any]) -> int:
    """Return the tokens of a line, 0 where it names none."""
    counts = (record.get(name) for name in ("prompt_tokens", "completion_tokens"))
    return sum(each for each in counts if type(each) is int and 0 <= each < 10**12)
