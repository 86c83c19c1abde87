"""The script of shared budgets, on a real server: who may send when, and never too much."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from comet_resilience.fleet.draws import Amount, DrawReply, DrawRequest, parse_draw_reply
from comet_resilience.limits.budget import Budget
from tests.bench.sim.fleet import timed as timed_script

KEY = "comet:{a}:b:budget"
MINUTE = Budget(requests=60)


class Clock:
    """The script at a time that the test says (seconds)."""

    def __init__(self, db: Any) -> None:
        self.db, self.now = db, 1_000_000.0
        self._run = db.register_script(timed_script("draw"))

    def draw(
        self, member: str, number: int, budget: Budget = MINUTE, tokens: float = 0, **more: Any
    ) -> DrawReply:
        """Draw for so many requests."""
        request = DrawRequest(
            member=member, budget=budget, ttl=3.0, wants=(Amount(1, tokens),) * number, **more
        )
        reply = parse_draw_reply(self.raw(request), request)
        assert reply is not None
        return reply

    def raw(self, request: DrawRequest) -> Any:
        """Return what the script says."""
        seconds, rest = divmod(round(self.now * 1_000_000), 1_000_000)
        return self._run([KEY], [*request.arguments(), seconds, rest])[0]


@pytest.fixture
def clock(db: Any) -> Clock:
    """The script on an empty server."""
    return Clock(db)


def test_requests_are_spaced_evenly_whoever_sends_them(clock: Clock) -> None:
    first = clock.draw("a", 1)
    others = [clock.draw(member, 1) for member in "bcd"]
    times = [*first.delays, *(at for other in others for at in other.delays)]
    assert times == pytest.approx([0, 1, 2, 3], abs=0.001)
    assert others[-1].members == 4
    assert others[-1].left == Amount(56, 0)
    assert others[-1].paid_for.requests == pytest.approx(4.0, abs=0.001)


def test_who_has_draws_left_waits_for_the_others(clock: Clock) -> None:
    """A member draws a second ahead, and once beyond it if it has nothing."""
    assert clock.draw("a", 5).delays == (0.0,)
    assert clock.draw("a", 5).delays == pytest.approx((1.0,), abs=0.001)
    assert clock.draw("a", 5, has_unused=True).delays == ()
    assert clock.draw("b", 5).delays == pytest.approx((2.0,), abs=0.001)


def test_a_fast_budget_is_divided_by_what_each_may_draw_ahead(clock: Clock) -> None:
    fast = Budget(requests=6_000)
    assert len(clock.draw("a", 64, fast).delays) == 64
    clock.now += 1.0
    assert len(clock.draw("b", 64, fast).delays) == pytest.approx(50, abs=1)
    assert len(clock.draw("c", 64, fast).delays) == pytest.approx(33, abs=1)


def test_a_correction_counts_once(clock: Clock) -> None:
    """A reply that is lost has the member say it again."""
    for _ in range(2):
        told = clock.draw("a", 0, serial=1, corrections=Amount(5, 0))
        assert told.paid_for.requests == pytest.approx(5.0, abs=0.001)
    fewer = clock.draw("a", 0, serial=2, corrections=Amount(-2, 0))
    assert fewer.paid_for.requests == pytest.approx(3.0, abs=0.001)
    assert fewer.left.requests == 57


def test_what_was_sent_while_nothing_was_drawn_has_paid_for_itself(clock: Clock) -> None:
    """Four members spent their parts by themselves for twenty seconds, and come back one by one."""
    clock.draw("a", 1)
    clock.now += 21.0
    assert clock.draw("a", 1).delays == (0.0,)
    spent = Amount(5, 0)
    *_, reply = [clock.draw(each, 0, serial=1, corrections=spent, age=20.0) for each in "abcd"]
    assert reply.paid_for.requests == pytest.approx(1.0, abs=0.1)


def test_an_empty_restart_begins_where_members_remember(clock: Clock) -> None:
    clock.draw("a", 1)
    clock.db.flushall()
    burst = Budget(requests=60, burst=60)
    reply = clock.draw("a", 1, burst, paid_for=Amount(4.0, 0), held=Amount(59, 0))
    assert reply.left.requests == 0
    clock.now += 0.1
    late = clock.draw("b", 0, burst, paid_for=Amount(9.0, 0), held=Amount(59, 0))
    assert late.paid_for.requests == pytest.approx(9.0, abs=0.001)
    clock.now += 2.0  # by now everybody has come
    assert clock.draw("c", 0, burst, paid_for=Amount(99.0, 0)).paid_for.requests < 10


@pytest.mark.parametrize("jump", [-1.0, -90.0, -86_400.0])
def test_the_time_of_a_budget_goes_on_where_the_clock_is_set_back(
    clock: Clock, jump: float
) -> None:
    """As from the latest draw: no request waits for the clock, and nothing is drawn twice."""
    clock.draw("one", 1)
    clock.now += 0.5
    clock.draw("one", 1)
    clock.now += jump
    reply = clock.draw("two", 1)
    assert reply.delays[0] == pytest.approx(1.5, abs=0.01)
    clock.now += 1.0
    reply = clock.draw("two", 1)
    assert reply.delays[0] == pytest.approx(1.5, abs=0.01)
    assert reply.members == 2


def test_a_request_that_takes_more_than_there_ever_is_draws_nothing(clock: Clock) -> None:
    budget = Budget(tokens=100)
    assert clock.draw("a", 1, budget, tokens=101).delays == ()
    assert clock.draw("a", 1, budget, tokens=100).delays == (0.0,)
    assert clock.draw("b", 1, budget, tokens=50).delays == pytest.approx((60.0,), abs=0.1)


def test_a_member_that_leaves_is_removed(clock: Clock) -> None:
    clock.draw("a", 1)
    clock.raw(DrawRequest(member="a", budget=MINUTE, serial=1, corrections=Amount(-1, 0)))
    assert not [name for name in clock.db.hgetall(KEY) if name.startswith("m:")]
    assert clock.draw("b", 1).delays == (0.0,)
    assert 60 < clock.db.ttl(KEY) <= 125


@pytest.mark.parametrize("field", ["requests:paid", "requests:slices", "requests:idle", "born"])
@pytest.mark.parametrize("text", ["", "nan", "inf", "-5", "9e99", "x:y;z", "1:2:3;;", "\x00"])
def test_nonsense_in_a_field_stops_no_member_for_long(clock: Clock, field: str, text: str) -> None:
    clock.draw("a", 1)
    clock.db.hset(KEY, field, text)
    clock.db.hset(KEY, "m:b", text)
    (delay,) = clock.draw("a", 1).delays
    assert delay <= 4 * MINUTE.per


def test_keys_of_another_type_are_an_error_in_words(clock: Clock) -> None:
    clock.db.set(KEY, "a text")
    (words,) = clock.raw(DrawRequest(member="a", budget=MINUTE, ttl=3.0))
    assert words.startswith("WRONGTYPE")


STEPS = st.lists(
    st.tuples(
        st.sampled_from("abcd"),
        st.integers(1, 12),
        st.sampled_from([0.0, 0.1, 0.7, 3.0, 20.0]),
        st.integers(1, 40),
    ),
    max_size=40,
)


@given(
    steps=STEPS,
    budget=st.sampled_from(
        [
            Budget(requests=7, per=10), Budget(requests=7, per=10, burst=10),
            Budget(tokens=100, per=10), Budget(requests=5, tokens=100, per=10, burst=3),
        ]
    ),
)  # fmt: skip
@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_no_period_holds_more_than_the_budget(
    clock: Clock, steps: list[tuple[str, int, float, int]], budget: Budget
) -> None:
    """Whoever draws when, and whether or not it lives to use it."""
    clock.db.flushall()
    sent: list[tuple[float, int]] = []
    for member, number, wait, tokens in steps:
        clock.now += wait
        delays = clock.draw(member, number, budget, tokens=tokens).delays
        sent += [(clock.now + delay, tokens) for delay in delays]
    sent.sort()
    for begins, _ in sent:
        within = [tokens for at, tokens in sent if begins <= at < begins + budget.per - 0.001]
        assert budget.requests is None or len(within) <= budget.requests
        assert budget.tokens is None or sum(within) <= budget.tokens
