"""A line of a journal as it counts, and what is no line."""

from __future__ import annotations

import math

import pytest

from comet_resilience.journal.sample import Sample, parse_line
from comet_resilience.journal.saturation import analyse

from .test_saturation import line


@pytest.mark.parametrize("latency", [-1, 10**9, None, "1", math.nan])
def test_a_latency_that_cannot_be_is_none(latency: object) -> None:
    """The attempt counts all the same."""
    parsed = parse_line(line(latency=latency))
    assert isinstance(parsed, Sample)
    assert parsed.sent == parsed.time


@pytest.mark.parametrize(
    "nonsense",
    [
        b"{", b"[]", b"3", b"null", b"\xff", b"too long", b'{"version": 1}', b"[" * 100_000,
        line(version=2), line(time="yesterday"), line(time="2026-11-02T14:00:00"), line(route=3),
        line(time="9999-12-31T23:59:59-12:00"), line(model=None), line(in_flight="4"),
        line(in_flight=-1), line(limit=10**12), line()[:40], line(time=4), line(limit=None),
    ],
)  # fmt: skip
def test_malformed_lines_are_counted(nonsense: bytes) -> None:
    """They are skipped, and everything around them counts."""
    assert parse_line(nonsense) is None
    found = analyse([line(), nonsense, b"\n", line()])
    assert (found.attempts, found.malformed) == (2, 1)
