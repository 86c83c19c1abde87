"""A burst of chat completions, through a wrapped client and through the bare SDK.

    pip install -e '.[examples]' && python examples/quickstart.py

Without a key both talk to a gateway on the loopback interface, which limits and fails as a real
one does and hides how much it takes at once. Tables say what became of the calls; the picture
`quickstart.png` shows how the wrapped client found the hidden capacity.

With COMETAPI_KEY set, and a model named by --model or COMETAPI_MODEL, a wrapped client sends five
calls to the real gateway, https://api.cometapi.com/v1 or what COMETAPI_BASE_URL says.
"""

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openai import AsyncOpenAI, OpenAIError

from comet_resilience import Snapshot, diagnose, snapshot, wrap

try:
    from quickstart_gateway import MODELS, DemoGateway
    from quickstart_picture import Panel, draw
    from quickstart_report import Outcome, Recorder, Run, print_report
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
except ImportError as missing:
    sys.exit(f"{missing.name} is not installed. Do: pip install -e '.[examples]'")

if sys.platform != "win32":
    import resource

BASE_URL = "https://api.cometapi.com/v1"
PICTURE = Path("quickstart.png")

Done = Callable[[Outcome], None]


@dataclass(frozen=True, kw_only=True)
class Call:
    """One chat completion to ask for."""

    model: str
    stream: bool = False
    messages: Sequence[Any] = ({"role": "user", "content": "Say hello in five words."},)


async def ask(client: AsyncOpenAI, call: Call) -> str:
    """Ask as any program would; nothing in here knows of retries or limits."""
    create = client.chat.completions.create
    if not call.stream:
        answer = await create(model=call.model, messages=call.messages)
        return answer.choices[0].message.content or ""
    chunks = await create(model=call.model, messages=call.messages, stream=True)
    return "".join([c.choices[0].delta.content or "" async for c in chunks if c.choices])


async def ask_all(client: AsyncOpenAI, calls: Sequence[Call], done: Done) -> list[Outcome]:
    """Send all calls at once."""

    async def ask_one(call: Call) -> Outcome:
        outcome: Outcome
        try:
            outcome = await ask(client, call)
        except OpenAIError as error:  # the class that the bare SDK raises, too
            outcome = diagnose(error)
        done(outcome)
        return outcome

    return await asyncio.gather(*map(ask_one, calls))


async def send_wrapped(
    base_url: str, key: str, calls: Sequence[Call], done: Done
) -> tuple[Run, Recorder, Snapshot]:
    """Send a burst through a wrapped client."""
    recorder = Recorder()

    # This line is all that a program has to change; `on_event` is for the tables and the picture.
    client = wrap(AsyncOpenAI(base_url=base_url, api_key=key), on_event=recorder)

    async with client:
        started = time.monotonic()
        outcomes = await ask_all(client, calls, done)
        run = Run(
            name="wrapped",
            outcomes=outcomes,
            attempts=recorder.attempts,
            refused=recorder.refused,
            retries=recorder.retries,
            seconds=time.monotonic() - started,
        )
        return run, recorder, snapshot(client)


async def send_bare(gateway: DemoGateway, calls: Sequence[Call], done: Done) -> Run:
    """Send a burst through the SDK as it is, and count at the gateway what that took."""
    async with AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.api_key) as client:
        started = time.monotonic()
        outcomes = await ask_all(client, calls, done)
        return Run(
            name="bare SDK",
            outcomes=outcomes,
            attempts=len(gateway.requests),
            refused=gateway.refused,
            retries=len(gateway.requests) - len(calls),
            seconds=time.monotonic() - started,
        )


async def demo(console: Console, number: int) -> bool:
    """Show both clients at the embedded gateway; whether every good call was answered."""
    # Two calls that no retry can help: one is malformed, the other names a misspelt model.
    hopeless = [Call(model=MODELS[0], messages=[]), Call(model="gtp-5.4")]
    count = number - len(hopeless)
    good = [Call(model=MODELS[i % 5 > 2], stream=i % 3 == 0) for i in range(count)]
    calls = hopeless + good
    await warm_up()
    with progress_bar(console) as bar:
        async with DemoGateway() as gateway:
            done = counting(bar, "wrapped", number)
            address = (gateway.base_url, gateway.api_key)
            wrapped, recorder, limits = await send_wrapped(*address, calls, done)
        async with DemoGateway() as other:
            bare = await send_bare(other, calls, counting(bar, "bare SDK", number))
    print_report(console, [wrapped, bare], limits)
    panels = [
        panel(gateway, wrapped, recorder.limit_over_time(limits)),
        panel(other, bare, note=f"nothing left to send: {len(bare.failures)} calls have failed"),
    ]
    draw(panels, f"A burst of {number} calls at a gateway that hides its capacity", PICTURE)
    console.print(f"The picture is in {PICTURE}.")
    return len(wrapped.failures) == len(hopeless)


