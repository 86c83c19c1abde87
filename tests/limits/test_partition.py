"""One partition by itself: what its algorithm is told, who is next, what is shown of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from comet_resilience import FixedLimit
from comet_resilience.events import FleetState
from comet_resilience.limits.account import Account
from comet_resilience.limits.algorithm import Ticket
from comet_resilience.limits.partition import Lease, Partition
from comet_resilience.limits.partitions import FORGET_AFTER, IDLE_KEPT, Partitions
from comet_resilience.limits.snapshot import FleetView, InFleet
from comet_resilience.limits.views import view_of
from comet_resilience.verdict.vocabulary import Signal


class Told(FixedLimit):
    """A limit that notes what it is told and moves when the test says so."""

    told: list[tuple[Any, ...]]

    def __init__(self, limit: int = 10) -> None:
        super().__init__(limit)
        self.told = []

    def sent(self, now: float, in_flight: int) -> Ticket:
        self.told.append(("sent", now, in_flight))
        return FixedLimit.sent(self, now, in_flight)

    def accepted(self, ticket: Ticket, now: float) -> None:
        self.told.append(("accepted", ticket.number, now))

    def refused(
        self, ticket: Ticket, now: float, in_flight: int, retry_after: float | None, jitter: float
    ) -> None:
        self.told.append(("refused", ticket.number, now, in_flight, retry_after, jitter))

    def ended(self, ticket: Ticket, now: float, in_flight: int) -> None:
        self.told.append(("ended", ticket.number, now, in_flight))


class Loop:
    """An event loop by hand: what it is to run, and when."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], object]] = []
        self.gone = False

    def call_soon(self, function: Callable[[], object]) -> bool:
        self.soon.append(function)
        return not self.gone

    def park(self) -> Any:
        return Parking()


class Parking:
    """A place to wait."""

    is_over = False

    def go(self) -> None:
        self.is_over = True


def partition_of(limit: int = 10) -> tuple[Partition, Told]:
    """A partition and its algorithm."""
    algorithm = Told(limit)
    return Partition("key", algorithm), algorithm


def grant(partition: Partition, now: float = 1.0) -> Lease:
    """A slot, for the next in order."""
    limiter: Any = None
    order = partition.next_order()
    return partition.grant(limiter, now, order, None, present=1, jitter=0.5)


@pytest.mark.parametrize(
    ("signal", "said", "counts"),
    [
        (Signal.SUCCESS, [("accepted", 1, 7.0)], (2, 0, 0)),
        (Signal.OVERLOAD, [("refused", 1, 7.0, 2, 30.0, 0.25)], (0, 2, 0)),
        (Signal.IGNORED, [], (0, 0, 2)),
    ],
)
def test_what_an_attempt_taught_is_told_with_its_ticket(
    signal: Signal, said: list[tuple[Any, ...]], counts: tuple[int, int, int]
) -> None:
    """The signal first, then the free slot; in flight is counted without the one that ended."""
    partition, algorithm = partition_of()
    leases = [grant(partition), grant(partition), grant(partition)]
    assert algorithm.told == [("sent", 1.0, 1), ("sent", 1.0, 2), ("sent", 1.0, 3)]
    algorithm.told.clear()
    partition.release(leases[0], signal, 30.0, 7.0, 0.25)
    assert algorithm.told == [*said, ("ended", 1, 7.0, 2)]
    assert leases[0].released
    assert partition.used_at == 7.0
    partition.release(leases[1], signal, None, 8.0, 0.5)
    shown = view_of(partition, 8.0)
    assert (shown.ok, shown.refused, shown.other) == counts
    assert (shown.in_flight, partition.slots.is_idle) == (1, False)


def test_a_slot_that_was_never_used_teaches_nothing_and_counts_nowhere() -> None:
    """Its owner was cancelled before it sent anything: the slot is free, and that is all."""
    partition, algorithm = partition_of()
    lease = grant(partition)
    algorithm.told.clear()
    partition.release_unsent(lease, 7.0)
    assert algorithm.told == [("ended", 1, 7.0, 0)]
    assert lease.released
    shown = view_of(partition, 7.0)
    assert (shown.ok, shown.refused, shown.other, shown.in_flight) == (0, 0, 0, 0)


# -- The queue -----------------------------------------------------------------------------------


