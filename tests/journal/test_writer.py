"""The file of a journal: lines are soon there and whole, and nobody has to wait for a disk."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from pathlib import Path

import pytest

from comet_resilience.journal.record import JournalRecord
from comet_resilience.journal.writer import Writer

from .test_record import finished


def writer(path: Path, **changes: int) -> Writer:
    """A writer of its own, not shared with the process."""
    made = Writer(str(path))
    for name, value in {"files_kept": 3, **changes}.items():
        setattr(made, name, value)
    return made


def lines(path: Path) -> list[JournalRecord]:
    """The lines of a file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_written_soon(tmp_path: Path) -> None:
    """Without a flush a line is on disk within half a second."""
    path = tmp_path / "calls.jsonl"
    writer(path).observe(finished())
    until = time.monotonic() + 100
    while not path.exists() or not path.read_bytes():
        assert time.monotonic() < until
        time.sleep(0.01)
    assert len(lines(path)) == 1


def test_rotation(tmp_path: Path) -> None:
    """Files move on, none is larger than it may be, no line is torn, the oldest go."""
    path = tmp_path / "calls.jsonl"
    small = writer(path, rotate_bytes=2_000)
    for number in range(40):
        small.observe(finished(attempt=number))
        small.flush()
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == ["calls.jsonl", "calls.jsonl.1", "calls.jsonl.2"]
    assert all(file.stat().st_size <= 2_000 for file in tmp_path.iterdir())
    kept = [line["attempt"] for name in reversed(names) for line in lines(tmp_path / name)]
    assert kept == list(range(40 - len(kept), 40))


def test_drops_are_counted_and_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A disk that hangs costs lines, not time."""
    hanging, path = threading.Event(), tmp_path / "calls.jsonl"
    slow = writer(path, queue_lines=10)
    writing, append = threading.Event(), slow._append

    def hang(data: bytes) -> None:
        writing.set()
        hanging.wait(50)
        append(data)

    monkeypatch.setattr(slow, "_append", hang)
    slow.observe(finished())
    assert writing.wait(50)
    for _ in range(500):  # would wait for the disk if it could
        slow.observe(finished())
    assert not hanging.is_set()
    assert slow.dropped == 490
    hanging.set()
    slow.flush()
    assert len(lines(path)) == 11
    assert sum("490 lines dropped" in each.getMessage() for each in caplog.records) == 1


def test_a_failing_disk_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No directory, no journal; when it appears the journal goes on."""
    path = tmp_path / "none" / "calls.jsonl"
    failing = writer(path)
    for _ in range(3):
        failing.observe(finished())
        failing.flush()
    errors = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert [each.getMessage() for each in errors] == [
        f"the journal {path} cannot be written (FileNotFoundError); requests go on without it"
    ]
    path.parent.mkdir()
    failing.observe(finished())
    failing.flush()
    assert len(lines(path)) == 1


def test_a_full_disk_spoils_no_later_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that was half written ends before the next one begins."""
    path = tmp_path / "calls.jsonl"
    full, write = writer(path), os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:20]))
    full.observe(finished())
    full.flush()
    monkeypatch.undo()
    full.observe(finished(attempt=2))
    full.flush()
    torn, whole = path.read_bytes().splitlines()
    assert len(torn) == 20
    assert json.loads(whole)["attempt"] == 2


def write_a_thousand(path: Path, first: int) -> None:
    """Write lines in several batches, then leave without any of pytest's ends."""
    mine = writer(path, rotate_bytes=20_000, files_kept=500, queue_lines=5_000)
    for number in range(1_000):
        mine.observe(finished(attempt=first + number))
        if number % 50 == 0:
            mine.flush()
    mine.flush()
    os._exit(0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_several_processes_rotate_one_file(tmp_path: Path) -> None:
    """No line is lost or torn, whoever moves the file on."""
    path, children = tmp_path / "calls.jsonl", []
    for first in (0, 1_000, 2_000):
        child = os.fork()
        if not child:
            write_a_thousand(path, first)
        children.append(child)
    assert all(os.waitpid(child, 0)[1] == 0 for child in children)
    files = list(tmp_path.iterdir())
    attempts = sorted(line["attempt"] for file in files for line in lines(file))
    assert len(files) > 10
    assert attempts == list(range(3_000))


def test_a_journal_whose_thread_cannot_start_keeps_its_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It says so once, tries again with each line, and what waits is written at the flush."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    path = tmp_path / "journal.jsonl"
    monkeypatch.setattr(threading.Thread, "start", refuse)
    waiting = writer(path)
    for _ in range(3):
        waiting.observe(finished())
    waiting.flush()
    assert len(path.read_text().splitlines()) == 3
    assert len([record for record in caplog.records if "cannot start" in record.message]) == 1
