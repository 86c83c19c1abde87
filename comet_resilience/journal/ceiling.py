"""The ceiling of an account, found from the refusals of its models. Pure.

An account's ceiling was met if several of its models were refused, and the number in flight over
all of them separates accepted from refused attempts better than the number of each model, although
each may have a level of its own. If a rate explains a model's refusals, nothing is reported.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from typing import Final

from .level import Counts, FirstRefusal, Level
from .sample import Above, Key, Sample

#: The number of accounts that are distinguished; others are ignored.
ACCOUNTS: Final = 20
#: By how much the account must separate the attempts better than its models do.
_BETTER: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountCeiling:
    """An account whose ceiling was met, with the number of models that were refused.

    ``first`` and ``level`` are as in a series, counted over all models of the account.
    """

    account: str
    models: int
    attempts: int
    refused: int
    failed: int
    first: FirstRefusal
    level: Level

    @property
    def share(self) -> float:
        """The share of attempts that were refused."""
        return self.refused / self.attempts


@dataclass(slots=True)
class _Growing:
    """One account while lines are read."""

    overall: Counts = field(default_factory=Counts)
    below: dict[Key, Counts] = field(default_factory=dict)
    failed: int = 0

    def add(self, sample: Sample, above: Above) -> None:
        if sample.failed:
            self.failed += 1
            return
        self.overall.add(sample, above.in_flight, above.limit)
        below = self.below.setdefault(sample.key, Counts())
        below.add(sample, sample.in_flight, sample.limit)


class Accounts:
    """The accounts of journals, while lines are read."""

    def __init__(self) -> None:
        self._growing: dict[str, _Growing] = {}

    def add(self, sample: Sample) -> None:
        """Add an attempt of a route and model."""
        above = sample.above
        if above is None or (above.account not in self._growing and len(self._growing) >= ACCOUNTS):
            return
        self._growing.setdefault(above.account, _Growing()).add(sample, above)

    def met(self, rates: Container[Key]) -> tuple[AccountCeiling, ...]:
        """Return those whose ceiling was met; ``rates`` are the series that a rate explains."""
        found = (_ceiling(*item, rates) for item in self._growing.items())
        return tuple(ceiling for ceiling in found if ceiling is not None)


def _ceiling(name: str, growing: _Growing, rates: Container[Key]) -> AccountCeiling | None:
    refused = [key for key, counts in growing.below.items() if counts.refused_at]
    level, first = growing.overall.level(), growing.overall.first
    if len(refused) < 2 or level is None or first is None or any(key in rates for key in refused):
        return None
    below = [(counts, counts.level()) for counts in growing.below.values()]
    if _apart([(growing.overall, level)]) < _apart(below) + _BETTER:
        return None
    total = growing.overall.refused_at.total()
    return AccountCeiling(
        account=name,
        models=len(refused),
        attempts=growing.overall.accepted_at.total() + total + growing.failed,
        refused=total,
        failed=growing.failed,
        first=first,
        level=level,
    )


def _apart(parts: Iterable[tuple[Counts, Level | None]]) -> float:
    """Return how well levels separate accepted from refused: 1 perfectly, 0 not at all."""
    accepted, refused = Counter[bool](), Counter[bool]()
    for counts, level in parts:
        holds = math.inf if level is None else level.holds
        for found, at in ((accepted, counts.accepted_at), (refused, counts.refused_at)):
            for in_flight, count in at.items():
                found[in_flight <= holds] += count
    return accepted[True] / accepted.total() - refused[True] / refused.total()