def test_who_left_is_passed_over() -> None:
    """The first who still waits is next, in the order of arrival."""
    partition, _ = partition_of()
    loop: Any = Loop()
    first, second, third = (partition.push(loop, None) for _ in range(3))
    partition.leave(first)
    assert partition.head() is second
    assert partition.slots.waiting == 2
    assert [partition.pop(), partition.pop()] == [second, third]
    assert partition.slots.is_idle


def test_a_retry_stands_before_later_arrivals_unless_the_gate_is_closed() -> None:
    """While it is closed canaries rotate: a retry goes to the tail."""
    partition, algorithm = partition_of()
    loop: Any = Loop()
    early = partition.next_order()
    later = partition.push(loop, None)
    assert partition.push(loop, early) is partition.head()
    partition.pop()
    algorithm.closed_until = 5.0
    partition.push(loop, early)
    assert partition.head() is later


@pytest.mark.parametrize(("waiting", "kept"), [(0, 64), (10, 84)])
def test_the_queue_is_swept_of_those_who_left(waiting: int, kept: int) -> None:
    """A service whose callers all give up does not remember each of them."""
    partition, _ = partition_of()
    loop: Any = Loop()
    stay = [partition.push(loop, None) for _ in range(waiting)]
    leave = [partition.push(loop, None) for _ in range(200)]
    sizes = []
    for waiter in leave:
        partition.leave(waiter)
        sizes.append(partition._queue.places)
    assert sizes[-1] <= kept
    assert sizes.count(sizes[0]) > 60  # not at each of them: that would take quadratic time
    assert [partition.pop() for _ in stay] == stay


def test_a_waiter_of_this_loop_runs_at_once_and_one_of_another_by_its_loop() -> None:
    """Only a loop itself may let its tasks go."""
    partition, _ = partition_of()
    here, there = Loop(), Loop()
    mine: Any = here
    other: Any = there
    waiter = partition.push(other, None)
    assert waiter.wake(mine)
    assert not waiter.parking.is_over
    (go,) = there.soon
    go()
    assert waiter.parking.is_over
    waiter = partition.push(mine, None)
    assert waiter.wake(mine)
    assert waiter.parking.is_over
    there.gone = True
    assert not partition.push(other, None).wake(mine)


# -- What is shown -------------------------------------------------------------------------------


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


def test_only_the_last_moves_are_kept() -> None:
    """A service that runs for months does not remember each of them."""
    partition, algorithm = partition_of(1)
    for limit in range(2, 50):
        algorithm.limit = limit
        partition.slots.change()
    assert [change.new for change in view_of(partition, 0.0).changes] == list(range(34, 50))


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


# -- All partitions ------------------------------------------------------------------------------


def no_account(name: str) -> Account[Partition]:
    """Fail: these keys have no account."""
    raise AssertionError(name)


def partitions_of(number: int, now: float = 0.0) -> Partitions:
    """So many partitions, none of which is used."""
    partitions = Partitions(lambda key, _: Partition(key, Told()), no_account)
    for key in range(number):
        partitions.touch(key, now)
    return partitions


def test_what_nobody_used_for_long_is_forgotten() -> None:
    """Once there are many; what was used since, runs or waits stays."""
    partitions = partitions_of(128)
    loop: Any = Loop()
    partitions[3].push(loop, None)
    grant(partitions[4])
    partitions.touch(5, 1.0)
    partitions.touch("new", FORGET_AFTER + 0.5)
    assert set(partitions) == {3, 4, 5, "new"}
    assert partitions["new"].used_at == FORGET_AFTER + 0.5


def test_what_was_used_lately_stays() -> None:
    """Few partitions are never looked through, and exactly at the limit is not yet too long."""
    partitions = partitions_of(127)
    partitions.touch("new", 10 * FORGET_AFTER)
    assert len(partitions) == 128
    partitions = partitions_of(128)
    partitions.touch("new", FORGET_AFTER)
    assert len(partitions) == 129


def test_of_too_many_idle_ones_the_longest_idle_are_forgotten() -> None:
    """So many are kept, however lately the others were used; the look grows rarer with them."""
    partitions = Partitions(lambda key, _: Partition(key, Told()), no_account)
    most = 0
    for key in range(5 * IDLE_KEPT):
        partitions.touch(key, key / 1_000)
        most = max(most, len(partitions))
    assert IDLE_KEPT < most <= 2 * IDLE_KEPT + 1
    partitions._sweep_at = 0
    partitions.touch("new", 5 * IDLE_KEPT / 1_000)
    kept = [*range(4 * IDLE_KEPT, 5 * IDLE_KEPT), "new"]
    assert list(partitions) == kept
