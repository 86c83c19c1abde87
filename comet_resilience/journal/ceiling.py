"""The ceiling of an account, read from what was refused below it. Pure.

An account's ceiling was met where several of its models were refused, and how many were in flight
over all of them parts accepted from refused attempts better than what each had in flight by
itself, although each may have a level of its own. Where a rate explains a model's refusals,
nothing is said.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol, TypeAlias

from .level import FirstRefusal, Level, level_of, rounded

#: Accounts that are distinguished; of those beyond nothing is said.
ACCOUNTS: Final = 20
#: By so much more must the account part the attempts than its models do.
_BETTER: Final = 0.05

_Key: TypeAlias = tuple[str, str]


class Above(NamedTuple):
    """The account above an attempt, with its figures when that was sent."""

    account: str
    in_flight: int
    limit: int


class Sent(Protocol):
    """An attempt, as far as it tells of an account."""

    @property
    def time(self) -> float:
        """Return when it ended."""
        ...

    @property
    def refused(self) -> bool:
        """Tell whether it was refused for load."""
        ...

    @property
    def failed(self) -> bool:
        """Tell whether it failed otherwise."""
        ...

    @property
    def in_flight(self) -> int:
        """Return what its route and model had in flight."""
        ...

    @property
    def above(self) -> Above | None:
        """Return its account, ``None`` where there is none."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountCeiling:
    """An account whose ceiling was met: ``models`` were refused in common.

    ``first`` and ``level`` are those of a series, counted over all models of the account.
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
class _Counts:
    """Attempts by how many were in flight."""

    accepted_at: Counter[int] = field(default_factory=Counter)
    refused_at: Counter[int] = field(default_factory=Counter)

    def add(self, in_flight: int, *, refused: bool) -> None:
        (self.refused_at if refused else self.accepted_at)[rounded(in_flight)] += 1

    def level(self) -> Level | None:
        return level_of(self.accepted_at, self.refused_at)


@dataclass(slots=True)
class _Growing:
    """One account while lines come in."""

    overall: _Counts = field(default_factory=_Counts)
    below: dict[_Key, _Counts] = field(default_factory=dict)
    failed: int = 0
    first: FirstRefusal | None = None

    def add(self, key: _Key, sent: Sent, above: Above) -> None:
        if sent.failed:
            self.failed += 1
            return
        self.overall.add(above.in_flight, refused=sent.refused)
        self.below.setdefault(key, _Counts()).add(sent.in_flight, refused=sent.refused)
        if sent.refused and (self.first is None or sent.time < self.first.time):
            self.first = FirstRefusal(time=sent.time, in_flight=above.in_flight, limit=above.limit)


class Accounts:
    """The accounts of journals, while lines come in."""

    def __init__(self) -> None:
        self._growing: dict[str, _Growing] = {}

    def add(self, key: tuple[str, str], sent: Sent) -> None:
        """Take an attempt of a route and model."""
        above = sent.above
        if above is None or (above.account not in self._growing and len(self._growing) >= ACCOUNTS):
            return
        self._growing.setdefault(above.account, _Growing()).add(key, sent, above)

    def met(self, rates: Container[tuple[str, str]]) -> tuple[AccountCeiling, ...]:
        """Return those whose ceiling was met; ``rates`` are what a rate explains instead."""
        found = (_ceiling(*item, rates) for item in self._growing.items())
        return tuple(ceiling for ceiling in found if ceiling is not None)


def _ceiling(name: str, growing: _Growing, rates: Container[_Key]) -> AccountCeiling | None:
    refused = [key for key, counts in growing.below.items() if counts.refused_at]
    level, first = growing.overall.level(), growing.first
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


def _apart(parts: Iterable[tuple[_Counts, Level | None]]) -> float:
    """Return how well levels part accepted from refused: 1 perfectly, 0 not at all."""
    accepted, refused = Counter[bool](), Counter[bool]()
    for counts, level in parts:
        holds = math.inf if level is None else level.holds
        for found, at in ((accepted, counts.accepted_at), (refused, counts.refused_at)):
            for in_flight, count in at.items():
                found[in_flight <= holds] += count
    return accepted[True] / accepted.total() - refused[True] / refused.total()
