"""The decisions of the gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from comet_resilience.testing import (
    Capacity,
    ConcurrencyCap,
    FixedWindow,
    Gateway,
    Reply,
    Sample,
    TokenBucket,
)
from tests.conftest import MESSAGES, in_virtual_time

from .conftest import StillGateway, chat, statuses

if TYPE_CHECKING:
    from collections.abc import Callable


anyio_marked = pytest.mark.anyio


def test_a_script_is_played_once() -> None:
    """The next requests get what was scripted, in order, then all is as usual."""
    gateway = StillGateway()
    gateway.script("rate_limited", "ok", 503, Reply(status=418), lambda _: Reply(status=202))
    assert statuses(gateway, 7) == [429, 200, 503, 418, 202, 200, 200]


def test_failures_by_model_and_path() -> None:
    """A failure may be for one model or one path only, so many times or for good."""
    gateway = StillGateway()
    gateway.fail("unavailable", times=2, model="a", retry_after=7)
    gateway.always("forbidden", path="/images/*")
    assert statuses(gateway, 1, model="b") == [200]
    assert ("Retry-After", "7") in chat(gateway, "a").reply.headers
    assert statuses(gateway, 2, model="a") == [503, 200]
    image = gateway.begin("POST", "/v1/images/edits", [], b"")
    assert image.reply.status == 403
    gateway.recover()
    assert gateway.begin("POST", "/v1/images/edits", [], b"").reply.status == 401


def test_the_doors_are_in_order() -> None:
    """A wrong key does not take capacity, a malformed request does, a list needs none."""
    gateway = StillGateway(capacity=FixedWindow(1, 60))
    assert statuses(gateway, 2, key="") == [401, 401]
    headers = [("Authorization", "Bearer k")]
    for status in (400, 429):
        exchange = gateway.begin("POST", "/v1/embeddings", headers, b"{}")
        assert exchange.reply.status == status
    assert gateway.begin("GET", "/v1/models", headers, b"").reply.status == 200


@given(
    st.sampled_from(
        [
            lambda: ConcurrencyCap(3, steps=((5.0, 1), (9.0, 6))),
            lambda: TokenBucket(2, 4, retry_after=True),
            lambda: FixedWindow(3, 2.0),
        ]
    ),
    st.lists(st.tuples(st.integers(0, 3), st.floats(0, 1)), max_size=60),
)
def test_nothing_gets_lost(build: Callable[[], Capacity], moves: list[tuple[int, float]]) -> None:
    """Whatever comes and goes, every request is counted once and the cap is not exceeded."""
    gateway, begun = StillGateway(capacity=build()), list[Any]()
    for move, gap in moves:
        gateway.time += gap
        if move:
            before = gateway.in_flight
            begun.append(chat(gateway))
            limit = gateway.limit_at(gateway.time)
            if begun[-1].reply.status == 200 and limit is not None:
                assert before < limit
        elif begun:
            begun.pop(len(begun) // 2).end(delivered=bool(int(gap * 100) % 2))
    for exchange in begun:
        exchange.end(delivered=True)
        exchange.end(delivered=False)
    counts = gateway.statistics()
    assert counts.in_flight == counts.failed == 0
    assert counts.requests == len(gateway.requests) == sum(1 for move, _ in moves if move)
    assert counts.requests == counts.answered + counts.refused + counts.abandoned


def test_capacity_by_model() -> None:
    """Each model has a capacity of its own; one without has no limit."""
    gateway = StillGateway(capacity={"a": ConcurrencyCap(1, retry_after=2), "b": ConcurrencyCap(2)})
    held = [chat(gateway, model) for model in ("a", "a", "b", "b", "b", "c")]
    assert [exchange.reply.status for exchange in held] == [200, 429, 200, 200, 429, 200]
    assert ("Retry-After", "2") in held[1].reply.headers
    assert gateway.limit_at(0.0) == 3
    held[0].end(delivered=True)
    assert statuses(gateway, 1, model="a") == [200]


def test_samples_make_a_plot() -> None:
    """There is a sample at each change, with the limit of that moment."""
    gateway = StillGateway(capacity=ConcurrencyCap(1, steps=((5.0, 2),)))
    first = chat(gateway)
    chat(gateway).end(delivered=True)
    gateway.time = 5.0
    second = chat(gateway)
    gateway.time = 6.0
    first.end(delivered=True)
    second.end(delivered=False)
    assert gateway.samples == [
        Sample(0.0, 1, 1),
        Sample(5.0, 2, 2),
        Sample(6.0, 1, 2),
        Sample(6.0, 0, 2),
    ]
    assert (gateway.peak_in_flight, gateway.answered, gateway.refused) == (2, 1, 1)


def test_requests_are_remembered() -> None:
    """What came in can be looked at afterwards."""
    gateway = StillGateway()
    gateway.time = 3.0
    chat(gateway, "gpt")
    request = gateway.requests[0]
    assert (request.number, request.at, request.model) == (1, 3.0, "gpt")
    assert request.json()["messages"] == MESSAGES
    assert request.headers["authorization"] == "Bearer k"
    assert repr(gateway) == "<Gateway at http://gateway.test/v1: 1 requests, 1 in flight>"


@anyio_marked
@in_virtual_time
async def test_a_limit_in_virtual_time(
    client_of: Callable[[Gateway], openai.AsyncOpenAI],
) -> None:
    """The real SDK meets a cap: as many are answered as it holds, the others are refused."""
    gateway = Gateway(capacity=ConcurrencyCap(4, retry_after=60), latency=(5.0, 9.0))
    client, hints = client_of(gateway), list[str]()

    async def call() -> None:
        try:
            await client.chat.completions.create(model="m", messages=MESSAGES)
        except openai.RateLimitError as error:
            hints.append(error.response.headers["retry-after"])

    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(call)
    assert (gateway.answered, gateway.refused, gateway.peak_in_flight) == (4, 6, 4)
    assert hints == ["60"] * 6
    assert 5.0 <= gateway.now() <= 9.0
