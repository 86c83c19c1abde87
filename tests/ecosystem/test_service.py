"""The FastAPI example under load, over real sockets."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib import import_module
from typing import Any

import pytest

from comet_resilience.testing import ConcurrencyCap, Gateway
from tests.conftest import KEY, httpx
from tests.programs import ROOT

pytest.importorskip("fastapi")
uvicorn = pytest.importorskip("uvicorn")

pytestmark = pytest.mark.anyio
HELLO = {"text": "Hello"}


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The example as a module."""
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    yield import_module("service")
    del sys.modules["service"]


@asynccontextmanager
async def serving(
    service: Any, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Any]:
    """The service on a socket; gives an http client for it."""
    monkeypatch.setenv("COMETAPI_KEY", gateway.api_key)
    monkeypatch.setenv("COMETAPI_BASE_URL", gateway.base_url)
    config = uvicorn.Config(service.app, port=0, log_config=None)
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve())
    while not server.started:
        assert not running.done()
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    address, limits = f"http://127.0.0.1:{port}", httpx.Limits(max_connections=None)
    try:
        async with httpx.AsyncClient(
            base_url=address, limits=limits, timeout=30, trust_env=False
        ) as client:
            yield client
    finally:
        server.should_exit = True
        await running


async def idle(client: Any, gateway: Gateway) -> dict[str, Any]:
    """The health route once nothing runs or waits any more, here or at the gateway."""
    while True:
        health: dict[str, Any] = (await client.get("/health")).json()
        busy = sum(p["in_flight"] + p["waiting"] for p in health["partitions"])
        if not busy and not gateway.in_flight:
            return health
        await asyncio.sleep(0.02)


async def arrive(gateway: Gateway, requests: int) -> None:
    """Wait until the gateway works on so many requests."""
    while gateway.in_flight < requests:  # noqa: ASYNC110 - the gateway sets no event
        await asyncio.sleep(0.01)


