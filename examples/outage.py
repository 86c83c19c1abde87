"""A hundred chat completions meet an outage, through a wrapped client and through the bare SDK.

    pip install -e '.[examples]' && python examples/outage.py

Each client has a gateway of its own on the loopback interface that answers nothing but 502 for
eleven seconds, and as many retries as the other. A line for each says what became of the calls;
the picture `outage.png` shows what each sent, and when it was answered.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from openai import AsyncOpenAI, OpenAIError

from comet_resilience import Event, GateClosed, GateOpened, wrap
from comet_resilience.testing import Gateway

try:
    from outage_picture import Panel, draw
except ImportError as missing:
    sys.exit(f"{missing.name} is not installed. Do: pip install -e '.[examples]'")

PICTURE = Path("outage.png")
RETRIES = 6
MODEL = "gpt-5.4"


@dataclass
class Gate:
    """When the gate of a client was closed; times are those of ``time.monotonic``."""

    closed: list[tuple[float, float]] = field(default_factory=list)
    _since: float | None = None

    def __call__(self, event: Event) -> None:
        """Hear an event of the client."""
        now = time.monotonic()
        if isinstance(event, GateClosed) and self._since is None:
            self._since = now
        elif isinstance(event, GateOpened) and self._since is not None:
            self.closed.append((self._since, now))
            self._since = None


async def meet(
    name: str, calls: int, seconds: float, status: int, make: Callable[[AsyncOpenAI], AsyncOpenAI]
) -> Panel:
    """Let so many calls meet an outage; return what their gateway saw of it."""
    async with Gateway(latency=0.05) as gateway:
        bare = AsyncOpenAI(
            base_url=gateway.base_url, api_key=gateway.api_key, max_retries=RETRIES, timeout=60
        )
        async with bare:
            await ask(bare)  # at its first call the SDK loads most of itself
            client = make(bare)
            gateway.always(status)
            began, at_gateway = time.monotonic(), gateway.now()
            before = len(gateway.requests)

            async def call() -> float | None:
                try:
                    await ask(client)
                except OpenAIError:  # the class that the bare SDK raises, too
                    return None
                return time.monotonic() - began

            async def outage() -> None:
                await asyncio.sleep(seconds)
                gateway.recover()

            ends = await asyncio.gather(outage(), *(call() for _ in range(calls)))
        sent = [request.at - at_gateway for request in gateway.requests[before:]]
    answered = sorted(end for end in ends[1:] if end is not None)
    return Panel(name=name, calls=calls, outage=seconds, sent=sent, answered=answered, began=began)


async def ask(client: AsyncOpenAI) -> None:
    """Ask as any program would."""
    await client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Say hello in five words."}]
    )


async def demo(calls: int, seconds: float, status: int) -> bool:
    """Show both clients; whether the wrapped one answered all calls."""
    gate = Gate()
    bare, wrapped = await asyncio.gather(
        meet(f"bare SDK, max_retries={RETRIES}", calls, seconds, status, lambda client: client),
        meet("wrapped", calls, seconds, status, lambda client: wrap(client, on_event=gate)),
    )
    wrapped.closed = [
        (since - wrapped.began, until - wrapped.began) for since, until in gate.closed
    ]
    for panel in (bare, wrapped):
        print(panel.summary)
    title = f"{calls} calls meet an outage: {seconds:g} seconds of nothing but {status}"
    draw([bare, wrapped], title, PICTURE)
    print(f"The picture is in {PICTURE}.")
    return len(wrapped.answered) == calls


def main() -> int:
    """Run from the command line; 0 if every call of the wrapped client was answered."""
    parser = argparse.ArgumentParser(description="An outage, wrapped and bare.")
    parser.add_argument("--calls", type=int, default=100, help="calls at once, 1 to 400 (100)")
    parser.add_argument("--seconds", type=float, default=11.0, help="of the outage, 0.1 to 60 (11)")
    parser.add_argument("--status", type=int, default=502, choices=(500, 502, 503, 504, 520))
    options = parser.parse_args()
    if not (1 <= options.calls <= 400 and 0.1 <= options.seconds <= 60):
        parser.error("--calls must be between 1 and 400, --seconds between 0.1 and 60")
    return 0 if asyncio.run(demo(options.calls, options.seconds, options.status)) else 1


if __name__ == "__main__":
    sys.exit(main())
