"""One partition by itself: what its algorithm is told, and who is next."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from comet_resilience import FixedLimit
from comet_resilience.limits.algorithm import Ticket
from comet_resilience.limits.gate import Standing
from comet_resilience.limits.partition import Lease, Outcome, Partition
from comet_resilience.limits.priority import NORMAL
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
    request, host = Standing(), partition.host
    passages = (partition.gate.sent(now, request, 1, 0.5), host.sent(now, request, 1, 0.5))
    return partition.grant(limiter, now, order, None, request, host, passages)


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
    partition.release(leases[0], Outcome(signal, 30.0), 7.0, 0.25, is_explained=False)
    assert algorithm.told == [*said, ("ended", 1, 7.0, 2)]
    assert leases[0].released
    assert partition.used_at == 7.0
    partition.release(leases[1], Outcome(signal), 8.0, 0.5, is_explained=False)
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


def _answered_in(seconds: float, times: int = 4) -> Partition:
    """A partition for one call at once whose answers took so long each."""
    partition = Partition("p", FixedLimit(1))
    for _ in range(times):
        lease = grant(partition, 0.0)
        partition.release(lease, Outcome(Signal.SUCCESS), seconds, 0.0, is_explained=False)
    return partition


def _waiting(partition: Partition, *until: float, priority: int = NORMAL) -> list[Any]:
    """Those who have waited since time 0, of whom each has until then."""
    loop: Any = Loop()
    partition.used_at = 0.0
    waiters = [partition.push(loop, None, priority=priority) for _ in until]
    for waiter, seconds in zip(waiters, until, strict=True):
        waiter.useful_until = seconds
    return waiters


def _served(partition: Partition, now: float) -> list[Any]:
    """All who wait, in the order in which they go at that time; to look changes nothing."""
    served = []
    while partition.slots.waiting:
        assert partition.next_up(now) is partition.next_up(now)
        served.append(partition.pop(partition.next_up(now)))
    return served


def test_a_canary_is_one_that_can_wait_for_its_answer() -> None:
    """One whose caller cancels it first proves nothing, and the gate would stay closed."""
    partition = _answered_in(1.0)
    patient, late, recent, sent = _waiting(partition, math.inf, 10.5, 14.0, 15.0)
    sent.request.sent = 1
    partition.gate.close(9.0, "503", 4, 0.5)
    served = [partition.pop(partition.next_up(10.0)) for _ in range(4)]
    assert served == [patient, recent, sent, late]


def test_the_last_in_time_goes_before_one_whom_no_answer_reaches() -> None:
    """Those who are too late keep their places, and go once there is nobody else: none is lost."""
    partition = _answered_in(1.0)
    late, first, never, last = _waiting(partition, 5.5, 6.5, 5.1, 60.0)
    assert _served(partition, 5.0) == [last, first, late, never]


def test_one_that_asks_for_something_quicker_keeps_its_place() -> None:
    """Beside answers that take longer than all of its time nothing is known of its own."""
    partition = _answered_in(30.0)
    quick, *others = _waiting(partition, 5.0, 45.0, 45.0)
    assert _served(partition, 4.0) == [quick, *others]


def test_those_who_can_wait_for_ever_overtake_nobody() -> None:
    """Whom a later slot serves as well does not take the last that is of use to another."""
    partition = _answered_in(1.0)
    waiting = _waiting(partition, 5.5, math.inf, math.inf)
    assert _served(partition, 5.0) == waiting


def test_who_goes_early_goes_before_its_own_priority_alone() -> None:
    """And a turn is a turn: others are overtaken, and served for it."""
    partition = _answered_in(1.0)
    late = _waiting(partition, 5.5)
    fresh = _waiting(partition, *[60.0] * 9)
    low = _waiting(partition, 70.0, priority=NORMAL + 1)
    assert _served(partition, 5.0) == [*fresh[:0:-1], *low, fresh[0], *late]


def test_nobody_is_overtaken_for_what_is_not_known() -> None:
    """By too few answers, or by some that were slow."""
    few = _answered_in(1.0, times=3)
    waiting = _waiting(few, 5.5, 60.0)
    assert _served(few, 5.0) == waiting


def test_a_few_slow_answers_make_nobody_too_late() -> None:
    """One of four or fewer may have been an exception."""
    partition = _answered_in(0.2)
    lease = grant(partition, 0.0)
    partition.release(lease, Outcome(Signal.SUCCESS), 9.0, 0.0, is_explained=False)
    waiting = _waiting(partition, 15.0, 60.0)
    assert _served(partition, 10.0) == waiting
