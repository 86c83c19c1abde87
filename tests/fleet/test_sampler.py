"""The outcomes of a member's attempts between two reports."""

from __future__ import annotations

import pytest

from comet_resilience.fleet.merge import SampledAttempt
from comet_resilience.fleet.sampler import FleetTicket, Sampler


def test_an_answer_that_begins_after_the_verdict_is_not_counted_twice() -> None:
    sampler, probe = Sampler(), FleetTicket(0, 19, 0.0, epoch=4, is_probe=True)
    sampler.send(probe)
    sampler.settle(1.0)
    sampler.accept(probe, 1.5)
    expected = SampledAttempt(age=2.0, in_flight=19, known_in_flight=19, epoch=4)
    assert sampler.sample(2.0).probes == (expected,)


@pytest.mark.parametrize("accepted", [0, 1])
def test_the_time_in_which_answers_begin_is_a_mean(accepted: int) -> None:
    sampler = Sampler()
    for _ in range(accepted * 4):
        sampler.accept(FleetTicket(0, 1, 10.0), 10.5)
    assert sampler.sample(11.0).answer_time == 0.5 * accepted
