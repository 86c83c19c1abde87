"""Text routes, seen through the real SDK."""

from __future__ import annotations

import base64
from typing import Any

import openai
import pytest

from tests.conftest import MESSAGES

from .conftest import TEXT

pytestmark = [
    pytest.mark.anyio,
    # The SDK leaves its generators behind when it has seen "[DONE]", and trio says so.
    pytest.mark.filterwarnings("ignore:Async generator '(openai|httpx):ResourceWarning"),
]


async def test_chat(client: openai.AsyncOpenAI) -> None:
    """A chat has its text, its finish reason and its usage."""
    completion = await client.chat.completions.create(model="gpt", messages=MESSAGES)
    assert completion.choices[0].message.content == TEXT
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.total_tokens > completion.usage.completion_tokens == 3
    assert (completion.model, completion.id[:9]) == ("gpt", "chatcmpl-")


@pytest.mark.parametrize("with_usage", [False, True])
async def test_chat_stream(client: openai.AsyncOpenAI, with_usage: bool) -> None:
    """A chat stream begins with the role, ends with the reason, and has usage if asked."""
    options: Any = {"include_usage": True} if with_usage else None
    stream = await client.chat.completions.create(
        model="gpt", messages=MESSAGES, stream=True, stream_options=options
    )
    chunks = [chunk async for chunk in stream]
    usage = [chunk.usage.completion_tokens for chunk in chunks if chunk.usage]
    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert usage == [3] * with_usage
    assert choices[0].delta.role == "assistant"
    assert "".join(choice.delta.content or "" for choice in choices) == TEXT
    assert [c.finish_reason for c in choices] == [None] * (len(choices) - 1) + ["stop"]
    assert len(choices) == 5


async def test_completions(client: openai.AsyncOpenAI) -> None:
    """The old completions work, plain and streamed."""
    plain = await client.completions.create(model="gpt", prompt="Hello")
    stream = await client.completions.create(model="gpt", prompt="Hello", stream=True)
    chunks = [chunk async for chunk in stream]
    assert plain.choices[0].text == "".join(c.choices[0].text for c in chunks) == TEXT
    assert chunks[-1].choices[0].finish_reason == "stop"


@pytest.mark.parametrize("encoding", [None, "float", "base64"])
async def test_embeddings(client: openai.AsyncOpenAI, encoding: Any) -> None:
    """There is one vector for each input, in both encodings."""
    more: Any = {} if encoding is None else {"encoding_format": encoding}
    made = await client.embeddings.create(model="gpt", input=["a", "b"], dimensions=4, **more)
    assert [item.index for item in made.data] == [0, 1]
    vector: Any = made.data[1].embedding
    if encoding == "base64":
        assert len(base64.b64decode(vector)) == 16
    else:
        assert vector == [0.25, 0.5, 0.75, 1.0]
    one = await client.embeddings.create(model="gpt", input=[1, 2, 3])
    assert len(one.data) == 1


async def test_responses(client: openai.AsyncOpenAI) -> None:
    """A response has its text and its usage."""
    response = await client.responses.create(model="gpt", input="Hello")
    assert (response.output_text, response.status) == (TEXT, "completed")
    assert response.usage is not None
    assert response.usage.output_tokens == 3


async def test_responses_stream(client: openai.AsyncOpenAI) -> None:
    """The events of a response are typed, numbered, and complete for the SDK's own helper."""
    stream = await client.responses.create(model="gpt", input="Hello", stream=True)
    events: list[Any] = [event async for event in stream]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
    deltas = [e.delta for e in events if e.type == "response.output_text.delta"]
    assert "".join(deltas) == events[-1].response.output_text == TEXT
    async with client.responses.stream(model="gpt", input="Hello") as helper:
        assert (await helper.get_final_response()).output_text == TEXT


async def test_models(client: openai.AsyncOpenAI) -> None:
    """Models are listed and found; one that is not there is an error under status 200."""
    assert [model.id async for model in client.models.list()] == ["gpt", "vendor/model"]
    assert (await client.models.retrieve("vendor/model")).id == "vendor/model"
    missing: Any = await client.models.retrieve("nope")
    assert missing.error["code"] == "model_not_found"
    assert missing.id is None
