"""Runs that are killed, as processes: nothing is lost, and nothing finished is asked for again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.programs import ROOT, environment_of

ITEMS = set(range(200))

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there"),
]


def victim(folder: Path, backend: str, mode: str) -> subprocess.Popen[str]:
    """The program, running."""
    return subprocess.Popen(  # noqa: S603 - our own file
        [sys.executable, "-m", "tests.bulk.victim", backend, str(folder), mode],
        env=environment_of(),
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )


def lines(path: Path) -> list[int]:
    """The whole lines of a file, as numbers."""
    text = path.read_text() if path.exists() else ""
    return [int(line) for line in text.split("\n")[:-1]]


def stop(process: subprocess.Popen[str], folder: Path, how: signal.Signals) -> tuple[int, str]:
    """Let it handle forty results, then send it a signal."""
    while len(lines(folder / "handled")) < 40 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(how)
    _, error = process.communicate()
    return process.returncode, error


def finish(folder: Path, backend: str, mode: str) -> None:
    """Run it to its end."""
    process = victim(folder, backend, mode)
    _, error = process.communicate()
    assert process.returncode == 0, error


def told(path: Path) -> tuple[set[int], set[int]]:
    """Return what the file of finished calls says: answered and done."""
    events: list[Any] = [json.loads(line) for line in path.read_bytes().split(b"\n")[1:-1]]
    answered = {event["answered"] for event in events if "answered" in event}
    return answered, {event["done"] for event in events if "done" in event}


def test_a_killed_run_goes_on_and_loses_nothing(tmp_path: Path) -> None:
    """With keys alone: what the loop handled is never asked for again, all else is handled."""
    code, _ = stop(victim(tmp_path, "asyncio", "keys"), tmp_path, signal.SIGKILL)
    assert code == -signal.SIGKILL
    handled, sent = lines(tmp_path / "handled"), lines(tmp_path / "sent")
    answered, done = told(tmp_path / "finished.jsonl")
    assert answered == set()
    assert set(handled) - done in [set(), {handled[-1]}]
    assert len(handled) < len(ITEMS)
    finish(tmp_path, "asyncio", "keys")
    assert sorted(lines(tmp_path / "sent")[len(sent) :]) == sorted(ITEMS - done)
    counts = Counter(lines(tmp_path / "handled"))
    assert set(counts) == ITEMS
    assert [item for item, count in counts.items() if count > 1] in [[], [handled[-1]]]


def test_stored_results_make_no_answered_call_again(tmp_path: Path) -> None:
    """Only what was in flight is sent again; what was answered is handed over from the file."""
    stop(victim(tmp_path, "trio", "results"), tmp_path, signal.SIGKILL)
    sent, handled = lines(tmp_path / "sent"), lines(tmp_path / "handled")
    answered, done = told(tmp_path / "finished.jsonl")
    assert done <= answered
    assert set(handled) <= answered
    finish(tmp_path, "trio", "results")
    later = lines(tmp_path / "sent")[len(sent) :]
    assert sorted(later) == sorted(ITEMS - answered)
    assert len(set(later) & set(sent)) <= 8
    assert set(lines(tmp_path / "handled")[len(handled) :]) == ITEMS - done


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_ctrl_c_cleans_up_and_goes_on_later(tmp_path: Path, backend: str) -> None:
    """The exception is ``KeyboardInterrupt`` itself, no task is left, and a later run finishes."""
    code, error = stop(victim(tmp_path, backend, "keys"), tmp_path, signal.SIGINT)
    assert code in (-signal.SIGINT, 1, 130)
    assert "KeyboardInterrupt" in error
    assert "never retrieved" not in error
    if backend == "asyncio":  # trio may be interrupted between making a call's task and starting it
        assert error.rstrip().endswith("KeyboardInterrupt")
        assert "never awaited" not in error
    assert "Group" not in error
    assert lines(tmp_path / "ended") == [0]
    finish(tmp_path, backend, "keys")
    assert set(lines(tmp_path / "handled")) == ITEMS
