"""Answers of a model in a script, as the real SDK reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from comet_resilience.testing import Gateway, answer, tool_call
from tests.conftest import MESSAGES

if TYPE_CHECKING:
    from collections.abc import Callable

    import openai

pytestmark = [
    pytest.mark.anyio,
    # The SDK leaves its generators behind when it has seen "[DONE]", and trio says so.
    pytest.mark.filterwarnings("ignore:Async generator '(openai|httpx):ResourceWarning"),
]

_CITY = '{"city": "Oslo", "days": 2}'


def _tool_gateway() -> Gateway:
    gateway = Gateway()
    gateway.script(tool_call("weather", city="Oslo", days=2))
    return gateway


async def test_a_tool_call_of_a_completion(
    client_of: Callable[[Gateway], openai.AsyncOpenAI],
) -> None:
    """Name, arguments, id and finish reason are where the SDK looks for them."""
    client = client_of(_tool_gateway())
    got = await client.chat.completions.create(model="m", messages=MESSAGES)
    calls: Any = got.choices[0].message.tool_calls
    (call,) = calls
    assert call.type == "function"
    assert (call.function.name, call.function.arguments) == ("weather", _CITY)
    assert call.id.startswith("call_2")
    assert got.choices[0].finish_reason == "tool_calls"
    assert (got.model, got.usage and got.usage.total_tokens) == ("m", 30)


async def test_a_tool_call_of_a_streamed_completion(
    client_of: Callable[[Gateway], openai.AsyncOpenAI],
) -> None:
    """The SDK puts the pieces together to the same call."""
    client = client_of(_tool_gateway())
    async with client.chat.completions.stream(model="m", messages=MESSAGES) as stream:
        got = await stream.get_final_completion()
    calls: Any = got.choices[0].message.tool_calls
    (call,) = calls
    assert (call.function.name, call.function.arguments) == ("weather", _CITY)
    assert got.choices[0].finish_reason == "tool_calls"


async def test_a_tool_call_of_a_response(
    client_of: Callable[[Gateway], openai.AsyncOpenAI],
) -> None:
    """The output is the one call."""
    got = await client_of(_tool_gateway()).responses.create(model="m", input="Hello")
    (item,) = got.output
    assert item.type == "function_call"
    assert (item.name, item.arguments) == ("weather", _CITY)


async def test_a_tool_call_of_a_streamed_response(
    client_of: Callable[[Gateway], openai.AsyncOpenAI],
) -> None:
    """The SDK puts the events together to the same call."""
    client = client_of(_tool_gateway())
    async with client.responses.stream(model="m", input="Hello") as stream:
        kinds = [event.type async for event in stream]
        got = await stream.get_final_response()
    (item,) = got.output
    assert item.type == "function_call"
    assert (item.name, item.arguments) == ("weather", _CITY)
    assert "response.function_call_arguments.done" in kinds


async def test_an_answer_is_said_once_on_either_route(
    client_of: Callable[[Gateway], openai.AsyncOpenAI],
) -> None:
    """A text of the script comes once, in the shape of the route; then the gateway's own."""
    gateway = Gateway(text="usual")
    client = client_of(gateway)
    gateway.script(answer('{"a": 1}'), answer("twice"))
    first = await client.chat.completions.create(model="m", messages=MESSAGES)
    second = await client.responses.create(model="m", input="Hello")
    third = await client.responses.create(model="m", input="Hello")
    assert first.choices[0].message.content == '{"a": 1}'
    assert (second.output_text, third.output_text) == ("twice", "usual")
