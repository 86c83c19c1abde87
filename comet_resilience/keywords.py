"""The declaration and check of a keyword: bounds, units, and the words of a refusal."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import update_wrapper
from typing import Any, Final, TypeVar

#: What other libraries call a keyword that has another name here.
_MEANT: Final = {
    "concurrency": "max_concurrency", "timeout": "deadline", "rate_limit": "budget",
    "rpm": "budget", "tpm": "budget", "callback": "on_event", "redis": "fleet",
}  # fmt: skip

Declared = TypeVar("Declared", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Number:
    """The bounds of a number, both included; ``math.inf`` means unbounded."""

    low: float
    high: float = math.inf
    whole: bool = False
    optional: bool = False

    def describe(self) -> str:
        """In words, for messages and the README."""
        kind = "a whole number" if self.whole else "a number"
        return f"{kind}, {self.bounds()}" + (", or None" if self.optional else "")

    def bounds(self) -> str:
        """Return both bounds in words."""
        upper = f"to {_plain(self.high)}" if self.high < math.inf else "or more"
        return f"{_plain(self.low)} {upper}"

    def accepts(self, value: object) -> bool:
        """Return True if a value is such a number and within the bounds."""
        if value is None:
            return self.optional
        if isinstance(value, bool) or not isinstance(value, int if self.whole else (int, float)):
            return False
        return self.low <= value <= self.high and value < math.inf


def _plain(number: float) -> str:
    return str(int(number)) if number == int(number) else str(number)


def keyword(
    default: Any, bounds: Number | None, unit: str, meaning: str, *, shown: bool = True
) -> Any:
    """Declare a field of ``Config``; one that may hold a secret is not ``shown`` by its repr."""
    metadata = {"bounds": bounds, "unit": unit, "meaning": meaning}
    return field(default=default, repr=shown, metadata=metadata)


def implemented_by(function: Callable[..., Any]) -> Callable[[Declared], Declared]:
    """Give a function the name, signature and docstring of a declaration.

    The declaration spells out keywords, types, defaults and meanings for ``help()`` and for
    editors, which read the source. The function takes only the keywords that were given, so it
    can tell a default from the same value given, and leaves the values to ``Config``.
    """

    def lend(declared: Declared) -> Declared:
        return update_wrapper(function, declared)  # type: ignore[return-value]

    return lend


def refuse_unknown(name: str, offered: Iterable[str]) -> TypeError:
    """Make the error for an unknown keyword: it names the likely ones, or all."""
    names = sorted(offered)
    meant = [_MEANT[name]] if _MEANT.get(name) in names else get_close_matches(name, names, n=2)
    if meant:
        return TypeError(f"unknown keyword {name!r}: did you mean {' or '.join(meant)}?")
    return TypeError(f"unknown keyword {name!r}: expected one of {', '.join(names)}")


def check_number(name: str, value: object, bounds: Number | None) -> None:
    """Raise ``ValueError`` unless a number is within its bounds."""
    if bounds is not None and not bounds.accepts(value):
        raise ValueError(f"{name}={value!r}: expected {bounds.describe()}")


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Raise ``ValueError`` unless a value is one of a few."""
    if value not in choices:
        raise ValueError(f"{name}={value!r}: expected one of {', '.join(map(repr, choices))}")
