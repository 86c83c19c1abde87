"""Haystack's chat generator for CometAPI on a wrapped client, and on a transport."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import openai
import pytest

from comet_resilience import ResilientTransport, diagnose
from comet_resilience.testing import Gateway, GatewayInThread
from tests.ecosystem.conftest import ATTEMPTS, client_without_loop, failure_of, follow_readme

pytest.importorskip("haystack")
from haystack.dataclasses import ChatMessage
from haystack.utils import Secret
from haystack_integrations.components.generators.cometapi import CometAPIChatGenerator

pytestmark = pytest.mark.anyio
QUESTION = [ChatMessage.from_user("Hello")]


def generator_on(client: openai.AsyncOpenAI) -> Any:
    """Return the generator that the README's lines make; its address is CometAPI's and fixed."""
    names = {"CometAPIChatGenerator": CometAPIChatGenerator, "Secret": Secret, "client": client}
    generator = follow_readme("Haystack", **names)["generator"]
    assert generator.api_base_url == "https://api.cometapi.com/v1"
    generator.api_base_url = str(client.base_url)
    return generator


async def test_calls_and_streams_are_answered_through_failures(
    gateway: Gateway, client: openai.AsyncOpenAI
) -> None:
    """Each is sent again as often as it takes."""
    generator, pieces = generator_on(client), list[str]()

    async def collect(piece: Any) -> None:
        pieces.append(piece.content)

    gateway.script(429, "ok", "unavailable", "ok")
    assert (await generator.run_async(QUESTION))["replies"][0].text
    await generator.run_async(QUESTION, streaming_callback=collect)
    assert "".join(pieces)
    assert len(gateway.requests) == 4


async def test_it_retries_nothing_by_itself(
    gateway: Gateway, client: openai.AsyncOpenAI, warnings: Callable[[], list[str]]
) -> None:
    """Its ``max_retries`` does nothing to a client that it is given."""
    gateway.always("server_error")
    error = await failure_of(lambda: generator_on(client).run_async(QUESTION))
    assert len(gateway.requests) == ATTEMPTS
    assert len(diagnose(error).attempts) == ATTEMPTS
    assert warnings() == []


async def test_a_transport_in_its_http_client_does_the_same(gateway: Gateway) -> None:
    """For pipelines that make their components themselves; its http client is httpx's."""
    import httpx

    transport = ResilientTransport(httpx.AsyncHTTPTransport(), backoff_initial=0.01)
    generator = CometAPIChatGenerator(
        api_key=Secret.from_token("k"), http_client_kwargs={"transport": transport}
    )
    generator.api_base_url = gateway.base_url
    gateway.script(429, "unavailable", "ok", *["server_error"] * 9)
    assert (await generator.run_async(QUESTION))["replies"][0].text
    error = await failure_of(lambda: generator.run_async(QUESTION))
    assert len(gateway.requests) == 3 + 7
    assert len(diagnose(error).attempts) == 7
    await generator.close_async()


def test_the_sync_half_goes_to_the_gateway_alone(
    threaded: GatewayInThread, elsewhere: GatewayInThread
) -> None:
    """By a client of its own, which retries as the SDK does."""
    generator = generator_on(client_without_loop(threaded))
    threaded.script("server_error", "ok", "server_error", "ok")
    assert asyncio.run(generator.run_async(QUESTION))["replies"][0].text
    assert len(threaded.requests) == 2
    assert generator.run(QUESTION)["replies"][0].text
    generator.close()
    assert len(threaded.requests) == 4
    assert threaded.requests[-1].headers["x-stainless-retry-count"] == "1"
    assert elsewhere.requests == []


async def test_closing_it_closes_the_client(client: openai.AsyncOpenAI) -> None:
    """What the README warns of is still so."""
    generator = generator_on(client)
    await generator.close_async()
    assert client.is_closed()
    assert generator.async_client is None
