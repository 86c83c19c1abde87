"""The limit algorithm's state as text, kept in Redis and owned by no process. Pure.

Another process may read it, after a restart of Redis, or after somebody has overwritten it: each
field has a type and bounds, and one bad field invalidates the state. Times are seconds of the
clock of Redis.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..limits.algorithm import (
    CLOSED_MAX,
    HASTE_MOST,
    HOLD_MAX,
    HOLD_MIN,
    HOLD_QUOTA,
    HOLD_SPREAD,
    HOLD_STRETCH,
    REFUSALS_KEPT,
    RETRY_AFTER_MAX,
    RETRY_AFTER_SPREAD,
    LimitAlgorithm,
    StepBack,
)
from .message import MOST

_LONGEST_CLOSED: Final = max(
    CLOSED_MAX * (1 + HOLD_SPREAD), RETRY_AFTER_MAX * (1 + RETRY_AFTER_SPREAD)
)
_MOST_NUMBER: Final = 10**15
_SLOWEST_ANSWER: Final = 86_400.0
_NUMBER: Final = (int, float)


@dataclass(slots=True)
class Count:
    """Numbers for the attempts of all members, as if one process had sent them.

    An attempt's number is an estimate: half of the attempts before it that were not refused, at
    the rate at which they are sent, plus every refusal. Half of them makes up for the error: two
    refusals with about one other attempt between them get consecutive numbers, and so do all
    refusals of an outage.
    """

    attempts: float = 0.0
    refusals: int = 0
    at: float = 0.0
    stepped_at: float = 0.0

    def advance(self, now: float, rate: float) -> None:
        """Count the attempts until ``now``, sent at ``rate`` per second."""
        self.attempts += rate * max(0.0, now - self.at) if self.at else 0.0
        self.at = now

    def number(self, sent_at: float, rate: float) -> int:
        """Return the number of an attempt sent at a time."""
        before = max(0.0, self.attempts - rate * max(0.0, self.at - sent_at))
        return self.refusals + int(before / 2)


def save(algorithm: LimitAlgorithm, count: Count) -> str:
    """Return the state of both as text."""
    values: dict[str, Any] = {name: getattr(count, name) for name in _COUNT}
    if isinstance(algorithm, StepBack):
        values |= {name: getattr(algorithm, name) for name in _STEP_BACK}
        values["refused_numbers"] = list(values["refused_numbers"])
    return json.dumps(values, separators=(",", ":"))


def restore(text: str, fresh: LimitAlgorithm, now: float) -> Count | None:
    """Load a saved state into a fresh algorithm; ``None``, and no change, if it is invalid."""
    expected = {**_COUNT, **(_STEP_BACK if isinstance(fresh, StepBack) else {})}
    values = _checked(text, expected, now)
    if values is None:
        return None
    if isinstance(fresh, StepBack):
        if values["closed_until"] is not None and not values["refused_numbers"]:
            return None
        values["refused_numbers"] = deque(values["refused_numbers"], maxlen=REFUSALS_KEPT)
        values["level"] = min(values["level"], fresh.maximum)
        for name in _STEP_BACK:
            setattr(fresh, name, values[name])
    return Count(**{name: values[name] for name in _COUNT})


def _checked(
    text: str, expected: Mapping[str, Callable[[Any, float], bool]], now: float
) -> dict[str, Any] | None:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict) or set(values) != set(expected):
        return None
    sound = all(is_sound(values[name], now) for name, is_sound in expected.items())
    return values if sound else None


def _whole(low: int, high: int) -> Callable[[Any, float], bool]:
    return lambda value, now: type(value) is int and low <= value <= high


def _between(low: float, high: float) -> Callable[[Any, float], bool]:
    return lambda value, now: type(value) in _NUMBER and low <= value <= high


def _until(longest: float) -> Callable[[Any, float], bool]:
    """Return the check of a time that is at most ``longest`` seconds ahead."""
    return lambda value, now: type(value) in _NUMBER and 0 <= value <= now + longest + 1


def _or_none(is_sound: Callable[[Any, float], bool]) -> Callable[[Any, float], bool]:
    return lambda value, now: value is None or is_sound(value, now)


def _numbers(value: Any, now: float) -> bool:
    is_list = isinstance(value, list) and len(value) <= REFUSALS_KEPT
    return is_list and all(_whole(0, _MOST_NUMBER)(number, now) for number in value)


#: The check of each field. A clock that was set back puts times ahead: invalid as well.
_COUNT: Final[Mapping[str, Callable[[Any, float], bool]]] = {
    "attempts": _between(0, _MOST_NUMBER),
    "refusals": _whole(0, _MOST_NUMBER),
    "at": _until(0),
    "stepped_at": _until(0),
}
_STEP_BACK: Final[Mapping[str, Callable[[Any, float], bool]]] = {
    "level": _whole(0, MOST),
    "allowance": _whole(0, MOST),
    "hold": _between(HOLD_MIN * HASTE_MOST, HOLD_MAX),
    "closed_until": _or_none(_until(_LONGEST_CLOSED)),
    "answer_time": _between(0, _SLOWEST_ANSWER),
    "numbered": _whole(0, _MOST_NUMBER),
    "last_step": _whole(0, _MOST_NUMBER),
    "_hold_until": _or_none(_until(HOLD_MAX * (1 + HOLD_SPREAD))),
    "_hold_latest": _until(HOLD_MAX * HOLD_STRETCH),
    "_hold_quota": _whole(-_MOST_NUMBER, math.ceil(HOLD_MAX * HOLD_QUOTA)),
    "refused_numbers": _numbers,
}
