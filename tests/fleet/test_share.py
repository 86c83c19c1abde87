"""One partition's share in one process: what the limiter sees, and when Redis is away."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from comet_resilience.events import FleetState
from comet_resilience.fleet.memory import Count
from comet_resilience.fleet.merge import FleetLimit, rebuild
from comet_resilience.fleet.message import ShareReply, StoreError
from comet_resilience.fleet.pace import IDLE, KEPT, RENEW_EVERY, SURPLUS_GAP, TTL, WAITING_GAP
from comet_resilience.fleet.renewal import MOST_SCOPES, Renewal
from comet_resilience.fleet.share import JOIN_WITHIN, FleetShare, due_together, local_algorithm
from comet_resilience.limits.account import Account
from comet_resilience.limits.algorithm import LimitAlgorithm, StepBack
from comet_resilience.limits.blame import Judgement
from comet_resilience.limits.fixed import FixedLimit
from comet_resilience.limits.partition import Partition
from comet_resilience.limits.views import view_of
from comet_resilience.verdict.vocabulary import Signal
from tests.bench.sim.fleet import FleetRun
from tests.bench.sim.policies import PRODUCT
from tests.bench.sim.scenario import Kind
from tests.bench.sim.scenarios import BY_NAME

ANSWER = ShareReply(
    share=4, limit=20, version=3, epoch=4, members=6, in_use=15, lagging=0, rate=1.0, now=50_000.0,
    committed=False, contended=True, state="",
)  # fmt: skip


def make() -> LimitAlgorithm:
    """The fleet's algorithm."""
    return StepBack(8, 1, 64)


class Member:
    """A share with its partition, and a clock."""

    def __init__(self, make: Any = make) -> None:
        self.now = 1_000.0
        self.woken = 0
        self.moves: list[FleetState] = []
        self.share = FleetShare("m", make, self._wake, self._moved, lambda: 0.5)
        self.partition = Partition("key", self.share)
        self.share.bind(self.partition, ("k1", "k2"))

    def _wake(self) -> None:
        self.woken += 1

    def _moved(self, state: FleetState, why: str) -> None:
        self.moves.append(state)

    def renew(self, **changes: Any) -> None:
        """One renewal that is answered."""
        report = self.share.ask(self.now)
        reply = replace(ANSWER, **changes)
        fleet = rebuild(reply, self.share.make(), "")
        if isinstance(fleet.algorithm, StepBack):
            fleet.algorithm.level, fleet.algorithm.allowance = reply.limit, 0
        self.share.take(report, Renewal(reply, fleet, is_reported=True), self.now)
        self.share.planned = self.share.due_at()

    def fail(self) -> None:
        """One renewal that is not."""
        self.share.conclude(self.share.ask(self.now), StoreError("Redis is away"), self.now)

    def send(self, number: int = 1) -> list[Any]:
        """Send some attempts."""
        tickets = []
        for _ in range(number):
            self.partition.slots.in_flight += 1
            tickets.append(self.share.sent(self.now, self.partition.slots.in_flight))
        return tickets

    def end(self, ticket: Any) -> None:
        """One of them ends."""
        self.partition.slots.in_flight -= 1
        self.share.ended(ticket, self.now, self.partition.slots.in_flight)

    def wait(self, waiting: int) -> None:
        """So many wait now."""
        self.partition.slots.waiting = waiting
        self.share.tick(self.now)


def test_the_first_request_wakes_the_thread_and_waits_for_a_share() -> None:
    member = Member()
    member.share.tick(member.now)
    assert (member.woken, member.share.limit) == (0, 0)
    member.wait(1)
    member.wait(2)
    assert member.woken == 1  # once is enough
    member.renew()
    assert (member.share.limit, member.moves) == (4, [FleetState.SHARED])


def test_without_a_first_share_the_process_limits_itself() -> None:
    member = Member()
    member.wait(1)
    assert member.share.wake_at == member.now + JOIN_WITHIN
    member.now += JOIN_WITHIN
    member.share.tick(member.now)
    assert (member.share.limit, member.moves) == (8, [FleetState.LOCAL])  # as without a fleet


