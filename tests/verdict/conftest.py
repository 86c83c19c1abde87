"""Rows of the table, for the tests of this folder."""

from __future__ import annotations

from typing import Any

from comet_resilience.verdict.rule import Rule
from comet_resilience.verdict.vocabulary import Action, FailureKind


def rule_of(**changes: Any) -> Rule:
    """Return a row that applies to everything, but for the changes."""
    given: dict[str, Any] = {
        "name": "mine",
        "kind": FailureKind.UNAVAILABLE,
        "action": Action.RETRY,
        "reason": "because",
        "source": "inferred",
    }
    return Rule(**{**given, **changes})
