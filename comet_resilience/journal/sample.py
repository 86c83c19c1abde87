"""A line of a journal, parsed for the search of saturation: validated and bounded. Pure."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeAlias, TypeGuard

#: Names of routes and models are truncated to this many characters.
NAME_SHOWN: Final = 120

#: A route and a model.
Key: TypeAlias = tuple[str, str]


class Above(NamedTuple):
    """The account above an attempt, with its figures at the time of sending."""

    account: str
    in_flight: int
    limit: int


class Sample(NamedTuple):
    """The relevant fields of one attempt; times are in seconds of the Unix clock."""

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
    """The tokens in the second line of a stream, which is not another attempt."""

    key: Key
    tokens: int


def parse_line(line: bytes) -> Sample | Tokens | None:
    """Return the content of a line of a journal, ``None`` if it is invalid."""
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
    if not (_is_count(in_flight) and _is_count(limit)):
        return None
    refused = kind == "rate_limited" or (kind is None and status == 429)
    failed = not refused and (kind is not None or status is None)
    sent = time - _latency(record.get("latency"))
    above, tokens = _above(record), _tokens(record)
    return Sample(time, sent, _key(record), refused, failed, in_flight, limit, tokens, above)


def _above(record: dict[str, Any]) -> Above | None:
    """Return the account of a line, ``None`` without one."""
    name, in_flight, limit = (
        record.get(field) for field in ("account", "account_in_flight", "account_limit")
    )
    if not (isinstance(name, str) and _is_count(in_flight) and _is_count(limit)):
        return None
    return Above(name[:NAME_SHOWN], in_flight, limit)


def _is_count(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value < 10**9


def _latency(value: object) -> float:
    """Return the seconds until an attempt's answer began, 0 if the value is invalid."""
    return float(value) if isinstance(value, (int, float)) and 0 <= value < 10**6 else 0.0


def _key(record: dict[str, Any]) -> Key:
    route, model = record["route"], record["model"]
    if not (isinstance(route, str) and isinstance(model, str)):
        raise TypeError("route and model are texts")
    return route[:NAME_SHOWN], model[:NAME_SHOWN]


def _tokens(record: dict[str, Any]) -> int:
    """Return the tokens of a line, 0 if it names none."""
    counts = (record.get(name) for name in ("prompt_tokens", "completion_tokens"))
    return sum(each for each in counts if type(each) is int and 0 <= each < 10**12)
