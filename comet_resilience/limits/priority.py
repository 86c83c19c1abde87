"""The priority of a request: how it is named, and its place among the others. Pure."""

from __future__ import annotations

from typing import Any, Final, Literal

#: A name, or a whole number, of which the lower one goes first.
Priority = Literal["high", "normal", "low", "bulk"] | int

NAMED: Final = {"high": -5, "normal": 0, "low": 5, "bulk": 10}
#: Numbers on either side of 0: few, because the queue looks at each of those that wait.
FARTHEST: Final = 10
NORMAL: Final = NAMED["normal"]


def priority_number(priority: Any) -> int:
    """Return a priority as a number.

    Raises:
        ValueError: If it is none.

    """
    if isinstance(priority, str) and priority in NAMED:
        return NAMED[priority]
    if isinstance(priority, bool):
        pass  # an int for Python, no number for people
    elif isinstance(priority, int) and -FARTHEST <= priority <= FARTHEST:
        return int(priority)
    names = ", ".join(map(repr, NAMED))
    raise ValueError(
        f"priority={priority!r}: expected one of {names}, or a whole number from"
        f" {-FARTHEST} (first) to {FARTHEST} (last)"
    )


def priority_name(number: int) -> str:
    """Return a priority in words: its name, or the number where it has none."""
    return next((name for name, named in NAMED.items() if named == number), str(number))
