"""Instructor on a wrapped client, at a gateway that fails and recovers.

    pip install comet-resilience h11 instructor
    python examples/frameworks/instructor_extraction.py          # every step is answered
    python examples/frameworks/instructor_extraction.py --bare   # the same on the SDK's own client

What is made from an async client is async; there is no sync half.

`max_retries=` as a number is about answers that do not validate, and is worth keeping: each such
retry is another request, with the complaint in it. An `AsyncRetrying` in its place repeats failed
requests too, and is what to leave out.
"""

import sys
from typing import Any

try:
    import instructor
except ImportError as missing:
    sys.exit(f"{missing.name} is not installed. Do: pip install comet-resilience h11 instructor")
from openai import AsyncOpenAI
from pydantic import BaseModel
from rehearsal import CUT_STREAM, MODEL, Step, main

from comet_resilience.testing import answer, tool_call


class Forecast(BaseModel):
    """The shape of the structured answer."""

    city: str
    degrees: int


MESSAGES: Any = [{"role": "user", "content": "Oslo: four degrees."}]


async def use_tool(client: AsyncOpenAI) -> str:
    """By default the model answers through a tool of the form; the first answer is a wrong one."""
    extractor = instructor.from_openai(client)
    forecast = await extractor.create(model=MODEL, messages=MESSAGES, response_model=Forecast)
    return repr(forecast)


async def extract(client: AsyncOpenAI) -> str:
    """The same through the schema of a structured output."""
    extractor = instructor.from_openai(client, mode=instructor.Mode.JSON_SCHEMA)
    forecast = await extractor.create(model=MODEL, messages=MESSAGES, response_model=Forecast)
    return repr(forecast)


async def stream(client: AsyncOpenAI) -> str:
    """The object as it grows."""
    extractor = instructor.from_openai(client)
    partials = extractor.create_partial(model=MODEL, messages=MESSAGES, response_model=Forecast)
    return "|".join([f"{forecast!r}" async for forecast in partials])


GOOD = tool_call("Forecast", city="Oslo", degrees=4)
WRONG = tool_call("Forecast", city="Oslo", degrees="mild")
STEPS = (
    Step("tool call", use_tool, ("rate_limited", 429, 503, WRONG, "dropped", GOOD)),
    Step("structured output", extract, ("error_under_200", answer('{"city":"Oslo","degrees":4}'))),
    Step("streaming", stream, (429, CUT_STREAM, "stream_error", GOOD)),
)

if __name__ == "__main__":
    sys.exit(main(STEPS))
