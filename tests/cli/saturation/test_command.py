"""``saturation``, as a person uses it: journals in, an answer out."""

from __future__ import annotations

import gzip
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from comet_resilience.cli import main
from comet_resilience.journal.saturation import analyse
from comet_resilience.testing import ConcurrencyCap

from ...journal.test_saturation import REFUSED, line
from .conftest import lines_at


def test_the_answer(journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The model with the smaller cap, named first, with the concurrency that holds up."""
    assert main(["saturation", str(journal)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith('POST /chat/completions for "large" saturates first')
    rows = [row.split() for row in shown.splitlines() if re.match(r" \d ", row)]
    assert [row[1] for row in rows] == ["large", "small"]
    assert [row[-1] for row in rows] == ["3", "12"]
    assert all(len(row) <= 80 for row in shown.splitlines())


def test_as_json(journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``--json`` prints everything as data."""
    assert main(["saturation", "--json", str(journal)]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [series["model"] for series in shown["series"]] == ["large", "small"]
    assert shown["series"][0]["level"]["holds"] == 3
    assert shown["attempts"] == sum(series["attempts"] for series in shown["series"])
    assert "saturates first" in shown["answer"]


def test_several_files_of_any_sort(
    tmp_path: Path, journal: Path, lines: list[bytes], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Plain, compressed and piped; what is damaged or no line at all is named and skipped."""
    packed, cut = tmp_path / "calls.jsonl.1", tmp_path / "cut.gz"
    packed.write_bytes(gzip.compress(b"".join(lines)))
    cut.write_bytes(packed.read_bytes()[:-500])
    long = b"x" * 300_000 + b"\n" + lines[0] + b"no line\n" + lines[0].rstrip()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(long)))
    arguments = [str(journal), str(packed), "-", str(cut)]
    assert main(["saturation", "--json", *arguments]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["attempts"] > 2 * len(lines) + 2
    assert 2 <= json.loads(out)["malformed"] <= 3
    assert "cut.gz is damaged" in err


@pytest.mark.parametrize(
    ("text", "words", "status"),
    [
        (b"", "These journals contain no attempts", 1),
        (b"no\n", "1 malformed line skipped", 1),
        (line(), "Nothing saturated: none of 1 attempts", 0),
        (line(**REFUSED), "at no particular concurrency", 0),
    ],
)
def test_little_to_say(
    text: bytes, words: str, status: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty journal and one without refusals have an answer and a page too."""
    path, page = tmp_path / "calls.jsonl", tmp_path / "page.html"
    path.write_bytes(text)
    assert main(["saturation", str(path), "--html", str(page)]) == status
    assert words in " ".join(capsys.readouterr().out.split())
    assert page.read_text(encoding="utf-8").endswith("</html>\n")


def test_a_file_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    """It is named on standard error, with status 2."""
    assert main(["saturation", "/none/calls.jsonl"]) == 2
    assert "/none/calls.jsonl" in capsys.readouterr().err


def test_as_a_module(journal: Path) -> None:
    """``python -m comet_resilience saturation`` is the same program."""
    ran = subprocess.run(  # noqa: S603 - this very program
        [sys.executable, "-m", "comet_resilience", "saturation", str(journal)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "saturates first" in ran.stdout


@pytest.mark.parametrize("apart", [0.1, 0.3])
def test_a_ceiling_over_all_models_is_the_accounts(apart: float) -> None:
    """At a gateway that takes ten at once of one key, whichever model they ask for."""
    [ceiling] = analyse(lines_at(ConcurrencyCap(10), apart)).accounts
    assert (ceiling.account, ceiling.models, ceiling.level.holds) == ("account", 2, 10)


def test_ceilings_of_two_models_are_not_the_accounts() -> None:
    """Although both are refused in common."""
    found = analyse(lines_at({"large": ConcurrencyCap(5), "small": ConcurrencyCap(5)}, 0.1))
    assert all(series.refused for series in found.series)
    assert found.accounts == ()
