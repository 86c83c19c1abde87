"""The level that parts accepted attempts from refused ones."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from comet_resilience.journal.level import Counts, rounded

COUNTS = st.dictionaries(st.integers(0, 50), st.integers(1, 20), max_size=8).map(Counter)


@given(COUNTS, COUNTS)
def test_a_level_always_parts(accepted: Counter[int], refused: Counter[int]) -> None:
    """Above a level, where there is something, more is refused than within it."""
    level = Counts(accepted, refused).level()
    if level is not None:
        assert 0 <= level.share_within < level.share_above <= 1
        assert level.holds < max(accepted | refused)


@given(st.integers(0, 10**9))
def test_high_concurrency_is_counted_in_steps(in_flight: int) -> None:
    """Never more than there were, and less by a sixteenth at most."""
    assert in_flight * 15 / 16 <= rounded(in_flight) <= in_flight
    assert in_flight > 64 or rounded(in_flight) == in_flight
