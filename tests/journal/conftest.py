"""Journals of tests are written at once, and nothing waits for the next test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from comet_resilience.journal import writer
from comet_resilience.journal.observer import flush


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(writer, "GATHER", 0.02)
    yield
    flush()
