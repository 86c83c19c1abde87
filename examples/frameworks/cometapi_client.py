"""CometAPI's own client, wrapped, at a gateway that fails and recovers.

    pip install comet-resilience h11 cometapi
    python examples/frameworks/cometapi_client.py          # every step is answered
    python examples/frameworks/cometapi_client.py --bare   # the same on the client as it is

`wrap(AsyncCometAPI())` takes key and base URL from COMETAPI_KEY and COMETAPI_BASE_URL, as ever.
Wrap `AsyncCometAPI`: the sync `CometAPI` is refused.
The client's own `max_retries` becomes ours; nothing is to be switched off.
"""

import json
import sys
from typing import Any

try:
    from cometapi import AsyncCometAPI
except ImportError as missing:
    sys.exit(f"{missing.name} is not installed. Do: pip install comet-resilience h11 cometapi")
from pydantic import BaseModel
from rehearsal import CUT_STREAM, MODEL, Step, main

from comet_resilience.testing import answer, tool_call


class Forecast(BaseModel):
    """The shape of the structured answer."""

    city: str
    degrees: int


TOOL: Any = {
    "type": "function",
    "function": {
        "name": "measure",
        "description": "Read the thermometer of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def measure(city: str) -> str:
    """Read the thermometer of a city."""
    return f"4 degrees in {city}"


async def use_tool(client: AsyncCometAPI) -> str:
    """Two requests: the model calls the tool, then answers with what it got."""
    messages: list[Any] = [{"role": "user", "content": "How warm is it in Oslo?"}]
    create = client.chat.completions.create
    said = (await create(model=MODEL, messages=messages, tools=[TOOL])).choices[0].message
    messages.append(said)
    for call in said.tool_calls or ():
        if call.type == "function":
            result = measure(**json.loads(call.function.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    done = await create(model=MODEL, messages=messages, tools=[TOOL])
    return done.choices[0].message.content or ""


async def extract(client: AsyncCometAPI) -> str:
    """The answer as an object of a class."""
    messages: list[Any] = [{"role": "user", "content": "Oslo: four degrees."}]
    parse = client.chat.completions.parse
    done = await parse(model=MODEL, messages=messages, response_format=Forecast)
    return repr(done.choices[0].message.parsed)


async def stream(client: AsyncCometAPI) -> str:
    """The answer as it comes."""
    messages: list[Any] = [{"role": "user", "content": "How warm is it in Oslo?"}]
    chunks = await client.chat.completions.create(model=MODEL, messages=messages, stream=True)
    pieces = [c.choices[0].delta.content async for c in chunks if c.choices]
    return "|".join(filter(None, pieces))


CALL = tool_call("measure", city="Oslo")
STEPS = (
    Step("tool call", use_tool, ("rate_limited", 429, 503, CALL, "dropped", answer("4 degrees."))),
    Step("structured output", extract, ("error_under_200", answer('{"city":"Oslo","degrees":4}'))),
    Step("streaming", stream, (429, CUT_STREAM, "stream_error", answer("It is 4 degrees."))),
)

if __name__ == "__main__":
    sys.exit(main(STEPS, AsyncCometAPI))
