"""An examination, as it is planned before anything is sent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from comet_resilience.testing import Gateway
from tests.cli.doctor.conftest import examined, step_of


def test_without_run_nothing_is_sent_that_costs(
    gateway: Gateway, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Only the models list is asked for; the other steps say what they would send."""
    file = tmp_path / "body.json"
    file.write_text(json.dumps({"model": "gpt-5-mini", "messages": [], "top_k": 5}))
    status, document = examined(capsys, "--request", str(file), "--alternate-model", "gpt-5-nano")
    assert status == 0
    assert [(request.method, request.path) for request in gateway.requests] == [
        ("GET", "/v1/models")
    ]
    assert "--run" in step_of(document, "minimal")["action"]
    assert '"content": "Hello"' in step_of(document, "minimal")["reason"]
    assert "without top_k in turn" in step_of(document, "fields")["reason"]
    assert "gpt-5-nano" in step_of(document, "other_model")["reason"]
