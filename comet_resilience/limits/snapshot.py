"""The state of the limiter at one moment, for people and dashboards."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from ..escaping import name_of_key, printable
from ..events import FleetState, LimitChanged
from .budget import EVERY_MODEL, Budget
from .priority import priority_name

_HEAD: Final = ("partition", "limit", "in flight", "waiting", "ok", "refused", "other", "gate")
#: Columns of words, which begin at the left: the first and those from the gate on.
_WORDS: Final = frozenset({0, 7, 8})
#: What an open gate's column says of those who wait for something else than a slot.
_WAITS: Final = {"account": "open, waits for the account", "rate": "open, waits for a rate"}


class Load(NamedTuple):
    """One partition in figures, for those who ask often; ``refused`` counts since its start."""

    limit: int
    in_flight: int
    waiting: int
    refused: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetView:
    """A process in its fleet: its share, the fleet's limit and members as last heard of.

    ``limit`` and ``members`` are ``None`` until something is heard.
    """

    state: FleetState
    share: int
    limit: int | None
    members: int | None


class InFleet(ABC):
    """A limit algorithm that stands in a fleet; one of the user's is never taken for one."""

    @property
    @abstractmethod
    def view(self) -> FleetView:
        """Return how it stands to its fleet now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateView:
    """A gate that an outage has closed.

    ``reason`` is the latest failure, ``since`` how many seconds ago it closed, ``next_canary`` the
    seconds until the next one is tried. ``is_host`` says that all of the ``host`` is out, and not
    the partition alone.
    """

    host: str
    is_host: bool
    reason: str
    since: float
    next_canary: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetView:
    """The state of a budget: ``requests_left`` and ``tokens_left`` of its latest period.

    ``model`` is ``"*"`` for all models without a budget of their own. ``requests`` and ``tokens``
    count all that was ever spent; ``waiting`` counts the partitions that wait for it.
    """

    model: str
    budget: Budget
    requests_left: int | None
    tokens_left: int | None
    requests: int
    tokens: int
    waiting: int

    def __str__(self) -> str:
        left = [
            f"{amount} {unit}"
            for amount, unit in ((self.requests_left, "requests"), (self.tokens_left, "tokens"))
            if amount is not None
        ]
        who = "all models" if self.model == EVERY_MODEL else printable(self.model)
        return f"budget of {who}: {' and '.join(left)} left of {self.budget}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RateView:
    """A known limit on requests or tokens per time.

    ``counted`` is ``"requests"`` or ``"tokens"``. ``source`` says how the limit is known: by
    ``"headers"``, which give what is ``left`` of it, by the ``"words"`` of a refusal, which give
    its period ``per`` in seconds, or ``"learnt"`` from refusals that named nothing, and then about
    so many a minute; what the source does not give is ``None``. ``state`` is ``"kept"`` once a
    refusal has proved that the limit is this caller's, ``"disproved"`` where requests beyond it
    were answered, and otherwise ``"untested"``.
    """

    source: str
    counted: str
    limit: int
    left: int | None
    per: float | None
    state: str

    def __str__(self) -> str:
        if self.source == "learnt":
            return f"paced at about {self.limit} {self.counted} a minute (learnt)"
        if self.left is None:
            return f"{self.limit} {self.counted} in {self.per:g} s by a refusal, {self.state}"
        return f"{self.left} of {self.limit} {self.counted} left by headers, {self.state}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionSnapshot:
    """One partition: what it permits, what runs and waits, what happened so far.

    ``closed_for`` is the number of seconds until a canary is sent, ``None`` while the gate is
    open; ``gate`` tells more where an outage has closed it. ``changes`` are the last moves of the
    limit, oldest first. ``ok``, ``refused`` and ``other`` count attempts: answered, refused for
    load, failed otherwise. ``fleet`` is how the process stands to its fleet, ``None`` without one;
    ``limit`` is then its share. ``standstill`` is for how many seconds all slots have been held by
    answers that their callers have open and do not read while requests wait, else ``None``.
    ``account`` is the name of the account above, ``None`` where there is none; ``waits_for`` says
    what those who wait need: ``"gate"``, ``"limit"`` (a slot here), ``"account"`` (one there) or
    ``"rate"`` (a budget, or a known rate), ``""`` where nobody waits. An account ``has_bound``
    once it held anybody back or was refused. ``rates`` are those that the server has told, or
    refusals have taught.
    ``waiting_by_priority`` are pairs of a priority's number and how many wait with it, the first to
    go first; empty while all have the usual one.
    """

    partition: Hashable
    limit: int
    in_flight: int
    waiting: int
    ok: int
    refused: int
    other: int
    closed_for: float | None
    changes: tuple[LimitChanged, ...]
    fleet: FleetView | None = None
    gate: GateView | None = None
    standstill: float | None = None
    account: Hashable | None = None
    waits_for: str = ""
    has_bound: bool = True
    waiting_by_priority: tuple[tuple[int, int], ...] = ()
    rates: tuple[RateView, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All partitions of a client, the accounts above them, and budgets. ``str()`` is a table.

    What runs and waits in an account is counted in the partitions below it as well. The table
    leaves out accounts whose limit nobody has met.
    """

    partitions: tuple[PartitionSnapshot, ...]
    accounts: tuple[PartitionSnapshot, ...] = ()
    budgets: tuple[BudgetView, ...] = ()

    def __str__(self) -> str:
        return "\n".join([self._table(), *self._rates()])

    def _rates(self) -> list[str]:
        """Return a line for each budget, and for each rate that the server has told."""
        told = [
            f"rate of {_name_of(one)}: {rate}"
            for one in (*self.accounts, *self.partitions)
            for rate in one.rates
        ]
        return [*map(str, self.budgets), *told]

    def _table(self) -> str:
        rows = self._rows()
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        return "\n".join(
            "  ".join(
                cell.ljust(width) if column in _WORDS else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        )

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Show the words instead of the fields where IPython or a notebook displays the value."""
        printer.text("..." if cycle else str(self))

    def _repr_markdown_(self) -> str:
        """Show the table in a notebook."""
        head, *rows = self._rows()
        rule = ["---" if column in _WORDS else "--:" for column in range(len(head))]
        cells = [[f"`{_inert(row[0])}`", *map(_inert, row[1:])] for row in rows]
        table = "\n".join("| " + " | ".join(row) + " |" for row in [head, rule, *cells])
        return "\n\n".join([table, *map(_inert, self._rates())])

    def _rows(self) -> list[tuple[str, ...]]:
        shown = self._in_order()
        rows: list[tuple[str, ...]] = [_HEAD, *(_row(partition) for partition in shown)]
        if any(partition.fleet for partition in shown):
            fleet = ("fleet", *(_fleet_of(partition) for partition in shown))
            rows = [(*row, cell) for row, cell in zip(rows, fleet, strict=True)]
        return rows

    def _in_order(self) -> list[PartitionSnapshot]:
        """Return each account that was met with the partitions below it."""
        places = {account.partition: place for place, account in enumerate(self.accounts)}
        shown = [(places.get(one.account, -1), 1, one) for one in self.partitions]
        shown += [(place, 0, one) for place, one in enumerate(self.accounts) if one.has_bound]
        return [one for *_, one in sorted(shown, key=lambda entry: entry[:2])]


def _inert(text: str) -> str:
    """Keep a partition's own name from being read as Markdown."""
    return text.replace("`", "'").replace("|", "\\|")


def _name_of(shown: PartitionSnapshot) -> str:
    return name_of_key(shown.partition)[:60]


def _row(shown: PartitionSnapshot) -> tuple[str, ...]:
    counts = (
        shown.limit, shown.in_flight, _waiting_of(shown), shown.ok, shown.refused, shown.other
    )  # fmt: skip
    return (_name_of(shown), *map(str, counts), _gate_of(shown))


def _waiting_of(shown: PartitionSnapshot) -> str:
    """Return how many wait, and with which priorities where these are not the usual one."""
    counts = [f"{count} {priority_name(one)}" for one, count in shown.waiting_by_priority]
    return f"{shown.waiting} ({', '.join(counts)})" if counts else str(shown.waiting)


def _gate_of(shown: PartitionSnapshot) -> str:
    gate = shown.gate
    if gate is not None:
        where = f"{printable(gate.host)} out" if gate.is_host else "out"
        next_canary = f"canary in {gate.next_canary:.1f} s"
        return f"{where} for {gate.since:.1f} s, {next_canary}: {printable(gate.reason)}"
    if shown.standstill is not None:
        return (
            f"open; nothing moves for {shown.standstill:.0f} s: all slots are held by answers that"
            " nobody reads"
        )
    if shown.closed_for is not None:
        return f"closed {shown.closed_for:.1f} s"
    return _WAITS.get(shown.waits_for, "open")


def _fleet_of(shown: PartitionSnapshot) -> str:
    view = shown.fleet
    if view is None or view.limit is None:
        return view.state.value if view else ""
    return f"{view.state.value}: {view.share} of {view.limit}, {view.members} members"