async def test_a_crowd_is_answered_or_refused_and_nothing_is_left(
    service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 400 callers at once some hang up; the others get an answer or a 503, and no error."""
    monkeypatch.setattr(service, "MAX_QUEUE", 60)
    chance = random.Random(7)
    answers: list[Any] = []
    gone: list[int] = []
    capacity = {name: ConcurrencyCap(8) for name in (service.CHAT.model, service.SUMMARY.model)}

    async def call(client: Any, number: int) -> None:
        path = ("/chat", "/summary", "/chat/stream")[number % 3]
        patience = chance.uniform(0.05, 0.6) if number % 4 == 0 else None
        try:
            async with asyncio.timeout(patience):
                answers.append(await client.post(path, json=HELLO))
        except TimeoutError:
            gone.append(number)

    async with (
        Gateway(capacity=capacity, latency=(0.02, 0.1), failure_rate=0.05) as gateway,
        serving(service, gateway, monkeypatch) as client,
    ):
        await asyncio.gather(*(call(client, number) for number in range(400)))
        statuses = [answer.status_code for answer in answers]
        assert set(statuses) == {200, 503}
        assert len(statuses) + len(gone) == 400
        assert gone
        assert statuses.count(200) > 50
        refused = [answer for answer in answers if answer.status_code == 503]
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
        assert all(answer.json() == {"error": "overloaded"} for answer in refused)
        health = await idle(client, gateway)
        assert {p["model"] for p in health["partitions"]} == set(capacity)
        assert (await client.post("/chat", json=HELLO)).status_code == 200


async def test_who_hangs_up_frees_the_slot(service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway is told at once, though it never answers."""
    async with Gateway() as gateway, serving(service, gateway, monkeypatch) as client:
        gateway.always("hanging")
        for path in ("/chat", "/summary", "/chat/stream"):
            call = asyncio.create_task(client.post(path, json=HELLO))
            await arrive(gateway, 1)
            call.cancel()
            await idle(client, gateway)
        gateway.recover()
        assert (await client.post("/chat", json=HELLO)).status_code == 200


async def test_who_hangs_up_in_the_middle_of_a_stream_frees_the_slot(
    service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while the gateway says nothing for a long time."""
    async with (
        Gateway(chunk_delay=1.0) as gateway,
        serving(service, gateway, monkeypatch) as client,
    ):
        for _ in range(3):
            async with client.stream("POST", "/chat/stream", json=HELLO) as answer:
                assert answer.status_code == 200
                async for line in answer.aiter_lines():
                    assert line == 'data: "The"'
                    break
            await idle(client, gateway)
        assert gateway.answered == 0


async def test_a_full_queue_is_refused_at_once(
    service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond what runs and what may wait there is a 503, for this model alone."""
    monkeypatch.setattr(service, "MAX_QUEUE", 2)
    async with Gateway() as gateway, serving(service, gateway, monkeypatch) as client:
        gateway.always("hanging", model=service.CHAT.model)
        calls = [asyncio.create_task(client.post("/chat", json=HELLO)) for _ in range(30)]
        done, waiting = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        assert {call.result().status_code for call in done} == {503}
        assert (await client.post("/summary", json=HELLO)).status_code == 200
        for call in waiting:
            call.cancel()
        await idle(client, gateway)


@pytest.mark.parametrize(
    ("terms", "status", "kind"),
    [({"deadline": 0.2}, 504, "timeout"), ({"queue_timeout": 0.05}, 503, "overloaded")],
)
async def test_each_endpoint_keeps_its_terms(
    service: Any, monkeypatch: pytest.MonkeyPatch, terms: dict[str, float], status: int, kind: str
) -> None:
    """A deadline that passes is a 504, a wait for a slot that is too long a 503."""
    monkeypatch.setattr(service, "CHAT", replace(service.CHAT, **terms))
    async with Gateway() as gateway, serving(service, gateway, monkeypatch) as client:
        gateway.always("hanging")
        calls = [asyncio.create_task(client.post("/chat", json=HELLO)) for _ in range(20)]
        done, waiting = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        for call in done:
            assert (call.result().status_code, call.result().json()) == (status, {"error": kind})
        for call in waiting:
            call.cancel()
        await idle(client, gateway)


async def test_what_cannot_get_better_is_a_502_without_secrets(
    service: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller learns the kind, the log what to do, and neither the key."""
    async with Gateway(keys=[KEY]) as gateway, serving(service, gateway, monkeypatch) as client:
        gateway.always("invalid_token")
        answer = await client.post("/chat", json=HELLO)
        assert (answer.status_code, answer.json()) == (502, {"error": "authentication"})
        assert "retry-after" not in answer.headers
        assert "First:" in caplog.text
        assert KEY not in caplog.text + answer.text


async def test_a_stream_says_how_it_ended(service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole one with "done", one that breaks with "error", one that never began with 200."""
    async with Gateway(text="One two") as gateway, serving(service, gateway, monkeypatch) as client:
        gateway.script("stream_error", "dropped")
        whole = await client.post("/chat/stream", json=HELLO)
        assert whole.text == 'data: "One"\n\ndata: " two"\n\nevent: done\ndata: {}\n\n'
        assert len(gateway.requests) == 3
        gateway.script("stream_no_finish")
        broken = await client.post("/chat/stream", json=HELLO)
        assert broken.text.endswith('event: error\ndata: "invalid_answer"\n\n')
        gateway.script("balance_empty")
        assert (await client.post("/chat/stream", json=HELLO)).status_code == 502


async def test_health_tells_of_a_gateway_that_refuses(
    service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A closed gate is "saturated"; the health route never asks the gateway."""
    async with Gateway() as gateway, serving(service, gateway, monkeypatch) as client:
        assert (await client.get("/health")).json() == {"status": "ok", "partitions": []}
        gateway.always("rate_limited")
        call = asyncio.create_task(client.post("/chat", json=HELLO))
        while (await client.get("/health")).json()["status"] == "ok":  # noqa: ASYNC110 - polled
            await asyncio.sleep(0.01)
        assert len(gateway.requests) >= 3
        call.cancel()
        await idle(client, gateway)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM")
async def test_sigterm_lets_the_calls_that_run_finish() -> None:
    """As a process of its own: every call is answered, then it ends by itself."""
    async with Gateway(latency=1.5) as gateway:
        found = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        settings = {"COMETAPI_KEY": gateway.api_key, "COMETAPI_BASE_URL": gateway.base_url}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "uvicorn", "service:app", "--port", "0"),
            *("--app-dir", str(ROOT / "examples"), "--timeout-graceful-shutdown", "20"),
            env={**os.environ, **settings, "PYTHONPATH": found},
            stderr=subprocess.PIPE,
        )
        assert process.stderr is not None
        log = ""
        while (port := re.search(r"running on http://127\.0\.0\.1:(\d+)", log)) is None:
            line = await process.stderr.readline()
            assert line, log
            log += line.decode()
        base_url = f"http://127.0.0.1:{port[1]}"
        async with httpx.AsyncClient(base_url=base_url, timeout=30, trust_env=False) as client:
            calls = [asyncio.create_task(client.post("/chat", json=HELLO)) for _ in range(6)]
            await arrive(gateway, 6)
            process.send_signal(signal.SIGTERM)
            answers = await asyncio.gather(*calls)
        log += (await process.stderr.read()).decode()
        assert [answer.status_code for answer in answers] == [200] * 6
        assert await process.wait() in (0, -signal.SIGTERM), log
        assert "Application shutdown complete" in log
        assert "Traceback" not in log
        with pytest.raises(httpx.ConnectError):
            httpx.get(base_url, trust_env=False)
