"""Answers that would come too late: by what is usual, and by who may think so of whom."""

from __future__ import annotations

import math
from dataclasses import dataclass

import anyio
import pytest

from comet_resilience import FixedLimit
from comet_resilience.limits.algorithm import StepBack
from comet_resilience.limits.eventloop import clock
from comet_resilience.limits.limiter import Limiter
from comet_resilience.limits.too_late import AnswerTimes, is_in_time, is_too_late
from comet_resilience.verdict.vocabulary import Signal

from ..conftest import in_virtual_time
from .conftest import KEY, limiter_of


@dataclass
class Caller:
    """One who waits."""

    since: float
    useful_until: float


def test_three_of_four_answers_are_usual() -> None:
    """Once four are known; the sixteen latest are remembered."""
    answers = AnswerTimes()
    for seconds in (1.0, 3.0, 2.0):
        answers.note(seconds)
        assert answers.usual == 0.0
    answers.note(9.0)
    assert answers.usual == 9.0
    for seconds in range(16):
        answers.note(float(seconds))
    assert answers.usual == 12.0


@pytest.mark.parametrize(
    ("since", "until", "now", "late"),
    [
        pytest.param(0.0, 5.0, 3.9, False, id="as much time left as is usual"),
        pytest.param(0.0, 5.0, 4.1, True, id="less"),
        pytest.param(0.0, 0.9, 0.0, False, id="never had as much: asks for something quicker"),
        pytest.param(0.0, 0.9, 0.8, False, id="nor is anything known of it after a while"),
        pytest.param(0.0, math.inf, 99.0, False, id="waits for ever"),
    ],
)
def test_only_waiting_makes_a_request_too_late(
    since: float, until: float, now: float, *, late: bool
) -> None:
    """By what is left of the time that it had."""
    assert is_too_late(Caller(since, until), now, 1.0) is late
    assert not is_too_late(Caller(since, until), now, 0.0)


def test_one_that_waits_for_ever_is_neither_too_late_nor_in_time() -> None:
    """It has no need to go before others."""
    assert is_in_time(Caller(0.0, 5.0), 3.9, 1.0)
    assert not is_in_time(Caller(0.0, 5.0), 4.1, 1.0)
    assert not is_in_time(Caller(0.0, math.inf), 0.0, 1.0)


async def _call(limiter: Limiter, use: float, takes: float) -> bool:
    """Return True if a call is answered in the time for which that is of use."""
    with anyio.move_on_after(use):
        lease = await limiter.acquire(KEY, latest=clock() + use)
        signal = Signal.IGNORED
        try:
            await anyio.sleep(takes)
            signal = Signal.SUCCESS
        finally:
            lease.release(signal)
        return True
    return False


@in_virtual_time
@pytest.mark.anyio
async def test_a_limit_answers_as_many_as_it_lets_through() -> None:
    """Of twice as many calls: in FIFO order each slot would be for one that is about to give up."""
    limiter, answered = limiter_of(lambda: FixedLimit(4)), list[bool]()

    async def call(takes: float) -> None:
        answered.append(await _call(limiter, 5.0, takes))

    async with anyio.create_task_group() as tasks:
        for number in range(320):
            tasks.start_soon(call, (0.61, 0.93, 1.46)[number % 3])
            await anyio.sleep(0.127)
    assert len(answered) == 320
    assert sum(answered) >= 140  # of some 180 that four slots have time for


@in_virtual_time
@pytest.mark.anyio
@pytest.mark.parametrize(
    ("use", "others_use"),
    [
        pytest.param(20.0, 300.0, id="less time than any answer took"),
        pytest.param(40.0, math.inf, id="before others who can wait for ever"),
        pytest.param(20.0, math.inf, id="both"),
    ],
)
async def test_a_quick_call_is_answered_beside_slow_ones(use: float, others_use: float) -> None:
    """Others keep coming behind it, and their answers say nothing of its own."""
    limiter, answered = limiter_of(lambda: FixedLimit(5)), list[bool]()

    async def call_in_turn(first: float) -> None:
        await anyio.sleep(first)
        while len(answered) < 5:
            assert await _call(limiter, others_use, 30.0)

    async with anyio.create_task_group() as tasks:
        for first in range(6):
            tasks.start_soon(call_in_turn, 6.1 * first)
        for _ in range(5):
            await anyio.sleep(97.0)
            answered.append(await _call(limiter, use, 0.5))
    assert answered == [True] * 5


@in_virtual_time
@pytest.mark.anyio
@pytest.mark.parametrize(("use", "least"), [(5.0, 36), (math.inf, 40)])
async def test_a_burst_that_is_of_use_for_seconds_does_not_pay_for_a_slow_start(
    use: float, least: int
) -> None:
    """A limit is a guess at first: only calls that can wait for ever wait for it to grow."""
    limiter, answered = limiter_of(lambda: StepBack(8, 1, 512)), list[bool]()
    began = clock()

    async def call() -> None:
        answered.append(await _call(limiter, use, 4.0))

    async with anyio.create_task_group() as tasks:
        for _ in range(40):
            tasks.start_soon(call)
    assert sum(answered) >= least
    assert (clock() - began > 8.0) is (use == math.inf)
