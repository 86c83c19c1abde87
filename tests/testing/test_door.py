"""The door of the package."""

from __future__ import annotations

import comet_resilience.testing as door


def test_all_is_complete() -> None:
    """Everything that the door names is there, once."""
    assert len(set(door.__all__)) == len(door.__all__)
    assert all(hasattr(door, name) for name in door.__all__)
