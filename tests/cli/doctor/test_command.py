"""The arguments of ``doctor``, and its help."""

from __future__ import annotations

from pathlib import Path

import pytest

from comet_resilience.cli import main


@pytest.mark.usefixtures("gateway")
@pytest.mark.parametrize(
    "arguments",
    [
        ["--demo", "unheard-of"],
        ["--request", "nowhere.json"],
        ["--alternate-key-env", "NOT_SET"],
        ["--timeout", "0"],
        ["--retries", "-1"],
    ],
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Arguments that make no sense are named on standard error, with status 2."""
    assert main(["doctor", *arguments]) == 2
    assert "comet-resilience:" in capsys.readouterr().err


@pytest.mark.usefixtures("gateway")
@pytest.mark.parametrize("text", ["{not json", "[1]"])
def test_a_request_that_is_none(
    text: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A file that holds no JSON object is wrong usage."""
    (tmp_path / "body.json").write_text(text)
    assert main(["doctor", "--request", "body.json"]) == 2
    assert "--request" in capsys.readouterr().err


def test_the_help_fits(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A newcomer reads it in 80 columns, and learns of ``--demo`` and of the exit status."""
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main(["doctor", "--help"])
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert "First time? Try --demo" in shown
    assert "exit status:" in shown
