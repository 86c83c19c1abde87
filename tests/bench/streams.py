"""What the watch on a stream costs: ``python -m tests.bench.streams``.

A stream of 1,000 events in memory, read by the real SDK bare and wrapped, in turn; CPU time of the
process and the time to the first event. Ratios, because absolute times are the machine's.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from typing import Any

import openai

from comet_resilience import wrap
from comet_resilience.wire.family import family_of_sdk

httpx: Any = family_of_sdk()
EVENTS = 1_000
ROUNDS = 15


def _event(content: str, finish: str | None) -> bytes:
    data = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "delta": {"content": content}, "finish_reason": finish}],
    }
    return b"data: " + json.dumps(data).encode() + b"\n\n"


_CHUNKS = [*(_event(f" word{n}", None) for n in range(EVENTS - 1)), _event("", "stop")]
_CHUNKS.append(b"data: [DONE]\n\n")


class Stream(httpx.AsyncByteStream):  # type: ignore[misc]
    """The events, one chunk each."""

    def __init__(self) -> None:
        self._chunks = iter(_CHUNKS)

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> bytes:
        try:
            return next(self._chunks)
        except StopIteration:
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        """Nothing to close."""


class Transport(httpx.AsyncBaseTransport):  # type: ignore[misc]
    """Answers each request with the stream."""

    async def handle_async_request(self, _request: Any) -> Any:
        """Answer."""
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=Stream())


async def _read(client: Any) -> tuple[float, float]:
    """CPU seconds of one whole stream, and wall seconds to its first event."""
    cpu, wall = time.process_time(), time.perf_counter()
    first, count = 0.0, 0
    stream = await client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "x"}], stream=True
    )
    async for _ in stream:
        first = first or time.perf_counter() - wall
        count += 1
    assert count == EVENTS
    return time.process_time() - cpu, first


async def _compare() -> None:
    bare = openai.AsyncOpenAI(
        api_key="k",
        base_url="http://bench.test/v1",
        http_client=httpx.AsyncClient(transport=Transport()),
    )
    clients = {"bare SDK": bare, "wrapped": wrap(bare)}
    for client in clients.values():
        await _read(client)
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in clients}
    for _ in range(ROUNDS):
        for name, client in clients.items():
            seen[name].append(await _read(client))
    ratios = [w[0] / b[0] for w, b in zip(seen["wrapped"], seen["bare SDK"], strict=True)]
    print("| client | CPU per event | time to first event |")
    print("|---|---|---|")
    for name, rows in seen.items():
        cpu = statistics.median(row[0] for row in rows) / EVENTS * 1e6
        first = statistics.median(row[1] for row in rows) * 1e3
        print(f"| {name} | {cpu:.1f} us | {first:.2f} ms |")
    print(f"\nCPU wrapped / bare, median of pairs: {statistics.median(ratios):.3f} (reach: 1.02)")


if __name__ == "__main__":
    asyncio.run(_compare())
