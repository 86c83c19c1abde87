"""The declaration and check of a keyword: bounds, units, and the words of a refusal."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import update_wrapper
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from .limits.algorithm import StepBack
from .limits.budget import Budget
from .limits.fixed import FixedLimit

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
        upper = f"to {_plain(self.high)}" if self.high < math.inf else "or more"
        return f"{kind}, {_plain(self.low)} {upper}" + (", or None" if self.optional else "")

    def accepts(self, value: object) -> bool:
        """Tell whether a value is such a number and within the bounds."""
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
    """Give a function the face of a declaration: its name, signature and docstring.

    The declaration spells out keywords, types, defaults and meanings for ``help()`` and for
    editors, which read the source. The function takes only the keywords that were given, so it
    can tell a default from the same value given, and leaves the values to ``Config``.
    """

    def lend(declared: Declared) -> Declared:
        return update_wrapper(function, declared)  # type: ignore[return-value]

    return lend


def refuse_unknown(name: str, known: Iterable[str]) -> TypeError:
    """Make the error for a keyword that does not exist: those meant, or all that there are."""
    names = sorted(known)
    meant = get_close_matches(name, names, n=3)
    if meant:
        return TypeError(f"unknown keyword {name!r}: did you mean {' or '.join(meant)}?")
    return TypeError(f"unknown keyword {name!r}; known are: {', '.join(names)}")


def check_number(name: str, value: object, bounds: Number | None) -> None:
    """Raise ``ValueError`` unless a number is within its bounds."""
    if bounds is not None and not bounds.accepts(value):
        raise ValueError(f"{name}={value!r}: expected {bounds.describe()}")


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Raise ``ValueError`` unless a value is one of a few."""
    if value not in choices:
        raise ValueError(f"{name}={value!r}: expected one of {', '.join(map(repr, choices))}")


def check_callable(name: str, value: object) -> None:
    """Raise ``ValueError`` unless a value is a function or ``None``."""
    if value is not None and not callable(value):
        raise ValueError(f"{name}={value!r}: expected a function or None")


def check_wait(value: Any) -> None:
    """Raise ``ValueError`` unless a value makes a generator of waits, as ``backoff.expo`` does."""
    expected = f"wait={value!r}: expected a wait generator such as backoff.fibo"
    try:
        waits = list(islice(value(), 1, 4))  # the first value is a primer, as in backoff
    except Exception as error:
        raise ValueError(f"{expected}; called without arguments it raised {error!r}") from error
    if not waits or not all(map(Number(0).accepts, waits)):
        raise ValueError(f"{expected}, which yields a primer and then seconds; it yielded {waits}")


def check_jitter(value: Any) -> None:
    """Raise ``ValueError`` unless a value makes one wait of another, as ``backoff`` does it."""
    if value is None:
        return
    expected = f"jitter={value!r}: expected a function such as backoff.full_jitter, or None"
    try:
        waited = value(1.0)
    except Exception as error:
        raise ValueError(f"{expected}; called with 1.0 it raised {error!r}") from error
    if not Number(0).accepts(waited):
        raise ValueError(f"{expected}; called with 1.0 it returned {waited!r}")


def check_journal(value: object) -> None:
    """Raise ``ValueError`` unless a value can be written to, line by line."""
    if value is None or callable(value):
        return
    if not isinstance(value, (str, Path)) or not str(value):
        raise ValueError(f"journal={value!r}: expected the path of a file, a function or None")


def check_shareable(algorithm: Callable[[], object] | None) -> None:
    """Raise ``ValueError`` unless an algorithm can live in Redis: what can be written down can."""
    if algorithm is not None and not isinstance(algorithm(), (StepBack, FixedLimit)):
        raise ValueError(
            f"algorithm={algorithm!r}: expected one that makes a StepBack or a FixedLimit, which"
            " alone can be shared by fleet="
        )


def check_budget(value: object) -> None:
    """Raise ``ValueError`` unless a value is a budget, or a mapping from models to budgets."""
    if value is None:
        return
    if isinstance(value, Mapping):
        budgets: Mapping[object, object] = value
        if budgets and all(isinstance(name, str) and name for name in budgets):
            value = next((one for one in budgets.values() if not isinstance(one, Budget)), None)
            if value is None:
                return
    elif isinstance(value, Budget):
        return
    raise ValueError(
        f"budget={value!r}: expected Budget(requests=..., tokens=..., per=...), or a mapping from"
        " the names of models to such budgets, '*' for all others"
    )


def check_order(smaller: str, larger: str, config: object) -> None:
    """Raise ``ValueError`` if one keyword is above another that bounds it."""
    low, high = getattr(config, smaller), getattr(config, larger)
    if low > high:
        raise ValueError(f"{smaller}={low!r}: expected at most {larger}={high!r}")


def check_sequence(name: str, value: object, accepts: Callable[[Any], bool], what: str) -> None:
    """Raise ``ValueError`` unless a value is a sequence of the right things."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        raise ValueError(f"{name}={value!r}: expected a sequence of {what}")
    for item in value:
        if not accepts(item):
            raise ValueError(f"{name}: expected {what}, got {item!r}")
