"""The triage's decisions, without a gateway."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from comet_resilience import Diagnosis
from comet_resilience.cli.doctor.triage import (
    StepOutcome,
    StepResult,
    exit_status,
    explained,
    failed,
    hide_all,
    judge,
    judge_model,
    judge_models,
    judge_redirects,
    judge_variation,
    passed,
    reconsidered,
    summary,
    warned,
)
from comet_resilience.diagnosis.hints import removal_order
from comet_resilience.diagnosis.redaction import redactor
from comet_resilience.verdict.vocabulary import FailureKind as Kind
from comet_resilience.verdict.vocabulary import RequestIds

PLAIN = Diagnosis(
    kind=Kind.PERMISSION, meaning="not allowed", reason="not retried", retryable=False,
    advice=("Do this.", "Do that."), section="403 Forbidden", rule="r", source="s",
    route="POST /chat/completions", model="m", status=403, code="", message="no", ids=RequestIds(),
)  # fmt: skip


def diagnosis(**changes: Any) -> Diagnosis:
    """A diagnosis that differs in a few fields."""
    return dataclasses.replace(PLAIN, **changes)


def test_a_failed_request_is_told_with_its_first_action() -> None:
    """Status, meaning, message, ids that the message lacks, and that it may be billed."""
    found = judge("request", diagnosis(ids=RequestIds(gateway="id-12345"), may_be_billed=True))
    assert (found.outcome, found.reason) == (StepOutcome.FAIL, "403 not allowed: no")
    assert found.action == "Do this."
    assert found.notes == ("request id id-12345", "the work may have been done and billed")
    assert found.to_dict()["diagnosis"]["kind"] == "permission"


def test_a_variation_that_fails_in_the_same_way_is_told_shortly() -> None:
    """The same failure is not told twice; another one is."""
    assert judge_variation("other_key", PLAIN, PLAIN).reason == "fails in the same way (403)"
    other = judge_variation("other_key", diagnosis(status=400), PLAIN)
    assert other.reason.startswith("400 ")


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [(None, "pass"), (Kind.WRONG_PATH, "fail"), (Kind.AUTHENTICATION, "pass")],
)
def test_redirects(kind: Kind | None, outcome: str) -> None:
    """Only a wrong path fails the base URL: any other answer came from an API."""
    assert judge_redirects(diagnosis(kind=kind) if kind else None).outcome == outcome


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [(None, "pass"), (Kind.NOT_FOUND, "warn"), (Kind.AUTHENTICATION, "fail")],
)
def test_models(kind: Kind | None, outcome: str) -> None:
    """A gateway without a list of models proves nothing against the key."""
    assert judge_models(diagnosis(kind=kind) if kind else None, ("a",)).outcome == outcome


def test_a_model_is_looked_up() -> None:
    """A misspelt id brings the nearest ones; without a list or an id nothing is said."""
    listed = ("gpt-5-mini", "claude-haiku-4-5")
    assert judge_model("gpt-5-mini", listed).outcome is StepOutcome.PASS
    assert judge_model("gpt-5-mni", listed).action == "Did you mean gpt-5-mini?"
    assert "letter for letter" in judge_model("zzz", listed).action
    assert judge_model("zzz", ()).outcome is StepOutcome.SKIPPED
    assert "gpt-5-mini" in judge_model("", listed).action


def test_an_unlisted_model_that_answers_is_no_failure() -> None:
    """What happened counts for more than the list."""
    results = (judge_model("new", ("old",)), passed("minimal", "works"))
    assert exit_status(results) == 1
    assert exit_status(reconsidered(results)) == 0


@pytest.mark.parametrize(
    ("results", "status"),
    [
        ([passed("key", "."), warned("base_url", ".", ".")], 0),
        ([failed("key", ".", "."), failed("reach", ".", ".")], 64),
        ([failed("tls", ".", ".")], 69),
        ([judge("models", diagnosis(kind=Kind.CONNECTION))], 69),
        ([judge("models", diagnosis(kind=Kind.AUTHENTICATION))], 77),
        ([judge("request", PLAIN)], 1),
        ([judge("other_key", diagnosis(kind=Kind.AUTHENTICATION))], 0),
    ],
)
def test_exit_status(results: list[StepResult], status: int) -> None:
    """Configuration before connection before key before the rest; variations do not count."""
    assert exit_status(results) == status


def test_the_summary_says_what_to_do_first() -> None:
    """What a variation has shown is better than the general advice."""
    results = [judge("request", PLAIN)]
    assert summary(results).endswith("Do this first: Do this.")
    results.append(explained("fields", "it works without x", "Leave x out."))
    assert summary(results).endswith("it works without x. Do this first: Leave x out.")
    assert summary([passed("key", ".")]) == "Nothing failed in 1 steps."


def test_advanced_fields_come_in_the_order_of_the_hints() -> None:
    """A provider's own fields first, then the interface's, the rarest first."""
    body = {"model": "m", "messages": [], "temperature": 1, "top_k": 5, "seed": 7, "stream": True}
    assert removal_order(body) == ("top_k", "seed", "temperature")


def test_secrets_are_hidden_in_every_form() -> None:
    """As they are, within a URL and within JSON, at any depth."""
    known = redactor(['key"part/1'], "")
    text = 'a key"part/1 b key%22part%2F1 c key\\"part/1'
    hidden = "a [secret] b [secret] c [secret]"
    assert hide_all({"x": [text, 1, (text,)]}, known) == {"x": [hidden, 1, [hidden]]}
