"""The OpenAI Agents SDK on a wrapped client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openai
import pytest

from comet_resilience import diagnose
from comet_resilience.testing import Gateway, answer, tool_call
from tests.ecosystem.conftest import ATTEMPTS, failure_of, rehearse

agents = pytest.importorskip("agents")

pytestmark = pytest.mark.anyio
NO_TRACES = agents.RunConfig(tracing_disabled=True)


def agent_on(client: openai.AsyncOpenAI, *, responses: bool = False, **settings: Any) -> Any:
    """An agent whose model speaks through a client."""
    model = agents.OpenAIResponsesModel if responses else agents.OpenAIChatCompletionsModel
    return agents.Agent(
        name="Test",
        model=model("m", openai_client=client),
        model_settings=agents.ModelSettings(**settings),
    )


async def ask(agent: Any) -> Any:
    """One run of one request."""
    return await agents.Runner.run(agent, "Hello", run_config=NO_TRACES)


def test_the_example_is_answered_where_the_bare_sdk_fails() -> None:
    """A tool call, structured output and a stream, each through failures of its own."""
    wrapped = rehearse("openai_agents.py")
    assert wrapped.status == 0
    assert wrapped.steps == {
        "tool call": (True, 6, "4 degrees."),
        "structured output": (True, 2, "Forecast(city='Oslo', degrees=4)"),
        "streaming": (True, 5, "It| is| 4| degrees."),
    }
    bare = rehearse("openai_agents.py", "--bare")
    assert bare.status == 1
    assert not any(answered for answered, _, _ in bare.steps.values())


@pytest.mark.parametrize("responses", [False, True])
async def test_it_retries_nothing_by_itself(
    gateway: Gateway, client: openai.AsyncOpenAI, warnings: Callable[[], list[str]], responses: bool
) -> None:
    """A failing run is as many requests as ours, and the diagnosis is on its exception."""
    gateway.always("server_error")
    error = await failure_of(lambda: ask(agent_on(client, responses=responses)))
    assert len(gateway.requests) == ATTEMPTS
    assert len(diagnose(error).attempts) == ATTEMPTS
    assert warnings() == []


async def test_its_retry_settings_nest_and_are_noticed(
    gateway: Gateway, client: openai.AsyncOpenAI, warnings: Callable[[], list[str]]
) -> None:
    """``ModelSettings(retry=...)`` repeats the run's request; the warning names it."""
    retry = agents.ModelRetrySettings(
        max_retries=3,
        backoff={"initial_delay": 0.01},
        policy=agents.retry_policies.http_status([500]),
    )
    gateway.always("server_error")
    await failure_of(lambda: ask(agent_on(client, retry=retry)))
    # Its first try keeps our retries, the other three come with max_retries=0.
    assert len(gateway.requests) == ATTEMPTS + 3
    (warning,) = warnings()
    assert "openai-agents: leave ModelSettings(retry=...) out" in warning


async def test_its_policy_that_asks_the_provider_does_not_nest(
    gateway: Gateway, client: openai.AsyncOpenAI
) -> None:
    """What we hand on says ``x-should-retry: false``, which this policy honours."""
    retry = agents.ModelRetrySettings(
        max_retries=3, policy=agents.retry_policies.provider_suggested()
    )
    gateway.always("server_error")
    await failure_of(lambda: ask(agent_on(client, retry=retry)))
    assert len(gateway.requests) == ATTEMPTS


async def test_responses_call_tools_through_failures(
    gateway: Gateway, client: openai.AsyncOpenAI
) -> None:
    """The other of its two models."""
    asked: list[str] = []

    def measure(city: str) -> str:
        """Read the thermometer of a city."""
        asked.append(city)
        return "4 degrees"

    agent = agent_on(client, responses=True)
    agent.tools = [agents.function_tool(measure)]
    gateway.script("server_error", tool_call("measure", city="Oslo"), "dropped", answer("Mild."))
    result = await ask(agent)
    assert (result.final_output, asked) == ("Mild.", ["Oslo"])
    assert len(gateway.requests) == 4


async def test_a_stream_that_breaks_in_the_middle_is_not_repeated(
    gateway: Gateway, client: openai.AsyncOpenAI
) -> None:
    """What has come is billed: the run fails, with the diagnosis on its exception."""
    gateway.always("stream_cut")

    async def run() -> None:
        result = agents.Runner.run_streamed(agent_on(client), "Hello", run_config=NO_TRACES)
        async for _ in result.stream_events():
            pass

    error = await failure_of(run)
    assert len(gateway.requests) == 1
    assert "2 events" in diagnose(error).reason
