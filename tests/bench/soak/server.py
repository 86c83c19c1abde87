"""The gateway behind the proxy, in a process of its own so that its memory is not measured."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterator
from subprocess import PIPE, Popen
from urllib.parse import urlsplit

from comet_resilience.testing import ConcurrencyCap, Gateway

from .proxy import MISCHIEF, Proxy


async def serve(share: float, capacity: int) -> None:
    """Print the proxy's port and serve until standard input ends."""
    shares = dict.fromkeys(MISCHIEF, share / len(MISCHIEF))
    gateway = Gateway(capacity=ConcurrencyCap(capacity), latency=(0.0, 0.03))
    async with gateway:
        port = urlsplit(gateway.base_url).port
        assert port is not None
        async with Proxy(port, shares) as proxy:
            print(proxy.port, flush=True)
            loop = asyncio.get_running_loop()
            ended = loop.run_in_executor(None, sys.stdin.read)
            while not ended.done():
                await asyncio.wait([ended], timeout=1)
                forget(gateway)


def forget(gateway: Gateway) -> None:
    """Let go of what a gateway remembers of its requests; only its counters go on."""
    gateway.requests.clear()
    gateway.samples.clear()


@contextlib.contextmanager
def served(share: float, capacity: int) -> Iterator[int]:
    """The port of a proxy in front of a gateway, both in another process."""
    command = [sys.executable, "-m", "tests.bench.soak", "--serve", str(share), str(capacity)]
    process = Popen(command, stdin=PIPE, stdout=PIPE, text=True)
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait(60)
        process.stdout.close()
