"""The requests of a run: drawn from the seed alone, so every policy meets the same ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

MEDIAN_SERVICE = 2.0
SPREAD_SERVICE = 1.0
SHORTEST, LONGEST = 0.3, 60.0
#: The mean of that distribution, clipped: what a cap can serve per second is ``cap / mean``.
MEAN_SERVICE = 3.29
MEAN_TOKENS = 1_100.0


@dataclass(slots=True, eq=False)
class Job:
    """One request: what it asks of the gateway, and what became of it.

    ``headers`` is when its answer begins, in seconds after the gateway took it; ``done_at`` is
    ``None`` until it succeeded.
    """

    arrival: float
    service: float
    headers: float
    tokens: float
    model: str = ""
    attempts: int = 0
    done_at: float | None = None
    failed: bool = False

    @property
    def latency(self) -> float:
        """From arrival to the end of the answer; it must have succeeded."""
        assert self.done_at is not None
        return self.done_at - self.arrival


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """How requests are drawn.

    ``streamed`` is the share whose headers come before their end; ``service`` and ``headers``
    fix these times for all. ``models`` are drawn evenly. ``rate`` makes arrivals a Poisson
    process (per second); ``arrivals`` gives ``(time, how many)`` instead.
    """

    median: float = MEDIAN_SERVICE
    streamed: float = 0.5
    service: float | None = None
    headers: float | None = None
    models: tuple[str, ...] = ("",)
    rate: float | None = None
    arrivals: tuple[tuple[float, int], ...] = ()

    def draw(self, seed: int, count: int, horizon: float) -> list[Job]:
        """Make the requests of one run, in order of arrival."""
        random = Random(f"requests {seed}")
        return [self._job(random, when) for when in self._times(random, count, horizon)]

    def _times(self, random: Random, count: int, horizon: float) -> list[float]:
        if self.arrivals:
            return [when for when, many in self.arrivals for _ in range(many)]
        if self.rate is None:
            return [0.0] * count
        times, when = [], random.expovariate(self.rate)
        while when < horizon:
            times.append(when)
            when += random.expovariate(self.rate)
        return times

    def _job(self, random: Random, when: float) -> Job:
        service = random.lognormvariate(math.log(self.median), SPREAD_SERVICE)
        service = min(max(service, SHORTEST), LONGEST)
        streamed, share = random.random() < self.streamed, random.random()
        tokens = min(max(random.lognormvariate(math.log(MEAN_TOKENS) - 0.5, 1.0), 50.0), 15_000.0)
        model = self.models[random.randrange(len(self.models))]
        service = service if self.service is None else self.service
        headers = min(0.25 + 0.25 * share * service, service) if streamed else service
        headers = headers if self.headers is None else min(self.headers, service)
        return Job(arrival=when, service=service, headers=headers, tokens=tokens, model=model)
