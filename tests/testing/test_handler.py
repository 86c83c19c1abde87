"""Replies without a script: keys, random failures, latencies, limits of a provider."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import openai
import pytest

from comet_resilience import wrap
from comet_resilience.testing import (
    ConcurrencyCap,
    Gateway,
)
from tests.conftest import MESSAGES, in_virtual_time

from .conftest import StillGateway, chat, statuses


def test_keys_are_checked() -> None:
    """Only the keys of the gateway are accepted, if it has any."""
    gateway = StillGateway(keys=["one", "two"])
    assert gateway.api_key == "one"
    assert statuses(gateway, 1, key="two") == [200]
    assert statuses(gateway, 1, key="three") == [401]


def test_a_share_of_requests_fails() -> None:
    """Failures come with their shares, the same ones with the same seed."""
    shares: dict[str | int, float] = {"server_error": 0.2, 504: 0.1}
    runs = [statuses(StillGateway(failure_rate=shares, seed=seed), 400) for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]
    assert set(runs[0]) == {200, 500, 504}
    assert runs[0].count(500) == pytest.approx(80, abs=25)
    assert set(statuses(StillGateway(failure_rate=1.0), 5)) == {503}


def test_latency_is_a_number_a_range_or_a_function() -> None:
    """The time to the headers comes from the options; failures come at once."""
    assert chat(StillGateway(latency=2)).reply.delay == 2
    assert 1 <= chat(StillGateway(latency=(1.0, 2.0))).reply.delay <= 2
    assert chat(StillGateway(latency=lambda request: len(request.model or ""))).reply.delay == 1
    assert chat(StillGateway(latency=2, failure_rate=1.0)).reply.delay == 0


def test_a_bug_in_a_function_takes_no_slot() -> None:
    """A latency function that fails gives its error, and the slot back."""
    gateway = StillGateway(
        capacity=ConcurrencyCap(1), latency=lambda request: 1 / (request.number - 1)
    )
    with pytest.raises(ZeroDivisionError):
        chat(gateway)
    assert chat(gateway).reply.status == 200


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


@pytest.mark.anyio
@in_virtual_time
async def test_limits_of_a_provider_change_and_hold_nobody(
    client_of: Callable[[Gateway], openai.AsyncOpenAI],
) -> None:
    """Headers alternate between two accounts; a client that meets them waits for nothing."""
    gateway = Gateway(provider_limits=True)
    client = wrap(client_of(gateway))
    remaining = []
    for _ in range(4):
        raw = await client.chat.completions.with_raw_response.create(model="m", messages=MESSAGES)
        remaining.append(raw.headers["x-ratelimit-remaining-requests"])
    assert remaining == ["0", "9990", "0", "9990"]
    assert gateway.requests[-1].at == 0.0
    stream = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
    assert "x-ratelimit-remaining-requests" not in stream.response.headers
    await stream.close()


@pytest.mark.anyio
@pytest.mark.parametrize("header", ["", "Bearer ", "Bearer", "bearer k", "Bearer a b", "k"])
async def test_malformed_keys(gateway: Gateway, family: ModuleType, header: str) -> None:
    """The header must be exactly "Authorization: Bearer <key>"."""
    async with family.AsyncClient(transport=gateway.transport()) as http:
        reply = await http.get(f"{gateway.base_url}/models", headers={"Authorization": header})
    assert reply.status_code == 401
    assert reply.json()["error"]["message"].startswith("invalid token (request id: ")
