"""Modes 14, 15 and 16: what cannot be sent twice, what may be billed twice, how often at most."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import openai
import pytest

from comet_resilience import diagnose, wrap
from tests.conftest import (
    BROKEN,
    FAST,
    KEY,
    LIMITED,
    MESSAGES,
    OK,
    Answer,
    ask,
    envelope,
    httpx,
    on_asyncio,
    run_in_virtual_time,
    scripted,
)

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]
DOWN: Answer = (503, envelope("", "down"), {})
#: Answers that a caller who can send again would retry.
RETRYABLE = [DOWN, BROKEN, LIMITED, httpx.ConnectError("no"), httpx.ReadError("cut")]


class Once(io.RawIOBase):
    """A file that can be read once."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, _size: int = -1) -> bytes:
        """Give the data once."""
        data, self._data = self._data, b""
        return data

    def seekable(self) -> bool:
        """Say that there is no way back."""
        return False


async def _generated(client: Any) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b'{"model": "m"}'

    await client.post("/chat/completions", content=body(), cast_to=object)


async def _uploaded(client: Any, file: Any) -> None:
    await client.audio.transcriptions.create(model="w", file=("a.wav", file))


@pytest.mark.parametrize("first", RETRYABLE, ids=str)
async def test_fm14_body_that_can_be_read_once_is_sent_once(first: Answer) -> None:
    """A generator or a pipe gets exactly one attempt, and the error says why."""
    calls: list[Callable[[Any], Awaitable[None]]] = [
        _generated,
        lambda client: _uploaded(client, Once(b"RIFF" * 9)),
    ]
    for call in calls:
        client, inner = scripted(first, (200, {"text": "x", "choices": [1]}, {}), **FAST)
        with pytest.raises(openai.APIError) as caught:
            await call(client)
        assert len(inner.sent) == 1
        assert "cannot be sent again" in diagnose(caught.value).reason


@pytest.mark.parametrize("first", RETRYABLE, ids=str)
async def test_fm14_body_that_can_be_rewound_is_sent_again_whole(first: Answer) -> None:
    """Bytes and seekable files reach the gateway complete at each attempt."""
    for file in (b"RIFF" * 9, io.BytesIO(b"RIFF" * 9)):
        client, inner = scripted(first, first, (200, {"text": "hello"}, {}), **FAST)
        await _uploaded(client, file)
        assert len(inner.sent) == 3
        assert len(set(inner.bodies)) == 1
        assert b"RIFF" * 9 in inner.bodies[2]


