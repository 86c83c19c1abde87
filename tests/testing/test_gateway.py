"""What the gateway decides."""

from __future__ import annotations

import json
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

if TYPE_CHECKING:
    from collections.abc import Callable

    from comet_resilience.testing.replies import Exchange

anyio_marked = pytest.mark.anyio


class _Still(Gateway):
    """A gateway whose clock is set by hand, so that no event loop is needed."""

    time = 0.0

    def now(self) -> float:
        return self.time


def _chat(gateway: Gateway, model: str = "m", *, key: str = "k") -> Exchange:
    body = json.dumps({"model": model, "messages": MESSAGES}).encode()
    headers = [("Authorization", f"Bearer {key}")]
    return gateway.begin("POST", "/v1/chat/completions", headers, body)


def _statuses(gateway: Gateway, times: int, **kwargs: Any) -> list[int]:
    """Ask one after the other, each answer to its end."""
    statuses = []
    for _ in range(times):
        exchange = _chat(gateway, **kwargs)
        exchange.end(delivered=True)
        statuses.append(exchange.reply.status)
    return statuses


def test_a_script_is_played_once() -> None:
    """The next requests get what was scripted, in order, then all is as usual."""
    gateway = _Still()
    gateway.script("rate_limited", "ok", 503, Reply(status=418), lambda _: Reply(status=202))
    assert _statuses(gateway, 7) == [429, 200, 503, 418, 202, 200, 200]


def test_failures_by_model_and_path() -> None:
    """A failure may be for one model or one path only, so many times or for good."""
    gateway = _Still()
    gateway.fail("unavailable", times=2, model="a", retry_after=7)
    gateway.always("forbidden", path="/images/*")
    assert _statuses(gateway, 1, model="b") == [200]
    assert ("Retry-After", "7") in _chat(gateway, "a").reply.headers
    assert _statuses(gateway, 2, model="a") == [503, 200]
    image = gateway.begin("POST", "/v1/images/edits", [], b"")
    assert image.reply.status == 403
    gateway.recover()
    assert gateway.begin("POST", "/v1/images/edits", [], b"").reply.status == 401


def test_keys_are_checked() -> None:
    """Only the keys of the gateway are accepted, if it has any."""
    gateway = _Still(keys=["one", "two"])
    assert gateway.api_key == "one"
    assert _statuses(gateway, 1, key="two") == [200]
    assert _statuses(gateway, 1, key="three") == [401]


def test_the_doors_are_in_order() -> None:
    """A wrong key does not take capacity, a malformed request does, a list needs none."""
    gateway = _Still(capacity=FixedWindow(1, 60))
    assert _statuses(gateway, 2, key="") == [401, 401]
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
    gateway, begun = _Still(capacity=build()), list[Any]()
    for move, gap in moves:
        gateway.time += gap
        if move:
            before = gateway.in_flight
            begun.append(_chat(gateway))
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
    gateway = _Still(capacity={"a": ConcurrencyCap(1, retry_after=2), "b": ConcurrencyCap(2)})
    held = [_chat(gateway, model) for model in ("a", "a", "b", "b", "b", "c")]
    assert [exchange.reply.status for exchange in held] == [200, 429, 200, 200, 429, 200]
    assert ("Retry-After", "2") in held[1].reply.headers
    assert gateway.limit_at(0.0) == 3
    held[0].end(delivered=True)
    assert _statuses(gateway, 1, model="a") == [200]


def test_samples_make_a_plot() -> None:
    """There is a sample at each change, with the limit of that moment."""
    gateway = _Still(capacity=ConcurrencyCap(1, steps=((5.0, 2),)))
    first = _chat(gateway)
    _chat(gateway).end(delivered=True)
    gateway.time = 5.0
    second = _chat(gateway)
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


def test_a_share_of_requests_fails() -> None:
    """Failures come with their shares, the same ones with the same seed."""
    shares: dict[str | int, float] = {"server_error": 0.2, 504: 0.1}
    runs = [_statuses(_Still(failure_rate=shares, seed=seed), 400) for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]
    assert set(runs[0]) == {200, 500, 504}
    assert runs[0].count(500) == pytest.approx(80, abs=25)
    assert set(_statuses(_Still(failure_rate=1.0), 5)) == {503}


def test_latency_is_a_number_a_range_or_a_function() -> None:
    """The time to the headers comes from the options; failures come at once."""
    assert _chat(_Still(latency=2)).reply.delay == 2
    assert 1 <= _chat(_Still(latency=(1.0, 2.0))).reply.delay <= 2
    assert _chat(_Still(latency=lambda request: len(request.model or ""))).reply.delay == 1
    assert _chat(_Still(latency=2, failure_rate=1.0)).reply.delay == 0


def test_a_bug_in_a_function_takes_no_slot() -> None:
    """A latency function that fails gives its error, and the slot back."""
    gateway = _Still(capacity=ConcurrencyCap(1), latency=lambda request: 1 / (request.number - 1))
    with pytest.raises(ZeroDivisionError):
        _chat(gateway)
    assert _chat(gateway).reply.status == 200


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"latency": -1}, "latency"),
        ({"latency": (2, 1)}, "latency"),
        ({"chunk_delay": -1}, "chunk_delay"),
        ({"failure_rate": 1.5}, "failure_rate"),
        ({"failure_rate": {"server_error": -0.5}}, "failure_rate"),
        ({"failure_rate": {"nope": 0.5}}, "no failure called 'nope'"),
    ],
)
def test_senseless_options_are_named(options: dict[str, Any], word: str) -> None:
    """The error says which option it is about."""
    with pytest.raises(ValueError, match=word):
        Gateway(**options)


def test_requests_are_remembered() -> None:
    """What came in can be looked at afterwards."""
    gateway = _Still()
    gateway.time = 3.0
    _chat(gateway, "gpt")
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
