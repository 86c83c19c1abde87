"""The priority of a request, as a name or a number. Pure."""

from __future__ import annotations

from typing import Any, Final, Literal

#: A name, or a whole number from -10 (first) to 10 (last).
Priority = Literal["high", "normal", "low", "bulk"] | int

NAMED: Final = {"high": -5, "normal": 0, "low": 5, "bulk": 10}
#: The bound on either side of 0: few numbers, because the queue scans the waiting priorities.
FARTHEST: Final = 10
NORMAL: Final = NAMED["normal"]


def priority_number(priority: Any) -> int:
    """Return the number of a priority, -10 (first) to 10 (last).

    Raises:
        ValueError: If it is no name and no whole number within the bounds.

    """
    if isinstance(priority, str) and priority in NAMED:
        return NAMED[priority]
    if isinstance(priority, int) and not isinstance(priority, bool) and abs(priority) <= FARTHEST:
        return int(priority)
    names = ", ".join(map(repr, NAMED))
    raise ValueError(
        f"priority={priority!r}: expected one of {names}, or a whole number from"
        f" {-FARTHEST} (first) to {FARTHEST} (last)"
    )


def priority_name(number: int) -> str:
    """Return the name of a priority, or the number as text if it has none."""
    return next((name for name, named in NAMED.items() if named == number), str(number))
