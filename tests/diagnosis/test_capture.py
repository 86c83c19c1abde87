"""The facts of a failure, taken when it happens: an upload, files, the server, bounded."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import openai
import pytest

from comet_resilience import support_report, wrap
from comet_resilience.call import context, diagnosing
from comet_resilience.testing import Gateway

from ..conftest import FAST, MESSAGES, ask, envelope, in_real_time, scripted

pytestmark = [pytest.mark.anyio, in_real_time]


async def test_an_upload_is_described_by_its_fields() -> None:
    """Field names, text values, file name, type and size, and how the file was given."""
    async with Gateway() as gateway:
        gateway.always("server_error")
        client = wrap(
            openai.AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.api_key),
            max_retries=0, **FAST,
        )  # fmt: skip
        async with client:
            with pytest.raises(openai.InternalServerError) as caught:
                await client.audio.transcriptions.create(
                    model="whisper",
                    language="en",
                    prompt="the names of my family",
                    file=("private/voice.mp3", io.BytesIO(b"x" * 2_000), "audio/mpeg"),
                )
    report = support_report(caught.value)
    fields = {upload.field: upload for upload in report.uploads}
    assert fields["model"].value == "whisper"
    assert fields["language"].value == "en"
    assert fields["prompt"].value == "[22 characters]"
    file = fields["file"]
    assert (file.value, file.file_name, file.file_type) == (None, "voice.mp3", "audio/mpeg")
    assert file.size is not None
    assert 2_000 <= file.size < 2_500
    assert any("uploaded directly" in line for line in report.files)
    assert "voice.mp3" in report.to_markdown()
    with_content = support_report(caught.value, include_content=True)
    assert "the names of my family" in with_content.to_markdown()


async def test_embedded_and_referenced_files_are_told_apart() -> None:
    """A picture in base64 is named by type and size, one behind a URL without its query."""
    embedded = "data:image/png;base64," + "iVBORw0KGgo" * 400
    parts = [
        {"type": "image_url", "image_url": {"url": embedded}},
        {"type": "image_url", "image_url": {"url": "https://x.example/a.png?sig=hidden"}},
    ]
    client, _ = scripted((413, envelope("", "too large"), {}), **FAST)
    with pytest.raises(openai.APIStatusError) as caught:
        messages: Any = [{"role": "user", "content": parts}]
        await client.chat.completions.create(model="m", messages=messages)
    report = support_report(caught.value, include_content=True)
    first, second = report.files
    assert re.search(r"content\[0\].*embedded as base64, image/png, 3300 bytes", first)
    assert second.endswith("content[1].image_url.url: referenced by URL")
    assert "iVBORw0KGgo" not in report.to_markdown()
    assert "https://x.example/a.png?[query]" in report.to_markdown()


async def test_what_is_kept_is_bounded() -> None:
    """A long conversation and a long answer are cut, and stay JSON."""
    messages: Any = [{"role": "user", "content": "word " * 2_000} for _ in range(300)]
    client, _ = scripted((400, envelope("", "m" * 60_000), {}), **FAST)
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(model="m", messages=messages)
    report = support_report(caught.value, include_content=True)
    assert len(report.to_json()) < 100_000
    assert json.loads(report.request_body)["model"] == "m"
    assert json.loads(report.response_body)["error"]["type"] == "comet_api_error"


@pytest.mark.parametrize("host", ["10.0.0.5", "8.8.8.8:81", "[::1]", "[fe80::1]:81", "localhost"])
async def test_the_server_is_named_whatever_its_address(host: str) -> None:
    """Addresses in a server's words are removed; the base URL in use is the caller's own."""
    client, _ = scripted((400, envelope("", "refused for 203.0.113.7"), {}))
    with pytest.raises(openai.APIError) as caught:
        await ask(client.with_options(base_url=f"http://{host}/v1"))
    report = support_report(caught.value)
    assert (report.base_url, report.path) == (f"http://{host}/v1", "/v1/chat/completions")
    assert "203.0.113.7" not in report.to_markdown()


async def test_a_success_takes_no_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is made for failures is not made for answers."""
    monkeypatch.setattr(diagnosing, "capture", None)
    monkeypatch.setattr(context, "redactor_of", None)
    client, _ = scripted((200, {"choices": [{}], "id": "x"}, {}), **FAST)
    await client.chat.completions.create(model="m", messages=MESSAGES)
