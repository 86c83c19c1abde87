"""What hostile answers cost: ``python -m tests.bench.hostile [--short] [--only WORDS]``.

A server on loopback, in a process of its own, answers with endless error bodies, hundreds of
megabytes well packed, a byte a second, and with event streams of 200 KB that come whole or cut
into 1, 16 and 256 bytes, plain and in every encoding that is installed, and break off at the head,
in an event, in an unfinished error event and before the end. Measured is one call, in a process
of its own so that peak memory is its own, of the bare SDK and of a wrapped client.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import functools
import gzip
import multiprocessing
import random
import resource
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import openai

from comet_resilience import wrap

_MB = 1_048_576
_SECONDS = 60.0
_TOTAL = 200_000
_CHAT = (
    b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":'
    b'[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}\n\n'
)
_END = _CHAT.replace(b"null", b'"stop"')
_CODECS = ("plain", "gzip", "deflate", *(("br",) if find_spec("brotli") else ()))
_CODECS += ("zstd",) if find_spec("zstandard") else ()


def _pack(codec: str, data: Iterator[bytes]) -> bytes:
    if codec == "plain":
        return b"".join(data)
    if codec == "br":
        packer = import_module("brotli").Compressor(quality=3, lgwin=24)
        packed: bytes = b"".join(packer.process(part) for part in data)
        return packed + bytes(packer.finish())
    packer = (
        zlib.compressobj(9, wbits=31 if codec == "gzip" else 15)
        if codec != "zstd"
        else import_module("zstandard").ZstdCompressor().compressobj()
    )
    packed = b"".join(packer.compress(part) for part in data)
    return packed + bytes(packer.flush())


def _filler() -> bytes:
    """Text that no encoding makes much smaller."""
    return base64.b64encode(random.Random(5).randbytes(_TOTAL * 3 // 4))


_PLACES: dict[str, Callable[[], bytes]] = {
    "head": lambda: b"data: " + _filler(),
    "mid-stream": lambda: _CHAT + b'data: {"x":"' + _filler(),
    "unfinished error": lambda: _CHAT + b'data: {"error": {"a":"' + _filler(),
    "before the end": lambda: _CHAT + _END + b": " + _filler() + b"\n\ndata: [DONE]\n\n",
    "empty lines": lambda: _CHAT + b"\n" * _TOTAL + _END + b"data: [DONE]\n\n",
    "comments": lambda: _CHAT + b": x\r\n" * (_TOTAL // 5) + _END + b"data: [DONE]\n\n",
}
#: What a stream's head, or an error body, may be unpacked to.
_UNITS: dict[str, tuple[bytes, int]] = {
    "200 MB of zeros": (b"\0" * _MB, 200),
    "200 MB in one event": (b"x" * _MB, 200),
    "20 MB of keep-alives": (b": keep-alive\n\n" * 65_536, 23),
}


@dataclass(frozen=True)
class Case:
    """One hostile answer."""

    name: str
    codec: str = "plain"
    status: int = 200
    size: int = 65_536
    drips: bool = False

    @property
    def is_stream(self) -> bool:
        """Whether a stream is asked for."""
        return self.status == 200

    @property
    def shown(self) -> str:
        """The first column of the table."""
        sliced = f", slices of {self.size}" if self.size != 65_536 else ""
        codec = "" if self.codec == "plain" else f", {self.codec}"
        kind = ", error body" if self.name in _UNITS and not self.is_stream else ""
        return f"{self.name}{kind}{codec}{sliced}"


@functools.cache
def _body(name: str, codec: str) -> bytes:
    if name == "endless empty blocks":
        return gzip.compress(b"")[:10] + b"\x00\x00\x00\xff\xff" * 10_000_000
    if name in _UNITS:
        unit, times = _UNITS[name]
        opening = b"data: " if "event" in name else b""
        return _pack(codec, (opening * (turn == 0) + unit for turn in range(times)))
    return _pack(codec, iter([_PLACES[name]()])) if name in _PLACES else b"x" * (200 * _MB)


def _cases(short: bool, only: str = "") -> list[Case]:
    codecs = _CODECS[1:]
    slow = [Case("a byte a second", status=400, drips=True)]
    bodies = [Case("200 MB error body", status=400), *([] if short else slow)]
    bodies += [Case("200 MB of zeros", codec, status=400) for codec in codecs]
    bodies += [Case(name, codec) for name in _UNITS for codec in codecs]
    bodies += [Case("endless empty blocks", "gzip")]
    sizes = (16,) if short else (1, 16, 256, 65_536)
    all_of_them = bodies + [
        Case(place, codec, size=size) for place in _PLACES for codec in _CODECS for size in sizes
    ]
    return [case for case in all_of_them if only in case.shown]


async def _send(writer: asyncio.StreamWriter, case: Case) -> int:
    kind = "text/event-stream" if case.is_stream else "application/json"
    head = f"HTTP/1.1 {case.status} X\r\ncontent-type: {kind}\r\nconnection: close\r\n"
    if case.codec != "plain":
        head += f"content-encoding: {case.codec}\r\n"
    writer.write(f"{head}transfer-encoding: chunked\r\n\r\n".encode())
    sent, body = 0, b"x" * 3_600 if case.drips else _body(case.name, case.codec)
    size = 1 if case.drips else case.size
    many = 1 if case.drips else max(1, 65_536 // (size + 8))
    try:
        for at in range(0, len(body), size * many):
            block = body[at : at + size * many]
            parts = (block[a : a + size] for a in range(0, len(block), size))
            writer.write(b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts))
            await writer.drain()
            sent += len(block)
            if case.drips:
                await asyncio.sleep(1)
        writer.write(b"0\r\n\r\n")
        await writer.drain()
    except ConnectionError:
        pass
    return sent


async def _serve(short: bool, only: str) -> None:
    cases = _cases(short, only)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            case = cases[int(head.split(b"/")[1])]
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length))
            print(await _send(writer, case), flush=True)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


async def _call(base_url: str, case: Case, wrapped: bool) -> dict[str, Any]:
    """One call: CPU seconds, growth of peak memory in MB, and how it ended."""
    client = openai.AsyncOpenAI(base_url=base_url, api_key="k", max_retries=0, timeout=_SECONDS)
    client = wrap(client) if wrapped else client
    _ = client.chat.completions
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    begun = time.perf_counter()
    outcome = "success"
    try:
        async with asyncio.timeout(_SECONDS):
            answer: Any = await client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "x"}], stream=case.is_stream
            )
            if case.is_stream:
                async for _ in answer:
                    pass
    except Exception as error:  # noqa: BLE001 - the bare SDK lets some of a codec's through
        outcome = type(error).__name__
    return {
        "cpu": time.process_time() - started,
        "seconds": time.perf_counter() - begun,
        "memory": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1_024,
        "outcome": outcome,
    }


def _in_a_child(connection: Any, base_url: str, case: Case, wrapped: bool) -> None:
    connection.send(asyncio.run(_call(base_url, case, wrapped)))


def _measure(port: int, number: int, case: Case, wrapped: bool) -> dict[str, Any]:
    context = multiprocessing.get_context("fork")
    mine, its = context.Pipe()
    url = f"http://127.0.0.1:{port}/{number}/v1"
    child = context.Process(target=_in_a_child, args=(its, url, case, wrapped))
    child.start()
    its.close()
    measured: dict[str, Any] = mine.recv()
    child.join()
    return measured


def _row(case: Case, sent: int, bare: dict[str, Any], wrapped: dict[str, Any]) -> str:
    shown = [
        *(f"{measured['cpu']:.2f}" for measured in (bare, wrapped)),
        *(f"{measured['memory']:.1f}" for measured in (bare, wrapped)),
        *(f"{measured['seconds']:.2f}" for measured in (bare, wrapped)),
        bare["outcome"],
        wrapped["outcome"],
    ]
    return f"| {case.shown} | {sent:,} | " + " | ".join(shown) + " |"


def _print_table(short: bool, only: str) -> None:
    warm = openai.AsyncOpenAI(base_url="http://127.0.0.1:9/v1", api_key="k", max_retries=0)
    _ = (warm.chat.completions, wrap(warm).chat.completions)  # imports are not the answer's cost
    me = [sys.executable, "-m", "tests.bench.hostile", "--serve", "--only", only]
    me += ["--short"] if short else []
    server = subprocess.Popen(me, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        port = int(server.stdout.readline())
        print("| answer | bytes sent | CPU s, bare | wrapped | memory MB, bare | wrapped"
              " | seconds, bare | wrapped | bare ends with | wrapped |")  # fmt: skip
        print("|---" * 10 + "|")
        for number, case in enumerate(_cases(short, only)):
            measured = []
            for wrapped in (False, True):
                measured.append(_measure(port, number, case, wrapped))
                sent = int(server.stdout.readline())
            print(_row(case, sent, *measured), flush=True)
    finally:
        server.kill()
        server.wait()


def main() -> None:
    """Measure all cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--short", action="store_true", help="slices of 16 bytes alone")
    parser.add_argument("--only", default="", help="answers whose name contains this")
    given = parser.parse_args()
    if given.serve:
        asyncio.run(_serve(given.short, given.only))
    else:
        _print_table(given.short, given.only)


if __name__ == "__main__":
    main()
