"""What the limiter looks like at one moment, for people and dashboards."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from ..events import LimitChanged


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionSnapshot:
    """One partition: what it permits, what runs and waits, what happened so far.

    ``closed_for`` is the number of seconds until a canary is sent, ``None`` while the gate is
    open. ``changes`` are the last moves of the limit, oldest first. ``ok``, ``refused`` and
    ``other`` count attempts: answered, refused for load, failed otherwise.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All partitions of a client. ``str()`` of it is a table."""

    partitions: tuple[PartitionSnapshot, ...]

    def __str__(self) -> str:
        head = ("partition", "limit", "in flight", "waiting", "ok", "refused", "other", "gate")
        rows = [head, *(_row(partition) for partition in self.partitions)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
        return "\n".join(
            "  ".join(
                cell.ljust(width) if column in (0, len(head) - 1) else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        )


def _row(shown: PartitionSnapshot) -> tuple[str, ...]:
    key = shown.partition
    name = " ".join(map(str, key)) if isinstance(key, tuple) else str(key)
    gate = "open" if shown.closed_for is None else f"closed {shown.closed_for:.1f} s"
    counts = (shown.limit, shown.in_flight, shown.waiting, shown.ok, shown.refused, shown.other)
    return (name[:60], *map(str, counts), gate)
