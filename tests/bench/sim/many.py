"""Many runs at once, on two processes: each run depends on its names and its seed alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import get_context

from .oracle import Oracle
from .policies import BY_POLICY
from .result import Result
from .run import Run
from .scenario import Kind
from .scenarios import BY_NAME
from .table import Runs, Summary, summarize

PROCESSES = 2
ORACLE = "oracle"


@dataclass(frozen=True, slots=True)
class Order:
    """What to run."""

    scenario: str
    policy: str
    seed: int
    kind: Kind


def play(order: Order) -> Result:
    """Run one."""
    scenario = BY_NAME[order.scenario]
    if order.policy == ORACLE:
        return Oracle(scenario, order.seed, order.kind).play()
    return Run(scenario, BY_POLICY[order.policy], order.seed, order.kind).play()


def play_all(orders: Sequence[Order], processes: int) -> dict[Order, Result]:
    """Run all, in as many processes; the order of the results is that of the orders."""
    if processes == 1:
        return {order: play(order) for order in orders}
    with get_context("spawn").Pool(processes) as pool:
        return dict(zip(orders, pool.imap(play, orders, chunksize=4), strict=True))


def compare(
    scenarios: Sequence[str],
    policies: Sequence[str],
    seeds: Sequence[int],
    processes: int,
    *,
    batches: bool,
) -> dict[tuple[str, str], Summary]:
    """Run scenarios under policies and under the oracle: a summary for each pair of names.

    Without ``batches`` only saturated runs are made, where the scenario has any.
    """
    orders = [
        Order(scenario, policy, seed, kind)
        for scenario in scenarios
        for policy in (ORACLE, *policies)
        for kind in _kinds(scenario, batches=batches)
        for seed in seeds
    ]
    results = play_all(orders, processes)

    def runs_of(scenario: str, policy: str) -> Runs:
        return {
            kind: [
                (
                    results[Order(scenario, policy, seed, kind)],
                    results[Order(scenario, ORACLE, seed, kind)],
                )
                for seed in seeds
            ]
            for kind in _kinds(scenario, batches=batches)
        }

    return {
        (scenario, policy): summarize(BY_NAME[scenario], runs_of(scenario, policy))
        for scenario in scenarios
        for policy in policies
    }


def _kinds(scenario: str, *, batches: bool) -> tuple[Kind, ...]:
    kinds = BY_NAME[scenario].kinds
    return kinds if batches or len(kinds) == 1 else (Kind.SATURATED,)