def test_a_first_renewal_that_fails_is_not_waited_for() -> None:
    member = Member()
    member.wait(1)
    member.fail()
    assert (member.share.limit, member.moves) == (8, [FleetState.LOCAL])


def test_a_share_holds_while_redis_is_away_then_an_even_part_of_the_last_limit() -> None:
    member = Member()
    member.renew()
    for state in (FleetState.SHARED, *[FleetState.DEGRADED] * 3):
        member.now += 0.5
        member.fail()
        member.share.tick(member.now)
        assert (member.share.limit, member.moves[-1]) == (4, state)
    assert member.share.wake_at == 1_000.0 + KEPT * TTL
    member.now = 1_000.0 + KEPT * TTL
    member.share.tick(member.now)  # with or without the thread
    assert (member.share.limit, member.moves[-1]) == (20 // 6, FleetState.LOCAL)
    member.now += 60
    member.renew(share=7)
    assert (member.share.limit, member.moves[-1]) == (7, FleetState.SHARED)
    assert len(member.moves) == 4


def test_renewals_that_fail_one_at_a_time_change_no_state() -> None:
    member = Member()
    for _ in range(3):
        member.renew()
        member.now += 0.5
        member.fail()
    assert (member.share.limit, member.moves) == (4, [FleetState.SHARED])


def test_without_the_fleet_it_steps_back_but_never_grows_beyond_its_part() -> None:
    member = Member()
    member.renew()
    member.now += 10
    member.share.tick(member.now)
    for _ in range(50):
        for ticket in member.send(member.share.limit - member.partition.slots.in_flight):
            member.share.accepted(ticket, member.now)
            member.end(ticket)
        member.now += 1
        member.share.tick(member.now)
    assert member.share.limit == 3
    for ticket in member.send(3):
        member.partition.slots.in_flight -= 1
        member.share.refused(ticket, member.now, member.partition.slots.in_flight, None, 0.5)
        member.share.ended(ticket, member.now, member.partition.slots.in_flight)
        member.share.tick(member.now)
    assert member.share.limit < 3
    assert not member.share.ask(member.now).sample.refused  # not the fleet's business any more


@pytest.mark.parametrize(
    ("known", "limit"),
    [
        (None, 8),
        (replace(ANSWER, limit=20, members=6), 3),
        (replace(ANSWER, limit=5, members=10), 1),
    ],
)
def test_what_a_process_permits_itself(known: ShareReply | None, limit: int) -> None:
    assert local_algorithm(make(), known).limit == limit
    assert local_algorithm(FixedLimit(8), known).limit == limit


def test_a_refusal_is_told_at_once_and_its_slot_withheld_until_the_answer() -> None:
    member = Member()
    member.renew()
    tickets = member.send(4)
    member.now += 0.01
    for place, ticket in enumerate(tickets[:3]):
        member.share.refused(ticket, member.now, 3 - place, 2.0, 0.5)
        member.end(ticket)
    member.share.tick(member.now)
    assert member.woken == 1
    assert member.share.limit == 1  # a queue would burn down in the others
    report = member.share.ask(member.now)
    assert [outcome.retry_after for outcome in report.sample.refused] == [2.0] * 3
    assert {outcome.epoch for outcome in report.sample.refused} == {4}
    member.renew()
    assert member.share.limit == 4


def test_news_that_do_not_arrive_go_with_the_next_report() -> None:
    member = Member()
    member.renew()
    (ticket,) = member.send()
    member.share.refused(ticket, member.now, 0, None, 0.5)
    member.end(ticket)
    member.fail()
    member.now += 0.5
    (outcome,) = member.share.ask(member.now).sample.refused
    assert outcome.age == pytest.approx(0.5)
    assert not member.share.ask(member.now).sample.refused


def test_an_attempt_above_the_level_is_a_probe_and_accepted_after_a_second_at_the_latest() -> None:
    member = Member()
    member.renew(limit=20)
    member.share._level = 18
    member.send(4)  # the last of them is the fleet's nineteenth
    member.now += 0.9
    member.share.tick(member.now)
    assert not member.share._sampler.probes
    member.now += 0.2
    member.share.tick(member.now)
    (probe,) = member.share.ask(member.now).sample.probes
    assert (probe.in_flight, probe.epoch) == (19, 4)


def test_a_refusal_is_told_with_what_the_others_hold_an_acceptance_with_what_they_used() -> None:
    member = Member()
    member.renew(in_use=10)
    member.share._level = 12
    refused, probe = member.send(4)[2:]
    member.share.refused(refused, member.now, 3, None, 0.5)
    member.share.accepted(probe, member.now)
    sample = member.share.ask(member.now).sample
    assert [outcome.in_flight for outcome in sample.refused] == [19]  # third of four, sixteen held
    assert [outcome.in_flight for outcome in sample.probes] == [14]


def test_it_renews_soon_when_a_request_waits_and_when_it_holds_too_much() -> None:
    member = Member()
    member.renew()
    assert member.share.due_at() == pytest.approx(member.now + 0.05)  # nothing used, others wait
    member.send(4)
    assert member.share.due_at() == pytest.approx(member.now + 0.5)
    member.wait(2)
    assert member.share.due_at() == pytest.approx(member.now + 0.02)
    member.renew()
    assert member.share.due_at() == pytest.approx(member.now + 0.1)
    member.renew(share=2)
    assert member.share.due_at() == pytest.approx(member.now + 0.02)  # confirms what it gave up


@pytest.mark.parametrize(
    ("in_flight", "waiting", "reply", "seconds"),
    [
        (3, 4, {"share": 5}, RENEW_EVERY),  # there are free slots
        (5, 4, {"share": 5}, WAITING_GAP),
        (5, 4, {"share": 5, "limit": 5}, RENEW_EVERY),  # it has all
        (2, 0, {"share": 5}, SURPLUS_GAP),
        (3, 0, {"share": 5}, RENEW_EVERY),
        (2, 4, {"share": 5}, RENEW_EVERY),  # it will use them itself
        (0, 0, {"share": 5, "contended": False}, RENEW_EVERY),  # nobody else wants it
        (0, 0, {"share": 0}, RENEW_EVERY),  # nothing to give back
    ],
)
def test_when_a_share_is_too_small_or_too_large(
    in_flight: int, waiting: int, reply: dict[str, Any], seconds: float
) -> None:
    member = Member()
    member.renew(**reply)
    member.send(in_flight)
    member.wait(waiting)
    member.renew(**reply)  # so that no wait is new
    assert member.share.due_at() == pytest.approx(member.now + seconds)


def test_idle_shares_are_given_back_and_asked_for_again() -> None:
    member = Member()
    member.renew()
    assert not member.share.is_idle(member.now)
    member.now += IDLE + 1000
    assert member.share.is_idle(member.now)
    leaving = member.share.leave(math.inf, member.now)
    assert leaving is not None
    assert leaving.request.ttl == 0
    assert member.share.due_at() == math.inf
    assert member.share.limit == 0
    member.wait(1)
    assert member.woken == 1
    member.renew()
    assert member.share.limit == 4


def test_it_reports_what_it_has_and_wants_and_its_rate() -> None:
    member = Member()
    for step in range(40):
        member.now += 0.1
        if step % 5 == 0:
            member.renew()
        for ticket in member.send():
            member.share.accepted(ticket, member.now)
            member.end(ticket)
    member.send(3)
    member.wait(5)
    request = member.share.ask(member.now).request
    assert (request.in_use, request.want, request.share, request.epoch) == (3, 8, 4, 4)
    assert request.rate == pytest.approx(10, rel=0.5)  # sent one each tenth of a second


def test_what_snapshot_shows() -> None:
    member = Member()
    assert view_of(member.partition, member.now).fleet == member.share.view
    assert (member.share.view.limit, member.share.view.members) == (None, None)
    member.renew()
    view = member.share.view
    assert (view.state, view.share, view.limit, view.members) == (FleetState.SHARED, 4, 20, 6)


# -- moments at which a share turns: joining, local, late reports --------------------------------


def test_what_was_sent_before_the_first_share_teaches_neither_fleet_nor_process() -> None:
    member = Member()
    early = member.send()[0]
    member.fail()  # the process limits itself
    limit = member.share.limit
    member.share.accepted(early, member.now)
    member.share.refused(early, member.now, 0, None, 0.5)
    member.end(early)
    member.share.tick(member.now)
    assert (member.share.limit, limit) == (8, 8)
    sample = member.share.ask(member.now).sample
    assert (sample.probes, sample.refused) == ((), ())


def test_what_was_sent_without_the_fleet_is_not_reported_as_a_probe() -> None:
    member = Member()
    member.wait(1)
    member.fail()
    (ticket,) = member.send()
    member.renew()
    member.share.accepted(ticket, member.now)
    sample = member.share.ask(member.now).sample
    assert (sample.accepted, sample.probes) == (1, ())


def test_the_local_algorithm_says_when_the_limit_may_rise() -> None:
    member = Member()
    member.wait(1)
    member.fail()
    (probe,) = member.send()
    assert member.share.wake_at == member.now + 1.0  # a probe counts as accepted after a second
    member.share.refused(probe, member.now, 0, None, 0.5)
    member.end(probe)
    assert member.share.wake_at is not None
    assert member.share.wake_at > member.now + 1.0  # growth holds still


def test_without_the_fleet_another_failed_renewal_changes_nothing() -> None:
    member = Member()
    member.wait(1)
    member.fail()
    member.fail()
    assert (member.share.limit, member.moves) == (8, [FleetState.LOCAL])


def test_without_contention_a_refusal_is_told_with_what_the_others_used() -> None:
    member = Member()
    member.renew(contended=False, in_use=10)
    (refused,) = member.send()
    member.share.refused(refused, member.now, 0, None, 0.5)
    (outcome,) = member.share.ask(member.now).sample.refused
    assert outcome.in_flight == 11


def test_news_that_others_overtook_go_with_the_next_report() -> None:
    member = Member()
    member.renew()
    (ticket,) = member.send()
    member.share.refused(ticket, member.now, 0, 2.0, 0.5)
    member.end(ticket)
    report = member.share.ask(member.now)
    fleet = rebuild(ANSWER, make(), "")
    member.share.take(report, Renewal(ANSWER, fleet, is_reported=False), member.now)
    assert member.share.limit == 3  # the slot is withheld until the fleet has heard
    (outcome,) = member.share.ask(member.now).sample.refused
    assert outcome.retry_after == 2.0


# -- an account above models ----------------------------------------------------------------------


class Team:
    """An account's share and those of two models below it, with the partitions of all three."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.share, a, b = (
            FleetShare(name, make, lambda: "", lambda *_: None, lambda: 0.5) for name in "mab"
        )
        self.account: Account[Partition] = Account("account", self.share)
        self.blame, self.slots = self.account.blame, self.account.slots
        self.share.bind(self.account, ("k1", "k2"))
        self.below = [Partition(one.member, one, above=self.account) for one in (a, b)]
        for one, partition in zip((a, b), self.below, strict=True):
            one.bind(partition, ("k", one.member))

    def renew(self, one: FleetShare, /, *, hold: bool = False, **changes: Any) -> None:
        """One renewal that is answered: by a fleet that holds still, or lets one more be tried."""
        report = one.ask(self.now)
        reply = replace(ANSWER, **changes)
        algorithm = StepBack(8, 1, 64)
        algorithm.level, algorithm.allowance = reply.limit - (not hold), int(not hold)
        fleet = FleetLimit(algorithm, Count())
        one.take(report, Renewal(reply, fleet, is_reported=True), self.now)
        one.planned = math.inf

    def refuse(self, below: Partition) -> Judgement:
        """Send one attempt, and have it refused; neither limit is told."""
        own, upper = (
            slots.algorithm.sent(self.now, slots.in_flight + 1)
            for slots in (below.slots, self.slots)
        )
        judgement: Judgement = self.blame.judge(below, own, upper, Signal.OVERLOAD, self.now)
        return judgement


def test_a_model_below_a_full_account_wants_one_more_slot_and_does_not_hurry() -> None:
    team = Team()
    share = team.below[0].slots.algorithm
    assert isinstance(share, FleetShare)
    team.renew(team.share, share=4)
    team.renew(share, share=1)
    share.sent(team.now, 1)
    slots = team.below[0].slots
    slots.in_flight, slots.waiting = 1, 100
    assert share.ask(team.now).request.want == 1 + 4 + 1
    assert share.due_at() == pytest.approx(team.now + WAITING_GAP)
    team.slots.in_flight = 4
    assert share.ask(team.now).request.want == 1 + 1
    assert share.due_at() == pytest.approx(team.now + RENEW_EVERY)


def test_what_the_fleet_met_is_known_here() -> None:
    """After its step back one refusal above the level is the account's: no witness is needed."""
    team = Team()
    team.renew(team.share, share=4, limit=20)
    assert team.refuse(team.below[0]).account == ()
    team.now += 5.0
    team.renew(team.share, share=4, limit=12, hold=True)
    assert team.blame.ceiling == 13
    team.renew(team.share, share=4, limit=13)
    team.slots.in_flight = 3
    (ticket,) = team.refuse(team.below[1]).account
    team.share.refused(ticket, team.now, 0, None, 0.5)
    assert team.share.has_heard_of(ticket)
    team.renew(team.share, share=4, limit=16)
    assert team.blame.ceiling is None  # the fleet has had more than that accepted since


def test_without_its_fleet_an_account_steps_back_by_itself() -> None:
    team = Team()
    team.renew(team.share, share=4, limit=24)
    team.now += 3.0
    team.share.tick(team.now)
    assert team.share.state is FleetState.LOCAL
    assert team.share.limit == 4
    team.slots.in_flight = 3
    *_, judgement = [team.refuse(below) for below in team.below]
    assert len(judgement.account) == 2
    for ticket in judgement.account:
        team.share.refused(ticket, team.now, 2, None, 0.5)
    team.blame.stepped_back(judgement.account[-1])
    team.share.tick(team.now)
    assert team.share.limit == team.share.level == 2
    assert team.share.holds_still
    assert team.blame.ceiling == 4


# -- one command for all ---------------------------------------------------------------------------


def test_what_is_due_soon_goes_along_with_what_is_due() -> None:
    members = [Member() for _ in range(3)]
    for member, since in zip(members, (0.5, 0.4, 0.2), strict=True):
        member.now -= since
        member.wait(1)
        member.renew(share=4, contended=False)
    shares = [member.share for member in members]
    assert list(due_together(shares, 999.99)) == []
    assert list(due_together(shares, 1_000.0)) == [shares[:2]]
    shares *= MOST_SCOPES
    assert [len(one) for one in due_together(shares, 1_000.0)] == [MOST_SCOPES, MOST_SCOPES]


# -- several together ------------------------------------------------------------------------------


@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_hidden_capacity_is_found_together(db: Any, seed: int) -> None:
    """Three processes under a cap of twenty, in virtual time: the real script decides."""
    scenario = replace(BY_NAME["k_10proc"], processes=3, batch_count=300)
    run = FleetRun(scenario, PRODUCT, seed, Kind.BATCH, db)
    result = run.play()
    assert (result.successes, result.failed, result.left) == (300, 0, 0)
    assert result.refused_per_100 <= 5
    # The model's limit or the account's above it: the lower one counts, in each process as well.
    assert 18 <= min(int(db.hget(key, "limit")) for key in db.keys("*:limit")) <= 24
    shares = [[share.limit for share in one.shares] for one in run.coordinators]
    assert [len(each) for each in shares] == [2, 2, 2]
    assert sum(min(each) for each in shares) <= 24
