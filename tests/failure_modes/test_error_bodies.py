"""Modes 20 to 23: error bodies that are huge, explode, drip, or break parsers."""

from __future__ import annotations

import asyncio
import gzip
import json
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import Any

import anyio
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comet_resilience import FailureKind, diagnose, wrap
from comet_resilience.wire.response import BODY_CAP, BODY_SECONDS
from tests.conftest import (
    FAST,
    KEY,
    OK,
    Answer,
    ask,
    envelope,
    httpx,
    in_virtual_time,
    on_asyncio,
    scripted,
)

pytestmark = pytest.mark.timeout(120)
MB = 1_048_576


@asynccontextmanager
async def server_of(head: str, parts: Callable[[], Iterator[bytes]]) -> AsyncIterator[Any]:
    """A real socket that sends a head and these parts; a client of it, and what it got rid of."""
    gone = [0]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {head}\r\n\r\n".encode())
        try:
            for part in parts():
                writer.write(part)
                await writer.drain()
                gone[0] += len(part)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    bare = openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=KEY)
    try:
        yield wrap(bare, max_retries=0), gone
    finally:
        await bare.close()
        server.close()
        await server.wait_closed()


async def grown_by(call: Any) -> tuple[Any, int]:
    """The error that a call raises, and how many bytes more it needed at its height."""
    with pytest.raises(openai.APIStatusError):  # the SDK imports megabytes at its first call
        await ask(scripted((400, envelope("bad", "no"), {}))[0])
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        with pytest.raises(openai.APIStatusError) as caught:
            await call
        return caught.value, tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("status", ["400 Bad Request", "503 Service Unavailable"])
def test_fm20_huge_error_body_is_read_up_to_a_cap(status: str) -> None:
    """Of 500 MB a few are taken off the wire, 64 KiB are kept, and the connection is closed."""

    async def main() -> None:
        head = f"{status}\r\ncontent-length: {500 * MB}"
        async with server_of(head, lambda: (b"x" * MB for _ in range(500))) as (client, gone):
            error, grown = await grown_by(ask(client))
            assert len(error.response.content) <= BODY_CAP
            assert grown < 10 * MB
        assert gone[0] < 50 * MB

    asyncio.run(main())


def _bomb(encoding: str) -> bytes:
    """A gigabyte of zeros in about a megabyte: the same flushed block again and again."""
    window = zlib.MAX_WBITS | 16 if encoding == "gzip" else zlib.MAX_WBITS
    deflate = zlib.compressobj(9, zlib.DEFLATED, window)
    head = deflate.compress(b"\0" * MB) + deflate.flush(zlib.Z_FULL_FLUSH)
    return head + (deflate.compress(b"\0" * MB) + deflate.flush(zlib.Z_FULL_FLUSH)) * 1_023


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_fm21_zip_bomb_does_not_go_off(encoding: str) -> None:
    """A megabyte that decodes to a gigabyte is decoded up to the cap; the SDK sees it decoded."""
    bomb = _bomb(encoding)
    assert len(bomb) < 1.1 * MB

    async def main() -> None:
        head = f"400 Bad Request\r\ncontent-encoding: {encoding}\r\ncontent-length: {len(bomb)}"
        async with server_of(head, lambda: iter([bomb])) as (client, _):
            error, grown = await grown_by(ask(client))
            assert len(error.response.content) <= BODY_CAP
            assert "content-encoding" not in error.response.headers
            assert grown < 10 * MB

    asyncio.run(main())


@on_asyncio
@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip, gzip", "identity", "x-unknown"])
@pytest.mark.anyio
async def test_fm21_other_encodings_are_bounded_or_left_alone(encoding: str) -> None:
    """A body in whatever encoding, or that only says so: status and kind are right, and no more."""
    layers = gzip.compress(gzip.compress(gzip.compress(b"\0" * 50 * MB)))
    bodies = [b"\x00\x01 no such encoding", layers]
    if encoding == "br" and find_spec("brotli"):
        bodies.append(__import__("brotli").compress(b"\0" * 50 * MB))
    if encoding == "zstd" and find_spec("zstandard"):
        bodies.append(__import__("zstandard").compress(b"\0" * 50 * MB))
    for body in bodies:
        client, inner = scripted((400, body, {"content-encoding": encoding}), **FAST)
        with pytest.raises(openai.BadRequestError) as caught:
            await ask(client)
        assert len(caught.value.response.content) <= BODY_CAP
        assert diagnose(caught.value).kind is FailureKind.INVALID_REQUEST
        assert len(inner.sent) == 1


