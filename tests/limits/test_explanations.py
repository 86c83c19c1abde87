"""What explains a log of attempts: a cap on what is in flight, or a rate."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comet_resilience.limits.attempt_log import Attempt
from comet_resilience.limits.explanations import (
    Family,
    Kind,
    ceiling_of,
    explain,
    share_unexplained_by_cap,
    unexplained_by_cap,
    unexplained_by_moved_cap,
)

from ..servers import Server, bucket, cap, sliding, window


def log_of(server: Server, times: Iterable[float], seed: int = 1) -> list[Attempt]:
    """What a client sees that sends at such times, with from 1 to 12 in flight."""
    random = Random(seed)
    log = []
    for at in times:
        in_flight = random.randint(1, 12)
        is_accepted = server(at, in_flight)
        log.append(Attempt(at, in_flight, is_accepted, is_answered=is_accepted))
    return log


def at_random(rate: float, count: int, seed: int = 2) -> list[float]:
    random, now, times = Random(seed), 0.0, []
    for _ in range(count):
        now += random.expovariate(rate)
        times.append(now)
    return times


def bursts(size: int, every: float, canaries: float, until: float) -> list[float]:
    """All at once, then one now and then, and all at once again."""
    times, now = [], 0.0
    while now < until:
        times += [now + 0.01 * place for place in range(size)]
        times += [now + canaries * place for place in range(1, int(every / canaries))]
        now += every
    return times


@pytest.mark.parametrize(("rate", "depth"), [(5.0, 1.0), (5.0, 10.0), (1.0, 4.0), (40.0, 16.0)])
def test_a_bucket_is_found_with_its_rate(rate: float, depth: float) -> None:
    log = log_of(bucket(rate, depth), at_random(1.5 * rate, 120))
    found = explain(log)
    assert found.family.kind is Kind.BUCKET
    assert found.rate == pytest.approx(rate, rel=0.08)
    assert found.unexplained < 0.25 * unexplained_by_cap(log)


def test_a_rate_without_burst_is_found_among_few_attempts() -> None:
    times = [0.0, 0.0, 0.0, 0.0, 0.5, 1.0, 1.05, 1.5, 2.0, 2.06, 2.5]
    found = explain(log_of(bucket(10.0, 1.0), times))
    assert found.family == Family(Kind.BUCKET, 1.0)
    assert found.unexplained == 0


@pytest.mark.parametrize(
    "make", [lambda: sliding(30, 60.0), lambda: window(30, 60.0, -20.0)], ids=["sliding", "fixed"]
)
def test_a_window_is_found_after_one_closure_of_a_complete_log(make: Callable[[], Server]) -> None:
    times = [*(0.02 * place for place in range(36)), 2.0, 6.0, 10.4, 30.4, 39.9]
    times += [60.4 + 0.02 * place for place in range(10)]
    found = explain(log_of(make(), times), is_complete=True)
    assert found.family.kind is not Kind.BUCKET
    assert (found.family.period, found.rate) == (60.0, 0.5)
    assert found.unexplained < 1e-9


def test_a_window_takes_two_closures_where_the_beginning_is_forgotten() -> None:
    log = log_of(sliding(10, 10.0), bursts(14, 10.1, 2.0, 25.0))
    once = [one for one in log if one.at < 12.0]
    assert explain(once).family.kind is Kind.BUCKET
    assert explain(log).family.period == 10.0
    assert explain(once, is_complete=True).family.period == 10.0


def test_silence_ends_no_closure() -> None:
    log = log_of(sliding(10, 10.0), bursts(14, 10.1, 2.0, 11.0))
    for one in log:
        one.is_answered = one.at < 10
    assert explain(log, is_complete=True).family.kind is Kind.BUCKET


def test_what_was_believed_is_kept_while_it_is_near_the_best() -> None:
    log = log_of(bucket(5.0, 16.0), at_random(7.0, 100))
    deep = Family(Kind.BUCKET, 64.0)
    assert explain(log).family != deep
    assert explain(log[:20], 5.0, deep).family == deep


@given(limit=st.integers(1, 11), seed=st.integers(0, 1_000))
def test_a_cap_leaves_nothing_of_its_own_refusals(limit: int, seed: int) -> None:
    log = log_of(cap(limit), at_random(3.0, 100), seed)
    assert unexplained_by_cap(log) == pytest.approx(0.0, abs=1e-9)
    assert share_unexplained_by_cap(log) == 0


@pytest.mark.parametrize(("before", "after"), [(9, 4), (4, 9)])
def test_a_cap_that_moved_leaves_nothing_of_its_own_refusals(before: int, after: int) -> None:
    log = log_of(lambda at, n: n <= (before if at < 10 else after), at_random(5.0, 100))
    assert unexplained_by_cap(log) > 4
    assert unexplained_by_moved_cap(log) < 1


def test_a_window_that_closed_is_no_cap_that_moved() -> None:
    log = log_of(lambda at, n: at < 10, at_random(5.0, 100))
    assert unexplained_by_moved_cap(log) == unexplained_by_cap(log) > 5


def test_no_cap_explains_a_rate_and_noise_is_no_rate() -> None:
    log = log_of(bucket(5.0, 4.0), at_random(8.0, 100))
    assert unexplained_by_cap(log) > 5
    assert share_unexplained_by_cap(log) > 0.5
    random = Random(3)
    noise = log_of(lambda now, in_flight: random.random() > 0.05, at_random(5.0, 128))
    assert explain(noise).unexplained > 0.5 * unexplained_by_cap(noise)


def test_a_rate_is_found_across_a_silence() -> None:
    """What was accepted on average is then far from the rate."""
    times = at_random(7.5, 60) + [120.0 + at for at in at_random(7.5, 60, seed=5)]
    assert explain(log_of(bucket(5.0, 4.0), times)).rate == pytest.approx(5.0, rel=0.08)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_window_may_open_a_little_before_the_client_finds_out(seed: int) -> None:
    """Attempts are on their way for a while, some longer than others."""
    random, server = Random(seed), sliding(10, 10.0)
    times = at_random(1.5, 120, seed)
    log = log_of(lambda at, n: server(at + random.uniform(0, 0.8), n), times)
    found = explain(log, is_complete=True)
    assert found.family == Family(Kind.SLIDING, 10.0)
    assert found.unexplained < 2.0


def test_a_rate_below_a_cap_is_found_by_what_the_cap_let_pass() -> None:
    rate, most = bucket(5.0, 4.0), cap(9)
    log = log_of(lambda now, n: most(now, n) and rate(now, n), at_random(9.0, 120))
    assert ceiling_of(log) == 10
    assert explain(log).rate == pytest.approx(5.0, rel=0.15)


def test_a_ceiling_takes_two_refusals_with_many_in_flight() -> None:
    assert ceiling_of([Attempt(0.0, 9), Attempt(1.0, 10, is_accepted=False)]) == float("inf")
    refused = [Attempt(2.0, 10, is_accepted=False), Attempt(1.0, 11, is_accepted=False)]
    assert ceiling_of([Attempt(0.0, 9), *refused]) == 10
    few = [Attempt(2.0, 2, is_accepted=False), Attempt(1.0, 3, is_accepted=False)]
    assert ceiling_of([Attempt(0.0, 1), *few]) == float("inf")


@given(
    st.lists(
        st.tuples(st.floats(0, 100), st.integers(1, 50), st.booleans()), min_size=1, max_size=200
    )
)
def test_any_log_is_explained_somehow(rows: list[tuple[float, int, bool]]) -> None:
    log = [Attempt(at, in_flight, taken, taken) for at, in_flight, taken in sorted(rows)]
    found = explain(log, is_complete=True)
    assert found.rate >= 0
    assert -1e-9 <= found.unexplained <= len(log)
    assert unexplained_by_cap(log) >= -1e-9


def test_families_are_told_in_words() -> None:
    assert str(Family(Kind.BUCKET, 1.0)) == "rate without burst"
    assert str(Family(Kind.BUCKET, 16.0)) == "bucket of 16"
    assert str(Family(Kind.FIXED, 60.0)) == "fixed window of 60 s"
