"""The journal of a client: a line for each attempt, in a file or told to a function."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest

from comet_resilience import snapshot, wrap
from comet_resilience.journal.observer import flush
from comet_resilience.journal.record import JournalRecord

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
    engine_of,
    httpx,
    scripted,
)
from .test_writer import lines

QUICK: Any = {"backoff_initial": 0.0, "partition": lambda info: object()}
PROMPT = "CANARY-prompt-7781"
EVENTS = [
    f'data: {{"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":'
    f'[{{"index":0,"delta":{{"content":"Hi"}},"finish_reason":{reason}}}]}}\n\n'.encode()
    for reason in ("null", '"stop"')
] + [b"data: [DONE]\n\n"]
STREAM = (200, EVENTS, {"content-type": "text/event-stream"})


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
async def test_the_account_is_counted_over_its_models() -> None:
    """By a number in place of its key, and only where an account stands above."""
    heard: list[JournalRecord] = []
    client, _ = scripted(STREAM, OK, OK, journal=heard.append, initial_concurrency=5)
    async with client.chat.completions.with_streaming_response.create(
        model="m", messages=MESSAGES, stream=True
    ):
        await client.chat.completions.create(model="n", messages=MESSAGES)
        other = client.with_options(api_key="another")
        await other.chat.completions.create(model="m", messages=MESSAGES)
    above = [(line["account"], line["in_flight"], line["account_in_flight"]) for line in heard]
    assert above == [("account", 1, 1), ("account", 1, 2), ("account 2", 1, 1)]
    assert {line["account"] for line in heard} == {
        one.partition for one in snapshot(client).accounts
    }
    assert [heard[place]["account_limit"] for place in (0, 2)] == [5, 5]
    alone, _ = scripted(OK, journal=heard.append, **QUICK)
    await ask(alone)
    assert [heard[-1][name] for name in ("account", "account_in_flight", "account_limit")] == [
        None, None, None
    ]  # fmt: skip


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
    flush()
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
    flush()
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
    assert not engine_of(client).observers.wanted()
    assert threading.active_count() == before


CHILD = """
import os, sys
from comet_resilience import AttemptFinished, RequestInfo
from comet_resilience.journal.observer import observer_for
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
    """Waiting lines are written at exit, once: a child writes only its own."""
    path = tmp_path / "calls.jsonl"
    subprocess.run(  # noqa: S603 - this very interpreter
        [sys.executable, "-W", "ignore", "-c", CHILD, str(path)], check=True, timeout=100
    )
    attempts = sorted(line["attempt"] for line in lines(path))
    assert attempts == [*range(200), *range(1000, 1200), *range(2000, 2200)]


@pytest.mark.parametrize("value", ["", 3, b"calls", ["a"]])
def test_what_is_no_journal(value: Any) -> None:
    """A wrong value is named at the wrap."""
    with pytest.raises(ValueError, match="journal="):
        scripted(OK, journal=value)
