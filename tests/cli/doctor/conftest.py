"""Examinations of a gateway in a thread of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal

from comet_resilience.cli import main
from comet_resilience.testing import Gateway

KEY = "comet-CANARY-3f9a27c1d84e4b6fa0b5"
OTHER_KEY = "comet-CANARY-77aa00bb11cc22dd33ee"
MODELS = ("gpt-5-mini", "gpt-5-nano")


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Gateway]:
    """A gateway in a thread of its own, and an environment that points at it."""
    for name in ("OPENAI_API_KEY", "COMETAPI_API_KEY", "COMET_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("COMETAPI_DEFAULT_MODEL", raising=False)
    monkeypatch.chdir(tmp_path)
    with start_blocking_portal() as portal:
        server = Gateway(keys=[KEY], models=MODELS)
        with portal.wrap_async_context_manager(server):
            monkeypatch.setenv("COMETAPI_KEY", KEY)
            monkeypatch.setenv("COMETAPI_BASE_URL", server.base_url)
            yield server


def examined(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    """Run with ``--json``; the exit status and the document."""
    status = main(["doctor", "--json", *arguments])
    shown = capsys.readouterr().out
    assert "CANARY" not in shown
    document: dict[str, Any] = json.loads(shown)
    assert document["status"] == status
    return status, document


def outcomes(document: dict[str, Any]) -> list[str]:
    """Return how the steps ended, in order."""
    return [step["outcome"] for step in document["steps"]]


def step_of(document: dict[str, Any], name: str) -> dict[str, Any]:
    """One step of a document."""
    found: dict[str, Any] = next(step for step in document["steps"] if step["step"] == name)
    return found