class Dripping(httpx.AsyncByteStream):  # type: ignore[misc]
    """A body of one byte each half second, without an end."""

    def __init__(self) -> None:
        self.is_closed = False

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> bytes:
        await anyio.sleep(0.5)
        return b" "

    async def aclose(self) -> None:
        """Remember."""
        self.is_closed = True


@pytest.mark.anyio
@in_virtual_time
@pytest.mark.parametrize(("status", "sends"), [(400, 1), (503, 2), (429, 2)])
async def test_fm22_slow_loris_is_given_five_seconds(status: int, sends: int) -> None:
    """After five seconds in all the status alone decides; the connection is closed."""
    client, inner = scripted(OK, max_retries=1, **FAST)
    bodies: list[Dripping] = []

    async def drip(_request: Any) -> Any:
        bodies.append(Dripping())
        return httpx.Response(status, headers={"retry-after": "0"}, stream=bodies[-1])

    inner.behave = drip
    started = anyio.current_time()
    with pytest.raises(openai.APIStatusError) as caught:
        await ask(client)
    assert caught.value.status_code == status
    assert len(bodies) == sends
    assert all(body.is_closed for body in bodies)
    assert anyio.current_time() - started == pytest.approx(BODY_SECONDS * sends, abs=0.5)


DEEP = 200_000
ODD_BODIES: dict[str, bytes] = {
    "deep_closed": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "deep_open": b"[" * DEEP,
    "huge_integer": b'{"error": {"code": ' + b"9" * 100_000 + b', "message": "x"}}',
    "huge_number": b'{"error": {"code": 1e400, "message": -1e400, "param": NaN}}',
    "invalid_utf8": b'{"error": {"message": "\xff\xfe\xfa", "code": "\xc3\x28"}}',
    "utf16": '{"error": {"message": "x"}}'.encode("utf-16"),
    "bom": b"\xef\xbb\xbf" + b'{"error": {"message": "x", "code": "y"}}',
    "duplicates": b'{"error": 1, "error": {"code": 1, "code": 2}, "error": {"message": "x"}}',
    "error_is_string": b'{"error": "str"}',
    "code_is_number": b'{"error": {"code": 5, "message": 6, "type": [], "param": {}}}',
    "everything_is_null": b'{"error": {"code": null, "message": null, "type": null}}',
    "lone_surrogate": b'{"error": {"message": "\\ud800", "code": "\\udfff"}}',
    "nul": b"\x00" * 500,
    "a_number": b"7",
    "a_string": b'"no"',
    "true": b"true",
    "empty_list": b"[]",
    "truncated": json.dumps(envelope("", "x")).encode()[:-9],
}


@pytest.mark.anyio
@on_asyncio
@pytest.mark.parametrize("status", [400, 429, 500, 200])
@pytest.mark.parametrize("name", ODD_BODIES)
async def test_fm23_odd_body_is_judged_by_its_status(name: str, status: int) -> None:
    """Whatever breaks parsers never breaks us: the SDK's own exception, and the status decides."""
    answer: Answer = (status, ODD_BODIES[name], {"content-type": "application/json"})
    client, inner = scripted(answer, max_retries=1, **FAST)
    with pytest.raises(openai.APIStatusError) as caught:
        await ask(client)
    assert caught.value.status_code == status
    assert len(str(diagnose(caught.value))) < 10_000
    assert len(inner.sent) == {400: 1, 429: 2, 500: 2}.get(status, len(inner.sent))


json_values: Any = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inside: (
        st.lists(inside, max_size=4)
        | st.dictionaries(
            st.sampled_from(["error", "code", "message", "type", "param", "data", "id", "detail",
                             "choices", "success", "retry_after", "status"]), inside, max_size=5)
    ),
    max_leaves=20,
)  # fmt: skip


@settings(max_examples=40)
@given(
    body=json_values.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=200),
    status=st.sampled_from([200, 201, 400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 503, 524]),
)
def test_fm23_any_body_ends_in_an_answer_or_an_error_of_the_sdk(body: bytes, status: int) -> None:
    """Any JSON and any bytes under any status: the SDK's model or exception, nothing else."""

    async def main() -> None:
        client, inner = scripted((status, body, {}), max_retries=1, **FAST)
        try:
            await client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "x"}]
            )
        except openai.APIError as error:
            assert diagnose(error).reason
        assert 1 <= len(inner.sent) <= 2

    asyncio.run(main())
