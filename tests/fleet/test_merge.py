"""The samples of many members, fed to one algorithm."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from comet_resilience.fleet.memory import Count, save
from comet_resilience.fleet.merge import (
    DRAIN_MOST,
    FleetLimit,
    Sample,
    SampledAttempt,
    ceiling,
    merge,
    needs_commit,
    rebuild,
)
from comet_resilience.fleet.message import Commit, ShareReply, ShareRequest
from comet_resilience.limits.algorithm import StepBack
from comet_resilience.limits.fixed import FixedLimit

NOW = 1_700_000_000.0
SEEN = ShareReply(
    share=5, limit=20, version=3, epoch=4, members=4, in_use=15, lagging=0, rate=75.0, now=NOW,
    committed=False, contended=True, state="",
)  # fmt: skip
ASK = ShareRequest(member="m", in_use=5, want=9, share=5, epoch=4, rate=25.0, ttl=3.0, limit=20)


def steady(level: int = 20, allowance: int = 0) -> str:
    """The state of a fleet whose level is known."""
    algorithm = StepBack(20, 1, 64)
    algorithm.level, algorithm.allowance = level, allowance
    algorithm.numbered, algorithm.last_step = 500, 400
    return save(algorithm, Count(attempts=990.0, refusals=5, at=NOW - 0.1, stepped_at=NOW - 60))


def after(
    reply: ShareReply, sample: Sample, request: ShareRequest = ASK
) -> tuple[StepBack, Commit]:
    """The algorithm after one member's news, and the commit."""
    fleet = rebuild(reply, StepBack(20, 1, 64), "")
    commit = merge(fleet, sample, reply, request, 0.5)
    assert isinstance(fleet.algorithm, StepBack)
    return fleet.algorithm, commit


def refused(age: float = 0.01, in_flight: int = 20, epoch: int = 4) -> Sample:
    """One refusal."""
    return Sample(
        refused=(
            SampledAttempt(age=age, in_flight=in_flight, known_in_flight=in_flight, epoch=epoch),
        )
    )


def test_one_refusal_at_a_known_level_may_be_noise() -> None:
    algorithm, commit = after(replace(SEEN, state=steady()), refused())
    assert (algorithm.level, commit.epoch, commit.limit) == (20, 4, 20)


def test_two_refusals_in_a_row_of_two_members_are_one_step_back() -> None:
    reply = replace(SEEN, state=steady())
    _, first = after(reply, refused())
    reply = replace(reply, state=first.state, version=first.version + 1, now=NOW + 0.01)
    algorithm, second = after(reply, refused())
    assert algorithm.level == 19  # one below the twenty in flight
    assert second.epoch == 5


def test_two_refusals_with_many_accepted_between_them_are_noise() -> None:
    reply = replace(SEEN, state=steady())
    _, first = after(reply, refused())
    reply = replace(reply, state=first.state, now=NOW + 0.2)  # twenty attempts later
    algorithm, second = after(reply, refused())
    assert (algorithm.level, second.epoch) == (20, 4)


def test_a_probe_that_is_one_by_shares_alone_does_not_lower_a_known_level() -> None:
    """Shares have just grown, and not yet reported as in use."""
    reply = replace(SEEN, limit=21, in_use=10, state=steady(allowance=1))
    by_shares = SampledAttempt(age=0.01, in_flight=21, known_in_flight=17, epoch=4)
    algorithm, commit = after(reply, Sample(refused=(by_shares,)), replace(ASK, in_use=7))
    assert (algorithm.level, commit.limit, commit.epoch) == (20, 20, 5)
    as_told = replace(
        by_shares, known_in_flight=21
    )  # then what is in flight now is what was accepted
    algorithm, commit = after(reply, Sample(refused=(as_told,)), replace(ASK, in_use=7))
    assert (algorithm.level, commit.limit, commit.epoch) == (17, 17, 5)


def test_refusals_of_an_older_epoch_are_the_same_news() -> None:
    reply = replace(SEEN, state=steady(), epoch=5)
    algorithm, commit = after(
        reply,
        Sample(refused=(SampledAttempt(age=0.01, in_flight=20, known_in_flight=20, epoch=4),) * 8),
    )
    assert (algorithm.level, commit.epoch) == (20, 5)  # what is in flight, no step


