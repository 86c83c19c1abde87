"""Saturation: what lines add up to, whatever their order and number."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comet_resilience.journal.explanation import Attempt
from comet_resilience.journal.saturation import (
    OTHERS,
    SERIES,
    SLOTS,
    analyse,
)

from ..servers import bucket, cap, window
from .senders import nothing, sent_to

START = datetime(2026, 11, 2, 14, 0, tzinfo=UTC).timestamp()


def line(at: float = 0.0, **changes: Any) -> bytes:
    """A line ``at`` seconds after the start: an accepted attempt, but for the changes."""
    time_ = datetime.fromtimestamp(START + at, UTC).isoformat(timespec="milliseconds")
    made = {
        "version": 1, "time": time_, "route": "POST /chat/completions", "model": "m", "attempt": 1,
        "status": 200, "code": "", "fault": "", "kind": None, "request_id": "", "queued": 0.0,
        "latency": 0.1, "in_flight": 1, "limit": 8, "request_bytes": 9, "response_bytes": 9,
    }  # fmt: skip
    return json.dumps(made | changes).encode() + b"\n"


REFUSED: dict[str, Any] = {
    "status": 429, "kind": "rate_limited", "prompt_tokens": None, "completion_tokens": None,
}  # fmt: skip


def test_which_when_and_at_what_concurrency() -> None:
    """The first to be refused comes first, with the level that parts accepted from refused."""
    small = [line(second, model="small", in_flight=1 + second % 3) for second in range(90)]
    large = [
        line(10 + number / 10, model="large", in_flight=1 + number % 8, limit=9,
             **(REFUSED if number % 8 >= 5 else {}))
        for number in range(200)
    ]  # fmt: skip
    late = [line(60.5, model="small", in_flight=4, limit=4, **REFUSED)]
    found = analyse([*late, *small, *large])
    first, second = found.series
    assert (first.model, first.attempts, first.refused) == ("large", 200, 75)
    assert first.first is not None
    assert first.first.time == pytest.approx(START + 10.5)
    assert (first.first.in_flight, first.first.limit) == (6, 9)
    assert first.level is not None
    assert (first.level.holds, first.level.share_within, first.level.share_above) == (5, 0.0, 1.0)
    assert (second.model, second.refused) == ("small", 1)
    assert second.first is not None
    assert second.first.time == pytest.approx(START + 60.5)
    assert found.start == START
    assert found.end == pytest.approx(START + 89)


def test_refusals_at_any_concurrency_have_no_level() -> None:
    """A limit on the rate is not taken for one on the concurrency."""
    lines = [line(n, in_flight=1 + n % 7, **(REFUSED if n % 5 == 0 else {})) for n in range(350)]
    (series,) = analyse(lines).series
    assert series.refused == 70
    assert series.level is None


def lines_of(attempts: list[Attempt], latency: float = 2.0, **changes: Any) -> list[bytes]:
    """The lines of attempts; answers begin after ``latency`` seconds, refusals after a tenth."""
    return [
        line(
            sent + (0.1 if refused else latency), in_flight=in_flight,
            latency=0.1 if refused else latency, **(changes | (REFUSED if refused else {})),
        )
        for sent, in_flight, refused, _ in attempts
    ]  # fmt: skip


@pytest.mark.parametrize("is_reversed", [False, True])
def test_a_rate_is_named_as_a_rate(is_reversed: bool) -> None:
    """However late the lines of answers come, and in whatever order the files are given."""
    lines = lines_of(sent_to(bucket(5.0, 10.0), 1, pause=0.1, count=1_500))
    (series,) = analyse(lines[::-1] if is_reversed else lines).series
    assert series.level is None
    assert series.rate is not None
    assert series.rate.requests / series.rate.per == pytest.approx(5.0, rel=0.03)


def test_a_cap_has_a_level_and_no_rate() -> None:
    """Beside another series, whose rate is its own."""
    lines = lines_of(sent_to(cap(20), 1, pause=0.04), model="cap")
    lines += lines_of(sent_to(window(10, 10.0, 10 / 3), 2, pause=0.5), model="window")
    lines += lines_of(sent_to(nothing(0.1, Random(1)), 3, pause=0.1), model="nothing")
    found = {series.model: series for series in analyse(lines).series}
    assert found["cap"].level is not None
    assert found["cap"].level.holds == 20
    assert found["cap"].rate is None
    assert found["nothing"].rate is None
    assert found["nothing"].level is None
    assert found["window"].rate is not None
    assert (found["window"].rate.requests, found["window"].rate.per) == (10, 10.0)


def test_requests_and_tokens_of_a_minute() -> None:
    """Those that were answered, from the first attempt to the last; unknown over a moment."""
    told = {"prompt_tokens": 70, "completion_tokens": 30}
    lines = [line(second, **told) for second in range(31)] + [line(5.5, **REFUSED)]
    (series,) = analyse(lines).series
    assert series.answered_per_minute == pytest.approx(62)
    assert series.tokens_per_minute == pytest.approx(6_200)
    (series,) = analyse(lines[:5]).series
    assert series.answered_per_minute is series.tokens_per_minute is None
    (series,) = analyse([line(second) for second in range(31)]).series
    assert series.tokens_per_minute is None


def test_what_counts_as_refused() -> None:
    """A 429 about an empty account is a failure which says nothing of load."""
    found = analyse([
        line(status=429, kind="rate_limited"), line(status=200, kind="rate_limited"),
        line(status=429, kind=None), line(status=429, kind="quota"),
        line(status=None, kind="connection"), line(),
    ])  # fmt: skip
    assert (found.attempts, found.refused) == (6, 3)
    assert found.series[0].failed == 2


def test_nothing_to_read() -> None:
    """No line, no series."""
    found = analyse([])
    assert (found.series, found.attempts, found.refused, found.start) == ((), 0, 0, 0.0)


SAMPLES = st.lists(
    st.tuples(
        st.floats(0, 1e7), st.sampled_from(["a", "b", "c"]), st.integers(0, 3000),
        st.sampled_from([None, "rate_limited", "timeout"]),
    ),
    max_size=60,
)  # fmt: skip


@given(SAMPLES, st.randoms())
def test_no_attempt_is_lost_or_counted_twice(samples: list[Any], shuffle: Any) -> None:
    """Counts are those of the lines, in each series and over its slots, in any order of lines."""
    lines = [line(at, model=m, in_flight=n, kind=kind) for at, m, n, kind in samples]
    found = analyse(lines)
    assert found.attempts == len(samples)
    assert found.refused == sum(kind == "rate_limited" for *_, kind in samples)
    for series in found.series:
        mine = [sample for sample in samples if sample[1] == series.model]
        assert series.attempts == len(mine) == sum(slot.attempts for slot in series.slots)
        assert series.refused == sum(slot.refused for slot in series.slots)
        assert series.failed == sum(kind == "timeout" for *_, kind in mine)
        assert max(slot.in_flight for slot in series.slots) == max(n for _, _, n, _ in mine)
        starts = [slot.start for slot in series.slots]
        assert starts == sorted(set(starts))
        assert len(starts) <= SLOTS
        assert found.start - found.width < starts[0]
        assert starts[-1] <= found.end
    shuffle.shuffle(lines)
    assert _without_ties(analyse(lines)) == _without_ties(found)


def _without_ties(found: Any) -> Any:
    """Counts alone: which of two refusals of one moment came first is a matter of order."""
    return {
        (series.model, slot.start, slot.attempts, slot.refused, slot.failed, slot.in_flight)
        for series in found.series
        for slot in series.slots
    }


def test_a_thousand_models_are_bounded() -> None:
    """Those beyond the first are counted under one name."""
    found = analyse(line(number, model=f"m{number}") for number in range(1_000))
    assert found.attempts == 1_000
    assert len(found.series) == SERIES + 1
    assert {OTHERS} == {(s.route, s.model) for s in found.series if s.attempts > 1}


def test_a_large_journal_takes_little_memory() -> None:
    """A week is read in a stream: kept, its lines would be ten megabytes and more."""

    def many() -> Iterator[bytes]:
        parts = [line(model=f"m{n}", in_flight=n % 40).split(b"2026-11-02") for n in range(30)]
        for number in range(20_000):
            day = b"2026-11-%02d" % (1 + number // 3_000)
            yield day.join(parts[number % 30])

    tracemalloc.start()
    try:
        assert analyse(many()).attempts == 20_000
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
