"""Modes 24, 25 and 26: redirects to elsewhere, cookies, and web pages under a success status."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest

from comet_resilience import FailureKind, WrongEndpointError, diagnose, wrap
from tests.conftest import (
    COMPLETION,
    FAST,
    KEY,
    LIMITED,
    OK,
    Answer,
    Scripted,
    ask,
    bare_client,
    envelope,
    on_asyncio,
    scripted,
)

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]


class Host:
    """A loopback host that remembers what it was sent and gives one raw answer."""

    def __init__(self, status: str, headers: str = "", body: bytes = b"") -> None:
        self.seen: list[bytes] = []
        self.port = 0
        self._status, self.headers, self._body = status, headers, body

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.seen.append(await reader.readuntil(b"\r\n\r\n") + await reader.read(65_536))
        head = f"HTTP/1.1 {self._status}\r\n{self.headers}content-length: {len(self._body)}\r\n"
        writer.write(head.encode() + b"connection: close\r\n\r\n" + self._body)
        await writer.drain()
        writer.close()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Listen; its origin."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield f"http://127.0.0.1:{self.port}"
        finally:
            server.close()
            await server.wait_closed()


@on_asyncio
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("stream", [False, True])
async def test_fm24_redirect_to_another_host_is_never_followed(status: int, stream: bool) -> None:
    """Two real hosts: the second sees no request, no prompt and no key, by whatever header."""
    second = Host("200 OK", "content-type: text/html\r\n", b"<html>captured</html>")
    async with second.serving() as elsewhere:
        first = Host(f"{status} Moved", f"location: {elsewhere}/v1/chat/completions?x={KEY}\r\n")
        async with first.serving() as origin:
            bare = openai.AsyncOpenAI(
                base_url=f"{origin}/v1", api_key=KEY, default_headers={"x-api-key": KEY}
            )
            client = wrap(bare, **FAST)
            with pytest.raises(WrongEndpointError) as caught:
                await ask(client, stream=stream)
            await client.close()
    assert not second.seen
    assert len(first.seen) == 1
    assert caught.value.status_code == status
    assert diagnose(caught.value).kind is FailureKind.WRONG_PATH
    assert not diagnose(caught.value).retryable
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("location", ["/v1/chat/completions", "//x.test/", "http://[", "", "\\"])
async def test_fm24_redirect_to_anywhere_is_an_error(location: str) -> None:
    """To the same origin, to a broken address, to nowhere: one send and a clear error."""
    client, inner = scripted((307, b"", {"location": location}), OK, **FAST)
    with pytest.raises(WrongEndpointError, match="https://api.cometapi.com/v1"):
        await ask(client)
    assert len(inner.sent) == 1


async def test_fm24_redirected_download_takes_nothing_private_along() -> None:
    """Only downloads follow, and then without key, cookies or headers of the caller's own."""
    answers: list[Answer] = [
        (302, b"", {"location": "https://cdn.test/file?sig=1", "set-cookie": "a=1"}),
        (200, b"bytes", {"content-type": "application/octet-stream"}),
    ]
    inner_client, inner = scripted(*answers)
    client = inner_client.with_options(default_headers={"x-api-key": KEY, "cookie": f"k={KEY}"})
    assert (await client.files.content("file-1")).content == b"bytes"
    headers, url, method = inner.sent[1]
    assert (method, url) == ("GET", "https://cdn.test/file?sig=1")
    assert KEY not in str(headers)
    assert not {"authorization", "cookie", "x-api-key"} & set(headers)


COOKIE = {"set-cookie": "session=mallory; Path=/", "content-type": "application/json"}


@pytest.mark.parametrize(
    "first",
    [
        (429, envelope("", "slow"), COOKIE),
        (500, envelope("", "broke"), COOKIE),
        (400, envelope("", "bad"), COOKIE),
        (301, b"", {**COOKIE, "location": "/"}),
        (200, envelope("", "an error"), COOKIE),
    ],
    ids=lambda answer: str(answer[0]),
)
async def test_fm25_cookie_of_a_failure_is_never_sent_back(first: Answer) -> None:
    """A failed answer plants no cookie: neither its retry nor the next call carries it."""
    client, inner = scripted(first, OK, max_retries=1, **FAST)
    for _ in range(2):
        try:
            await ask(client)
        except openai.OpenAIError as error:
            response = getattr(error, "response", None)
            assert response is None or "set-cookie" not in response.headers
    assert len(inner.sent) >= 2
    assert all("cookie" not in headers for headers, _, _ in inner.sent)


