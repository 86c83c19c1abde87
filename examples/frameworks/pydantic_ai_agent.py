"""Pydantic AI on a wrapped client, at a gateway that fails and recovers.

    pip install comet-resilience h11 'pydantic-ai-slim[openai]'
    python examples/frameworks/pydantic_ai_agent.py          # every step is answered
    python examples/frameworks/pydantic_ai_agent.py --bare   # the same on the SDK's own client

`run_sync` runs the async half, and so goes through the wrapped client too.

The framework repeats no failed request by itself. Its `retries=` are about answers that do not
validate, which is another matter; its `AsyncHTTPX2TenacityTransport` is what to leave out.
"""

import sys

from openai import AsyncOpenAI
from pydantic import BaseModel

try:
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider
except ImportError as missing:
    sys.exit(
        f"{missing.name} is not installed. Do:"
        " pip install comet-resilience h11 'pydantic-ai-slim[openai]'"
    )
from rehearsal import CUT_STREAM, MODEL, Step, main

from comet_resilience.testing import answer, tool_call


class Forecast(BaseModel):
    """The shape of the structured answer."""

    city: str
    degrees: int


def measure(city: str) -> str:
    """Read the thermometer of a city."""
    return f"4 degrees in {city}"


def model_of(client: AsyncOpenAI) -> OpenAIChatModel:
    """Connect the client; `OpenAIResponsesModel` takes it in the same way."""
    return OpenAIChatModel(MODEL, provider=OpenAIProvider(openai_client=client))


async def use_tool(client: AsyncOpenAI) -> str:
    """Two requests: the model calls the tool, then answers with what it got."""
    result = await Agent(model_of(client), tools=[measure]).run("How warm is it in Oslo?")
    return str(result.output)


async def extract(client: AsyncOpenAI) -> str:
    """The answer as an object of a class, which the model gives through a tool of that form."""
    result = await Agent(model_of(client), output_type=Forecast).run("Oslo: four degrees.")
    return repr(result.output)


async def stream(client: AsyncOpenAI) -> str:
    """The answer as it comes, after a tool call that is streamed as well."""
    agent = Agent(model_of(client), tools=[measure])
    async with agent.run_stream("How warm is it in Oslo?") as result:
        return "|".join([piece async for piece in result.stream_text(delta=True, debounce_by=None)])


CALL = tool_call("measure", city="Oslo")
FORECAST = tool_call("final_result", city="Oslo", degrees=4)
STEPS = (
    Step("tool call", use_tool, ("rate_limited", 429, 503, CALL, "dropped", answer("4 degrees."))),
    Step("structured output", extract, ("error_under_200", FORECAST)),
    Step("streaming", stream, (429, CALL, CUT_STREAM, "stream_error", answer("It is 4 degrees."))),
)

if __name__ == "__main__":
    sys.exit(main(STEPS))
