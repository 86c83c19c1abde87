"""The slots of one limit: what is counted, and what is told of it."""

from __future__ import annotations

from typing import Any

from comet_resilience.limits.belief import Keeping, Listening
from comet_resilience.limits.explanations import Family, Kind
from comet_resilience.limits.spacing import Spacing
from comet_resilience.limits.views import view_of

from .test_partition import Loop, grant, partition_of


def test_a_move_of_the_limit_is_told_once_with_what_was_there() -> None:
    """From where to where and why, how many ran and waited."""
    partition, algorithm = partition_of(10)
    loop: Any = Loop()
    assert partition.slots.change() is None
    grant(partition)
    partition.push(loop, None)
    algorithm.limit, algorithm.reason = 7, "because"
    change = partition.slots.change()
    assert change is not None
    assert (change.partition, change.old, change.new, change.reason) == ("key", 10, 7, "because")
    assert (change.in_flight, change.waiting) == (1, 1)
    assert partition.slots.change() is None
    algorithm.limit = 8
    again = partition.slots.change()
    assert again is not None
    assert (again.old, again.new) == (7, 8)
    assert view_of(partition, 0.0).changes == (change, again)


def test_a_learnt_rate_is_told_once_when_it_moves_by_a_tenth() -> None:
    partition, _ = partition_of(10)
    slots = partition.slots
    assert slots.rate_change() is None
    slots.spacing = Spacing(0, 0, 0.0, 0.0)
    assert slots.rate_change() is None
    told = []
    for rate in (5.0, 5.2, 5.6, 5.2, 5.0):
        slots.spacing.state = Keeping("because", Family(Kind.BUCKET, 4.0), rate, until=0.0)
        told.append(slots.rate_change())
    slots.spacing.state = Listening("no more")
    told += [slots.rate_change(), slots.rate_change()]
    changes = [(one.old, one.new, one.reason) for one in told if one is not None]
    assert changes == [
        (None, 300, "because"), (300, 336, "because"), (336, 300, "because"),
        (300, None, "no more"),
    ]  # fmt: skip


def test_only_the_last_moves_are_kept() -> None:
    """A service that runs for months does not remember each of them."""
    partition, algorithm = partition_of(1)
    for limit in range(2, 50):
        algorithm.limit = limit
        partition.slots.change()
    assert [change.new for change in view_of(partition, 0.0).changes] == list(range(34, 50))
