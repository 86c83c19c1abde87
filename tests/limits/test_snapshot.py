"""The limiter at one moment, as a table."""

from __future__ import annotations

import pytest

from comet_resilience import GateView, PartitionSnapshot, Snapshot
from comet_resilience.events import FleetState
from comet_resilience.limits.snapshot import FleetView


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


def shown(key: object, fleet: FleetView | None = None) -> PartitionSnapshot:
    """A partition with a figure of its own in each column."""
    return PartitionSnapshot(
        partition=key, limit=8, in_flight=3, waiting=120, ok=1_000, refused=2, other=0,
        closed_for=None, changes=(), fleet=fleet,
    )  # fmt: skip


def test_the_table_as_a_whole() -> None:
    """Names to the left, figures to the right under their heads, no white space at the end."""
    closed = PartitionSnapshot(
        partition="mine", limit=0, in_flight=0, waiting=7, ok=5, refused=30, other=1,
        closed_for=2.54, changes=(),
    )  # fmt: skip
    assert str(Snapshot(partitions=(shown(("POST /x", "m")), closed))).splitlines() == [
        "partition  limit  in flight  waiting    ok  refused  other  gate",
        "POST /x m      8          3      120  1000        2      0  open",
        "mine           0          0        7     5       30      1  closed 2.5 s",
    ]


@pytest.mark.parametrize(("is_host", "whose"), [(False, ""), (True, "api.test ")])
def test_a_gate_closed_by_an_outage_says_why_and_since_when(is_host: bool, whose: str) -> None:
    """Whose gate, for how long already, how long still, and what was seen."""
    gate = GateView(
        host="api.test", is_host=is_host, reason="502: bad", since=12.04, next_canary=2.5
    )
    closed = PartitionSnapshot(
        partition="mine", limit=8, in_flight=1, waiting=7, ok=5, refused=0, other=9,
        closed_for=2.5, changes=(), gate=gate,
    )  # fmt: skip
    head, row = str(Snapshot(partitions=(closed,))).splitlines()
    assert head == "partition  limit  in flight  waiting  ok  refused  other  gate"
    assert row == (
        "mine           8          1        7   5        0      9"
        f"  {whose}out for 12.0 s, canary in 2.5 s: 502: bad"
    )


def test_in_a_fleet_the_table_says_how_the_process_stands_to_it() -> None:
    """A last column, only where there is a fleet; empty for partitions without one."""
    shared = FleetView(state=FleetState.SHARED, share=8, limit=20, members=6)
    figures = "8          3      120  1000        2      0  open"
    joining = FleetView(state=FleetState.JOINING, share=0, limit=None, members=None)
    text = str(Snapshot(partitions=(shown("a", shared), shown("b", joining), shown("c"))))
    assert text.splitlines() == [
        "partition  limit  in flight  waiting    ok  refused  other  gate  fleet",
        f"a              {figures}  shared: 8 of 20, 6 members",
        f"b              {figures}  joining",
        f"c              {figures}",
    ]


@pytest.mark.parametrize("key", ["m" * 100, ("m" * 100,), 5, ("a", 5)])
def test_keys_of_any_kind_have_a_short_name(key: object) -> None:
    """Keys are whatever ``partition=`` returns."""
    name = "a 5" if key == ("a", 5) else str(key if key == 5 else "m" * 60)
    line = str(Snapshot(partitions=(shown(key),))).splitlines()[1]
    assert line.split("  ")[0].rstrip() == name
