"""The record: what a line of the journal says and does not say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from comet_resilience import AttemptFinished, RequestInfo, StreamFinished, Usage
from comet_resilience.journal.observer import observer_for
from comet_resilience.journal.record import VERSION, JournalRecord, StreamRecord, line_of, record_of
from comet_resilience.journal.saturation import analyse

from ..conftest import KEY, refused_attempt

USAGE = Usage(prompt_tokens=3, completion_tokens=4, reasoning_tokens=2)
INFO = RequestInfo(route="POST /chat/completions", model="m")


def finished(**changes: Any) -> AttemptFinished:
    """An attempt below an account that was refused, but for the changes."""
    facts: dict[str, Any] = {
        "queued": 0.5, "elapsed": 0.25, "in_flight": 5, "request_bytes": 70,
        "account": "account 2", "account_in_flight": 9, "account_limit": 12,
    }  # fmt: skip
    return refused_attempt(**(facts | changes))


def test_a_line() -> None:
    """The documented shape, and one JSON object with an end of line."""
    record = record_of(finished(usage=USAGE), 1_700_000_000.25)
    assert set(record) == set(JournalRecord.__annotations__)
    assert record == {
        "version": VERSION, "time": "2023-11-14T22:13:20.250+00:00",
        "route": "POST /chat/completions", "model": "m", "attempt": 1, "status": 429, "code": "",
        "fault": "", "kind": "rate_limited", "request_id": "id-1", "queued": 0.5, "latency": 0.25,
        "in_flight": 5, "limit": 8, "request_bytes": 70, "response_bytes": 90, "canary": False,
        "account": "account 2", "account_in_flight": 9, "account_limit": 12,
        "prompt_tokens": 3, "completion_tokens": 4, "cached_tokens": None, "reasoning_tokens": 2,
    }  # fmt: skip
    line = line_of(finished(), 1.0)
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1


def test_a_stream_that_names_its_tokens_has_a_second_line() -> None:
    """Told apart by its event; one whose tokens were only counted has none."""
    ended = StreamFinished(request=INFO, attempt=1, elapsed=2.5, events=9, usage=USAGE)
    records: list[dict[str, Any]] = []
    observe = observer_for(records.append)
    observe(ended)
    observe(replace(ended, usage=None))
    observe(replace(ended, usage=replace(USAGE, is_estimate=True)))
    [record] = records
    assert set(record) == set(StreamRecord.__annotations__)
    assert (record["event"], record["prompt_tokens"]) == ("stream_finished", 3)
    [series] = analyse(
        [line_of(finished(), 1_700_000_000.0), line_of(ended, 1_700_000_002.0)]
    ).series
    assert (series.attempts, series.tokens) == (1, 7)


@pytest.mark.parametrize(
    "foreign", [f"your key {KEY}", KEY, "sk-abc", "a b", "9f" * 24, "\n", "x" * 200]
)
def test_foreign_text_is_left_out(foreign: str) -> None:
    """A code that is no plain code may be anything, even a key."""
    assert record_of(finished(code=foreign), 1.0)["code"] == "?"
    assert record_of(finished(code="rate_limit_exceeded"), 1.0)["code"] == "rate_limit_exceeded"
