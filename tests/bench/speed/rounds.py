"""Interleaved short rounds: what a busy machine does to one layer it does to all of them."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Awaitable, Callable, Mapping

Round = Callable[[], Awaitable[float]]


class Times:
    """What rounds took, by name, in turn."""

    def __init__(self, rounds: list[dict[str, float]]) -> None:
        self._rounds = rounds

    def least(self, name: str) -> float:
        """The quickest round: the cost itself, without the neighbours' share."""
        return min(taken[name] for taken in self._rounds)

    def above(self, name: str, reference: str) -> tuple[float, float]:
        """Above the reference: between the quickest rounds, and the median of neighbours."""
        pairs = [taken[name] - taken[reference] for taken in self._rounds]
        return self.least(name) - self.least(reference), statistics.median(pairs)

    def ratio(self, name: str, reference: str) -> tuple[float, float, float]:
        """The median of the ratios of neighbours, and the quartiles around it."""
        ratios = [taken[name] / taken[reference] for taken in self._rounds]
        low, middle, high = statistics.quantiles(ratios, n=4)
        return middle, low, high


async def interleave(layers: Mapping[str, Round], rounds: int) -> Times:
    """Let each layer run a round in turn, without the garbage collector inside of one."""
    for run in layers.values():
        await run()
    done: list[dict[str, float]] = []
    for number in range(rounds):
        gc.collect(0 if number % 50 else 2)
        gc.disable()
        names = sorted(layers, reverse=bool(number % 2))
        done.append({name: await layers[name]() for name in names})
        gc.enable()
    return Times(done)
