"""What hostile answers cost: ``python -m tests.bench.hostile``.

A server on loopback answers with an endless error body, a compressed gigabyte, and a body of one
byte a second. Measured is one call through a wrapped client, in a process of its own so that peak
memory is its own; the bare SDK stands beside it where it comes back at all.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import gzip
import json
import resource
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable

import openai

from comet_resilience import wrap

_MB = 1_048_576
_SECONDS = 60.0
_BODIES = ("500 MB error body", "1 GB gzip bomb", "a byte a second")
_REACH = {"500 MB error body": 0.1, "1 GB gzip bomb": 0.1, "a byte a second": 6.0}


@functools.cache
def _bomb() -> bytes:
    return gzip.compress(b"\0" * _MB * 1_024)


async def _send(writer: asyncio.StreamWriter, case: str) -> None:
    head = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
    if case == "1 GB gzip bomb":
        bomb = _bomb()
        head += b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(bomb)
        writer.write(head + bomb)
        await writer.drain()
        return
    size = 500 * _MB if case == "500 MB error body" else 3_600
    writer.write(head + b"content-length: %d\r\n\r\n" % size)
    for _ in range(500 if size > _MB else 3_600):
        writer.write(b"x" * _MB if size > _MB else b"x")
        await writer.drain()
        if size < _MB:
            await asyncio.sleep(1)


def _server(case: str) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await _send(writer, case)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    return serve


async def _serve(case: str) -> None:
    if case == "1 GB gzip bomb":
        _bomb()
    server = await asyncio.start_server(_server(case), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await asyncio.sleep(2 * _SECONDS)


async def _call(port: int, wrapped: bool) -> None:
    """One call; prints seconds and growth of peak memory in MB as JSON."""
    client = openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="k", max_retries=0)
    client = wrap(client) if wrapped else client
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    try:
        async with asyncio.timeout(_SECONDS):
            await client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "x"}]
            )
    except (openai.OpenAIError, TimeoutError) as error:
        outcome = type(error).__name__
    else:
        outcome = "success"
    seconds = time.perf_counter() - started
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1_024
    print(json.dumps({"seconds": seconds, "memory": grown, "outcome": outcome}))


def _measure(case: str, wrapped: bool) -> dict[str, float | str]:
    me = [sys.executable, "-m", "tests.bench.hostile"]
    server = subprocess.Popen([*me, "--serve", case], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        ran = subprocess.run(
            [*me, "--call", port, *(["--wrapped"] if wrapped else [])],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        shown: dict[str, float | str] = json.loads(ran.stdout)
        return shown
    finally:
        server.kill()
        server.wait()


def main() -> None:
    """Measure all cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve")
    parser.add_argument("--call", type=int)
    parser.add_argument("--wrapped", action="store_true")
    given = parser.parse_args()
    if given.serve:
        asyncio.run(_serve(given.serve))
    elif given.call:
        asyncio.run(_call(given.call, given.wrapped))
    else:
        print("| body | client | seconds | memory MB | outcome | reach |")
        print("|---|---|---|---|---|---|")
        for case in _BODIES:
            for wrapped in (True, False):
                seen = _measure(case, wrapped)
                name = "wrapped" if wrapped else "bare SDK"
                reach = f"< 10 MB, < {_REACH[case]:g} s" if wrapped else ""
                print(
                    f"| {case} | {name} | {seen['seconds']:.2f} | {seen['memory']:.0f} |"
                    f" {seen['outcome']} | {reach} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
