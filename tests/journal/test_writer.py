"""The journal: what a line says and does not say, and a disk that nobody has to wait for."""

from __future__ import annotations

import json
import logging
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from comet_resilience import AttemptFinished, FailureKind, RequestInfo, wrap
from comet_resilience.journal import writer as journal
from comet_resilience.journal.writer import VERSION, JournalRecord, Writer, line_of, record_of

from ..conftest import (
    COMPLETION,
    KEY,
    LIMITED,
    MESSAGES,
    OK,
    Answer,
    Scripted,
    ask,
    bare_client,
    httpx,
    scripted,
)

QUICK: Any = {"backoff_initial": 0.0, "partition": lambda info: object()}
INFO = RequestInfo(route="POST /chat/completions", model="m")
PROMPT = "CANARY-prompt-7781"
EVENTS = [
    f'data: {{"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":'
    f'[{{"index":0,"delta":{{"content":"Hi"}},"finish_reason":{reason}}}]}}\n\n'.encode()
    for reason in ("null", '"stop"')
] + [b"data: [DONE]\n\n"]
STREAM = (200, EVENTS, {"content-type": "text/event-stream"})


def finished(**changes: Any) -> AttemptFinished:
    """An attempt that was refused, but for the changes."""
    made: dict[str, Any] = {
        "request": INFO, "attempt": 1, "status": 429, "kind": FailureKind.RATE_LIMITED, "code": "",
        "fault": "", "reason": "slow down", "request_id": "id-1", "queued": 0.5, "elapsed": 0.25,
        "in_flight": 5, "limit": 8, "request_bytes": 70, "response_bytes": 90, "canary": False,
    }  # fmt: skip
    return AttemptFinished(**(made | changes))


def writer(path: Path, **changes: int) -> Writer:
    """A writer of its own, not shared with the process."""
    bounds = {"rotate_bytes": 1_000_000, "files_kept": 3, "queue_lines": 1_000} | changes
    return Writer(str(path), **bounds)


def lines(path: Path) -> list[JournalRecord]:
    """The lines of a file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(journal, "GATHER", 0.02)
    yield
    journal.flush()


def test_a_line() -> None:
    """The documented shape, and one JSON object with an end of line."""
    record = record_of(finished(), 1_700_000_000.25)
    assert set(record) == set(JournalRecord.__annotations__)
    assert record == {
        "version": VERSION, "time": "2023-11-14T22:13:20.250+00:00",
        "route": "POST /chat/completions", "model": "m", "attempt": 1, "status": 429, "code": "",
        "fault": "", "kind": "rate_limited", "request_id": "id-1", "queued": 0.5, "latency": 0.25,
        "in_flight": 5, "limit": 8, "request_bytes": 70, "response_bytes": 90, "canary": False,
    }  # fmt: skip
    line = line_of(finished(), 1.0)
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1


@pytest.mark.parametrize(
    "foreign", [f"your key {KEY}", KEY, "sk-abc", "a b", "9f" * 24, "\n", "x" * 200]
)
def test_foreign_text_is_left_out(foreign: str) -> None:
    """A code that is no plain code may be anything, even a key."""
    assert record_of(finished(code=foreign), 1.0)["code"] == "?"
    assert record_of(finished(code="rate_limit_exceeded"), 1.0)["code"] == "rate_limit_exceeded"


@pytest.mark.anyio
async def test_success_retry_and_fault() -> None:
    """Each attempt is a line: numbered, judged, with sizes, limit and what was in flight."""
    heard: list[JournalRecord] = []
    client, _ = scripted(LIMITED, httpx.ConnectError("no"), OK, journal=heard.append, **QUICK)
    await ask(client)
    assert [(line["attempt"], line["status"], line["fault"], line["kind"]) for line in heard] == [
        (1, 429, "", "rate_limited"), (2, None, "connect", "connection"), (3, 200, "", None)
    ]  # fmt: skip
    assert heard[0]["response_bytes"] == len(json.dumps(LIMITED[1]))  # type: ignore[index]
    assert heard[1]["response_bytes"] is None
    assert heard[2]["response_bytes"] == len(json.dumps(COMPLETION))
    assert all(line["in_flight"] == 1 and line["limit"] >= 1 for line in heard)
    assert all((line["request_bytes"] or 0) > 30 for line in heard)
    assert all(line["route"] == "POST /chat/completions" and line["model"] == "m" for line in heard)


@pytest.mark.anyio
async def test_an_outage_is_read_from_its_canaries(
    anyio_backend: tuple[str, dict[str, Any]],
) -> None:
    """The attempts that a closed gate let through are marked, and no other."""
    if anyio_backend[0] == "asyncio":
        pytest.skip("waits in virtual time")
    heard: list[JournalRecord] = []
    broken: Answer = (502, b"Bad Gateway", {})
    client, _ = scripted(*([broken] * 12), OK, journal=heard.append, initial_concurrency=8)
    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(ask, client)
    marks = [line["canary"] for line in heard]
    first, back = marks.index(True), [line["status"] for line in heard].index(200)
    assert 0 < first < back
    assert not any(marks[:first])
    assert all(marks[first : back + 1])
    assert not any(marks[back + 1 :])
    assert len(heard) == 12 + 8


@pytest.mark.anyio
async def test_a_stream_is_a_line_when_it_begins() -> None:
    """Its size is not known then."""
    heard: list[JournalRecord] = []
    client, _ = scripted(STREAM, journal=heard.append)
    async with client.chat.completions.with_streaming_response.create(
        model="m", messages=MESSAGES, stream=True
    ) as response:
        assert [(line["status"], line["response_bytes"]) for line in heard] == [(200, None)]
        assert (await response.read()).endswith(EVENTS[-1])
    assert len(heard) == 1


@pytest.mark.anyio
async def test_two_clients_share_a_file(tmp_path: Path) -> None:
    """Two spellings of one path are one writer; the file is its owner's alone."""
    path = tmp_path / "calls.jsonl"
    for spelling in (str(path), tmp_path / "x" / ".." / "calls.jsonl"):
        client = wrap(bare_client(Scripted([LIMITED, OK])), journal=spelling)
        await ask(client)
    journal.flush()
    assert [line["status"] for line in lines(path)] == [429, 200] * 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.anyio
