"""Calls that cannot wait, at a cap and in an outage: ``python -m tests.bench.late``.

The real SDK in virtual time, bare and wrapped, both with six retries. A gateway takes a few calls
at once and refuses the rest. Its answers take as long as their ``max_tokens`` say, times a factor
that varies. Callers cancel a call that is of no more use. In the first scenes twice as many calls
arrive as the gateway can answer; then a quick call comes now and then beside slow ones; in the last
the gateway answers 503 for ten seconds.
"""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Final

import anyio
import openai
import trio
import trio.testing

from comet_resilience import wrap
from tests.conftest import COMPLETION, MESSAGES, httpx

_TOKENS_PER_SECOND: Final = 10.0
_REFUSAL: Final = 0.1
_JSON: Final = {"content-type": "application/json"}
_FAILED: Final = {"error": {"message": "upstream is unreachable", "code": "server_error"}}
_REFUSED: Final = {"error": {"message": "Too many concurrent requests", "code": "rate_limit"}}


@dataclass(frozen=True)
class Calls:
    """Calls of one kind: how many a second, or how many callers in turn, and what each is."""

    tokens: int
    per_second: float = 0.0
    callers: int = 0
    use: float | None = None


@dataclass(frozen=True)
class Scene:
    """A gateway and its callers."""

    what: str
    cap: int
    calls: Mapping[str, Calls]
    seconds: float
    varies: float = 0.5
    outage: tuple[float, float] = (math.inf, math.inf)


SCENES: Final = (
    Scene("answers of 1 s, of use for 5 s", 4, {"all": Calls(10, 8.0, use=5.0)}, 120.0),
    Scene("answers of 1 s, of use for 2 s", 4, {"all": Calls(10, 8.0, use=2.0)}, 120.0),
    Scene("all take 1.0 s, of use for 5 s", 4, {"all": Calls(10, 8.0, use=5.0)}, 120.0, 0.0),
    Scene(
        "12 callers of 30 s, and quick calls of use for 15 s", 10,
        {"slow": Calls(300, callers=12), "quick": Calls(5, 1 / 30, use=15.0)}, 900.0,
    ),
    Scene(
        "the same, slow ones of use for 45 s", 10,
        {"slow": Calls(300, callers=14, use=45.0), "quick": Calls(5, 1 / 30, use=15.0)}, 900.0,
    ),
    Scene(
        "answers of 1 s, of use for 5 s, 503 for 10 s", 100, {"all": Calls(10, 5.0, use=5.0)}, 90.0,
        outage=(30.0, 40.0),
    ),
)  # fmt: skip


class Gateway:
    """A cap on calls at once."""

    def __init__(self, scene: Scene, seed: int) -> None:
        self.cap, self.varies, self.draw = scene.cap, scene.varies, Random(seed)
        self.in_flight = self.sent = 0
        self.out_from, self.out_until = (anyio.current_time() + at for at in scene.outage)

    async def handle_async_request(self, request: Any) -> Any:
        """Answer, or refuse."""
        self.sent += 1
        if self.out_from <= anyio.current_time() < self.out_until:
            await anyio.sleep(_REFUSAL)
            return httpx.Response(503, headers=_JSON, content=json.dumps(_FAILED).encode())
        if self.in_flight >= self.cap:
            await anyio.sleep(_REFUSAL)
            return httpx.Response(429, headers=_JSON, content=json.dumps(_REFUSED).encode())
        self.in_flight += 1
        try:
            tokens = json.loads(request.content)["max_tokens"]
            factor = math.exp(self.draw.gauss(0.0, self.varies))
            await anyio.sleep(tokens / _TOKENS_PER_SECOND * factor)
        finally:
            self.in_flight -= 1
        return httpx.Response(200, headers=_JSON, content=json.dumps(COMPLETION).encode())

    async def aclose(self) -> None:
        """Close nothing."""


class Callers:
    """Those who call: what became of their calls, by kind."""

    def __init__(self, client: openai.AsyncOpenAI, scene: Scene, seed: int) -> None:
        self.client, self.scene, self.draw = client, scene, Random(seed)
        self.made: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()

    async def run(self) -> None:
        """Make all calls of the scene."""
        end = anyio.current_time() + self.scene.seconds
        async with anyio.create_task_group() as tasks:
            for kind, calls in self.scene.calls.items():
                for _ in range(calls.callers):
                    tasks.start_soon(self._in_turn, kind, calls, end)
                if calls.per_second:
                    tasks.start_soon(self._arrive, kind, calls, end)

    async def _in_turn(self, kind: str, calls: Calls, end: float) -> None:
        await anyio.sleep(self.draw.random() * calls.tokens / _TOKENS_PER_SECOND)
        while anyio.current_time() < end:
            await self._call(kind, calls)

    async def _arrive(self, kind: str, calls: Calls, end: float) -> None:
        async with anyio.create_task_group() as tasks:
            while anyio.current_time() < end:
                tasks.start_soon(self._call, kind, calls)
                await anyio.sleep(self.draw.expovariate(calls.per_second))

    async def _call(self, kind: str, calls: Calls) -> None:
        self.made[kind] += 1
        try:
            with anyio.fail_after(calls.use):
                await self.client.chat.completions.create(
                    model="m", messages=MESSAGES, max_tokens=calls.tokens
                )
            self.answered[kind] += 1
        except (openai.APIError, TimeoutError):
            pass


async def _run(
    scene: Scene, prepare: Callable[[openai.AsyncOpenAI], openai.AsyncOpenAI], seed: int
) -> tuple[Callers, Gateway]:
    gateway = Gateway(scene, seed)
    bare = openai.AsyncOpenAI(
        base_url="http://api.test/v1", api_key="k", max_retries=6,
        http_client=httpx.AsyncClient(transport=gateway, timeout=600.0),
    )  # fmt: skip
    bare._platform = "Unknown"
    callers = Callers(prepare(bare), scene, seed)
    await callers.run()
    return callers, gateway


CLIENTS: Final[Mapping[str, Callable[[openai.AsyncOpenAI], openai.AsyncOpenAI]]] = {
    "bare SDK": lambda bare: bare,
    "wrapped": lambda bare: wrap(bare, max_retries=6),
}


def measure(scene: Scene, client: str, seed: int) -> tuple[Callers, Gateway]:
    """Return what became of the calls of one client in one scene."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    return trio.run(_run, scene, CLIENTS[client], seed, clock=clock)


def main(seeds: int = 3) -> None:
    """Print the table: of all seeds together."""
    for scene in SCENES:
        print(f"{scene.what}; {scene.cap} at once")
        for client in CLIENTS:
            made: Counter[str] = Counter()
            answered: Counter[str] = Counter()
            sent = 0
            for seed in range(seeds):
                callers, gateway = measure(scene, client, seed)
                made += callers.made
                answered += callers.answered
                sent += gateway.sent
            kinds = "; ".join(f"{kind} {answered[kind]} of {made[kind]}" for kind in made)
            print(f"  {client:10} answered {kinds}; {sent} sent")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