async def warm_up() -> None:
    """Make one call that does not count: at the first, the SDK loads most of itself."""
    async with DemoGateway() as gateway:
        await send_bare(gateway, [Call(model=MODELS[0])], lambda _: None)


async def real(console: Console, base_url: str, key: str, model: str) -> bool:
    """Send five calls to a real gateway; whether all were answered."""
    calls = [Call(model=model, stream=i % 3 == 2) for i in range(5)]
    with progress_bar(console) as bar:
        done = counting(bar, "wrapped", len(calls))
        run, _, limits = await send_wrapped(base_url, key, calls, done)
    print_report(console, [run], limits)
    answers = [outcome for outcome in run.outcomes if isinstance(outcome, str)]
    if answers:
        console.print(f"One of the answers: {answers[0][:200]!r}", markup=False, highlight=False)
    return not run.failures


def panel(
    gateway: DemoGateway, run: Run, limits: Sequence[tuple[float, int]] = (), note: str = ""
) -> Panel:
    """One client's part of the picture."""
    return Panel(
        title=f"{run.name}: {run.succeeded} of {len(run.outcomes)} calls answered,"
        f" {run.refused} requests refused, over after {run.seconds:.1f} s",
        samples=gateway.samples,
        refusals=gateway.refusals,
        capacity=gateway.limit_at,
        limits=limits,
        note=note,
    )


def progress_bar(console: Console) -> Progress:
    """A line for each client: how many calls are done, and how many of them failed."""
    failed = TextColumn("{task.fields[failed]} failed")
    name = TextColumn("{task.description:8}")
    return Progress(name, BarColumn(), MofNCompleteColumn(), failed, console=console)


def counting(bar: Progress, name: str, total: int) -> Done:
    """Make the function that moves the bar on when a call is done."""
    task, failed = bar.add_task(name, total=total, failed=0), 0

    def done(outcome: Outcome) -> None:
        nonlocal failed
        failed += not isinstance(outcome, str)
        bar.update(task, advance=1, failed=failed)

    return done


def allow_many_sockets() -> None:
    """The bare SDK opens a connection for each call; some systems allow 256 files in all."""
    if sys.platform != "win32":
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = 4096 if most == resource.RLIM_INFINITY else min(4096, most)
        with suppress(OSError, ValueError):  # then a large burst may fail, a small one will not
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def main() -> int:
    """Run from the command line; 0 if every call was answered that could be."""
    parser = argparse.ArgumentParser(
        description="A burst of calls through a wrapped client and through the bare SDK.",
        epilog="With COMETAPI_KEY set, five calls go to the real gateway instead, by default"
        f" {BASE_URL}; COMETAPI_BASE_URL names another.",
    )
    parser.add_argument("--demo", action="store_true", help="no real gateway, even with a key")
    parser.add_argument("--calls", type=int, default=300, help="calls of the demo, 10 to 400 (300)")
    parser.add_argument(
        "--model", default=os.environ.get("COMETAPI_MODEL"), help="for the real gateway"
    )
    options = parser.parse_args()
    console = Console()
    key = os.environ.get("COMETAPI_KEY", "").strip()
    if options.demo or not key:
        if not 10 <= options.calls <= 400:
            parser.error("--calls must be between 10 and 400")
        allow_many_sockets()
        return 0 if asyncio.run(demo(console, options.calls)) else 1
    if not options.model:
        parser.error("COMETAPI_KEY is set: name a model, with --model or COMETAPI_MODEL")
    base_url = os.environ.get("COMETAPI_BASE_URL") or BASE_URL
    return 0 if asyncio.run(real(console, base_url, key, options.model)) else 1


if __name__ == "__main__":
    sys.exit(main())
