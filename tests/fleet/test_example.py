"""The example of a fleet runs as a user would run it, and keeps its word."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.programs import run_example


def counts(output: str, process: str) -> list[float]:
    """The numbers in a row of the table."""
    row = re.search(rf"^ +{process} +(\d[\d. ]+)$", output, re.MULTILINE)
    assert row is not None, output
    return [float(number) for number in row[1].split()]


@pytest.mark.timeout(120)
def test_a_killed_process_and_a_frozen_redis_fail_no_request(tmp_path: Path) -> None:
    """Every request of those that live is answered, and the gateway is never overrun."""
    done = run_example("fleet.py", "--seconds", "6", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    totals = [0.0] * 4
    for process in ("1", "2", "3", "4, killed"):
        answered, failed, sent, refused, _ = counts(done.stdout, process)
        assert failed == 0
        totals = [a + b for a, b in zip(totals, (answered, failed, sent, refused), strict=True)]
    assert counts(done.stdout, "all")[:4] == totals
    assert totals[0] > 20
    peak = re.search(r"At most (\d+) requests were in flight", done.stdout)
    assert peak is not None
    assert 4 <= int(peak[1]) <= 20
    assert "One process was killed after 1.9 s" in done.stdout
    while_frozen = re.search(r"Redis hung for 1.2 s: ([\d.]+) requests", done.stdout)
    assert while_frozen is not None
    assert float(while_frozen[1]) > 0
    assert max(map(len, done.stdout.splitlines())) <= 80
    picture = (tmp_path / "fleet.png").read_bytes()
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert 20_000 < len(picture) < 150_000


def test_a_wrong_option_is_explained(tmp_path: Path) -> None:
    done = run_example("fleet.py", "--seconds", "1", folder=tmp_path)
    assert done.returncode == 2
    assert "--seconds must be between 5 and 600" in done.stderr
    assert list(tmp_path.iterdir()) == []