async def test_no_secret_is_in_it(tmp_path: Path) -> None:
    """Neither key nor prompt nor answer nor query, even where the server repeats them."""
    path = tmp_path / "calls.jsonl"
    echo = {"error": {"message": f"{KEY} {PROMPT}", "code": f"{KEY} {PROMPT}", "type": KEY}}
    inner = Scripted([(500, echo, {"x-request-id": KEY}), (429, echo, {}), OK])
    client = wrap(bare_client(inner, default_query={"key": KEY}), journal=path, **QUICK)
    messages: Any = [{"role": "user", "content": PROMPT}]
    await client.chat.completions.create(model="m", messages=messages)
    journal.flush()
    assert len(lines(path)) == 3
    for secret in (KEY, PROMPT, "Hi", "CANARY"):
        assert secret not in path.read_text(encoding="utf-8")


@pytest.mark.anyio
async def test_a_failing_function_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    """The request does not feel it."""

    def broken(_record: JournalRecord) -> None:
        raise RuntimeError("no")

    client, _ = scripted(LIMITED, OK, journal=broken)
    assert await ask(client) == "Hi"
    assert sum("journal's function failed" in each.getMessage() for each in caplog.records) == 1


@pytest.mark.anyio
async def test_without_a_journal_nothing_is_made() -> None:
    """Nobody listens, no event is made, no thread is started."""
    client, _ = scripted(OK)
    before = threading.active_count()
    await ask(client)
    transport: Any = client._client._transport
    assert not transport._engine.observers.wanted()
    assert threading.active_count() == before


def test_written_soon(tmp_path: Path) -> None:
    """Without a flush a line is on disk within half a second."""
    path = tmp_path / "calls.jsonl"
    writer(path).observe(finished())
    until = time.monotonic() + 5
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
    append = slow._append
    monkeypatch.setattr(slow, "_append", lambda data: (hanging.wait(50), append(data)))
    slow.observe(finished())
    time.sleep(0.1)  # now the thread hangs in its first write
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
    """What was written by half ends before the next line begins."""
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


CHILD = """
import os, sys
from comet_resilience import AttemptFinished, RequestInfo
from comet_resilience.journal.writer import observer_for
observe = observer_for(sys.argv[1])
def note(attempt):
    observe(AttemptFinished(
        request=RequestInfo(route="r"), attempt=attempt, status=200, kind=None, code="", fault="",
        reason="", request_id="", queued=0.0, elapsed=0.0, in_flight=1, limit=8,
        request_bytes=None, response_bytes=None))
for attempt in range(200):
    note(attempt)
if hasattr(os, "fork"):
    child = os.fork()
    for attempt in range(1000, 1200):
        note(attempt + (0 if child else 1000))
    if child:
        os.waitpid(child, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_written_at_exit_and_by_a_forked_child(tmp_path: Path) -> None:
    """What waits at the end is written, once: a child writes its own lines and no others."""
    path = tmp_path / "calls.jsonl"
    subprocess.run(  # noqa: S603 - this very interpreter
        [sys.executable, "-W", "ignore", "-c", CHILD, str(path)], check=True, timeout=30
    )
    attempts = sorted(line["attempt"] for line in lines(path))
    assert attempts == [*range(200), *range(1000, 1200), *range(2000, 2200)]


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


@pytest.mark.parametrize("value", ["", 3, b"calls", ["a"]])
def test_what_is_no_journal(value: Any) -> None:
    """A wrong value is named at the wrap."""
    with pytest.raises(ValueError, match="journal="):
        scripted(OK, journal=value)


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
