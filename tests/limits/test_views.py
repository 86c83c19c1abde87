"""What ``snapshot`` shows of one partition."""

from __future__ import annotations

from typing import Any

import pytest

from comet_resilience.events import FleetState
from comet_resilience.limits.forecast import Sent
from comet_resilience.limits.partition import Partition
from comet_resilience.limits.snapshot import FleetView, InFleet, Snapshot
from comet_resilience.limits.views import view_of
from comet_resilience.verdict.rates import Counted, RateInWords, RateReading

from .test_partition import Loop, Told, partition_of


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


def test_rates_that_the_server_told_are_shown_with_what_is_left() -> None:
    """By headers and by words, and whether each is kept to."""
    partition, _ = partition_of(7)
    told = partition.told
    for number in range(1, 4):
        sent = Sent(number, float(number))
        told.sent(sent, float(number))
        told.hear(
            sent, RateReading(Counted.REQUESTS, 60, 60 - number, 60.0 - number), is_refusal=False
        )
    [rate] = view_of(partition, 3.5).rates
    assert (rate.source, rate.counted, rate.limit, rate.left, rate.per, rate.state) == (
        "headers", "requests", 60, 57, None, "untested",
    )  # fmt: skip
    assert str(rate) == "57 of 60 requests left by headers, untested"
    told.forecasts[next(iter(told.forecasts))].trust.disprove(4.0)
    told.name(RateInWords(Counted.REQUESTS, 3, 60.0, of_account=True), 4.0)
    assert list(map(str, view_of(partition, 5.0).rates)) == [
        "57 of 60 requests left by headers, disproved",
        "3 requests in 60 s by a refusal, kept",
    ]
    shown = Snapshot(partitions=(view_of(partition, 5.0),))
    assert str(shown).splitlines()[-1] == "rate of key: 3 requests in 60 s by a refusal, kept"
    assert "rate of key: 57 of 60 requests left by headers" in shown._repr_markdown_()


@pytest.mark.parametrize(
    ("in_flight", "opens_at", "waits_for", "words"),
    [(7, None, "limit", "open"), (0, 9.0, "rate", "open, waits for a rate")],
)
def test_what_those_who_wait_need_is_shown(
    in_flight: int, opens_at: float | None, waits_for: str, words: str
) -> None:
    """A slot of their own limit, or time by a rate."""
    partition, _ = partition_of(7)
    partition.slots.in_flight = in_flight
    loop: Any = Loop()
    partition.push(loop, None)
    partition.opens_at = opens_at
    shown = view_of(partition, 0.0)
    assert shown.waits_for == waits_for
    assert str(Snapshot(partitions=(shown,))).endswith(f"  {words}")
