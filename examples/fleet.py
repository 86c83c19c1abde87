"""Four processes share one hidden limit through Redis, whatever happens to them or to Redis.

    pip install -e '.[examples,redis]' && python examples/fleet.py

Starts a Redis, a gateway on the loopback interface that takes 20 requests at once and tells
nobody, and four processes that ask as fast as they are let. Then one of them is killed, and later
Redis hangs for five seconds. A table says what it cost, and the picture `fleet.png` shows it.
"""

import argparse
import asyncio
import json
import math
import sys
import time
from asyncio.subprocess import PIPE, Process
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from typing import cast

try:
    import redis  # noqa: F401 - the processes need it: say so before they start
    from fleet_picture import draw
    from fleet_story import Plan, Report, Story
    from quickstart_gateway import HiddenCapacity
    from redis_server import RedisServer
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
except ImportError as missing:
    sys.exit(f"{missing.name} is not installed. Do: pip install -e '.[examples,redis]'")

from comet_resilience.testing import Gateway, ReceivedRequest

WORKER = Path(__file__).with_name("fleet_worker.py")
PICTURE = Path("fleet.png")
PROCESSES = 4
CAP = 20


class Worker:
    """One of the processes, and what it has reported so far."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._word = cast("asyncio.StreamWriter", process.stdin)
        self._lines = cast("asyncio.StreamReader", process.stdout)
        self.reports = [Report()]

    @classmethod
    async def start(cls, *arguments: str) -> "Worker":
        """Start a process, and wait until it has loaded everything."""
        command = (sys.executable, str(WORKER), *arguments)
        worker = cls(await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE))
        if not await worker._lines.readline():
            raise RuntimeError("a worker did not start")
        return worker

    async def follow(self, began: float, until: float) -> None:
        """Let it work until a time of the wall clock, and take down what it reports."""
        self._word.write(f"{until}\n".encode())
        async for line in self._lines:
            values = json.loads(line)
            self.reports.append(Report(**{**values, "at": values["at"] - began}))
        await self._process.wait()

    def kill(self) -> None:
        """End it at once, without a word to anybody."""
        if self._process.returncode is None:
            self._process.kill()


async def play(plan: Plan) -> Story:
    """Let it all happen."""
    refusals: list[float] = []
    gateway = Gateway(capacity=HiddenCapacity(((0.0, CAP),), refusals), latency=latency)
    async with AsyncExitStack() as stack:
        server = stack.enter_context(RedisServer())
        await stack.enter_async_context(gateway)
        where = (gateway.base_url, gateway.api_key, server.url)
        workers = await asyncio.gather(*(Worker.start(*where) for _ in range(PROCESSES)))
        for worker in workers:
            stack.callback(worker.kill)
        wall, began = time.time(), gateway.now()
        follow = [worker.follow(wall, wall + plan.end) for worker in workers]
        await asyncio.gather(disturb(plan, workers[-1], server), *follow)
    return Story(
        plan=plan,
        cap=CAP,
        processes=[worker.reports for worker in workers],
        samples=[sample._replace(at=sample.at - began) for sample in gateway.samples],
        refusals=[at - began for at in refusals],
    )


async def disturb(plan: Plan, victim: Worker, server: RedisServer) -> None:
    """Kill a process; later freeze Redis, and thaw it."""
    await asyncio.sleep(plan.killed)
    victim.kill()
    await asyncio.sleep(plan.frozen - plan.killed)
    server.freeze()
    await asyncio.sleep(plan.thawed - plan.frozen)
    server.thaw()


def latency(request: ReceivedRequest) -> float:
    """Seconds until an answer begins: most often 0.5, now and then a whole second."""
    return min(2.0, Random(request.number).lognormvariate(math.log(0.5), 0.4))


def print_report(console: Console, story: Story) -> None:
    """Print what became of the requests, and how the disturbances were survived."""
    table = Table(title="What became of the requests", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("process")
    for head in ("answered", "failed", "sent", "refused", "refused per 100"):
        table.add_column(head, justify="right")
    last = [reports[-1] for reports in story.processes]
    for number, report in enumerate(last, 1):
        name = f"{number}, killed" if number == PROCESSES else str(number)
        table.add_row(name, *counts([report]))
    table.add_section()
    table.add_row("all", *counts(last))
    console.print(table)
    for line in facts(story):
        console.print(f" {line}", highlight=False)


def counts(reports: list[Report]) -> list[str]:
    """The figures of one process, or of several together."""
    sent = sum(report.attempts for report in reports)
    refused = sum(report.refused for report in reports)
    answered = sum(report.succeeded for report in reports)
    failed = sum(report.failed for report in reports)
    return [*map(str, (answered, failed, sent, refused)), f"{100 * refused / max(1, sent):.1f}"]


def facts(story: Story) -> list[str]:
    """The sentences below the table."""
    plan, again = story.plan, story.full_again
    later = "too late to see" if again is None else f"{again:.1f} s later"
    hung, mean = plan.thawed - plan.frozen, story.in_flight(plan.frozen, plan.thawed)
    return [
        f"At most {story.peak} requests were in flight at once; the gateway takes {CAP}.",
        f"One process was killed after {plan.killed:.1f} s; its share was in use again {later}.",
        f"Redis hung for {hung:.1f} s: {mean:.1f} requests were in flight then, on average.",
    ]


def main() -> int:
    """Run from the command line; 0 if every request was answered and the cap was kept."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=25, help="how long, 5 to 600 (25)")
    options = parser.parse_args()
    if not 5 <= options.seconds <= 600:
        parser.error("--seconds must be between 5 and 600")
    console = Console()
    console.print(f"{PROCESSES} processes at work: this takes {options.seconds:g} s.")
    try:
        story = asyncio.run(play(Plan(options.seconds)))
    except RuntimeError as error:
        sys.exit(str(error))
    print_report(console, story)
    draw(story, PICTURE)
    console.print(f" The picture is in {PICTURE}.")
    failed = any(reports[-1].failed for reports in story.processes)
    return 1 if failed or story.peak > CAP else 0


if __name__ == "__main__":
    sys.exit(main())