def test_an_older_probe_by_shares_lowers_the_level_as_any_older_one() -> None:
    """The step left all that were in flight then, with those whose refusal is only heard now."""
    reply = replace(SEEN, limit=24, in_use=15, state=steady(level=24), epoch=5)
    by_shares = SampledAttempt(age=0.2, in_flight=28, known_in_flight=20, epoch=4)
    algorithm, commit = after(reply, Sample(refused=(by_shares,)), replace(ASK, in_use=5))
    assert (algorithm.level, commit.limit, commit.epoch) == (20, 20, 5)


@pytest.mark.parametrize(("since", "epoch"), [(2.0, 5), (DRAIN_MOST + 1, 6)])
def test_while_some_do_not_know_of_a_step_refusals_count_as_older(since: float, epoch: int) -> None:
    text = steady().replace(str(NOW - 60), str(NOW - since))
    assert text != steady()
    reply = replace(SEEN, state=text, epoch=5, lagging=1)
    row = tuple(
        SampledAttempt(age=0.01, in_flight=20, known_in_flight=20, epoch=5) for _ in range(2)
    )
    _, commit = after(reply, Sample(refused=row))
    assert commit.epoch == epoch


@pytest.mark.parametrize(("since", "epoch"), [(0.2, 5), (2.0, 6)])
def test_what_was_sent_right_after_a_step_meets_what_was_there_before(
    since: float, epoch: int
) -> None:
    text = steady().replace(str(NOW - 60), str(NOW - since))
    row = tuple(
        SampledAttempt(age=0.01, in_flight=20, known_in_flight=20, epoch=5) for _ in range(2)
    )
    _, commit = after(replace(SEEN, state=text, epoch=5), Sample(refused=row))
    assert commit.epoch == epoch


@pytest.mark.parametrize(("others", "epoch"), [(15, 5), (4, 6)])
def test_while_more_is_in_flight_than_a_step_left_refusals_count_as_older(
    others: int, epoch: int
) -> None:
    text = steady(level=14).replace(str(NOW - 60), str(NOW - 2))
    reply = replace(SEEN, state=text, limit=14, epoch=5, in_use=others)
    row = tuple(
        SampledAttempt(age=0.01, in_flight=14, known_in_flight=14, epoch=5) for _ in range(2)
    )
    _, commit = after(reply, Sample(refused=row))
    assert commit.epoch == epoch


def test_three_in_a_row_close_the_fleets_gate_and_a_canary_opens_it() -> None:
    row = tuple(
        SampledAttempt(age=0.01, in_flight=20, known_in_flight=20, epoch=4, retry_after=7.0)
        for _ in range(3)
    )
    # The second refusal is a step, the third is the same news; those sent after it close.
    algorithm, commit = after(replace(SEEN, state=steady()), Sample(refused=row))
    reply = replace(SEEN, state=commit.state, epoch=5, now=NOW + 1.0, in_use=4)
    row = tuple(
        SampledAttempt(age=0.01, in_flight=9, known_in_flight=9, epoch=5, retry_after=7.0)
        for _ in range(3)
    )
    algorithm, commit = after(reply, Sample(refused=row))
    assert algorithm.closed_until is not None
    assert NOW + 8.0 <= algorithm.closed_until <= NOW + 8.4  # Retry-After, and some jitter
    assert commit.epoch == 6

    idle = replace(ASK, in_use=0)
    reply = replace(SEEN, state=commit.state, epoch=6, in_use=0, now=NOW + 9)
    algorithm, commit = after(reply, Sample(), idle)
    assert commit.limit == 1  # one canary in the whole fleet

    reply = replace(reply, state=commit.state, now=NOW + 10)
    probe = SampledAttempt(age=0.5, in_flight=1, known_in_flight=1, epoch=6)
    algorithm, commit = after(reply, Sample(probes=(probe,)), idle)
    assert algorithm.closed_until is None
    assert commit.limit == 3  # and from there it widens step by step


