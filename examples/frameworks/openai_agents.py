"""The OpenAI Agents SDK on a wrapped client, at a gateway that fails and recovers.

    pip install comet-resilience h11 openai-agents
    python examples/frameworks/openai_agents.py          # every step is answered
    python examples/frameworks/openai_agents.py --bare   # the same on the SDK's own client

Its traces hold the prompts and go to OpenAI: switch them off. An agent that only names its model
goes through the default client: `set_default_openai_client(client, use_for_tracing=False)`.
`run_sync` runs the async half, and so goes through the wrapped client too.

The framework retries nothing by itself as long as `ModelSettings(retry=...)` is left out.
"""

import sys

try:
    from agents import (
        Agent,
        OpenAIChatCompletionsModel,
        Runner,
        function_tool,
        set_tracing_disabled,
    )
except ImportError as missing:
    sys.exit(f"{missing.name} is not installed. Do: pip install comet-resilience h11 openai-agents")
from openai import AsyncOpenAI
from pydantic import BaseModel
from rehearsal import CUT_STREAM, MODEL, Step, main

from comet_resilience.testing import answer, tool_call

set_tracing_disabled(True)  # traces would go to OpenAI, which has no use for the gateway's key


class Forecast(BaseModel):
    """The shape of the structured answer."""

    city: str
    degrees: int


def measure(city: str) -> str:
    """Read the thermometer of a city."""
    return f"4 degrees in {city}"


def model_of(client: AsyncOpenAI) -> OpenAIChatCompletionsModel:
    """Connect the client; `OpenAIResponsesModel` takes it in the same way."""
    return OpenAIChatCompletionsModel(MODEL, openai_client=client)


async def use_tool(client: AsyncOpenAI) -> str:
    """Two requests: the model calls the tool, then answers with what it got."""
    agent = Agent(name="Weather", model=model_of(client), tools=[function_tool(measure)])
    result = await Runner.run(agent, "How warm is it in Oslo?")
    return str(result.final_output)


async def extract(client: AsyncOpenAI) -> str:
    """The answer as an object of a class."""
    agent = Agent(name="Weather", model=model_of(client), output_type=Forecast)
    result = await Runner.run(agent, "Oslo: four degrees.")
    return repr(result.final_output)


async def stream(client: AsyncOpenAI) -> str:
    """The answer as it comes, after a tool call that is streamed as well."""
    agent = Agent(name="Weather", model=model_of(client), tools=[function_tool(measure)])
    result = Runner.run_streamed(agent, "How warm is it in Oslo?")
    events = [event.data async for event in result.stream_events() if "raw" in event.type]
    return "|".join([event.delta for event in events if event.type.endswith("text.delta")])


CALL = tool_call("measure", city="Oslo")
STEPS = (
    Step("tool call", use_tool, ("rate_limited", 429, 503, CALL, "dropped", answer("4 degrees."))),
    Step("structured output", extract, ("error_under_200", answer('{"city":"Oslo","degrees":4}'))),
    Step("streaming", stream, (429, CALL, CUT_STREAM, "stream_error", answer("It is 4 degrees."))),
)

if __name__ == "__main__":
    sys.exit(main(STEPS))
