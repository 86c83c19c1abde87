"""The routes, seen through the real SDK."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import openai
import pytest

from comet_resilience.testing import Gateway
from tests.conftest import MESSAGES

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

pytestmark = [
    pytest.mark.anyio,
    # The SDK leaves its generators behind when it has seen "[DONE]", and trio says so.
    pytest.mark.filterwarnings("ignore:Async generator '(openai|httpx):ResourceWarning"),
]

_TEXT = "One two three."
_FILE = ("a.wav", b"RIFF", "audio/wav")


@pytest.fixture
def gateway() -> Gateway:
    """Give a gateway that serves two models."""
    return Gateway(text=_TEXT, models=("gpt", "vendor/model"))


@pytest.fixture
def client(
    gateway: Gateway, client_of: Callable[[Gateway], openai.AsyncOpenAI]
) -> openai.AsyncOpenAI:
    """Give an SDK client of that gateway."""
    return client_of(gateway)


async def test_chat(client: openai.AsyncOpenAI) -> None:
    """A chat has its text, its finish reason and its usage."""
    completion = await client.chat.completions.create(model="gpt", messages=MESSAGES)
    assert completion.choices[0].message.content == _TEXT
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
    assert "".join(choice.delta.content or "" for choice in choices) == _TEXT
    assert [c.finish_reason for c in choices] == [None] * (len(choices) - 1) + ["stop"]
    assert len(choices) == 5


async def test_completions(client: openai.AsyncOpenAI) -> None:
    """The old completions work, plain and streamed."""
    plain = await client.completions.create(model="gpt", prompt="Hello")
    stream = await client.completions.create(model="gpt", prompt="Hello", stream=True)
    chunks = [chunk async for chunk in stream]
    assert plain.choices[0].text == "".join(c.choices[0].text for c in chunks) == _TEXT
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
    assert (response.output_text, response.status) == (_TEXT, "completed")
    assert response.usage is not None
    assert response.usage.output_tokens == 3


async def test_responses_stream(client: openai.AsyncOpenAI) -> None:
    """The events of a response are typed, numbered, and complete for the SDK's own helper."""
    stream = await client.responses.create(model="gpt", input="Hello", stream=True)
    events: list[Any] = [event async for event in stream]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
    deltas = [e.delta for e in events if e.type == "response.output_text.delta"]
    assert "".join(deltas) == events[-1].response.output_text == _TEXT
    async with client.responses.stream(model="gpt", input="Hello") as helper:
        assert (await helper.get_final_response()).output_text == _TEXT


async def test_models(client: openai.AsyncOpenAI) -> None:
    """Models are listed and found; one that is not there is an error under status 200."""
    assert [model.id async for model in client.models.list()] == ["gpt", "vendor/model"]
    assert (await client.models.retrieve("vendor/model")).id == "vendor/model"
    missing: Any = await client.models.retrieve("nope")
    assert missing.error["code"] == "model_not_found"
    assert missing.id is None


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
async def test_transcriptions(client: openai.AsyncOpenAI) -> None:
    """Speech becomes text in every format."""
    create = client.audio.transcriptions.create
    assert (await create(model="gpt", file=_FILE)).text == _TEXT
    verbose = await create(model="gpt", file=_FILE, response_format="verbose_json")
    assert (verbose.text, verbose.language) == (_TEXT, "english")
    for format_ in ("text", "srt", "vtt"):
        assert _TEXT in await create(model="gpt", file=_FILE, response_format=format_)
    translation = await client.audio.translations.create(model="gpt", file=_FILE)
    assert translation.text == _TEXT


async def test_speech(client: openai.AsyncOpenAI) -> None:
    """Text becomes bytes."""
    made = await client.audio.speech.create(model="gpt", voice="alloy", input="Hello")
    assert made.content == b"ID3One two three."


async def test_images(client: openai.AsyncOpenAI, gateway: Gateway) -> None:
    """Images come in base64 or as addresses under which something lies."""
    made = await client.images.generate(model="gpt", prompt="a cat", n=2)
    assert made.data is not None
    assert [base64.b64decode(image.b64_json or "")[1:4] for image in made.data] == [b"PNG"] * 2
    edited = await client.images.edit(
        model="gpt", prompt="a dog", image=("a.png", b"x", "image/png"), response_format="url"
    )
    assert edited.data is not None
    assert (edited.data[0].url or "").startswith(f"{gateway.origin}/cdn/")