def test_an_accepted_probe_of_this_epoch_raises_the_limit_an_older_one_does_not() -> None:
    reply = replace(SEEN, state=steady(allowance=1), in_use=16)
    probe = SampledAttempt(age=0.5, in_flight=21, known_in_flight=21, epoch=4)
    assert after(reply, Sample(probes=(probe,)))[0].level == 21
    assert after(reply, Sample(probes=(replace(probe, epoch=3),)))[0].level == 20


def test_an_accepted_probe_proves_no_more_than_is_known_to_be_in_flight() -> None:
    """The others reported five that had ended when it was sent."""
    reply = replace(SEEN, state=steady(allowance=4), in_use=13)
    probe = SampledAttempt(age=0.5, in_flight=24, known_in_flight=24, epoch=4)
    assert after(reply, Sample(probes=(probe,)))[0].level == 20
    assert after(replace(reply, in_use=17), Sample(probes=(probe,)))[0].level == 22


def test_acceptances_end_a_hold() -> None:
    algorithm = StepBack(20, 1, 64)
    algorithm.level, algorithm.allowance = 20, 0
    algorithm._hold_until, algorithm._hold_latest, algorithm._hold_quota = NOW - 1, NOW + 9, 3
    reply = replace(SEEN, state=save(algorithm, Count(at=NOW - 1)))
    assert after(reply, Sample(accepted=2, answer_time=0.5))[0].limit == 20
    assert after(reply, Sample(accepted=3, answer_time=0.5))[0].limit == 21


@pytest.mark.parametrize(
    ("sample", "changes", "needed"),
    [
        (Sample(), {}, False),
        (Sample(accepted=9), {}, False),  # nothing hangs on it
        (refused(), {}, True),
        (
            Sample(probes=(SampledAttempt(age=0, in_flight=21, known_in_flight=21, epoch=4),)),
            {},
            True,
        ),
        (Sample(), {"limit": 19}, True),  # the limit is not what the state says
        (Sample(), {"state": ""}, True),
    ],
)
def test_when_there_is_anything_to_commit(
    sample: Sample, changes: dict[str, Any], needed: bool
) -> None:
    reply = replace(SEEN, **{"state": steady(), **changes})
    remembered = "" if reply.state else steady()
    assert needs_commit(rebuild(reply, StepBack(20, 1, 64), remembered), sample, reply) is needed


def test_without_a_state_the_memory_of_a_member_counts_then_the_limit() -> None:
    fresh = rebuild(SEEN, StepBack(8, 1, 64), steady(level=17))
    assert fresh.algorithm.limit == 17
    fresh = rebuild(SEEN, StepBack(8, 1, 64), "garbage")
    assert fresh.algorithm.limit == SEEN.limit
    assert rebuild(replace(SEEN, limit=500), StepBack(8, 1, 64), "").algorithm.limit == 64


def test_a_fixed_limit_stays_what_it_is() -> None:
    fleet = FleetLimit(FixedLimit(20), Count(at=NOW))
    row = tuple(
        SampledAttempt(age=0.01, in_flight=20, known_in_flight=20, epoch=4) for _ in range(9)
    )
    commit = merge(fleet, Sample(refused=row), SEEN, ASK, 0.5)
    assert (commit.limit, commit.epoch) == (20, 4)
    assert ceiling(FixedLimit(20)) == 20
    assert ceiling(StepBack(8, 1, 64)) == 64


def test_a_fixed_limit_of_which_nothing_is_known_stays_what_it_is() -> None:
    assert rebuild(replace(SEEN, limit=500), FixedLimit(20), "garbage").algorithm.limit == 20


def test_refusals_that_would_have_one_number_are_numbered_one_after_the_other() -> None:
    reply = replace(SEEN, state=steady(level=30), limit=30)
    row = tuple(
        SampledAttempt(age=0.0, in_flight=20, known_in_flight=20, epoch=4) for _ in range(2)
    )
    algorithm, _ = after(reply, Sample(refused=row[:1]))
    number = algorithm.refused_numbers[-1]
    fleet = rebuild(reply, StepBack(20, 1, 64), "")
    assert isinstance(fleet.algorithm, StepBack)
    fleet.algorithm.refused_numbers.extend([number, number + 1])
    merge(fleet, Sample(refused=row[:1]), reply, ASK, 0.5)
    assert fleet.algorithm.refused_numbers[-1] == number + 2
