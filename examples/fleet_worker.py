"""One process of the fleet: it asks as fast as it is let, and says twenty times a second how it is.

`fleet.py` starts four of these. Nothing in here knows of the other three.
"""

import asyncio
import json
import sys
import time

from openai import AsyncOpenAI, OpenAIError

from comet_resilience import snapshot, wrap

MODEL = "gpt-5.4"

#: How many callers each process has; far more than it will ever be allowed to have in flight.
CALLERS = 24
REPORT_EVERY = 0.05


class Worker:
    """Callers that ask again as soon as they are answered, and a count of what became of it."""

    def __init__(self, base_url: str, key: str, redis: str) -> None:
        # This line is all that a program has to change to share a limit with other processes.
        self.client = wrap(AsyncOpenAI(base_url=base_url, api_key=key), fleet=redis)
        self.succeeded = self.failed = 0

    async def call(self, until: float) -> None:
        """Ask, one call after the other, until the time is over."""
        while time.time() < until:
            try:
                await self.client.chat.completions.create(
                    model=MODEL, messages=[{"role": "user", "content": "Say hello."}]
                )
            except OpenAIError:
                self.failed += 1
            else:
                self.succeeded += 1

    async def report(self, until: float) -> None:
        """Write down where this process stands, at the same moments as the others."""
        while (now := time.time()) < until:
            say(at=now, succeeded=self.succeeded, failed=self.failed, **self.standing())
            await asyncio.sleep(REPORT_EVERY - time.time() % REPORT_EVERY)

    def standing(self) -> dict[str, object]:
        """Return what `snapshot` shows of the one model that is called."""
        partitions = snapshot(self.client).partitions
        if not partitions or partitions[0].fleet is None:
            return {}
        shown = partitions[0]
        return {
            "in_flight": shown.in_flight,
            "share": shown.limit,
            "state": partitions[0].fleet.state,
            "attempts": shown.ok + shown.refused + shown.other,
            "refused": shown.refused,
        }

    async def run(self, until: float) -> None:
        """Call and report until the time is over."""
        async with self.client:
            calls = [self.call(until) for _ in range(CALLERS)]
            await asyncio.gather(self.report(until), *calls)


def say(**values: object) -> None:
    """Write a line to who started this process."""
    print(json.dumps(values), flush=True)


def main() -> None:
    """Load everything, say so, and begin when told until when."""
    worker = Worker(*sys.argv[1:])
    worker.client.chat.completions  # noqa: B018 - the SDK loads this part when it is first named
    say(ready=True)
    until = sys.stdin.readline()
    if until:  # or who started this process has given up
        asyncio.run(worker.run(float(until)))


if __name__ == "__main__":
    main()
