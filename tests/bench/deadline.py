"""Calls that cannot wait, at a limit that headers tell: ``python -m tests.bench.deadline``.

The real SDK in virtual time, bare and wrapped, before a server that tells in its headers what is
left. Two calls a second arrive for four minutes; each is of use for five seconds and then
cancelled. Printed are the calls that were answered and what was sent for them. ``told`` knows the
limit as a budget: what it has no room for in time fails at once, and is not sent.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, Literal

import anyio
import openai
import trio
import trio.testing

from comet_resilience import Budget, BudgetSpentError, wrap

from ..conftest import COMPLETION, MESSAGES, httpx

_CALLS: Final = 480
_PER_SECOND: Final = 2.0
_DEADLINE: Final = 5.0
_SERVICE: Final = 1.0
_REFUSAL: Final = 0.1
Binding = Literal["all", "some", "none"]


@dataclass
class Server:
    """A window of 60 a minute that is told in headers, and binds all, one channel's, or nobody."""

    binds: Binding
    taken: int = 0
    window: int = -1
    sent: int = 0
    refused: int = 0

    async def handle_async_request(self, request: Any) -> Any:
        """Answer, or refuse."""
        now = anyio.current_time() - _began
        self.sent += 1
        if math.floor(now / 60) != self.window:
            self.window, self.taken = math.floor(now / 60), 0
        is_bound = self.binds == "all" or (self.binds == "some" and self.sent % 2 == 0)
        is_full = self.taken >= 60
        self.taken += is_bound or self.binds == "none"
        headers = {
            "content-type": "application/json",
            "x-ratelimit-limit-requests": "60",
            "x-ratelimit-remaining-requests": str(max(0, 60 - self.taken)),
            "x-ratelimit-reset-requests": f"{60 - now % 60:.2f}s",
        }
        if is_bound and is_full:
            self.refused += 1
            await anyio.sleep(_REFUSAL)
            body = {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}
            return httpx.Response(429, headers=headers, content=json.dumps(body).encode())
        await anyio.sleep(_SERVICE)
        return httpx.Response(200, headers=headers, content=json.dumps(COMPLETION).encode())

    async def aclose(self) -> None:
        """Close nothing."""


_began = 0.0


@dataclass
class Tally:
    """The ends of all calls, and how long those took that a budget turned away."""

    answered: int = 0
    refused: int = 0
    late: int = 0
    turned_away: int = 0
    waited: list[float] = field(default_factory=list)


async def _call(client: openai.AsyncOpenAI, at: float, tally: Tally) -> None:
    await anyio.sleep(at)
    began = anyio.current_time()
    try:
        with anyio.fail_after(_DEADLINE):
            await client.chat.completions.create(model="m", messages=MESSAGES)
        tally.answered += 1
    except BudgetSpentError:
        tally.turned_away += 1
        tally.waited.append(anyio.current_time() - began)
    except openai.APIStatusError:
        tally.refused += 1
    except TimeoutError:
        tally.late += 1


async def _run(
    binds: Binding, prepare: Callable[[openai.AsyncOpenAI], openai.AsyncOpenAI]
) -> tuple[Tally, Server]:
    global _began  # noqa: PLW0603 - one run at a time
    _began = anyio.current_time()
    server, tally, draw = Server(binds), Tally(), Random("deadline")
    bare = openai.AsyncOpenAI(
        base_url="http://api.test/v1", api_key="k", max_retries=2,
        http_client=httpx.AsyncClient(transport=server),
    )  # fmt: skip
    bare._platform = "Unknown"
    client = prepare(bare)
    at = 0.0
    async with anyio.create_task_group() as tasks:
        for _ in range(_CALLS):
            at += draw.expovariate(_PER_SECOND)
            tasks.start_soon(_call, client, at, tally)
    return tally, server


_CLIENTS: Final[Mapping[str, Callable[[openai.AsyncOpenAI], openai.AsyncOpenAI]]] = {
    "bare SDK, 2 retries": lambda bare: bare,
    "bare SDK, 6 retries": lambda bare: bare.with_options(max_retries=6),
    "wrapped, headers read": lambda bare: wrap(bare, max_retries=6),
    "wrapped, told": lambda bare: wrap(bare, max_retries=6, budget=Budget(requests=60)),
}
SCENES: Final[Mapping[Binding, str]] = {
    "all": "the headers tell the truth",
    "some": "the headers are those of every second channel",
    "none": "the headers are about nobody",
}


def measure(binds: Binding, client: str) -> tuple[Tally, Server]:
    """Return what became of the calls of one client in one scene."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    return trio.run(_run, binds, _CLIENTS[client], clock=clock)


def main() -> None:
    """Print the table."""
    print(f"of {_CALLS} calls, each of use for {_DEADLINE:g} s: answered / refused / too late")
    for binds, scene in SCENES.items():
        print(f"\n{scene}")
        for client in _CLIENTS:
            tally, server = measure(binds, client)
            away = f", {tally.turned_away} turned away within" if tally.turned_away else ""
            away += f" {max(tally.waited):.1f} s" if tally.waited else ""
            print(
                f"  {client:24} {tally.answered:4} / {tally.refused:3} / {tally.late:3}{away};"
                f" {server.sent} sent, {server.refused} refused"
            )


if __name__ == "__main__":
    main()
