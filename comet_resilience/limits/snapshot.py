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
#: Left-aligned columns: the name, and those from the gate on.
_WORDS: Final = frozenset({0, 7, 8})
#: The last column of a partition whose requests wait for something other than a slot.
_WAITS: Final = {"account": "open, waits for the account", "rate": "open, waits for a rate"}


class Load(NamedTuple):
    """The figures of one partition, cheap to read; ``refused`` counts since its start."""

    limit: int
    in_flight: int
    waiting: int
    refused: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetView:
    """A process in its fleet: its share, and the fleet's limit and members as last reported.

    ``limit`` and ``members`` are ``None`` until the first report.
    """

    state: FleetState
    share: int
    limit: int | None
    members: int | None


class InFleet(ABC):
    """The base of limit algorithms in a fleet, so that no user's algorithm is taken for one."""

    @property
    @abstractmethod
    def view(self) -> FleetView:
        """Return the current state in the fleet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateView:
    """A gate that an outage has closed.

    ``reason`` is the latest failure, ``since`` the seconds since it closed, ``next_canary`` the
    seconds until the next canary. ``is_host`` is true if the whole ``host`` is out, and not the
    partition alone.
    """

    host: str
    is_host: bool
    reason: str
    since: float
    next_canary: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetView:
    """The state of a budget: ``requests_left`` and ``tokens_left`` of its last period.

    ``model`` is ``"*"`` for all models without a budget of their own. ``requests`` and ``tokens``
    are the total spent; ``waiting`` counts the partitions that wait for it.
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

    ``counted`` is ``"requests"`` or ``"tokens"``. ``source`` is ``"headers"``, which report what is
    ``left``; ``"words"``, those of a refusal, which name the period ``per`` in seconds; or
    ``"learnt"`` from refusals, and then ``limit`` is approximate and for a minute. What the source
    does not report is ``None``. ``state`` is ``"kept"`` once a refusal has confirmed that the limit
    applies to this caller, ``"disproved"`` if requests beyond it were answered, else
    ``"untested"``.
    """

    source: str
    counted: str
    limit: int
    left: int | None = None
    per: float | None = None
    state: str

    def __str__(self) -> str:
        if self.source == "learnt":
            return f"paced at about {self.limit} {self.counted} a minute (learnt)"
        if self.left is None:
            return f"{self.limit} {self.counted} in {self.per:g} s by a refusal, {self.state}"
        return f"{self.left} of {self.limit} {self.counted} left by headers, {self.state}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionSnapshot:
    """The state of one partition, or of one account.

    ``partition`` is its key, ``limit`` how many requests may be in flight (in a fleet this process'
    share), ``closed_for`` the seconds until a canary is sent, ``None`` if it is open. ``changes``
    are the last changes of the limit, oldest first. ``ok``, ``refused`` and ``other`` count
    attempts: answered, refused for load, failed otherwise.

    ``fleet`` and ``gate`` are ``None`` without a fleet, or unless an outage has closed a gate.
    ``standstill`` is the seconds for which requests have waited while all slots were held by open
    answers that nobody reads, else ``None``. ``account`` is the key of the account above, if any.

    ``waits_for`` says what waiting requests need: ``"gate"``, ``"limit"`` (a slot here),
    ``"account"`` (a slot there), ``"rate"`` (a budget, or a known rate), ``""`` if none waits.
    ``waiting_by_priority`` are pairs of a priority and how many wait with it, the most urgent
    first; empty while all have the usual one. An account ``has_bound`` once it held a request back
    or was refused. ``rates`` are the known rates.
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

    Requests of an account are counted in its partitions as well. The table leaves out accounts
    whose limit was never met.
    """

    partitions: tuple[PartitionSnapshot, ...]
    accounts: tuple[PartitionSnapshot, ...] = ()
    budgets: tuple[BudgetView, ...] = ()

    def __str__(self) -> str:
        return "\n".join([self._table(), *self._rates()])

    def _rates(self) -> list[str]:
        """Return a line for each budget and each known rate."""
        known = [
            f"rate of {_name_of(one)}: {rate}"
            for one in (*self.accounts, *self.partitions)
            for rate in one.rates
        ]
        return [*map(str, self.budgets), *known]

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
        """Show the table where IPython displays the value."""
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
        """Return each account whose limit was met, followed by its partitions."""
        places = {account.partition: place for place, account in enumerate(self.accounts)}
        shown = [(places.get(one.account, -1), 1, one) for one in self.partitions]
        shown += [(place, 0, one) for place, one in enumerate(self.accounts) if one.has_bound]
        return [one for *_, one in sorted(shown, key=lambda entry: entry[:2])]


def _inert(text: str) -> str:
    """Escape Markdown in a name."""
    return text.replace("`", "'").replace("|", "\\|")


def _name_of(shown: PartitionSnapshot) -> str:
    return name_of_key(shown.partition)[:60]


def _row(shown: PartitionSnapshot) -> tuple[str, ...]:
    counts = (
        shown.limit, shown.in_flight, _waiting_of(shown), shown.ok, shown.refused, shown.other
    )  # fmt: skip
    return (_name_of(shown), *map(str, counts), _gate_of(shown))


def _waiting_of(shown: PartitionSnapshot) -> str:
    """Return how many wait, with their priorities unless all have the usual one."""
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
