"""``explain``, as a person uses it."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from comet_resilience.cli import main
from comet_resilience.verdict.table import failures_table

REQUEST_ID = "20261102031415926535897Qx7LmZ2p"
BODY = json.dumps(
    {"error": {"code": "model_not_found", "message": f"no (request id: {REQUEST_ID})"}}
)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--status", "503", "--body", BODY],
         ["model_unavailable", "model-not-found", "not retried"]),
        (["--status", "429"], ["rate_limited", "cuts the limit", "1. "]),
        (["Error code: 500 - {'error': {'code': 'invalid_request', 'message': None}}"],
         ["invalid_request", "500 Internal Server Error"]),
        (["2026-11-02 ERROR x: Error code: 524"], ["timeout", "503, 504, and 524"]),
        (["--fault", "read_timeout", "--operation", "media"], ["billing", "timeout"]),
        (["--status", "403", "--header", "CF-Mitigated: challenge"], ["edge_blocked"]),
    ],
)  # fmt: skip
def test_what_it_says(
    arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Kind, consequence, rule and steps, from whatever one has at hand."""
    assert main(["explain", *arguments]) == 0
    shown = capsys.readouterr().out
    for word in words:
        assert word in shown
    assert all(len(line) <= 110 for line in shown.splitlines())


def test_from_a_file_and_from_standard_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body may come from a file or be piped in."""
    file = tmp_path / "answer.json"
    file.write_text(BODY)
    assert main(["explain", "--status", "503", "--file", str(file)]) == 0
    from_file = capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(BODY.encode())))
    assert main(["explain", "--status", "503", "--body", "-"]) == 0
    assert capsys.readouterr().out == from_file
    assert REQUEST_ID in from_file


def test_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """``--json`` prints the diagnosis as data."""
    main(["explain", "--status", "503", "--json"])
    shown: Any = json.loads(capsys.readouterr().out)
    assert (shown["kind"], shown["rule"], shown["retryable"]) == ("unavailable", "status-503", True)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["just words"],
        ["--status", "400", "--header", "x"],
        ["--status", "1", "--file", "/none"],
    ],
)
def test_what_it_cannot_use(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Missing or malformed arguments are named on standard error, with status 2."""
    assert main(["explain", *arguments]) == 2
    assert "comet-resilience:" in capsys.readouterr().err


def test_a_body_that_is_known_to_be_empty(capsys: pytest.CaptureFixture[str]) -> None:
    """Only a body that was given as empty is one."""
    main(["explain", "--status", "429", "--body", ""])
    assert "empty-429" in capsys.readouterr().out


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    """``--rules`` prints every row in its order."""
    assert main(["explain", "--rules"]) == 0
    assert capsys.readouterr().out.strip() == failures_table()


def test_as_a_module() -> None:
    """``python -m comet_resilience`` is the same program."""
    ran = subprocess.run(
        [sys.executable, "-m", "comet_resilience", "explain", "--status", "401"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "authentication" in ran.stdout
