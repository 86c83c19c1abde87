"""A shared budget in one process: what it draws, uses, gives back, and does without a server."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from comet_resilience.fleet.draws import Amount, DrawReply, DrawRequest
from comet_resilience.fleet.pace import RENEW_EVERY
from comet_resilience.fleet.spending import LOCAL_AFTER, STALE, SharedSpending
from comet_resilience.limits.budget import Budget
from tests.bench.sim.fleet_budget import Spenders
from tests.bench.sim.gateways import Account, Bucket, request_weight

MINUTE = Budget(requests=60, tokens=6_000)


class Member:
    """A spending, and a clock."""

    def __init__(self, budget: Budget = MINUTE) -> None:
        self.now, self.waiting, self.woken, self.why = 1_000.0, 1, 0, ""
        self.spending = SharedSpending(
            budget, "m", "key", lambda: self.waiting, self._wake, lambda: 0.5
        )

    def _wake(self, spending: SharedSpending) -> str:
        self.woken += 1
        return self.why

    def ask(self) -> DrawRequest:
        """Return what it asks for."""
        return self.spending.ask(self.now)

    def draw(self, *delays: float, members: int = 1, ahead: float = 1.0) -> DrawRequest:
        """Ask, and be given so many draws."""
        request = self.ask()
        paid = Amount(ahead, ahead)
        reply = DrawReply(delays=delays, members=members, paid_for=paid, left=Amount(50, 5_000))
        self.spending.conclude(request, reply, self.now)
        return request

    def fail(self) -> None:
        """Ask in vain."""
        self.spending.conclude(self.ask(), OSError("away"), self.now)

    def ready(self, tokens: int = 100) -> float:
        """In how many seconds a request may go."""
        return self.spending.ready_at(self.now, tokens) - self.now


def test_a_request_waits_for_a_draw_of_its_own() -> None:
    member = Member()
    assert member.ready() > 0
    assert member.woken == 1
    assert member.draw(0.5).wants == (Amount(1, 100),)
    assert member.ready() == pytest.approx(0.5)
    member.now += 0.5
    assert member.ready() == 0
    charge = member.spending.charge(member.now, 100)
    assert member.ready() > 0
    member.spending.settle(charge, 60)
    member.spending.settle(charge, 99)  # once
    request = member.ask()
    assert (request.serial, request.corrections) == (1, Amount(0, -40))
    assert (member.spending.requests, member.spending.tokens) == (1, 60)
    assert member.spending.left(member.now) == (50, 5_000)


def test_it_is_asked_for_no_more_than_those_who_wait() -> None:
    member = Member()
    member.waiting = 3
    member.ready()
    request = member.draw(0.0, 0.2)
    assert len(request.wants) == 3
    assert member.ready() == 0
    member.spending.charge(member.now, 100)
    member.waiting = 2
    member.now += 0.01
    member.ready()
    assert len(member.ask().wants) == 1  # one is drawn already
    assert member.spending.due_at() >= member.now


def test_a_larger_request_draws_what_is_missing() -> None:
    member = Member()
    member.ready(100)
    member.draw(0.0)
    assert member.ready(250) > 0
    assert member.ask().wants == (Amount(0, 150),)


def test_a_budget_of_requests_counts_no_tokens() -> None:
    """Although another budget of the client does, so that they are told."""
    member = Member(Budget(requests=60))
    member.ready(100)
    member.waiting = 2
    member.draw(0.0, 0.0)
    member.spending.settle(member.spending.charge(member.now, 100), 140)
    assert member.ready(100) == 0
    assert not member.ask().corrections


def test_unused_draws_are_returned() -> None:
    member = Member()
    member.ready()
    member.draw(0.0, members=4)
    member.waiting = 0
    member.now += STALE + 0.1
    assert member.ask().corrections == Amount(-1, -100)


def test_a_draw_that_is_long_overdue_is_not_used_in_a_burst() -> None:
    """The process was stopped: its draws are over."""
    member = Member()
    member.waiting = 3
    member.ready()
    member.draw(0.0, 0.1, 0.2)
    member.now += 60.0
    assert member.ready() > 0
    assert member.ask().corrections.requests == -3


def test_what_was_never_sent_may_be_used_by_the_next() -> None:
    member = Member()
    member.ready()
    member.draw(0.0)
    charge = member.spending.charge(member.now, 100)
    member.spending.refund(charge)
    member.spending.refund(charge)
    assert member.spending.requests == 0
    assert member.ready() == 0


def test_a_refusal_takes_no_tokens() -> None:
    member = Member()
    member.ready()
    member.draw(0.0)
    charge = member.spending.charge(member.now, 100)
    member.spending.refuse(charge)
    assert member.ask().corrections == Amount(0, -100)


def test_a_correction_is_told_until_it_has_arrived() -> None:
    member = Member()
    member.ready()
    member.draw(0.0)
    charge = member.spending.charge(member.now, 100)
    member.spending.settle(charge, 150)
    told = member.ask()
    member.spending.conclude(told, OSError("away"), member.now)
    again = member.ask()
    assert (again.serial, again.corrections) == (told.serial, told.corrections)
    member.draw()
    assert not member.ask().corrections


def test_without_a_server_it_spends_its_even_part_and_reports_it_later() -> None:
    member = Member(Budget(requests=60))
    member.ready()
    member.draw(0.0, members=4, ahead=2.0)
    member.spending.charge(member.now, 0)
    member.ready()
    member.fail()
    assert member.ready() == pytest.approx(2.0)  # what the others have drawn comes first
    times: list[float] = []
    while len(times) < 3:
        member.now += member.ready()
        times.append(member.now)
        member.spending.charge(member.now, 0)
    assert [round(b - a) for a, b in pairwise(times)] == [4, 4]
    member.ready()
    assert not member.ask().wants  # a silent server may carry it out later
    request = member.draw()
    assert request.corrections == Amount(3, 0)
    assert request.age == pytest.approx(8.0)
    member.ready()
    assert member.ask().wants


def test_who_never_reached_the_server_spends_like_a_client_without_a_fleet() -> None:
    member = Member(Budget(requests=60))
    member.ready()
    member.fail()
    assert member.ready() == 0
    assert member.spending.left(member.now) == (60, None)
    assert member.spending.due_at() == pytest.approx(member.now + RENEW_EVERY)


@pytest.mark.parametrize("why", ["", "no thread"])
def test_no_request_waits_for_a_thread_that_hangs_or_cannot_start(why: str) -> None:
    member = Member(Budget(requests=60))
    member.why = why
    member.ready()
    if not why:
        assert member.ready() > 0
        for _ in range(9):  # as its timer looks
            assert member.ready() > 0
            member.now += LOCAL_AFTER / 8
    assert member.ready() == 0


def test_it_leaves_with_what_it_has_not_used() -> None:
    member = Member()
    member.waiting = 2
    member.ready()
    member.draw(0.0, 5.0)
    member.ready()
    request = member.spending.leave(member.now)
    assert request is not None
    assert (request.ttl, request.wants) == (0.0, ())
    assert request.corrections == Amount(-2, -200)
    assert member.spending.due_at() == math.inf
    assert member.spending.leave(member.now) is None
    assert member.ready() > 0  # and a later request begins anew


# -- several together, in virtual time: the real limiter, the real script --------------------------


def bucket() -> Bucket:
    """Five a second, ten at once."""
    return Bucket(((0, 5.0),), 10, request_weight)


FIVE_A_SECOND = Budget(requests=300)


@pytest.mark.parametrize("processes", [1, 4, 20])
def test_processes_send_exactly_the_budget(db: Any, processes: int) -> None:
    spent = Spenders(processes, db, FIVE_A_SECOND, bucket()).play(70.0)
    assert spent.refused == 0
    assert spent.rate(10.0, 70.0) == pytest.approx(5.0, rel=0.01)
    assert spent.fullest(60.0)[0] <= 300 + 1  # by what the way to the gateway shifts
    assert spent.jain > 0.99
    assert spent.commands <= 1.2 * len(spent.sent)


def _cut_off(spenders: Spenders, is_cut_off: bool) -> Callable[[], None]:
    def set_all() -> None:
        for process in spenders.processes:
            process.is_cut_off = is_cut_off

    return set_all


def test_the_sum_stays_exact_while_the_server_is_away(db: Any) -> None:
    spenders = Spenders(4, db, FIVE_A_SECOND, bucket())
    events = ((20.0, _cut_off(spenders, True)), (45.0, _cut_off(spenders, False)))
    spent = spenders.play(80.0, events)
    assert spent.refused == 0
    assert spent.rate(22.0, 45.0) == pytest.approx(5.0, rel=0.05)
    assert spent.rate(50.0, 80.0) == pytest.approx(5.0, rel=0.05)
    assert spent.fullest(60.0)[0] <= 300 + 4


def test_an_empty_restart_and_a_kill_cost_no_more_than_what_was_drawn(db: Any) -> None:
    spenders = Spenders(4, db, FIVE_A_SECOND, bucket())
    spent = spenders.play(60.0, ((20.0, db.flushall), (40.0, spenders.processes[0].stop)))
    assert spent.refused == 0
    assert spent.rate(20.0, 60.0) == pytest.approx(5.0, rel=0.03)
    assert spent.by_process[0] < spent.by_process[1]


def test_four_share_three_a_minute(db: Any) -> None:
    """Fewer requests than processes: they take turns."""
    spent = Spenders(4, db, Budget(requests=3), Account(None)).play(600.0)
    assert len(spent.sent) == pytest.approx(30, abs=2)
    assert sorted(spent.by_process) == [0, 1, 2, 3]
    assert spent.jain > 0.9
