"""The OpenAI Agents SDK on a wrapped client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

from comet_resilience import diagnose
from comet_resilience.testing import Gateway, GatewayInThread, answer, tool_call
from tests.ecosystem.conftest import (
    ATTEMPTS,
    client_without_loop,
    failure_of,
    follow_readme,
    rehearse_both,
)

agents = pytest.importorskip("agents")
processors = pytest.importorskip("agents.tracing.processors")
shared = pytest.importorskip("agents.models._openai_shared")

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
    assert rehearse_both("openai_agents.py") == {
        "tool call": (True, 6, "4 degrees."),
        "structured output": (True, 2, "Forecast(city='Oslo', degrees=4)"),
        "streaming": (True, 5, "It| is| 4| degrees."),
    }


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


@pytest.fixture
def traces_elsewhere(elsewhere: GatewayInThread) -> Iterator[GatewayInThread]:
    """The same host for the exporter of traces, which has an address of its own."""
    exporter = processors.default_exporter()
    kept = exporter.endpoint, exporter._client
    exporter.endpoint = f"{elsewhere.base_url}/chat/completions"
    agents.set_tracing_disabled(False)
    with type(exporter._client)() as exporter._client:
        yield elsewhere
    agents.set_tracing_disabled(True)
    exporter.endpoint, exporter._client = kept
    shared._default_openai_client = None


@pytest.fixture
def _loop_of_a_script() -> Iterator[None]:
    """The event loop that ``run_sync`` finds and leaves open."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


@pytest.mark.usefixtures("_loop_of_a_script")
def test_no_prompt_and_no_trace_goes_to_another_host(
    threaded: GatewayInThread, traces_elsewhere: GatewayInThread
) -> None:
    """Both halves go through the client, so does an agent that only names its model."""
    names = follow_readme("openai-agents", client=client_without_loop(threaded), **vars(agents))
    by_name = agents.Agent(name="By name", model="gpt-5.4")
    threaded.script("server_error", "ok", "server_error", "ok", "server_error", "ok")
    agents.Runner.run_sync(names["agent"], "Hello")
    asyncio.run(agents.Runner.run(names["agent"], "Hello"))
    asyncio.run(agents.Runner.run(by_name, "Hello"))
    processors.default_processor().force_flush()
    assert len(threaded.requests) == 6
    assert traces_elsewhere.requests == []


def test_what_the_line_about_traces_is_for(
    threaded: GatewayInThread, traces_elsewhere: GatewayInThread
) -> None:
    """Without it the prompt leaves in a trace, with the key of the environment."""
    asyncio.run(agents.Runner.run(agent_on(client_without_loop(threaded)), "my secret"))
    processors.default_processor().force_flush()
    assert any(b"my secret" in sent.body for sent in traces_elsewhere.requests)
