"""A limit that never moves."""

from __future__ import annotations

from typing import Any

import pytest

from comet_resilience import FixedLimit


@pytest.mark.parametrize("limit", [0, -1, 2.5, True, "5", None])
def test_a_fixed_limit_must_be_a_whole_number(limit: Any) -> None:
    """Anything but a whole number above 0 is refused, with the value in the message."""
    with pytest.raises(ValueError, match="whole number"):
        FixedLimit(limit)


def test_a_fixed_limit_learns_nothing() -> None:
    """Neither success, refusal nor time moves a fixed limit."""
    algorithm = FixedLimit(3)
    first, second = algorithm.sent(0.0, 1), algorithm.sent(0.0, 2)
    algorithm.accepted(first, 1.0)
    algorithm.ended(first, 1.0, 1)
    algorithm.refused(second, 1.0, 0, 60.0, 0.5)
    algorithm.ended(second, 1.0, 0)
    algorithm.tick(100.0)
    assert (algorithm.limit, algorithm.wake_at, algorithm.closed_until) == (3, None, None)
