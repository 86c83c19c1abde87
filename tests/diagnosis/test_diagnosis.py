"""The diagnosis, as a value and as a text."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import replace

from comet_resilience import (
    Attempt,
    Diagnosis,
    FailureKind,
    LimiterState,
)
from comet_resilience.diagnosis.capture import Content, Facts
from comet_resilience.diagnosis.diagnosis import find_diagnosis
from comet_resilience.verdict.vocabulary import RequestIds

ATTEMPT = Attempt(
    number=1,
    started=0.0,
    queued=0.4,
    elapsed=1.25,
    status=429,
    fault="",
    kind=FailureKind.RATE_LIMITED,
    code="rate_limit_exceeded",
    message="slow down",
    ids=RequestIds(gateway="id-1"),
    wait=2.0,
)
DIAGNOSIS = Diagnosis(
    kind=FailureKind.RATE_LIMITED,
    meaning="rate limiting",
    reason="the only retry is used up",
    retryable=True,
    advice=("Wait.", "Send less."),
    section="429 Too Many Requests",
    rule="status-429",
    source="guide",
    route="POST /chat/completions",
    model="m",
    status=429,
    code="rate_limit_exceeded",
    message="slow down",
    ids=RequestIds(gateway="id-2", edge="ray"),
    attempts=(ATTEMPT, ATTEMPT),
    elapsed=3.5,
    may_be_billed=True,
)


def test_the_text_says_everything() -> None:
    """Kind, request, answer, ids, reason, attempts and steps stand in the text, in order."""
    shown = str(DIAGNOSIS)
    assert max(map(len, shown.splitlines())) <= 100
    text = " ".join(shown.split())
    parts = ["rate_limited: rate limiting", "POST /chat/completions model=m", "429", "slow down"]
    parts += ["gateway id-2, edge ray", "used up", "billed", "#1 at 0.00 s: 429", "queued 0.40 s"]
    parts += ["[id-1]", "then waited 2.00 s", "1. Wait.", "2. Send less.", "429 Too Many Requests"]
    places = [text.find(part) for part in parts]
    assert -1 not in places
    assert DIAGNOSIS.summary.endswith("First: Wait.")


def test_it_is_plain_data() -> None:
    """``to_dict`` survives JSON."""
    shown = json.loads(json.dumps(DIAGNOSIS.to_dict()))
    assert shown["kind"] == "rate_limited"
    assert shown["attempts"][0]["wait"] == 2.0


def test_it_travels() -> None:
    """Copies and pickles are equal, limiter and all; the report's content stays behind."""
    limiter = LimiterState(limit=4, in_flight=3, waiting=2, account_limit=9, account_in_flight=9)
    facts = Facts(
        body="{}",
        body_content=Content("hush"),
        answer_content=Content("hush"),
        message_content=Content("hush"),
    )
    given = replace(DIAGNOSIS, limiter=limiter, at="2026-11-02T03:14:15+01:00", facts=facts)
    assert copy.copy(given) == given
    assert copy.deepcopy(given) == given
    moved = pickle.loads(pickle.dumps(given))
    assert str(moved) == str(given)
    assert moved.facts.body == "{}"
    assert moved.facts.body_content.text == ""
    assert "hush" not in repr(given) + repr(facts) + json.dumps(given.to_dict())
    words = "limit 4, 3 in flight, 2 waiting; the account: limit 9, 9 in flight over all models"
    assert words in " ".join(str(given).split())
    assert given.to_dict()["limiter"] == {
        "limit": 4,
        "in_flight": 3,
        "waiting": 2,
        "account_limit": 9,
        "account_in_flight": 9,
        "waits_for_account": False,
    }


def test_it_is_found_wherever_it_hides() -> None:
    """On the exception, behind causes and contexts, in groups; chains without end are no trap."""
    bearer, outer = KeyError("x"), ValueError("y")
    bearer.diagnosis = DIAGNOSIS  # type: ignore[attr-defined]
    outer.__context__ = bearer
    bearer.__cause__ = outer
    assert find_diagnosis(outer, ("ext",)) is DIAGNOSIS
    assert find_diagnosis(ExceptionGroup("g", [TypeError(), outer]), ("ext",)) is DIAGNOSIS
    assert find_diagnosis(TypeError(), ("ext",)) is None
