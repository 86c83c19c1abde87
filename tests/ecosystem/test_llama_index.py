"""LlamaIndex's LLM for CometAPI on a wrapped client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import openai
import pytest

from comet_resilience import diagnose
from comet_resilience.testing import Gateway, GatewayInThread
from tests.ecosystem.conftest import ATTEMPTS, client_without_loop, failure_of, follow_readme

cometapi = pytest.importorskip("llama_index.llms.cometapi")
llms = pytest.importorskip("llama_index.core.llms")

pytestmark = pytest.mark.anyio
QUESTION = [llms.ChatMessage(role="user", content="Hello")]


def llm_on(client: openai.AsyncOpenAI) -> Any:
    """Return the LLM that the README's lines make."""
    return follow_readme("LlamaIndex", CometAPI=cometapi.CometAPI, client=client)["llm"]


async def test_calls_and_streams_are_answered_through_failures(
    gateway: Gateway, client: openai.AsyncOpenAI
) -> None:
    """Each is sent again as often as it takes."""
    llm = llm_on(client)
    gateway.script(429, "ok", "unavailable", "ok")
    assert (await llm.achat(QUESTION)).message.content
    pieces = [piece.delta async for piece in await llm.astream_chat(QUESTION)]
    assert "".join(filter(None, pieces))
    assert len(gateway.requests) == 4


async def test_a_failing_call_is_sent_as_often_as_ours_says(
    gateway: Gateway, client: openai.AsyncOpenAI, warnings: Callable[[], list[str]]
) -> None:
    """With ``max_retries=0`` its decorator is out of the way."""
    gateway.always("server_error")
    error = await failure_of(lambda: llm_on(client).achat(QUESTION))
    assert len(gateway.requests) == ATTEMPTS
    assert len(diagnose(error).attempts) == ATTEMPTS
    assert warnings() == []


async def test_without_it_calls_are_repeated_whole_and_the_log_says_so(
    gateway: Gateway, client: openai.AsyncOpenAI, warnings: Callable[[], list[str]]
) -> None:
    """Its own retries multiply, and the warning names the setting."""
    gateway.always("server_error")
    llm = cometapi.CometAPI(async_openai_client=client, api_key="k", max_retries=3)
    await failure_of(lambda: llm.achat(QUESTION))
    assert len(gateway.requests) == 3 * ATTEMPTS
    (warning,) = warnings()
    assert "LlamaIndex: give its LLM max_retries=0" in warning


def test_the_sync_half_goes_to_the_gateway_alone(
    threaded: GatewayInThread, elsewhere: GatewayInThread
) -> None:
    """By a client of its own, which sends once and tells us nothing."""
    llm = llm_on(client_without_loop(threaded))
    threaded.script("server_error", "ok", "server_error")
    assert asyncio.run(llm.achat(QUESTION)).message.content
    assert len(threaded.requests) == 2
    with pytest.raises(openai.InternalServerError):
        llm.chat(QUESTION)
    llm._client.close()
    assert len(threaded.requests) == 3
    assert elsewhere.requests == []
