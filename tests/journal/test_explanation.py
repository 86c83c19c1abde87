"""A cap is told from a rate by the attempts alone, and nothing is said where neither explains."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comet_resilience.journal.explanation import (
    LOOKED_AT,
    Attempt,
    Excerpt,
    rate_in,
    split,
)

from ..servers import Server, bucket, cap, sliding, window
from .senders import nothing, sent_to

SEEDS = pytest.mark.parametrize("seed", [1, 2, 3])


def fixed(limit: int, period: float) -> Server:
    """Take so many in each window, which begin a third of a period after the start."""
    return window(limit, period, period / 3)


@SEEDS
@pytest.mark.parametrize(
    ("rate", "depth"), [(5.0, 10.0), (1.0, 5.0), (10.0, 1.0), (0.5, 20.0), (20.0, 100.0)]
)
def test_a_bucket_is_found_with_its_rate(rate: float, depth: float, seed: int) -> None:
    """Within a few percent, whatever its depth; a window of the same rate says no less."""
    found = rate_in(sent_to(bucket(rate, depth), seed, pause=0.5 / rate))
    assert found is not None
    assert found.requests / found.per == pytest.approx(rate, rel=0.05)


@SEEDS
@pytest.mark.parametrize(
    ("kind", "limit", "period"),
    [(fixed, 60, 60.0), (fixed, 10, 10.0), (fixed, 3, 1.0), (sliding, 30, 60.0)],
)
def test_a_window_is_found_with_its_limit(
    kind: Callable[..., Callable[[float, int], bool]], limit: int, period: float, seed: int
) -> None:
    """So many in so much time, and no burst beside it."""
    found = rate_in(sent_to(kind(limit, period), seed, pause=0.6 * period / limit))
    assert found is not None
    assert found.per == period
    assert found.requests == pytest.approx(limit, rel=0.1)
    assert found.burst is None


def test_a_cap_of_the_account_is_no_rate() -> None:
    """Although the model's own number in flight says nothing, and windows would fit in part."""
    refused = [at % 4 == 3 for at in range(200)]
    attempts = [Attempt(float(at), 1, one, 11 if one else 10) for at, one in enumerate(refused)]
    assert rate_in([attempt._replace(account_in_flight=0) for attempt in attempts]) is not None
    assert rate_in(attempts) is None


@SEEDS
@pytest.mark.parametrize("limit", [1, 3, 20])
def test_a_cap_is_no_rate(limit: int, seed: int) -> None:
    """However regular its answers make the attempts."""
    attempts = sent_to(cap(limit), seed, pause=0.8 / limit)
    assert sum(attempt.refused for attempt in attempts) > 50
    assert rate_in(attempts) is None


@SEEDS
@pytest.mark.parametrize("share", [0.02, 0.2, 0.6])
def test_what_nothing_explains_is_neither(share: float, seed: int) -> None:
    """Refusals by chance, or by what others do."""
    assert rate_in(sent_to(nothing(share, Random(seed)), seed, pause=0.1)) is None


@pytest.mark.parametrize("refused", [[], [True], [False], [True] * 30, [False, True] * 5])
def test_little_says_nothing(refused: list[bool]) -> None:
    """A dozen attempts have to be explained better, and not all of them refused."""
    attempts = [Attempt(float(at), 1, one) for at, one in enumerate(refused)]
    assert rate_in(attempts) is None


_ATTEMPTS = st.lists(
    st.builds(Attempt, st.floats(0, 1e4), st.integers(0, 50), st.booleans()), max_size=80
)


@given(_ATTEMPTS)
def test_whatever_the_attempts_are(attempts: list[Attempt]) -> None:
    """Any log has an answer, and a rate is a possible one."""
    found = rate_in(sorted(attempts))
    if found is not None:
        assert found.requests >= 1


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=40))
def test_no_threshold_splits_better(marked: list[tuple[int, bool]]) -> None:
    """Against all that there are."""

    def wrong(holds: int) -> int:
        return sum(refused == (number <= holds) for number, refused in marked)

    holds, unexplained = split(marked)
    assert unexplained == wrong(holds) == min(wrong(each) for each in range(-1, 10))


@given(st.lists(st.booleans(), max_size=5_000))
def test_an_excerpt_is_bounded_and_has_the_refusals(refused: list[bool]) -> None:
    """All of a short log from its first refusal on; of a long one so many attempts."""
    excerpt = Excerpt()
    for at, one in enumerate(refused):
        excerpt.add(Attempt(float(at), 1, one))
    kept = excerpt.attempts()
    assert len(kept) <= LOOKED_AT
    assert any(attempt.refused for attempt in kept) == any(refused)
    if len(refused) <= LOOKED_AT and any(refused):
        assert sum(attempt.refused for attempt in kept) == sum(refused)


def test_the_part_with_most_refusals_is_kept() -> None:
    """Not the first one, and not the last."""
    excerpt = Excerpt()
    for at in range(10 * LOOKED_AT):
        part = at // LOOKED_AT
        excerpt.add(Attempt(float(at), 1, at % 500 == 0 or (part == 4 and at % 3 == 0)))
    assert sum(attempt.refused for attempt in excerpt.attempts()) > 200
