"""Media routes, seen through the real SDK."""

from __future__ import annotations

import base64
from types import ModuleType

import openai
import pytest

from comet_resilience.testing import Gateway

from .conftest import TEXT

pytestmark = [
    pytest.mark.anyio,
    # The SDK leaves its generators behind when it has seen "[DONE]", and trio says so.
    pytest.mark.filterwarnings("ignore:Async generator '(openai|httpx):ResourceWarning"),
]


_FILE = ("a.wav", b"RIFF", "audio/wav")


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
async def test_transcriptions(client: openai.AsyncOpenAI) -> None:
    """Speech becomes text in every format."""
    create = client.audio.transcriptions.create
    assert (await create(model="gpt", file=_FILE)).text == TEXT
    verbose = await create(model="gpt", file=_FILE, response_format="verbose_json")
    assert (verbose.text, verbose.language) == (TEXT, "english")
    for format_ in ("text", "srt", "vtt"):
        assert TEXT in await create(model="gpt", file=_FILE, response_format=format_)
    translation = await client.audio.translations.create(model="gpt", file=_FILE)
    assert translation.text == TEXT


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
    assert (await client.files.content("file-1")).content == TEXT.encode()


async def test_what_is_not_offered(client: openai.AsyncOpenAI) -> None:
    """The gateway knows some routes of the SDK and refuses them."""
    with pytest.raises(openai.InternalServerError) as caught:
        await client.files.create(file=b"x", purpose="batch")
    assert (caught.value.status_code, caught.value.code) == (501, "api_not_implemented")