async def test_a_video(client: openai.AsyncOpenAI, family: ModuleType, gateway: Gateway) -> None:
    """A video is a job with two names, then done, then a redirect to its bytes."""
    form = {"model": (None, "gpt"), "prompt": (None, "a cat")}
    headers = {"Authorization": "Bearer k"}
    async with family.AsyncClient(transport=gateway.transport(), headers=headers) as http:
        url = f"{gateway.base_url}/videos"
        job = (await http.post(url, files=form)).json()
        assert (job["status"], job["id"]) == ("queued", job["task_id"])
        done = (await http.get(f"{url}/{job['id']}")).json()
        assert (done["status"], done["progress"]) == ("completed", 100)
        content = await http.get(f"{url}/{job['id']}/content")
        assert content.status_code == 302
        film = await http.get(content.headers["location"])
        assert (film.status_code, film.headers["content-type"]) == (200, "video/mp4")


async def test_file_content(client: openai.AsyncOpenAI) -> None:
    """A file has content, whatever its name."""
    assert (await client.files.content("file-1")).content == _TEXT.encode()


async def test_what_is_not_offered(client: openai.AsyncOpenAI) -> None:
    """The gateway knows some routes of the SDK and refuses them."""
    with pytest.raises(openai.InternalServerError) as caught:
        await client.files.create(file=b"x", purpose="batch")
    assert (caught.value.status_code, caught.value.code) == (501, "api_not_implemented")


@pytest.mark.parametrize(
    ("body", "status", "code", "message"),
    [
        ({"model": "gpt"}, 500, "invalid_request", "field messages is required"),
        ({"model": "gpt", "messages": []}, 500, "invalid_request", "field messages is required"),
        ({"messages": MESSAGES}, 400, "", "model name is required"),
        ({"model": "nope", "messages": MESSAGES}, 503, "model_not_found", "model nope"),
        ([], 400, "", "invalid JSON body"),
    ],
)
async def test_malformed_chats(
    client: openai.AsyncOpenAI, body: Any, status: int, code: str, message: str
) -> None:
    """A malformed chat fails as the guide says, also under a server status."""
    with pytest.raises(openai.APIStatusError) as caught:
        await client.post("/chat/completions", body=body, cast_to=object)
    assert (caught.value.status_code, caught.value.code) == (status, code)
    assert message in str(caught.value.body)


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/nothing"), ("POST", "/chat/completions"), ("DELETE", "/v1/models")],
)
async def test_wrong_paths_lead_to_the_front_end(
    gateway: Gateway, family: ModuleType, method: str, path: str
) -> None:
    """An unknown path or a wrong method is a redirect to a web page on another host."""
    async with family.AsyncClient(transport=gateway.transport()) as http:
        reply = await http.request(method, gateway.origin + path)
        assert (reply.status_code, reply.content) == (301, b"")
        assert reply.headers["location"] == f"{gateway.front_end}{path}"
        page = await http.get(reply.headers["location"])
        assert '<div id="root">' in page.text


async def test_the_sdk_takes_a_page_for_an_answer(
    gateway: Gateway, client: openai.AsyncOpenAI
) -> None:
    """A base URL without /v1 gives a string instead of a completion: the trap of the guide."""
    wrong = client.with_options(base_url=gateway.origin)
    completion: Any = await wrong.chat.completions.create(model="gpt", messages=MESSAGES)
    assert completion.startswith("<!doctype html>")
    followed = gateway.requests[-1]
    assert (followed.method, followed.path) == ("GET", "/web/chat/completions")
    assert "authorization" not in followed.headers


@pytest.mark.parametrize("header", ["", "Bearer ", "Bearer", "bearer k", "Bearer a b", "k"])
async def test_malformed_keys(gateway: Gateway, family: ModuleType, header: str) -> None:
    """The header must be exactly "Authorization: Bearer <key>"."""
    async with family.AsyncClient(transport=gateway.transport()) as http:
        reply = await http.get(f"{gateway.base_url}/models", headers={"Authorization": header})
    assert reply.status_code == 401
    assert reply.json()["error"]["message"].startswith("invalid token (request id: ")
