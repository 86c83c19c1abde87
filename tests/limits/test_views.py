"""What ``snapshot`` shows of one partition."""

from __future__ import annotations

import pytest

from comet_resilience.events import FleetState
from comet_resilience.limits.partition import Partition
from comet_resilience.limits.snapshot import FleetView, InFleet
from comet_resilience.limits.views import view_of

from .test_partition import Told, partition_of


@pytest.mark.parametrize(("now", "closed_for"), [(4.0, 1.5), (5.0, 0.5), (9.0, 0.0)])
def test_a_closed_gate_says_how_long_still(now: float, closed_for: float) -> None:
    """Seconds until the canary, never less than none."""
    partition, algorithm = partition_of(7)
    assert view_of(partition, now).closed_for is None
    algorithm.closed_until = 5.5
    shown = view_of(partition, now)
    assert (shown.closed_for, shown.limit, shown.partition) == (closed_for, 7, "key")


class Shared(Told, InFleet):
    """A limit that stands in a fleet."""

    @property
    def view(self) -> FleetView:
        return FleetView(state=FleetState.SHARED, share=3, limit=20, members=6)


class Viewed(Told):
    """A user's limit that happens to have a view of its own."""

    @property
    def view(self) -> str:
        raise LookupError("what is asked of me here?")


def test_a_share_of_a_fleet_is_shown_as_such() -> None:
    """An algorithm that is made for a fleet shows how it stands; no other is asked."""
    shared = Shared()
    assert view_of(Partition("key", shared), 0.0).fleet == shared.view
    assert view_of(Partition("key", Viewed()), 0.0).fleet is None
