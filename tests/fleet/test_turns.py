"""Moments at which a share, its news or its memory turn: joining, alone, told late, told twice."""

from __future__ import annotations

from dataclasses import replace

import pytest

from comet_resilience.events import FleetState
from comet_resilience.fleet.merge import Sample, SampledAttempt, merge, understand
from comet_resilience.fleet.renewal import Renewal
from comet_resilience.fleet.sampler import FleetTicket, Sampler
from comet_resilience.limits.algorithm import StepBack
from comet_resilience.limits.fixed import FixedLimit

from .test_merge import ASK, SEEN, after, steady
from .test_share import ANSWER, Member, make


def test_what_was_sent_before_the_first_share_teaches_neither_fleet_nor_process() -> None:
    member = Member()
    early = member.send()[0]
    member.fail()  # the process limits itself alone
    limit = member.share.limit
    member.share.accepted(early, member.now)
    member.share.refused(early, member.now, 0, None, 0.5)
    member.end(early)
    member.share.tick(member.now)
    assert (member.share.limit, limit) == (8, 8)
    assert not member.share.report(member.now).sample.is_urgent


def test_what_was_sent_alone_is_not_told_to_the_fleet_as_a_probe() -> None:
    member = Member()
    member.wait(1)
    member.fail()
    (ticket,) = member.send()
    member.renew()
    member.share.accepted(ticket, member.now)
    sample = member.share.report(member.now).sample
    assert (sample.accepted, sample.probes) == (1, ())


def test_alone_the_local_algorithm_says_when_the_limit_may_rise() -> None:
    member = Member()
    member.wait(1)
    member.fail()
    (probe,) = member.send()
    assert member.share.wake_at == member.now + 1.0  # a probe counts as accepted after a second
    member.share.refused(probe, member.now, 0, None, 0.5)
    member.end(probe)
    assert member.share.wake_at is not None
    assert member.share.wake_at > member.now + 1.0  # growth holds still


def test_alone_another_failed_renewal_changes_nothing() -> None:
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
    (outcome,) = member.share.report(member.now).sample.refused
    assert outcome.in_flight == 11


def test_news_that_others_overtook_go_with_the_next_report() -> None:
    member = Member()
    member.renew()
    (ticket,) = member.send()
    member.share.refused(ticket, member.now, 0, 2.0, 0.5)
    member.end(ticket)
    report = member.share.report(member.now)
    fleet = understand(ANSWER, make(), "")
    member.share.take(report, Renewal(ANSWER, fleet, is_reported=False), member.now)
    assert member.share.limit == 3  # the slot is withheld until the fleet has heard
    (outcome,) = member.share.report(member.now).sample.refused
    assert outcome.retry_after == 2.0


def test_an_answer_that_begins_after_the_verdict_is_not_counted_twice() -> None:
    sampler, probe = Sampler(), FleetTicket(0, 19, 0.0, epoch=4, is_probe=True)
    sampler.send(probe)
    sampler.settle(1.0)
    sampler.accept(probe, 1.5)
    expected = SampledAttempt(age=2.0, in_flight=19, known_in_flight=19, epoch=4)
    assert sampler.sample(2.0).probes == (expected,)


def test_a_fixed_limit_of_which_nothing_is_known_stays_what_it_is() -> None:
    assert understand(replace(SEEN, limit=500), FixedLimit(20), "garbage").algorithm.limit == 20


def test_refusals_that_would_have_one_number_are_numbered_one_after_the_other() -> None:
    reply = replace(SEEN, state=steady(level=30), limit=30)
    row = tuple(
        SampledAttempt(age=0.0, in_flight=20, known_in_flight=20, epoch=4) for _ in range(2)
    )
    algorithm, _ = after(reply, Sample(refused=row[:1]))
    number = algorithm.refused_numbers[-1]
    fleet = understand(reply, StepBack(20, 1, 64), "")
    assert isinstance(fleet.algorithm, StepBack)
    fleet.algorithm.refused_numbers.extend([number, number + 1])
    merge(fleet, Sample(refused=row[:1]), reply, ASK, 0.5)
    assert fleet.algorithm.refused_numbers[-1] == number + 2


@pytest.mark.parametrize("accepted", [0, 1])
def test_the_time_in_which_answers_begin_is_a_mean(accepted: int) -> None:
    sampler = Sampler()
    for _ in range(accepted * 4):
        sampler.accept(FleetTicket(0, 1, 10.0), 10.5)
    assert sampler.sample(11.0).answer_time == 0.5 * accepted