async def test_fm25_cookie_of_a_success_is_the_callers_own_business() -> None:
    """A success passes untouched, cookie included: the jar does what it does without us."""
    client, inner = scripted((200, COMPLETION, COOKIE), OK)
    alone = Scripted([(200, COMPLETION, COOKIE), OK])
    for caller in (client, bare_client(alone)):
        await ask(caller)
        await ask(caller)
    with_us, without_us = (
        [headers.get("cookie") for headers, _, _ in wire.sent] for wire in (inner, alone)
    )
    assert with_us == without_us


HTML = b"<!doctype html><html><head><title>CometAPI</title></head><div id=root></div></html>"
PAGES: list[Answer] = [
    (200, HTML, {"content-type": "text/html"}),
    (200, HTML, {"content-type": "application/json"}),
    (200, HTML, {"content-type": "text/event-stream"}),
    (200, HTML, {}),
    (200, b"  \r\n" + HTML, {"content-type": "text/html"}),
    (200, b"\xef\xbb\xbf" + HTML, {"content-type": "text/html"}),
    (201, HTML, {"content-type": "text/html"}),
    (202, b"<html><title>Log in to the network</title></html>", {"content-type": "text/html"}),
    (200, b'<?xml version="1.0"?><!DOCTYPE html><html></html>', {"content-type": "text/html"}),
    (404, HTML, {"content-type": "text/html"}),
]


@on_asyncio
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("answer", PAGES, ids=str)
async def test_fm26_web_page_is_named_and_not_retried(answer: Answer, stream: bool) -> None:
    """A web page where an answer was due: the error names base URL and path; one send."""
    client, inner = scripted(answer, **FAST)
    with pytest.raises(WrongEndpointError, match="/v1/chat/completions") as caught:
        await ask(client, stream=stream)
    assert len(inner.sent) == 1
    assert diagnose(caught.value).kind is FailureKind.WRONG_PATH


@pytest.mark.parametrize("title", ["502 Bad Gateway", "504 Gateway Time-out"])
async def test_fm26_error_page_of_a_proxy_under_200_is_retried(title: str) -> None:
    """What is plainly a proxy's error page is no wrong path, whatever its status says."""
    page = f"<html><head><title>{title}</title></head></html>".encode()
    client, inner = scripted((200, page, {"content-type": "text/html"}), LIMITED, OK, **FAST)
    assert await ask(client) == "Hi"
    assert len(inner.sent) == 3


JSON_LIKE = {"content-type": "application/json"}
PLAIN = {"content-type": "text/plain; charset=utf-8"}
#: Answers on a route that nobody knows, what the SDK makes of them, and whether they pass.
UNKNOWN_ROUTE: list[tuple[Answer, Any, bool]] = [
    ((204, b"", {}), type(None), True),
    ((205, b"", JSON_LIKE), type(None), True),
    ((200, b"hello", PLAIN), str, True),
    ((200, b"42", PLAIN), str, True),
    ((200, b'{"a": 1}\n{"a": 2}\n', {"content-type": "application/x-ndjson"}), str, True),
    ((200, b"PK\x03\x04\x00", {"content-type": "application/zip"}), str, True),
    ((200, HTML, PLAIN), str, False),
    ((200, HTML, {}), str, False),
    ((200, envelope("x", "an error"), PLAIN), str, False),
    ((200, b"hello", JSON_LIKE), object, False),
    ((200, b"", PLAIN), str, True),
]


@pytest.mark.parametrize(("answer", "cast_to", "passes"), UNKNOWN_ROUTE, ids=str)
async def test_fm26_unknown_route_may_answer_as_it_likes(
    answer: Answer, cast_to: Any, passes: bool
) -> None:
    """No content, text and lines of JSON pass where nothing is known to be due; pages do not."""
    client, inner = scripted(answer, max_retries=0, **FAST)
    if passes:
        await client.post("/somewhere/else", body={}, cast_to=cast_to)
    else:
        with pytest.raises(openai.APIStatusError):
            await client.post("/somewhere/else", body={}, cast_to=cast_to)
    assert len(inner.sent) == 1


async def test_fm26_no_content_is_no_answer_where_one_is_due() -> None:
    """A 204 to a chat completion is an empty answer, and asked for again."""
    client, inner = scripted((204, b"", {}), OK, **FAST)
    assert await ask(client) == "Hi"
    assert len(inner.sent) == 2
