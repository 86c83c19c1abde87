"""The log: repetitions are counted, and no count is lost."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Callable

import openai
import pytest
import trio
import trio.testing

from comet_resilience import (
    FailureKind,
    GaveUp,
    RequestInfo,
    log,
)
from comet_resilience.observers import Observers

from .conftest import (
    BROKEN,
    ask,
    run_in_virtual_time,
    scripted,
)


def gave_up(model: str = "m", kind: FailureKind = FailureKind.UNAVAILABLE) -> GaveUp:
    """A request that was given up."""
    request = RequestInfo(route="POST /chat/completions", model=model)
    return GaveUp(request=request, attempts=7, kind=kind, status=503, reason="enough")


def test_what_repeats_itself_is_counted(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that fails for one reason is one line in ten seconds, with the number of others."""
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    caplog.set_level(logging.INFO, logger="comet_resilience")
    observers = Observers([])
    for _ in range(42):
        observers.emit(gave_up())
    observers.emit(gave_up("other"))
    observers.emit(gave_up(kind=FailureKind.TIMEOUT))
    assert len(caplog.records) == 3
    now = 110.0
    observers.emit(gave_up("third"))
    told, last = caplog.records[3:]
    assert told.getMessage().startswith("and 41 more in 10 s: POST /chat/completions model=m ")
    assert vars(told)["comet_repeats"] == 41
    assert vars(last)["comet_model"] == "third"
    observers.emit(gave_up())
    assert caplog.records[-1].getMessage().startswith("POST /chat/completions model=m unavailable")


def test_the_last_count_of_a_burst_is_written_although_nothing_follows(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A timer of the event loop writes it, once; what comes then is written again."""
    caplog.set_level(logging.INFO, logger="comet_resilience")
    timers: list[tuple[float, Callable[[], object]]] = []
    observers = Observers([], lambda seconds, function: timers.append((seconds, function)))
    observers.emit(gave_up("alone"))
    for _ in range(42):
        observers.emit(gave_up())
    assert len(caplog.records) == 2
    [(seconds, function)] = timers
    assert 0 < seconds <= 10
    function()
    function()
    assert len(caplog.records) == 3
    assert caplog.records[-1].getMessage().startswith("and 41 more in 10 s: POST ")
    assert caplog.records[-1].levelno == logging.WARNING
    observers.emit(gave_up())
    observers.emit(gave_up())
    assert len(caplog.records) == 4
    function()
    assert len(caplog.records) == 4
    observers.close()
    assert caplog.records[-1].getMessage().startswith("and 1 more in 0 s: POST ")
    observers.close()
    assert len(caplog.records) == 5


def test_a_log_that_fails_in_a_timer_harms_no_event_loop(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its failure is named like that of any observer."""
    timers: list[Callable[[], object]] = []
    observers = Observers([], lambda _seconds, function: timers.append(function))
    observers.emit(gave_up())
    observers.emit(gave_up())
    monkeypatch.setattr(log, "describe", lambda _: 1 // 0)
    timers[0]()
    assert "observer failed" in caplog.records[-1].getMessage()


def test_a_burst_on_an_event_loop(caplog: pytest.LogCaptureFixture) -> None:
    """A client that fails for a while and then is left alone."""
    caplog.set_level(logging.INFO, logger="comet_resilience")

    async def burst() -> None:
        client, _ = scripted(BROKEN, max_retries=0)
        for _ in range(5):
            with pytest.raises(openai.APIError):
                await ask(client)
        assert not any("more in" in record.getMessage() for record in caplog.records)
        await trio.sleep(10.1)

    run_in_virtual_time(burst)
    assert any("and 4 more in 10 s" in record.getMessage() for record in caplog.records)


@pytest.mark.anyio
async def test_a_burst_before_the_client_is_closed(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever closes the client reads the count at once."""
    client, _ = scripted(BROKEN, max_retries=0)
    for _ in range(3):
        with pytest.raises(openai.APIError):
            await ask(client)
    await client.close()
    assert sum("and 2 more in 0 s" in record.getMessage() for record in caplog.records) == 1


SHORT_PROGRAM = """
import logging, os
from comet_resilience import FailureKind, GaveUp, RequestInfo
from comet_resilience.observers import Observers
logging.basicConfig()
observers = Observers([])
for _ in range(3):
    observers.emit(GaveUp(request=RequestInfo(route="GET /x"), attempts=1,
                          kind=FailureKind.TIMEOUT, status=None, reason="enough"))
if hasattr(os, "fork"):
    child = os.fork()
    if child:
        os.waitpid(child, 0)
"""


def test_a_burst_before_the_program_ends() -> None:
    """The count is written at exit, once: a forked child leaves it to its parent."""
    ran = subprocess.run(  # noqa: S603 - this very interpreter
        [sys.executable, "-W", "ignore", "-c", SHORT_PROGRAM],
        capture_output=True, text=True, check=True, timeout=100,
    )  # fmt: skip
    written, counted = ran.stderr.splitlines()
    assert written.startswith("WARNING:comet_resilience:GET /x model=- timeout")
    assert counted.startswith("WARNING:comet_resilience:and 2 more in 0 s: GET /x model=- timeout")


def test_the_counts_are_bounded_and_other_clients_have_their_own(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """However many models fail; what cannot be counted is written."""
    caplog.set_level(logging.INFO, logger="comet_resilience")
    observers = Observers([])
    for number in range(1_000):
        observers.emit(gave_up(f"m{number}"))
    assert len(observers._log._repeats) <= 256
    assert len(caplog.records) == 1_000
    Observers([]).emit(gave_up("m1"))
    assert len(caplog.records) == 1_001


@pytest.mark.anyio
async def test_a_storm_is_a_few_warnings(caplog: pytest.LogCaptureFixture) -> None:
    """Three hundred calls that all fail, at a gateway that is down throughout."""
    caplog.set_level(logging.WARNING, logger="comet_resilience")
    client, _ = scripted(BROKEN, max_retries=2, backoff_initial=0.0, backoff_max=0.0)
    failed = 0
    for _ in range(300):
        try:
            await ask(client)
        except openai.APIError:
            failed += 1
    assert failed == 300
    assert 0 < len(caplog.records) <= 20
