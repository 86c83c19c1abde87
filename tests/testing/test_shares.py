"""Shares of requests, and the draw among them."""

from __future__ import annotations

import pytest

from comet_resilience.testing.shares import checked_shares, drawn

SHARES = (("rate_limited", 0.25), (503, 0.5))


@pytest.mark.parametrize(
    ("draw", "name"),
    [(0.0, "rate_limited"), (0.2499, "rate_limited"), (0.25, 503), (0.7499, 503), (0.75, None)],
)
def test_a_draw_falls_upon_one_share(draw: float, name: str | int | None) -> None:
    """Each share has its own stretch from 0 to 1, in order; the rest is nobody's."""
    assert drawn(SHARES, draw) == name


@pytest.mark.parametrize("shares", [{"a": -0.1}, {"a": 0.5, "b": 0.6}])
def test_impossible_shares_are_refused(shares: dict[str | int, float]) -> None:
    """The error names the keyword that they were given to."""
    with pytest.raises(ValueError, match="failure_rate: shares are 0 or more"):
        checked_shares("failure_rate", shares.items())


def test_ten_tenths_are_one() -> None:
    """Floats that were added up may miss it by a little."""
    tenths: dict[str | int, float] = dict.fromkeys("abcdefghij", 0.1)
    assert checked_shares("rate", tenths.items()) == tuple(tenths.items())
