"""The proxy does to a connection what it says, and the soak sees broken promises."""

from __future__ import annotations

import asyncio
import logging
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest

from comet_resilience import snapshot, wrap
from comet_resilience.testing import Gateway

from . import __main__ as runner
from .proxy import Proxy
from .server import served
from .tally import Tally
from .watch import Moment

pytestmark = pytest.mark.timeout(120)
MESSAGES: Any = [{"role": "user", "content": "x"}]


async def through(
    shares: dict[str, float], timeout: float = 60.0, **options: Any
) -> tuple[Any, int, Proxy]:
    """One call through a proxy: its answer or its exception, and what the gateway saw."""
    async with Gateway() as gateway:
        port = urlsplit(gateway.base_url).port
        assert port is not None
        async with Proxy(port, shares, delay=0.01) as proxy:
            client = wrap(
                openai.AsyncOpenAI(
                    base_url=f"http://127.0.0.1:{proxy.port}/v1", api_key="k", timeout=timeout
                ),
                backoff_initial=0,
                **options,
            )
            async with client:
                try:
                    answer: Any = await client.chat.completions.create(model="m", messages=MESSAGES)
                except openai.APIConnectionError as error:
                    answer = error
                assert all(p.in_flight == 0 for p in snapshot(client).partitions)
            return answer, len(gateway.requests), proxy


@pytest.mark.parametrize("name", ["delay", "slice"])
def test_harmless_mischief(name: str) -> None:
    """A late answer and one in small pieces are answers."""
    answer, seen, proxy = asyncio.run(through({name: 1.0}, max_retries=0))
    assert answer.choices[0].message.content
    assert (seen, proxy.counts[name]) == (1, 1)


@pytest.mark.parametrize(
    ("name", "kind", "seen"),
    [
        ("refuse", "connection", 0),
        ("reset", "connection", 3),
        ("cut", "connection", 3),
        ("blackhole", "timeout", 0),
    ],
)
def test_each_mischief_is_a_fault_and_retried(name: str, kind: str, seen: int) -> None:
    """Three attempts meet the same; what the gateway saw of them depends on where it struck."""
    timeout = 0.2 if kind == "timeout" else 60.0
    error, arrived, proxy = asyncio.run(through({name: 1.0}, timeout, max_retries=2))
    assert error.diagnosis.kind == kind
    assert len(error.diagnosis.attempts) == 3
    assert (arrived, proxy.counts[name]) == (seen, 3)


def test_a_few_seconds_of_the_soak(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hundred calls of all kinds, both ways: every promise is kept."""
    monkeypatch.setattr(runner, "OUTAGE", 0.2)
    monkeypatch.setattr(runner, "BURST", 40)
    monkeypatch.setattr(runner, "LATEST", 100.0)
    logging.getLogger("comet_resilience").setLevel(logging.ERROR)
    try:
        with served(0.05, 40) as port:
            tally, moments = asyncio.run(
                runner.soak(runner.Plan(seconds=2.0, calls=200, rounds=2), port)
            )
    finally:
        logging.getLogger("comet_resilience").setLevel(logging.NOTSET)
    assert tally.shown == []
    assert sum(tally.ends.values()) == moments[-1].calls == 240


def test_broken_promises_are_seen() -> None:
    """Too many sends, a send after the end, a wrong count, a strange exception, a leak."""
    tally = Tally()
    name = tally.begin(0)
    tally.sent(name)
    tally.sent(name)
    tally.fail(name, KeyError("strange"))
    tally.sent(name)
    other = tally.begin(1)
    tally.sent(other)
    tally.fail(other, openai.APIConnectionError(request=None))  # type: ignore[arg-type]
    assert [what.split(" ", 2)[2][:12] for what in tally.shown] == [
        "2 sends, pro", "raised KeyEr", "was sent aft", "1 sends, 0 t",
    ]  # fmt: skip


@pytest.mark.parametrize(("grows", "kept"), [(0.0, True), (0.9, True), (2.0, False)])
def test_memory_may_not_grow(grows: float, kept: bool) -> None:
    """A slope of a megabyte for 10 000 calls is a leak."""
    moments = [
        Moment(
            calls=1_000 * number,
            slots=0,
            waiting=0,
            tasks=0,
            descriptors=9,
            memory=50.0 + grows * number / 10,
            blocks=1,
        )
        for number in range(1, 21)
    ]
    assert runner.conclude(Tally(started=1), moments, 1.0) == kept
