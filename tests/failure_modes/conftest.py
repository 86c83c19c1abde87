"""Fixtures of the failure modes."""

from __future__ import annotations

import pytest

from comet_resilience import log


@pytest.fixture
def log_without_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write every line of the log: counting those that repeat would keep a timer armed."""
    monkeypatch.setattr(log, "MOST_COUNTED", 0)
