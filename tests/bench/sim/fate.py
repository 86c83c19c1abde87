"""The gateway's side of one run: its answer to each attempt, and how long a refusal takes."""

from __future__ import annotations

import math
from random import Random

from .policies import Refusal
from .scenario import Scenario
from .workload import Job

ONE_WAY = 0.03
MEDIAN_REFUSAL = 0.12
SPREAD_REFUSAL = 0.5
#: This share of the refusals takes that many seconds.
LATE_SHARE = 0.05
LATE = (1.0, 3.0)


class Fate:
    """Takes or refuses; draws from a stream of its own."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self._scenario = scenario
        self._gateway = scenario.gateway(seed)
        self._random = Random(f"gateway {seed}")

    def judge(self, now: float, job: Job) -> Refusal | None:
        """A refusal, or ``None`` if the gateway has taken the request."""
        scenario = self._scenario
        if scenario.is_out(now):
            return Refusal(503, None)
        by_chance = scenario.noise > 0 and self._random.random() < scenario.noise
        if by_chance or not self._gateway.room(now, job):
            return Refusal(429, scenario.hint(now, self._gateway.opens_at(now, job)))
        self._gateway.take(now, job)
        return None

    def give(self, now: float, job: Job) -> None:
        """The gateway has sent the whole answer."""
        self._gateway.give(now, job)

    def refusal_time(self) -> float:
        """Seconds from sending an attempt to hearing that it was refused."""
        if self._random.random() < LATE_SHARE:
            return self._random.uniform(*LATE)
        time = self._random.lognormvariate(math.log(MEDIAN_REFUSAL), SPREAD_REFUSAL)
        return max(2 * ONE_WAY, time)
