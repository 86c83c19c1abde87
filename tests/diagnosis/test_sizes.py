"""Sizes, as people read them."""

from __future__ import annotations

from comet_resilience.diagnosis.sizes import shown_size


def test_sizes() -> None:
    """Bytes as people read them."""
    assert [shown_size(n) for n in (12, 1_500, 2_500_000)] == ["12 bytes", "1.5 kB", "2.5 MB"]
