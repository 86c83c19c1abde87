"""The limiter at one moment, as a table."""

from __future__ import annotations

from comet_resilience import PartitionSnapshot, Snapshot


def test_the_table_lines_up() -> None:
    """Columns are aligned, and a closed gate says for how long."""
    shown = [
        PartitionSnapshot(
            partition=key, limit=8, in_flight=3, waiting=120, ok=1_000, refused=2, other=0,
            closed_for=gate, changes=(),
        )
        for key, gate in ((("POST /chat/completions", "m"), None), ("mine", 2.5))
    ]  # fmt: skip
    head, first, second = str(Snapshot(partitions=tuple(shown))).splitlines()
    assert first.startswith("POST /chat/completions m  ")
    assert first.endswith("open")
    assert second.endswith("closed 2.5 s")
    assert head.index("gate") == first.index("open")
