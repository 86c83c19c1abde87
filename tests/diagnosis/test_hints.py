"""Steps that the failed request itself suggests."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comet_resilience import FailureKind
from comet_resilience.diagnosis.hints import SentRequest, hints
from comet_resilience.verdict.vocabulary import Observation
from tests.conftest import KEY


def hints_for(kind: FailureKind, message: str = "", param: str = "", **sent: Any) -> str:
    """All hints as one text."""
    sent.setdefault("authorization", f"Bearer {KEY}")
    sent.setdefault("body", b"")
    observation = Observation(status=400, message=message, param=param)
    return " ".join(hints(kind, observation, SentRequest(**sent)))


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (None, "No Authorization header"),
        ("", "No Authorization header"),
        (KEY, "does not begin with 'Bearer '"),
        (f"bearer {KEY}", "does not begin with 'Bearer '"),
        (f"Bearer Bearer {KEY}", "the key alone"),
        (f"Bearer  {KEY}", "stray spaces"),
        (f'Bearer "{KEY}"', "quotes inside"),
        (f"Bearer {KEY}\\n", "line break"),
        ("Bearer ", "key is empty"),
        ("Bearer <COMETAPI_KEY>", "placeholder"),
        ("Bearer $COMETAPI_KEY", "placeholder"),
        ("Bearer your-api-key", "placeholder"),
        ("Bearer kéy", "copied"),
    ],
)
def test_the_form_of_the_key(header: str | None, words: str) -> None:
    """Each way to get the header wrong is named, and the key is never shown."""
    text = hints_for(FailureKind.AUTHENTICATION, authorization=header)
    assert words in text
    assert KEY not in text


def test_a_well_formed_key_needs_no_hint() -> None:
    """Where the form is right nothing is said of it."""
    assert hints_for(FailureKind.AUTHENTICATION) == ""


def test_the_largest_parts() -> None:
    """Of a body that is too large, the largest parts by path and size, without their content."""
    body = {
        "messages": [
            {"content": "short"},
            {"content": [{"image_url": {"url": "data:image/png;base64," + "A" * 3_000_000}}]},
        ],
        "note": "B" * 5_000,
    }
    text = hints_for(FailureKind.TOO_LARGE, body=json.dumps(body).encode())
    assert "messages[1].content[0].image_url.url (3.0 MB), note (5.0 kB)" in text
    assert "AAAA" not in text
    parts = hints_for(FailureKind.TOO_LARGE, parts={"image": 9_000_000, "prompt": 10})
    assert parts == "The largest parts of this request: image (9.0 MB)."


def test_fields_to_remove_in_order() -> None:
    """A provider's own fields first, then the advanced ones, never the plain ones."""
    body = {"model": "m", "messages": [], "tools": [], "temperature": 1, "enable_thinking": True}
    text = hints_for(FailureKind.PERMISSION, body=json.dumps(body).encode())
    assert text.endswith("one by one: enable_thinking, tools, temperature.")
    assert hints_for(FailureKind.PERMISSION, body=b'{"model": "m"}') == ""


@pytest.mark.parametrize(
    ("message", "param", "words"),
    [
        ("field messages is required (request id: x)", "", "'messages', which the request lacks"),
        ("messages is required", "", "'messages'"),
        ("'temperature' must be a number", "", "'temperature': check its value"),
        ("bad", "tools[0].name", "'tools[0].name'"),
        ("invalid parameter `top_p`", "", "'top_p'"),
    ],
)
def test_the_named_field(message: str, param: str, words: str) -> None:
    """The field that the message or ``param`` names, missing or present."""
    body = b'{"model": "m", "temperature": "x"}'
    assert words in hints_for(FailureKind.INVALID_REQUEST, message, param, body=body)


@given(st.sampled_from(FailureKind), st.text(), st.binary(), st.one_of(st.none(), st.text()))
def test_nothing_upsets_it(
    kind: FailureKind, message: str, body: bytes, header: str | None
) -> None:
    """Whatever was sent and answered, hints are printable lines."""
    observation = Observation(message=message)
    for hint in hints(kind, observation, SentRequest(authorization=header, body=body)):
        assert hint.isprintable()
