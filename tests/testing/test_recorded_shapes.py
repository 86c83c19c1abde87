"""The shapes in which real gateways refuse, met by a wrapped client as by any service's tests."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import openai
import pytest

from comet_resilience import diagnose, wrap
from comet_resilience.testing import FAILURES, Gateway, no_waiting
from tests.conftest import MESSAGES, in_virtual_time, on_asyncio

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.anyio


#: name: (status, kind, requests with two retries)
_SHAPES = {
    "rate_limited_as_event_stream": (429, "rate_limited", 3),
    "bad_request_as_event_stream": (400, "invalid_request", 1),
    "account_rate_limited": (429, "rate_limited", 3),
    "rate_limited_unreadably": (429, "rate_limited", 3),
    "provider_broke_unreadably": (502, "unavailable", 3),
    "code_is_status_limited": (429, "rate_limited", 3),
    "code_is_status_broken": (500, "server_error", 3),
    "code_is_status_context": (400, "invalid_request", 1),
}


@on_asyncio
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("name", _SHAPES)
async def test_each_shape_is_judged(
    name: str, streamed: bool, client_of: Callable[[Gateway], openai.AsyncOpenAI]
) -> None:
    """Status, kind and number of requests are those that a person would expect."""
    gateway = Gateway()
    gateway.always(name)
    client = wrap(client_of(gateway), max_retries=2)
    with no_waiting(), pytest.raises(openai.APIStatusError) as caught:
        await client.chat.completions.create(model="m", messages=MESSAGES, stream=streamed)
    kind = diagnose(caught.value).kind.value
    assert (caught.value.status_code, kind, len(gateway.requests)) == _SHAPES[name]


def test_shapes_are_as_recorded() -> None:
    """Labels, codes and bodies have the traits that their names promise."""
    for name, reply in FAILURES.items():
        assert isinstance(reply.body, bytes) or reply.status == 200
        label = dict(reply.headers).get("Content-Type")
        if name.endswith("_as_event_stream"):
            assert label == "text/event-stream"
            assert isinstance(reply.body, bytes)
            assert "error" in json.loads(reply.body)
        if name.startswith("code_is_status") and isinstance(reply.body, bytes):
            assert json.loads(reply.body)["error"]["code"] == str(reply.status)
        if name.endswith("_unreadably") and isinstance(reply.body, bytes):
            error = json.loads(reply.body)["error"]
            assert (error["message"], error["code"]) == ("openai_error", "bad_response_status_code")
    bare = FAILURES["account_rate_limited"]
    assert (bare.body, [name for name, _ in bare.headers]) == (b"", ["X-Oneapi-Request-Id"])


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
