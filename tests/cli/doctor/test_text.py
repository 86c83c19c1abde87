"""The words of an examination: narrow, plain, and without a key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from comet_resilience.cli import main
from comet_resilience.testing import Gateway, error_reply
from tests.cli.doctor.conftest import KEY, OTHER_KEY, examined, step_of


def test_a_failing_demo_reads_well(capsys: pytest.CaptureFixture[str]) -> None:
    """The culprit, the action and the report stand in plain text; the findings fit 80 columns."""
    assert main(["doctor", "--demo", "refused_field"]) == 1
    findings, _, report = capsys.readouterr().out.partition("Report of the last failure")
    assert "it works without top_k" in findings
    assert "Leave top_k out" in findings
    assert max(map(len, findings.splitlines())) <= 80
    assert "fails in the same way" in report
    assert "POST" in report
    assert report.rstrip().endswith("Exit status 1")


def test_keys_are_never_shown(
    gateway: Gateway,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Not even when the gateway's message repeats them, as text and as JSON."""
    monkeypatch.setenv("SPARE", OTHER_KEY)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-CANARY-third")
    (tmp_path / ".env").write_text("COMETAPI_KEY='comet-CANARY-fourth'\n")
    gateway.always(error_reply(401, f"invalid token {KEY} or {OTHER_KEY} or sk-CANARY-third"))
    arguments = ["--run", "--model", "gpt-5-mini", "--alternate-key-env", "SPARE"]
    status, document = examined(capsys, *arguments)
    assert status == 77
    assert "[secret]" in step_of(document, "models")["reason"]
    notes = json.dumps(step_of(document, "key"))
    assert "OPENAI_API_KEY is set too and differs" in notes
    assert "the .env file in this directory sets COMETAPI_KEY to a different value" in notes
    assert main(["doctor", *arguments]) == 77
    shown = capsys.readouterr()
    assert "CANARY" not in shown.out + shown.err
    assert "[secret]" in shown.out
