"""Hundreds of calls from a list, killed half way with SIGKILL, and gone on with.

    pip install -e . && python examples/bulk.py

An embedded gateway answers here. The first run is killed; the second one asks only for what was
not yet answered. All that a program of yours needs is `work()`.
"""

import argparse
import asyncio
import sys
import tempfile
from asyncio.subprocess import PIPE
from pathlib import Path

from openai import AsyncOpenAI

from comet_resilience import run_all, wrap
from comet_resilience.testing import ConcurrencyCap, Gateway

ITEMS = [f"What is {number} squared?" for number in range(400)]


async def work(client: AsyncOpenAI, file: Path) -> None:
    """Ask everything; the file knows what is answered already."""

    async def ask(question: str) -> str | None:
        answer = await client.chat.completions.create(
            model="any", messages=[{"role": "user", "content": question}]
        )
        return answer.choices[0].message.content

    running = run_all(ask, ITEMS, client=client, finished=file, store_results=True)
    async with running as results:
        async for item, result in results:
            print(item, result, flush=True)


async def run(gateway: Gateway, file: Path, kill_after: int | None) -> int:
    """Run `work()` as a process of its own; how many results it handled."""
    arguments = ("--gateway", gateway.base_url, "--file", str(file))
    process = await asyncio.create_subprocess_exec(
        sys.executable, __file__, *arguments, stdout=PIPE
    )
    output, handled = process.stdout, 0
    while output is not None and await output.readline():
        handled += 1
        if handled == kill_after:
            process.kill()
    code = await process.wait()
    how = "killed after" if code else "resumed, and finished with"
    print(f"{how} {handled} results; answers of the gateway so far: {gateway.answered}")
    return handled


async def show() -> None:
    """Kill the first run, let the second one finish."""
    cap = ConcurrencyCap(12)
    async with Gateway(capacity=cap, latency=(0.05, 0.2)) as gateway:
        with tempfile.TemporaryDirectory() as folder:
            first = await run(gateway, Path(folder, "finished.jsonl"), len(ITEMS) // 3)
            second = await run(gateway, Path(folder, "finished.jsonl"), None)
        twice = gateway.answered - len(ITEMS)
        print(f"{len(ITEMS)} items: {first} + {second} results, {twice} answers paid for twice")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Bulk work that survives kill -9.")
    parser.add_argument("--gateway", help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.gateway:
        client = wrap(AsyncOpenAI(base_url=chosen.gateway, api_key="comet-test-key"))
        asyncio.run(work(client, chosen.file))
    else:
        asyncio.run(show())
