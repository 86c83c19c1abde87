"""The table of rules, as people read it."""

from __future__ import annotations

from typing import Any

import pytest

from comet_resilience.verdict.rule import Like
from comet_resilience.verdict.rules import RULES
from comet_resilience.verdict.table import condition, consequence, failures_table
from comet_resilience.verdict.vocabulary import Action, BodyKind, FailureKind, Fault, Signal

from .conftest import rule_of


class _Odd:
    """A user's own set, which cannot be listed."""

    def __contains__(self, value: object) -> bool:
        return isinstance(value, str) and len(value) % 2 == 1


def test_one_line_for_each_row() -> None:
    """Every row of the table is there, in its order, under a head of two lines."""
    lines = failures_table().splitlines()
    assert len(lines) == len(RULES) + 2
    assert all(line.count(" | ") == 3 for line in lines[2:])
    assert lines[-1].startswith("| anything else | ")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "anything else"),
        ({"status": {404, 405}}, "404 / 405"),
        ({"status": range(500, 600)}, "5xx"),
        ({"status": {*range(200, 300), 404}}, "2xx / 404"),
        ({"status": range(400, 402)}, "400 / 401"),
        ({"code": {"b", "a"}}, "code `a` / `b`"),
        ({"code": {""}}, "code no code"),
        ({"code": Like("channel:*")}, "code `channel:*`"),
        ({"code": _Odd()}, "code of a set of its own"),
        ({"label": {"a"}, "type": {"t"}}, "type `t`, code or type `a`"),
        ({"body": {BodyKind.HTML}, "message": "x"}, "body html, message says so"),
        ({"edge_retryable": True}, "edge says retryable"),
        ({"edge_retryable": False}, "edge says not retryable"),
        ({"challenge": True, "new_task": True}, "a browser challenge, task created moments ago"),
    ],
)
def test_condition_in_words(changes: dict[str, Any], words: str) -> None:
    """Each condition is named, and whole centuries of statuses as such."""
    assert condition(rule_of(**changes)) == words


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"action": Action.FAIL}, "not retried"),
        ({}, "retried, paid media only if asked to"),
        ({"status": 429}, "retried"),
        ({"status": range(500, 600)}, "retried, paid media only if asked to"),
        ({"status": 408}, "retried, paid media only if asked to"),
        ({"status": 500, "ambiguous": False}, "retried"),
        ({"status": 500, "kind": FailureKind.RATE_LIMITED}, "retried"),
        ({"fault": Fault.CONNECT}, "retried"),
        ({"fault": {Fault.CONNECT, Fault.READ}}, "retried, paid media only if asked to"),
        ({"status": 429, "at_most": 1}, "retried once"),
        ({"status": 429, "at_most": 2, "wait": 5.0}, "retried twice, after 5 s or more"),
        (
            {"status": 429, "at_most": 3, "signal": Signal.OVERLOAD},
            "retried 3 times; cuts the limit",
        ),
        ({"ambiguous": True}, "retried, paid media only if asked to"),
    ],
)
def test_consequence_in_words(changes: dict[str, Any], words: str) -> None:
    """What is done, how often, when, and what the limiter learns."""
    assert consequence(rule_of(**changes)) == words
