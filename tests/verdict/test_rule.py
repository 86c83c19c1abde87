"""One row: its conditions, and what is put right or refused at construction."""

from __future__ import annotations

import pytest

from comet_resilience.verdict.advice import ADVICE, SECTIONS
from comet_resilience.verdict.rule import Like
from comet_resilience.verdict.vocabulary import (
    BodyKind,
    FailureKind,
    Fault,
    Observation,
    Operation,
    Signal,
)

from .conftest import rule_of

SEEN = Observation(
    status=503,
    fault=Fault.READ,
    body=BodyKind.JSON,
    code="The_Code",
    type="The_Type",
    message="It broke\nbadly",
    challenge=True,
    edge_retryable=False,
    edge_code="1015",
    new_task=True,
    operation=Operation.MEDIA,
)


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("status", {503}, {500}),
        ("status", range(500, 600), range(400, 500)),
        ("fault", {Fault.READ}, {Fault.WRITE}),
        ("body", {BodyKind.JSON}, {BodyKind.HTML}),
        ("code", {"the_code"}, {"the_type"}),
        ("type", {"the_type"}, {"the_code"}),
        ("label", {"the_code"}, {"other"}),
        ("label", {"the_type"}, set()),
        ("message", "^it BROKE$|broke.badly|broke\\s", "^badly"),
        ("challenge", True, False),
        ("edge_retryable", False, True),
        ("edge_code", {"1015"}, {"1020"}),
        ("new_task", True, False),
        ("operation", {Operation.MEDIA}, {Operation.JOB}),
    ],
)
def test_each_condition_counts(name: str, right: object, wrong: object) -> None:
    """A row applies only if each of its conditions holds."""
    assert rule_of(**{name: right}).matches(SEEN)
    assert not rule_of(**{name: wrong}).matches(SEEN)


def test_no_condition_matches_everything() -> None:
    """A condition left out holds always."""
    assert rule_of().matches(SEEN)
    assert rule_of().matches(Observation())


def test_conditions_on_what_is_absent_do_not_hold() -> None:
    """A fault has no status, and an answer no fault."""
    assert not rule_of(status=range(1_000)).matches(Observation())
    assert not rule_of(fault=set(Fault)).matches(Observation())


def test_single_values_are_sets_of_one() -> None:
    """A word is compared whole, not letter by letter, and a number is a status."""
    assert rule_of(status=503, code="The_Code", fault=Fault.READ, body="json").matches(SEEN)
    assert not rule_of(code="the_code_and_more").matches(SEEN)
    assert not rule_of(code="the_code").matches(Observation(code=""))


def test_words_are_compared_without_case() -> None:
    """Neither the user's case nor the server's matters."""
    assert rule_of(code=["THE_CODE"], type=("the_TYPE",)).matches(SEEN)


def test_words_by_pattern() -> None:
    """A pattern stands for all words like it."""
    assert "channel:x" in Like("Channel:*")
    assert 5 not in Like("*")
    assert list(Like("a*")) == ["a*"]
    assert rule_of(code=Like("the_*")).matches(SEEN)
    assert not rule_of(code=Like("a_*")).matches(SEEN)


def test_only_the_head_of_a_message_is_searched() -> None:
    """However long a message is, the time is bounded."""
    long = Observation(message="x" * 4_000 + "needle")
    assert not rule_of(message="needle").matches(long)


def test_verdict_has_the_kind_and_its_advice() -> None:
    """What a row leaves open, its kind says."""
    verdict = rule_of(wait=2.0, at_most=1, ambiguous=True, signal=Signal.OVERLOAD).verdict()
    assert verdict.advice == ADVICE[FailureKind.UNAVAILABLE]
    assert verdict.section == SECTIONS[FailureKind.UNAVAILABLE]
    assert (verdict.wait, verdict.at_most, verdict.ambiguous) == (2.0, 1, True)
    assert (verdict.rule, verdict.signal) == ("mine", Signal.OVERLOAD)
    own = rule_of(advice=("do this",), section="here").verdict()
    assert (own.advice, own.section) == (("do this",), "here")


def test_names_do_for_values() -> None:
    """Plain words for kind, action and signal mean the values, so a row never half applies."""
    rule = rule_of(kind="timeout", action="fail", signal="overload")
    assert rule.kind is FailureKind.TIMEOUT
    assert rule.signal is Signal.OVERLOAD
    assert not rule.verdict().retryable


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("message", "(", "no regular expression"),
        ("wait", -1, "wait must be 0 seconds or more"),
        ("wait", float("nan"), "wait must be 0 seconds or more"),
        ("at_most", -1, "at_most must be 0 or more"),
        ("kind", "nothing", "nothing"),
        ("action", "maybe", "maybe"),
        ("signal", "drop", "drop"),
    ],
)
def test_nonsense_is_refused_at_construction(name: str, value: object, words: str) -> None:
    """What cannot be meant is not found out in the middle of a request."""
    with pytest.raises(ValueError, match=words):
        rule_of(**{name: value})
