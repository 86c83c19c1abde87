"""LangChain's `ChatOpenAI` on a wrapped client, at a gateway that fails and recovers.

    pip install comet-resilience h11 langchain-openai
    python examples/frameworks/langchain_chat.py          # every step is answered
    python examples/frameworks/langchain_chat.py --bare   # the same on the SDK's own client

Async methods only: `invoke`, `batch` and `stream` go through a client that LangChain makes itself.
`base_url` and `api_key` are for that one, which would otherwise take both from the environment and
send the prompts to wherever that points, api.openai.com by default.

`ChatOpenAI(max_retries=...)` is for clients that it makes itself and does nothing to one that it is
given. `.with_retry()` on a model or chain is what to leave out.
"""

import sys

try:
    from langchain_core.messages import HumanMessage, ToolMessage
    from langchain_core.tools import tool
    from langchain_openai import ChatOpenAI
except ImportError as missing:
    sys.exit(
        f"{missing.name} is not installed. Do: pip install comet-resilience h11 langchain-openai"
    )
from openai import AsyncOpenAI
from pydantic import BaseModel, SecretStr
from rehearsal import CUT_STREAM, MODEL, Step, main

from comet_resilience.testing import answer, tool_call


class Forecast(BaseModel):
    """The shape of the structured answer."""

    city: str
    degrees: int


def measure(city: str) -> str:
    """Read the thermometer of a city."""
    return f"4 degrees in {city}"


def model_of(client: AsyncOpenAI) -> ChatOpenAI:
    """Connect the client: once for its chat completions, once for the rest."""
    return ChatOpenAI(
        model=MODEL,
        async_client=client.chat.completions,
        root_async_client=client,
        base_url=str(client.base_url),
        api_key=SecretStr(client.api_key),
    )


async def use_tool(client: AsyncOpenAI) -> str:
    """Two requests: the model calls the tool, then answers with what it got."""
    thermometer = tool(measure)
    model = model_of(client).bind_tools([thermometer])
    question = HumanMessage("How warm is it in Oslo?")
    said = await model.ainvoke([question])
    results: list[ToolMessage] = [await thermometer.ainvoke(call) for call in said.tool_calls]
    return str((await model.ainvoke([question, said, *results])).content)


async def extract(client: AsyncOpenAI) -> str:
    """The answer as an object of a class."""
    model = model_of(client).with_structured_output(Forecast)
    return repr(await model.ainvoke("Oslo: four degrees."))


async def stream(client: AsyncOpenAI) -> str:
    """The answer as it comes."""
    chunks = model_of(client).astream("How warm is it in Oslo?")
    return "|".join([str(chunk.content) async for chunk in chunks if chunk.content])


CALL = tool_call("measure", city="Oslo")
STEPS = (
    Step("tool call", use_tool, ("rate_limited", 429, 503, CALL, "dropped", answer("4 degrees."))),
    Step("structured output", extract, ("error_under_200", answer('{"city":"Oslo","degrees":4}'))),
    Step("streaming", stream, (429, CUT_STREAM, "stream_error", answer("It is 4 degrees."))),
)

if __name__ == "__main__":
    sys.exit(main(STEPS))
