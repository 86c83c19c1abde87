"""Pydantic AI on a wrapped client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from comet_resilience import diagnose
from comet_resilience.testing import Gateway, GatewayInThread, tool_call
from tests.ecosystem.conftest import (
    ATTEMPTS,
    client_without_loop,
    failure_of,
    follow_readme,
    rehearse_both,
)

pydantic_ai = pytest.importorskip("pydantic_ai")
models = pytest.importorskip("pydantic_ai.models.openai")
providers = pytest.importorskip("pydantic_ai.providers.openai")

pytestmark = pytest.mark.anyio


class City(BaseModel):
    """A structured answer."""

    name: str


def agent_on(client: openai.AsyncOpenAI, *, responses: bool = False, **keywords: Any) -> Any:
    """An agent whose model speaks through a client."""
    model = models.OpenAIResponsesModel if responses else models.OpenAIChatModel
    provider = providers.OpenAIProvider(openai_client=client)
    return pydantic_ai.Agent(model("m", provider=provider), **keywords)


def test_the_example_is_answered_where_the_bare_sdk_fails() -> None:
    """A tool call, structured output and a stream, each through failures of its own."""
    assert rehearse_both("pydantic_ai_agent.py") == {
        "tool call": (True, 6, "4 degrees."),
        "structured output": (True, 2, "Forecast(city='Oslo', degrees=4)"),
        "streaming": (True, 5, "It| is| 4| degrees."),
    }


@pytest.mark.parametrize("responses", [False, True])
async def test_it_retries_nothing_by_itself(
    gateway: Gateway, client: openai.AsyncOpenAI, warnings: Callable[[], list[str]], responses: bool
) -> None:
    """Its own ``retries`` are no requests: a failing run is as many as ours, and is diagnosed."""
    gateway.always("server_error")
    agent = agent_on(client, responses=responses, retries=5)
    error = await failure_of(lambda: agent.run("Hello"))
    assert len(gateway.requests) == ATTEMPTS
    assert len(diagnose(error).attempts) == ATTEMPTS
    assert warnings() == []


async def test_answers_that_do_not_validate_are_asked_for_again(
    gateway: Gateway, client: openai.AsyncOpenAI, warnings: Callable[[], list[str]]
) -> None:
    """These retries are not ours, go through ours one by one, and are no nest."""
    wrong, right = tool_call("final_result", name=1), tool_call("final_result", name="Oslo")
    gateway.script("server_error", wrong, "server_error", wrong, "server_error", right)
    result = await agent_on(client, output_type=City, retries=2).run("Which city?")
    assert result.output == City(name="Oslo")
    assert len(gateway.requests) == 6
    assert warnings() == []


async def test_a_loop_around_the_run_nests_and_is_noticed(
    gateway: Gateway, client: openai.AsyncOpenAI, warnings: Callable[[], list[str]]
) -> None:
    """Whatever repeats the whole run repeats its first request."""
    gateway.always("server_error")
    agent = agent_on(client)
    for _ in range(3):
        await failure_of(lambda: agent.run("Hello"))
    assert len(gateway.requests) == 3 * ATTEMPTS
    (warning,) = warnings()
    assert "Pydantic AI: leave its TenacityTransport out" in warning


async def test_a_stream_that_breaks_in_the_middle_is_not_repeated(
    gateway: Gateway, client: openai.AsyncOpenAI
) -> None:
    """What has come is billed: the run fails, with the diagnosis on its exception."""
    gateway.always("stream_cut")

    async def run() -> None:
        async with agent_on(client).run_stream("Hello") as result:
            async for _ in result.stream_text():
                pass

    error = await failure_of(run)
    assert len(gateway.requests) == 1
    assert "2 events" in diagnose(error).reason


def test_no_prompt_goes_to_another_host(
    threaded: GatewayInThread, elsewhere: GatewayInThread
) -> None:
    """Both halves of the README's agent go through the client, retries and all."""
    names = follow_readme(
        "Pydantic AI",
        client=client_without_loop(threaded),
        Agent=pydantic_ai.Agent,
        OpenAIChatModel=models.OpenAIChatModel,
        OpenAIProvider=providers.OpenAIProvider,
    )
    threaded.script("server_error", "ok", "server_error", "ok")
    asyncio.run(names["agent"].run("Hello"))
    names["agent"].run_sync("Hello")
    assert len(threaded.requests) == 4
    assert elsewhere.requests == []
