"""A budget is never overspent, wherever a period begins, and every charge is counted exactly."""

from __future__ import annotations

import math
from collections import deque
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comet_resilience.limits.budget import Budget, Charge, Spending

_BUDGETS = st.builds(
    lambda requests, tokens, per, burst: Budget(requests, tokens, per, burst * per),
    st.one_of(st.none(), st.integers(1, 400)),
    st.integers(100, 100_000),
    st.sampled_from([0.5, 1.0, 10.0, 60.0]),
    st.sampled_from([0.0, 0.1, 0.5, 1.0]),
)
_ASKED = st.lists(
    st.tuples(st.floats(0.0, 40.0), st.floats(0.0, 1.0)), min_size=1, max_size=120
)  # a pause before, and the share of the largest possible request


def _send_all(spending: Spending, asked: list[tuple[float, float]]) -> list[tuple[float, int]]:
    """Send each request as soon as the budget allows it."""
    now, sent = 0.0, []
    for pause, share in asked:
        now += pause if pause > 20 else 0.0
        tokens = int(share * (spending.budget.tokens or 0) / 3)
        for _ in range(3):
            ready = spending.ready_at(now, tokens)
            assert ready >= now
            if ready == now:
                break
            now = ready
        assert spending.ready_at(now, tokens) == now  # what it says is enough, is enough
        spending.charge(now, tokens)
        sent.append((now, tokens))
    return sent


@given(_BUDGETS, _ASKED)
def test_no_period_holds_more_than_the_budget(
    budget: Budget, asked: list[tuple[float, float]]
) -> None:
    """Count each period that begins with a request: the fullest there are."""
    sent = _send_all(Spending(budget), asked)
    for place, (began, _) in enumerate(sent):
        within = [tokens for at, tokens in sent[place:] if at < began + budget.per]
        assert len(within) <= (budget.requests or math.inf)
        assert sum(within) <= (budget.tokens or math.inf)


@given(_BUDGETS, _ASKED)
def test_without_a_burst_requests_are_spaced(
    budget: Budget, asked: list[tuple[float, float]]
) -> None:
    """A server that admits one at a time is never met too early."""
    even = Budget(budget.requests, budget.tokens, budget.per)
    sent = _send_all(Spending(even), asked)
    for (before, tokens), (after, _) in pairwise(sent):
        spacing = [0.0]
        spacing += [even.per / even.requests] if even.requests else []
        spacing += [tokens * even.per / even.tokens] if even.tokens else []
        assert after - before >= max(spacing) - 1e-6


@given(_BUDGETS, st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=60))
def test_corrected_charges_sum_up_exactly(budget: Budget, taken: list[tuple[int, int]]) -> None:
    """Whatever was estimated, what was taken counts; a second word for it does not."""
    spending, now = Spending(budget), 0.0
    charges: list[tuple[Charge, int]] = []
    for estimated, really in taken:
        now = spending.ready_at(now, estimated)
        charges.append((spending.charge(now, estimated), really))
    for charge, really in charges:
        spending.settle(charge, really)
        spending.settle(charge, 7)
    assert spending.tokens == sum(really for _, really in taken)
    assert spending.requests == len(taken)


@given(_BUDGETS, st.lists(st.booleans(), min_size=1, max_size=60))
def test_what_was_never_sent_leaves_no_trace(budget: Budget, is_sent: list[bool]) -> None:
    """A refunded charge delays nobody and is counted nowhere."""
    spending, alone = Spending(budget), Spending(budget)
    now = 0.0
    for goes in is_sent:
        now = max(spending.ready_at(now, 5), alone.ready_at(now, 5))
        charge = spending.charge(now, 5)
        if goes:
            alone.charge(now, 5)
        else:
            spending.refund(charge)
            spending.refund(charge)
    assert (spending.requests, spending.tokens) == (alone.requests, alone.tokens)
    assert spending.left(now) == alone.left(now)
    assert spending.ready_at(now, 5) == pytest.approx(alone.ready_at(now, 5), abs=1e-6)


@given(_BUDGETS, _ASKED)
def test_memory_is_bounded(budget: Budget, asked: list[tuple[float, float]]) -> None:
    """However many requests a period holds, it is remembered in few pieces."""
    spending = Spending(Budget(10**9, 10**9, budget.per, budget.per))
    for step in range(3_000):
        spending.charge(step * budget.per / 3_000, 1 + len(asked))
    assert spending._requests is not None
    assert len(spending._requests.slices) <= 513


def test_a_whole_burst_goes_at_once_and_then_a_period_passes() -> None:
    """A sliding window is filled at once, and again once it is empty."""
    spending = Spending(Budget(requests=30, per=60, burst=60))
    sent = [at for at, _ in _send_all(spending, [(0.0, 0.0)] * 45)]
    assert sent[29] == 0.0
    assert sent[30] == sent[44] == 60.0


