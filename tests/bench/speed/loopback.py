"""Over real sockets to a server in another process: wrapped beside a do-nothing transport."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from typing import Any

from comet_resilience import wrap

from .exchange import BODY, MESSAGES, Nothing, httpx, sdk
from .layers import NOTHING, WRAPPED
from .rounds import Round, interleave

IN_FLIGHT = (1, 32, 256)
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
    len(BODY),
    BODY,
)


async def loopback(rounds: int) -> None:
    """CPU and wall time per call with 1, 32 and 256 in flight."""
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=_serve, args=(there,), daemon=True)
    server.start()
    base_url = f"http://127.0.0.1:{here.recv()}/v1"
    print(f"| over loopback, beside a {NOTHING} | CPU | wall time |\n|---|---|---|")
    for in_flight in IN_FLIGHT:
        shown = [await _ratio(base_url, in_flight, rounds, clock) for clock in _CLOCKS]
        print(f"| {in_flight} in flight | {shown[0]} | {shown[1]} |")
    server.kill()
    print(f"\n{rounds} rounds each; in brackets the middle half of the ratios\n")


_CLOCKS = (time.process_time, time.perf_counter)


async def _ratio(base_url: str, in_flight: int, rounds: int, clock: Any) -> str:
    limits = httpx.Limits(max_connections=1_000, max_keepalive_connections=1_000)
    pools = [httpx.AsyncHTTPTransport(limits=limits) for _ in range(2)]
    wrapped = wrap(
        sdk(pools[1], base_url), initial_concurrency=in_flight, max_concurrency=in_flight
    )
    clients = {NOTHING: sdk(Nothing(pools[0]), base_url), WRAPPED: wrapped}
    times = await interleave(
        {name: _calls(client, in_flight, clock) for name, client in clients.items()}, rounds
    )
    middle, low, high = times.ratio(WRAPPED, NOTHING)
    least = times.least(WRAPPED) / times.least(NOTHING)
    for pool in pools:
        await pool.aclose()
    return f"x {middle:.3f} ({low:.3f} to {high:.3f}), quickest x {least:.3f}"


def _calls(client: Any, in_flight: int, clock: Any) -> Round:
    async def run() -> float:
        started: float = clock()
        count = max(in_flight, 16)
        for _ in range(count // in_flight):
            await asyncio.gather(
                *(
                    client.chat.completions.create(model="m", messages=MESSAGES)
                    for _ in range(in_flight)
                )
            )
        return float((clock() - started) / count * 1e6)

    return run


def _serve(pipe: Any) -> None:
    asyncio.run(_listen(pipe))


async def _listen(pipe: Any) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Connection, "127.0.0.1", 0, backlog=1_024)
    pipe.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


class _Connection(asyncio.Protocol):
    """Answers each whole request; its length is all that is read of it."""

    _seen = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._seen += data
        head, found, body = self._seen.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        if found and len(body) >= length:
            self._seen = b""
            self._transport.write(_ANSWER)
