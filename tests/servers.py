"""The limits that a server may have, as functions of time and of what is in flight there."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

#: Takes an attempt that is sent at a time with so many in flight, itself included, or refuses it.
Server = Callable[[float, int], bool]


def bucket(rate: float, depth: float) -> Server:
    """Hold ``depth`` and fill at ``rate`` a second."""
    level, filled_at = depth, 0.0

    def takes(now: float, _in_flight: int) -> bool:
        nonlocal level, filled_at
        level, filled_at = min(depth, level + (now - filled_at) * rate), now
        is_taken = level >= 1
        level -= is_taken
        return is_taken

    return takes


def window(limit: int, period: float, began: float) -> Server:
    """Take so many in each period, of which one began at ``began``."""
    current, taken = 0.0, 0

    def takes(now: float, _in_flight: int) -> bool:
        nonlocal current, taken
        number = (now - began) // period
        if number != current:
            current, taken = number, 0
        is_taken = taken < limit
        taken += is_taken
        return is_taken

    return takes


def sliding(limit: int, period: float) -> Server:
    """Take so many in any period."""
    taken = deque[float]()

    def takes(now: float, _in_flight: int) -> bool:
        while taken and taken[0] <= now - period:
            taken.popleft()
        is_taken = len(taken) < limit
        if is_taken:
            taken.append(now)
        return is_taken

    return takes


def cap(limit: int) -> Server:
    """Take so many at once."""
    return lambda _now, in_flight: in_flight <= limit
