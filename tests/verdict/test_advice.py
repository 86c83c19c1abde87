"""Every kind of failure has steps to take and a place in the guide."""

from __future__ import annotations

import pytest

from comet_resilience.verdict.advice import ADVICE, CORRECT_BASE_URL, SECTIONS
from comet_resilience.verdict.vocabulary import FailureKind

#: The headings of the gateway's error-handling guide.
HEADINGS = {
    "Quick triage",
    "400 Bad Request",
    "500 Internal Server Error",
    "401 Invalid Token",
    "403 Forbidden",
    "Wrong base URL or wrong path",
    "413 Request Entity Too Large",
    "429 Too Many Requests",
    "503, 504, and 524",
}


@pytest.mark.parametrize("kind", FailureKind)
def test_kind_has_steps_and_a_heading(kind: FailureKind) -> None:
    """Steps are whole sentences, and the heading is one of the guide's."""
    assert SECTIONS[kind] in HEADINGS
    assert ADVICE[kind]
    assert all(step[0].isupper() and len(step) < 120 for step in ADVICE[kind])


def test_path_advice_names_the_base_url_exactly() -> None:
    """The first step is the base URL to use."""
    assert CORRECT_BASE_URL == "https://api.cometapi.com/v1"
    assert CORRECT_BASE_URL in ADVICE[FailureKind.WRONG_PATH][0]


def test_forbidden_advice_keeps_the_order_of_the_guide() -> None:
    """A simple request first, then fewer fields, then support; routing words are no cause."""
    simple, fewer, support, routing = ADVICE[FailureKind.PERMISSION]
    assert "simple text request" in simple
    assert "Remove advanced" in fewer
    assert "request id" in support
    assert "group or channel" in routing


@pytest.mark.parametrize("kind", [FailureKind.UNAVAILABLE, FailureKind.TIMEOUT])
def test_advice_for_server_failures_keeps_what_support_asks_for(kind: FailureKind) -> None:
    """Request id, endpoint, model and timestamp are to be kept."""
    assert "Keep the request id, endpoint, model and timestamp." in ADVICE[kind]
