"""What the limiter looks like at one moment, for people and dashboards."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass
from typing import NamedTuple

from ..events import FleetState, LimitChanged


class Load(NamedTuple):
    """One partition in figures, for those who ask often; ``refused`` counts since its start."""

    limit: int
    in_flight: int
    waiting: int
    refused: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetView:
    """A process in its fleet: its share, the fleet's limit and members as last heard of.

    ``limit`` and ``members`` are ``None`` as long as nothing was heard.
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
        """How it stands to its fleet now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateView:
    """A gate that an outage has closed.

    ``seen`` is what closed it, in words; ``closed`` says since how many seconds, ``canary_in`` in
    how many the next canary goes out. ``scope`` is the partition, or the URL of the host that is
    shut for all its partitions.
    """

    scope: Hashable
    seen: str
    closed: float
    canary_in: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionSnapshot:
    """One partition: what it permits, what runs and waits, what happened so far.

    ``closed_for`` is the number of seconds until a canary is sent, ``None`` while the gate is
    open; ``gate`` tells more where an outage has closed it. ``changes`` are the last moves of the
    limit, oldest first. ``ok``, ``refused`` and ``other`` count attempts: answered, refused for
    load, failed otherwise. ``fleet`` is how the process stands to its fleet, ``None`` without one;
    ``limit`` is then its share.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All partitions of a client. ``str()`` of it is a table."""

    partitions: tuple[PartitionSnapshot, ...]

    def __str__(self) -> str:
        head = ("partition", "limit", "in flight", "waiting", "ok", "refused", "other", "gate")
        rows: list[tuple[str, ...]] = [head, *(_row(partition) for partition in self.partitions)]
        if any(partition.fleet for partition in self.partitions):
            fleet = ("fleet", *(_fleet_of(partition) for partition in self.partitions))
            rows = [(*row, cell) for row, cell in zip(rows, fleet, strict=True)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        return "\n".join(
            "  ".join(
                cell.ljust(width) if column == 0 or column >= len(head) - 1 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        )


def _row(shown: PartitionSnapshot) -> tuple[str, ...]:
    key = shown.partition
    name = " ".join(map(str, key)) if isinstance(key, tuple) else str(key)
    counts = (shown.limit, shown.in_flight, shown.waiting, shown.ok, shown.refused, shown.other)
    return (name[:60], *map(str, counts), _gate_of(shown))


def _gate_of(shown: PartitionSnapshot) -> str:
    if shown.gate is not None:
        whose = "host " if shown.gate.scope != shown.partition else ""
        return (
            f"{whose}closed for {shown.gate.closed:.1f} s, canary in"
            f" {shown.gate.canary_in:.1f} s: {shown.gate.seen}"
        )
    return "open" if shown.closed_for is None else f"closed {shown.closed_for:.1f} s"


def _fleet_of(shown: PartitionSnapshot) -> str:
    view = shown.fleet
    if view is None or view.limit is None:
        return view.state.value if view else ""
    return f"{view.state.value}: {view.share} of {view.limit}, {view.members} members"
