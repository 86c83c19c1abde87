"""Responses: read within bounds, turned into facts, handed on clean."""

from __future__ import annotations

import gzip
from typing import Any

import anyio
import pytest

from comet_resilience.verdict.vocabulary import BodyKind, Operation, RequestIds
from comet_resilience.wire.response import (
    BODY_CAP,
    BODY_SECONDS,
    close,
    observe,
    read_bounded,
    rebuild,
)

from ..conftest import (
    ClosingStream,
    httpx,
    in_virtual_time,
)

pytestmark = pytest.mark.anyio


def response_of(*parts: bytes | Exception, **headers: str) -> tuple[Any, list[object]]:
    """An unread response and the list in which its closing shows."""
    closed: list[object] = []
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    stream = ClosingStream(list(parts), closed)
    return httpx.Response(500, headers=named, stream=stream), closed


@pytest.mark.parametrize("charset", ["utf-16", "hex", "rot13"])
def test_a_failure_whose_charset_is_none_can_still_be_read(charset: str) -> None:
    """The SDK asks for the text of each failure."""
    head = {"content-type": f"application/json; charset={charset}"}
    body = b'{"error": {"message": "no"}}'
    shown = rebuild(httpx.Response(500, headers=head, content=body), body, RequestIds(), ("k", 1))
    assert shown.text == body.decode()


async def test_a_huge_body_is_cut() -> None:
    """No more than the cap is read, and the connection is closed."""
    response, closed = response_of(*[b"x" * 10_000] * 100)
    assert len(await read_bounded(response)) == BODY_CAP
    assert len(closed) == 1


async def test_a_bomb_does_not_go_off() -> None:
    """A small body that decodes to a gigabyte is decoded up to the cap."""
    bomb = gzip.compress(b"\0" * 50_000_000)
    response, _ = response_of(bomb, content_encoding="gzip")
    assert len(await read_bounded(response)) == BODY_CAP


@in_virtual_time
async def test_a_dripping_body_is_given_up() -> None:
    """After five seconds the rest of a slow body is left alone."""

    class Drip(httpx.AsyncByteStream):  # type: ignore[misc]
        def __aiter__(self) -> Any:
            return self

        async def __anext__(self) -> bytes:
            await anyio.sleep(1)
            return b"."

    started = anyio.current_time()
    body = await read_bounded(httpx.Response(500, stream=Drip()))
    assert anyio.current_time() - started == pytest.approx(BODY_SECONDS)
    assert 3 <= len(body) <= 5


async def test_a_body_that_breaks_off_is_kept_as_far_as_it_came() -> None:
    """A connection that dies inside an error body still leaves its beginning."""
    response, closed = response_of(b"half", httpx.ReadError("gone"))
    assert await read_bounded(response) == b"half"
    assert len(closed) == 1


async def test_somebody_elses_bug_is_not_swallowed() -> None:
    """An exception that is no fault of the exchange passes, and the response is closed."""
    response, closed = response_of(b"half", KeyError("bug"))
    with pytest.raises(KeyError):
        await read_bounded(response)
    assert len(closed) == 1


@in_virtual_time
async def test_closing_is_bounded() -> None:
    """A connection that does not close is left after two seconds, without an exception."""

    class Stuck:
        async def aclose(self) -> None:
            await anyio.sleep_forever()

    started = anyio.current_time()
    await close(Stuck())
    assert anyio.current_time() - started == pytest.approx(2.0)


async def test_what_the_sdk_gets_is_clean() -> None:
    """The rebuilt response has the body decoded, retries stopped, and the gateway's id."""
    body = gzip.compress(b'{"error": {"message": "no"}}')
    response, _ = response_of(
        body, content_encoding="gzip", x_request_id="provider", x_should_retry="true", x_kept="1"
    )
    decoded = await read_bounded(response)
    shown = rebuild(response, decoded, RequestIds(gateway="comet-id"), ("key", "value"))
    assert shown.json() == {"error": {"message": "no"}}
    assert shown.headers["x-should-retry"] == "false"
    assert shown.headers["x-request-id"] == "comet-id"
    assert shown.headers["x-kept"] == "1"
    assert "content-encoding" not in shown.headers
    assert shown.extensions["key"] == "value"


def test_facts_of_a_mapped_status() -> None:
    """A gateway's 429 that stands for a provider's 404 is observed as the 404."""
    response = httpx.Response(
        429, json={"error": {"code": "bad_response_status_code", "param": "404", "message": ""}}
    )
    seen = observe(response, response.content, Operation.TEXT)
    assert (seen.status, seen.body) == (404, BodyKind.JSON)


def test_hints_come_from_headers_before_bodies() -> None:
    """A header beats the sentence in the message, which counts only for load."""
    text = {"error": {"message": "Please try again in 7s"}}
    with_header = httpx.Response(429, json=text, headers={"retry-after": "3"})
    without = httpx.Response(429, json=text)
    other = httpx.Response(400, json=text)
    hints = [
        observe(r, r.content, Operation.TEXT).retry_after for r in (with_header, without, other)
    ]
    assert hints == [3.0, 7.0, None]