def test_an_answer_shorter_than_estimated_lets_the_next_go_sooner() -> None:
    """The time that was charged for nothing is given back."""
    spending = Spending(Budget(tokens=600, per=60))
    charge = spending.charge(0.0, 300)
    assert spending.ready_at(0.0, 10) == pytest.approx(30.0)
    spending.settle(charge, 100)
    assert spending.ready_at(0.0, 100) == pytest.approx(10.0)


@given(
    st.lists(st.tuples(st.floats(0.0, 3.0), st.integers(1, 3_000)), min_size=1, max_size=80),
)
def test_tokens_keep_the_envelope_of_even_spacing(asked: list[tuple[float, int]]) -> None:
    """No stretch of time holds more than the largest answer and what the rate earns in it."""
    spending, now = Spending(Budget(tokens=60_000, per=60)), 0.0
    sent: list[tuple[float, int]] = []
    for pause, tokens in asked:
        now = spending.ready_at(now + pause, tokens)
        spending.settle(spending.charge(now, tokens), tokens)
        sent.append((now, tokens))
    largest = max(tokens for _, tokens in sent)
    for place, (began, _) in enumerate(sent):
        total = 0
        for at, tokens in sent[place:]:
            total += tokens
            assert total <= largest + (at - began) * 1_000 + 1e-3


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_was_charged_too_much_is_not_lost(seed: int) -> None:
    """A sender that always has more to send uses the budget, although each estimate is wrong."""
    draw, spending = Random(seed), Spending(Budget(tokens=60_000, per=60))
    now, under_way = 0.0, deque[tuple[float, Charge, int]]()
    for _ in range(1_200):
        really = min(5_000, int(draw.lognormvariate(6.0, 1.0)))
        estimated = really // 2 + 320  # the mean of the other half
        while (ready := spending.ready_at(now, estimated)) > now:
            now = min(ready, under_way[0][0]) if under_way else ready
            while under_way and under_way[0][0] <= now:
                spending.settle(*under_way.popleft()[1:])
        under_way.append((now + 2.0, spending.charge(now, estimated), really))
    assert spending.tokens == pytest.approx(1_000 * now, rel=0.03)


def test_a_refusal_in_spite_of_the_budget_leaves_room_in_the_period() -> None:
    """Twice the largest answer is kept back, and less with each answer; one refused costs none."""
    spending = Spending(Budget(tokens=60_000, per=60, burst=60))
    spending.settle(spending.charge(0.0, 10_000), 10_000)
    assert spending.ready_at(0.0, 50_000) == 0.0
    refused = spending.charge(0.0, 1_000)
    spending.refuse(refused)
    spending.refuse(refused)
    assert spending.tokens == 10_000
    assert spending.requests == 2
    assert spending.ready_at(0.0, 30_000) == 0.0
    assert spending.ready_at(0.0, 30_100) == 60.0
    for _ in range(300):
        spending.settle(spending.charge(60.0, 1), 1)
    assert spending.ready_at(60.0, 58_000) == 60.0


def test_even_after_a_refusal_the_largest_possible_request_goes() -> None:
    """What is kept back holds nobody for ever."""
    spending = Spending(Budget(tokens=1_000, per=60))
    spending.settle(spending.charge(0.0, 900), 900)
    spending.refuse(spending.charge(60.0, 100))
    assert spending.ready_at(60.0, 1_000) == 60.0


def test_a_late_correction_frees_no_time_that_had_passed_already() -> None:
    """What was paid for by waiting is not paid for twice."""
    spending = Spending(Budget(tokens=600, per=60))
    first = spending.charge(0.0, 300)
    spending.charge(100.0, 300)
    spending.settle(first, 0)
    assert spending.ready_at(100.0, 10) == pytest.approx(130.0)


def test_more_than_the_whole_budget_never_goes() -> None:
    """It would wait for ever."""
    assert Spending(Budget(tokens=100)).ready_at(0.0, 101) == math.inf


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({}, "requests"),
        ({"requests": 0}, "requests=0"),
        ({"requests": True}, "requests=True"),
        ({"tokens": 2.5}, "tokens=2.5"),
        ({"requests": 1, "per": 0}, "per=0"),
        ({"requests": 1, "per": math.inf}, "per=inf"),
        ({"requests": 1, "burst": 61}, "burst=61"),
        ({"requests": 1, "burst": -1}, "burst=-1"),
    ],
)
def test_nonsense_is_refused_by_name(values: dict[str, object], named: str) -> None:
    """The message names the argument and the value."""
    with pytest.raises(ValueError, match=named):
        Budget(**values)  # type: ignore[arg-type]
