"""Saturation in words: what is said, and that it fits 80 columns."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from comet_resilience.cli import main
from comet_resilience.cli.saturation.words import (
    as_text,
    details,
    duration,
    footing,
    headline,
    holds,
    rate_of,
    since,
)
from comet_resilience.journal.explanation import Rate
from comet_resilience.journal.saturation import analyse

from ...journal.senders import sent_to
from ...journal.test_saturation import REFUSED, line, lines_of
from ...servers import window


def rate(requests: int, per: float) -> Rate:
    """Return a rate of so many requests in so many seconds."""
    return Rate(requests=requests, per=per, burst=None)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.5, "0.5 s"), (119.0, "119 s"), (120.0, "2.0 min"), (7_199.0, "120.0 min"), (7_200, "2.0 h"),
     (9_000_000, "2,500.0 h")],
)  # fmt: skip
def test_a_duration_has_the_unit_that_suits_it(seconds: float, words: str) -> None:
    """Seconds to two minutes, minutes to two hours."""
    assert duration(seconds) == words
    assert since(seconds) == f"+{words}"


@pytest.mark.parametrize(
    ("per", "words"), [(60.0, "a minute"), (1.0, "a second"), (10.0, "in 10 s")]
)
def test_a_rate_is_said_by_its_usual_name(per: float, words: str) -> None:
    """Where there is one."""
    assert rate_of(rate(1_200, per)) == f"1,200 requests {words}"


def test_the_next_to_saturate_is_named_behind_the_first() -> None:
    """With how many more there are, and what of it was refused."""
    lines = [line(number, model=f"m{number}", **REFUSED) for number in range(3)]
    found = analyse([*lines, line(9.0, model="calm")])
    assert headline(found).startswith('POST /chat/completions for "m0" saturates first')
    assert "1 of its 1 attempts (100.0%) were refused" in details(found)
    assert 'Next is POST /chat/completions for "m1", +1 s (and 1 more).' in details(found)
    assert [holds(series) for series in found.series] == ["-"] * 4
    assert footing(found).endswith("4 attempts, 3 refused.")


def test_long_names_are_cut_in_the_middle() -> None:
    """Where names of models differ least; the table stays within 80 columns."""
    name = "provider/" + "x" * 60 + "-mini"
    shown = as_text(analyse([line(model=name)]), "")
    assert "provider~xx-mini" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_a_rate_is_named_and_told_how_to_tell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the answer and in the table, with what goes into ``wrap``; no number in flight holds."""
    path = tmp_path / "calls.jsonl"
    told = {"prompt_tokens": 700, "completion_tokens": 300}
    attempts = sent_to(window(10, 10.0, 10 / 3), 1, pause=0.5)
    path.write_bytes(b"".join(lines_of(attempts, model="m", **told)))
    assert main(["saturation", str(path)]) == 0
    shown = capsys.readouterr().out
    words = " ".join(shown.split())
    assert (
        "which a rate explains and a number in flight does not: about 10 requests in 10 s" in words
    )
    assert re.search(r"It answered \d\d requests and \d\d,\d{3} tokens a minute\.", words)
    assert "wrap(client, budget=Budget(requests=10, per=10))" in words
    (row,) = [row.split() for row in shown.splitlines() if re.match(r" \d ", row)]
    assert row[-1] == "10/10s"
    assert all(len(row) <= 80 for row in shown.splitlines())
