"""Exact bounds of the verdict room: where one answer ends and the next begins."""

from __future__ import annotations

import json
import math
import time

import pytest

from comet_resilience.verdict.answer import PARSED_UP_TO, is_answer, is_transcript
from comet_resilience.verdict.retry import RetryIn, RetryPolicy, Situation, decide, may_be_billed
from comet_resilience.verdict.retry_after import parse_hint_in_message, parse_retry_after
from comet_resilience.verdict.rule import Rule
from comet_resilience.verdict.rules import classify
from comet_resilience.verdict.table import condition, failures_table
from comet_resilience.verdict.vocabulary import (
    Action,
    BodyKind,
    FailureKind,
    Fault,
    Observation,
    Operation,
)

NOW = 1_793_589_240.0


def _sized(size: int, **members: object) -> bytes:
    """An answer of exactly so many bytes."""
    empty = len(json.dumps({**members, "padding": ""}))
    return json.dumps({**members, "padding": "x" * (size - empty)}).encode()


# -- Answers ---------------------------------------------------------------------------------


def test_an_answer_of_the_largest_size_that_is_parsed_is_parsed() -> None:
    """Up to the bound an error is found wherever it stands; above it only at the head."""
    late = {"data": [{"n": 1}], "error": {"message": "m"}}
    assert not is_answer(_sized(PARSED_UP_TO, **late), ("data",))
    assert is_answer(_sized(PARSED_UP_TO + 1, **late), ("data",))


def test_a_transcript_of_the_largest_size_that_is_parsed_is_parsed() -> None:
    """Up to the bound an error is an error; a longer body is cut and cannot be judged by it."""
    report = {"text": "t", "error": {"message": "m"}}
    assert not is_transcript(_sized(PARSED_UP_TO, **report))
    assert is_transcript(_sized(PARSED_UP_TO + 1, **report))


@pytest.mark.parametrize("around", [b" ", b"\r\n\t", b" " * 63])
def test_a_large_answer_may_have_white_space_around_it(around: bytes) -> None:
    """Some servers indent or end with a line break."""
    assert is_answer(around + _sized(PARSED_UP_TO + 1, data=[]) + around, ("data",))


def test_a_large_answer_must_end_as_it_began() -> None:
    """A body cut in the middle is none, even where its head has all that was due."""
    whole = _sized(PARSED_UP_TO + 100, data=[{"n": 1}])
    assert is_answer(whole, ("data",))
    assert not is_answer(whole[:-2] + b"  ", ("data",))
    assert not is_answer(b"x" + whole, ("data",))


def test_members_of_a_large_answer_are_looked_for_at_its_ends_only() -> None:
    """A name in the middle, in somebody's text, is not the member that was due."""
    middle = {"a": "x" * PARSED_UP_TO, "data": [], "z": "x" * PARSED_UP_TO}
    assert not is_answer(json.dumps(middle).encode(), ("data",))


# -- Again or give up ------------------------------------------------------------------------


def test_a_redirection_is_not_billed_and_what_lies_below_is() -> None:
    """Under a success status the work was done, whatever the body says."""
    assert may_be_billed(Observation(status=299))
    assert not may_be_billed(Observation(status=300))


@pytest.mark.parametrize("hint", [60.0, 0.0])
def test_a_hint_of_exactly_the_longest_wait_is_waited_out(hint: float) -> None:
    """max_retry_after itself is allowed, with 0 too."""
    policy = RetryPolicy(
        backoff_initial=0.0, backoff_max=0.0, max_retry_after=hint, retry_ambiguous="text"
    )
    observation = Observation(status=500, body=BodyKind.JSON, retry_after=hint)
    now = Situation(
        observation=observation, verdict=classify(observation), attempt=1, max_retries=1,
        time_left=math.inf, not_replayable="", jitter=0.0,
    )  # fmt: skip
    step = decide(policy, now)
    assert isinstance(step, RetryIn)
    assert step.delay == hint
    if hint == 0.0:
        assert step.reason == "backoff with jitter"  # a hint of nothing asks for nothing


# -- Hints -----------------------------------------------------------------------------------


def test_long_headers_are_no_hint() -> None:
    """Two hundred characters are read, one more are not: time is bounded."""
    many = ",".join(["1"] * 100)
    assert parse_retry_after({"retry-after": many + "1"}, NOW) == 11
    assert parse_retry_after({"retry-after": many + "11"}, NOW) is None


def test_long_dates_are_no_hint() -> None:
    """A date of up to sixty characters is read; what is longer is none."""
    date = "Mon, 02 Nov 2026 03:14:30 GMT"
    for size, hint in ((60, 30.0), (61, None)):
        padded = date + " (" + "x" * (size - len(date) - 3) + ")"
        assert len(padded) == size
        assert parse_retry_after({"retry-after": padded}, NOW) == hint


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the zone of a process cannot be set")
def test_a_date_without_a_zone_is_of_the_zone_of_the_protocol(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The oldest form of a date names no zone; it is never the local one."""
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        assert parse_retry_after({"retry-after": "Mon Nov  2 03:14:30 2026"}, NOW) == 30
    time.tzset()


def test_only_the_head_of_a_message_is_searched_for_a_hint() -> None:
    """Four thousand characters are read."""
    words = "try again in 5s"
    assert parse_hint_in_message("." * (4_000 - len(words)) + words) == 5
    assert parse_hint_in_message("." * 4_000 + words) is None


def test_all_parts_of_a_hint_in_words_add_up() -> None:
    """Hours, minutes, seconds and milliseconds count together."""
    assert parse_hint_in_message("try again in 1h1m1s") == 3_661
    assert parse_hint_in_message("try again in 1s500ms") == pytest.approx(1.5)


# -- Rows and their table --------------------------------------------------------------------


def _rule(**changes: object) -> Rule:
    return Rule(
        name="mine",
        kind=FailureKind.UNAVAILABLE,
        action=Action.RETRY,
        reason="because",
        source="inferred",
        **changes,  # type: ignore[arg-type]
    )


def test_no_retries_is_a_number_of_retries() -> None:
    """A row may say that nothing is sent again."""
    assert _rule(at_most=0).verdict().at_most == 0


def test_the_table_has_a_head() -> None:
    """Without it Markdown shows no table."""
    head, line, *_ = failures_table().splitlines()
    assert head == "| answer | what it means | what is done | source |"
    assert line == "|---|---|---|---|"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fault": {Fault.READ, Fault.CONNECT}}, "fault connect / read"),
        ({"edge_code": {"1015"}}, "edge code 1015"),
        ({"operation": {Operation.JOB}}, "operation job"),
        ({"status": {599}}, "599"),
    ],
)
def test_conditions_in_words(changes: dict[str, object], words: str) -> None:
    """Faults, codes of the edge and operations are called by their names."""
    assert condition(_rule(**changes)) == words
