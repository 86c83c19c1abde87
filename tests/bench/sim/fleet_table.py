"""Tables of fleets in virtual time: a hidden limit, a rate, and crowds whose demand moves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import redis

from comet_resilience.fleet.pace import renew_every
from comet_resilience.limits.budget import Budget
from comet_resilience.limits.limiter import Limiter
from tests.redis_server import RedisServer

from .. import rates
from .crowd import Crowd
from .fleet import FleetRun, VirtualCoordinator, VirtualServer
from .oracle import Oracle
from .policies import PRODUCT, account_limit
from .result import jain
from .scenario import Kind
from .scenarios import BY_NAME

SEEDS: Final = (1, 2, 3, 4, 5, 41, 42, 43, 44, 45)
SIZES: Final = (10, 100, 300, 1_000)
_SCENARIO: Final = "k_10proc"


@dataclass(frozen=True, slots=True)
class Adapted:
    """One seed: refused per 100 successes, goodput as a share of the oracle's, fairness."""

    refused: float
    goodput: float
    jain: float
    commands: float


def adapted(seed: int, client: Any) -> Adapted:
    """Ten saturated processes with one limit between them, for ten minutes."""
    client.flushdb()
    scenario = BY_NAME[_SCENARIO]
    run = FleetRun(scenario, PRODUCT, seed, Kind.SATURATED, client)
    result = run.play()
    best = Oracle(scenario, seed, Kind.SATURATED).play()
    served = [
        sum(partition.ok for partition in limiter.snapshot().partitions) for limiter in run.limiters
    ]
    attempts = result.successes + result.refused
    return Adapted(
        result.refused_per_100,
        result.successes / best.successes,
        jain(served),
        len(run.server.called_at) / attempts,
    )


def adapt_table(seeds: Sequence[int] = SEEDS) -> Iterator[str]:
    """One line for each seed, and the means."""
    yield "| seed | refused per 100 | goodput ÷ oracle | Jain | commands per request |"
    yield "|---" * 5 + "|"
    rows = []
    with RedisServer() as server:
        client = redis.Redis.from_url(server.url, decode_responses=True)
        for seed in seeds:
            rows.append(adapted(seed, client))
            yield _adapt_row(f"{seed}", rows[-1])
    mean = [sum(getattr(row, name) for row in rows) / len(rows) for name in Adapted.__slots__]
    yield _adapt_row("mean", Adapted(*mean))


class RatesRun(rates.Run):
    """A scene of rates whose processes are a fleet; the server must be empty."""

    def __init__(self, scene: rates.Scene, policy: rates.Policy, seed: int, client: Any) -> None:
        super().__init__(scene, policy, seed)
        self._server = VirtualServer(client, self.loop)

    def new_limiter(self, budgets: Mapping[str, Budget]) -> Limiter:
        """Return the limiter of one process: a budget is shared in another way."""
        assert not budgets
        name, make = f"member-{self.random.random()}", partial(self.policy.make, self.scene)
        coordinator = VirtualCoordinator(
            name, self.loop, self._server, make, self.random.random, account_limit
        )
        return coordinator.limiter


def rates_table(seeds: Sequence[int] = (31, 32, 33)) -> Iterator[str]:
    """One line for each seed: four processes that share 300 a minute, with headers and without."""
    scene = next(scene for scene in rates.SCENES if scene.processes > 1)
    policies = {policy.name: policy for policy in rates.POLICIES if policy.is_ours}
    yield f"| {scene.name}: seed | with headers: of the oracle / refused per 100 | without |"
    yield "|---" * 3 + "|"
    with RedisServer() as server:
        client = redis.Redis.from_url(server.url, decode_responses=True)
        for seed in seeds:
            best, cells = rates.oracle(scene, seed), []
            for name in ("read", "unaided"):
                client.flushdb()
                done = RatesRun(scene, policies[name], seed, client).play()
                assert not done.failed
                cells.append(f"{best / done.done:.3f} / {done.refused:.1f}")
            yield f"| {seed} | {' | '.join(cells)} |"


def scale_table(sizes: Sequence[int] = SIZES) -> Iterator[str]:
    """One line for each number of processes."""
    yield (
        "| processes | renews each | commands/s | script | of a Redis core | busiest second |"
        " utilisation | Jain | full again | rejoin mean / longest |"
    )
    yield "|---" * 10 + "|"
    for size in sizes:
        with RedisServer() as server:
            client = redis.Redis.from_url(server.url, decode_responses=True)
            crossing = Crowd(size, client).play()
        seconds = crossing.script_us / 1e6
        rejoin, longest = crossing.rejoins
        follows = "never" if crossing.follows is None else f"{crossing.follows:.1f} s"
        yield (
            f"| {size:,} | {renew_every(size):g} s | {crossing.commands:.0f} |"
            f" {crossing.script_us / 1000:.2f} ms | {100 * crossing.commands * seconds:.0f} % |"
            f" {crossing.busiest_second} ({100 * crossing.busiest_second * seconds:.0f} %) |"
            f" {crossing.even:.3f} / {crossing.moved:.3f} / {crossing.back:.3f} |"
            f" {crossing.jain:.3f} | {follows} | {rejoin:.1f} / {longest:.1f} s |"
        )


def _adapt_row(name: str, row: Adapted) -> str:
    return (
        f"| {name} | {row.refused:.2f} | {row.goodput:.3f} | {row.jain:.3f} | {row.commands:.1f} |"
    )