class Works:
    """A server that does the work, counts it, and lets the reply be lost."""

    def __init__(self) -> None:
        self.done = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read a whole request, do it, hang up."""
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.partition(b":")[2])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        )
        await reader.readexactly(length)
        self.done += 1
        writer.close()


@asynccontextmanager
async def working_server() -> AsyncIterator[tuple[Works, openai.AsyncOpenAI]]:
    """The server on a real socket, and a client of it."""
    works = Works()
    server = await asyncio.start_server(works, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=KEY)
    try:
        yield works, client
    finally:
        await client.close()
        server.close()
        await server.wait_closed()


async def _image(client: Any) -> object:
    return await client.images.generate(model="m", prompt="a comet")


async def _speech(client: Any) -> object:
    return await client.audio.speech.create(model="t", voice="alloy", input="x")


async def _video(client: Any) -> object:
    return await client.post("/videos", body={"model": "v"}, cast_to=object)


@on_asyncio
@pytest.mark.parametrize(
    ("call", "retry_ambiguous", "done"),
    [
        (ask, "text", 3),
        (ask, "none", 1),
        (_image, "text", 1),
        (_speech, "text", 1),
        (_video, "text", 1),
        (_image, "all", 3),
    ],
)
async def test_fm15_lost_replies_are_asked_for_again_by_policy_only(
    call: Callable[[Any], Awaitable[object]], retry_ambiguous: Any, done: int
) -> None:
    """The work was done and the reply lost: text is repeated, paid media only if asked to."""
    async with working_server() as (works, bare):
        client = wrap(bare, max_retries=2, retry_ambiguous=retry_ambiguous, **FAST)
        with pytest.raises(openai.APIConnectionError) as caught:
            await call(client)
        assert works.done == done
        assert diagnose(caught.value).may_be_billed


async def _edit(client: Any) -> object:
    return await client.images.edit(model="m", image=b"png", prompt="a cat")


async def _providers_job(client: Any) -> object:
    return await client.post("/suno/submit/music", body={"prompt": "p"}, cast_to=object)


def _said(status: int, **error: Any) -> Answer:
    return (status, {"error": {"message": "m", "type": None, "code": None, **error}}, {})


PAID_MEDIA = [_image, _edit, _speech, _video, _providers_job]
#: A provider that took the request and then broke off, as the gateways in between report it.
OPEN: list[Answer] = [
    _said(500, message="Connection error.", type="internal_server_error", code="500"),
    _said(500, message="an error", type="comet_api_error", code=""),
    _said(502, message="Error code: 502", type="internal_server_error", code="502"),
    _said(504, message="Timeout Error: Error code: 504", code="504"),
    _said(500, message="unexpected EOF", code="read_response_body_failed"),
    (500, {"html-message": "Message: fetch failed Cause: SocketError: other side closed"}, {}),
    (500, {"status": "failure", "message": "Something went wrong"}, {}),
    (502, "<html><title>502 Bad Gateway</title></html>", {"content-type": "text/html"}),
    (524, "<html><title>524: A timeout occurred</title></html>", {"content-type": "text/html"}),
    _said(408, message="Request timed out.", type="timeout_error"),
]
#: Answers that prove that nothing was begun, or that it is refunded.
PROVEN: list[Answer] = [
    LIMITED,
    _said(503, message="The model is overloaded", code="overloaded"),
    _said(529, message="Overloaded", type="overloaded_error"),
    _said(500, message="do request failed", code="do_request_failed"),
    _said(500, message="no channel left", code="get_channel_failed"),
]


@pytest.mark.parametrize("call", PAID_MEDIA)
@pytest.mark.parametrize("answer", OPEN)
async def test_fm15_paid_media_are_asked_for_once_where_the_answer_proves_nothing(
    call: Callable[[Any], Awaitable[object]], answer: Answer
) -> None:
    """JSON, a page or a bare status of a server: the picture may have been made, and is billed."""
    client, inner = scripted(answer, answer, answer, **FAST)
    with pytest.raises(openai.APIStatusError) as caught:
        await call(client)
    assert len(inner.sent) == 1
    assert diagnose(caught.value).may_be_billed


@pytest.mark.parametrize("call", PAID_MEDIA)
@pytest.mark.parametrize("answer", PROVEN)
async def test_fm15_paid_media_are_sent_again_where_nothing_was_begun(
    call: Callable[[Any], Awaitable[object]], answer: Answer
) -> None:
    """A limit, an overload by name, a refund, no connection: nothing is owed."""
    client, inner = scripted(answer, answer, max_retries=1, **FAST)
    with pytest.raises(openai.APIStatusError) as caught:
        await call(client)
    assert len(inner.sent) == 2
    assert not diagnose(caught.value).may_be_billed


@pytest.mark.parametrize("answer", OPEN)
async def test_fm15_text_is_sent_again_behind_the_same_answers(answer: Answer) -> None:
    """Two answers of text cost little, and the caller wants one."""
    client, inner = scripted(answer, OK, max_retries=1, **FAST)
    await ask(client)
    assert len(inner.sent) == 2


async def test_fm15_idempotency_key_of_the_caller_is_the_same_at_each_attempt() -> None:
    """What names the logical request is sent unchanged; only the count of retries moves."""
    client, inner = scripted(LIMITED, BROKEN, httpx.ReadError("cut"), OK, **FAST)
    await ask(client, extra_headers={"Idempotency-Key": "one-call"})
    keys = [headers["idempotency-key"] for headers, _, _ in inner.sent]
    assert keys == ["one-call"] * 4
    counts = [headers["x-stainless-retry-count"] for headers, _, _ in inner.sent]
    assert counts == ["0", "1", "2", "3"]


@pytest.mark.parametrize("retries", [0, 1, 3])
@pytest.mark.parametrize("answer", [BROKEN, httpx.ConnectError("no")], ids=["500", "fault"])
@pytest.mark.parametrize("header", [None, "true"])
async def test_fm16_one_owner_of_retries(retries: int, answer: Answer, header: str | None) -> None:
    """Sends per call are 1 + max_retries, wherever the number comes from and whoever asks more."""
    if header and not isinstance(answer, Exception):
        answer = (answer[0], answer[1], {"x-should-retry": header})
    client, inner = scripted(answer, max_retries=retries, **FAST)
    with pytest.raises(openai.APIError):
        await ask(client)
    assert len(inner.sent) == 1 + retries
    client, inner = scripted(answer, max_retries=5, **FAST)
    with pytest.raises(openai.APIError):
        await ask(client.with_options(max_retries=retries))
    assert len(inner.sent) == 1 + retries


def test_fm16_an_outage_is_not_amplified() -> None:
    """A minute in which all is refused: the gate lets canaries through, not every caller's retries.

    There is no retry budget on top: the closed gate bounds sends in time, whatever the callers do.
    """

    async def main() -> None:
        client, inner = scripted(LIMITED, max_retries=6)
        started, sends = anyio.current_time(), 0

        async def caller() -> None:
            while anyio.current_time() < started + 60:
                with pytest.raises(openai.RateLimitError):
                    await client.chat.completions.create(model="m", messages=MESSAGES)

        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(caller)
            await anyio.sleep(60)
            sends = len(inner.sent)
            tasks.cancel_scope.cancel()
        assert sends <= 60

    run_in_virtual_time(main)
