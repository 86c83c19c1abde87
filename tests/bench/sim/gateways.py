"""Gateways with a hidden limit: what they take, what they refuse, and when they would take again.

A gateway is asked ``room`` and told ``take`` and ``give``. ``opens_at`` is for the oracle and for
true Retry-After headers: the earliest time at which there may be room although nothing ends.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Protocol

from .workload import Job

Steps = tuple[tuple[float, float], ...]
_NEVER = math.inf
#: A thousand times below the shortest time that matters, above the rounding of floats.
_TICK = 1e-6


class Gateway(Protocol):
    """What hides behind the URL."""

    def room(self, now: float, job: Job) -> bool:
        """Whether it would take this request now."""
        ...

    def take(self, now: float, job: Job) -> None:
        """A request that it has room for begins."""
        ...

    def give(self, now: float, job: Job) -> None:
        """A request that it took has ended."""
        ...

    def opens_at(self, now: float, job: Job) -> float:
        """When there may be room, given that nothing ends; infinite if never."""
        ...


def _value_at(steps: Steps, now: float) -> float:
    return steps[bisect_right(steps, now, key=lambda step: step[0]) - 1][1]


def _next_step(steps: Steps, now: float) -> float:
    place = bisect_right(steps, now, key=lambda step: step[0])
    return steps[place][0] if place < len(steps) else _NEVER


@dataclass(slots=True)
class Cap:
    """At most so many in flight; ``steps`` are ``(from when, how many)``."""

    steps: Steps
    in_use: int = 0

    def room(self, now: float, job: Job) -> bool:
        return self.in_use < _value_at(self.steps, now)

    def take(self, now: float, job: Job) -> None:
        self.in_use += 1

    def give(self, now: float, job: Job) -> None:
        self.in_use -= 1

    def opens_at(self, now: float, job: Job) -> float:
        return _next_step(self.steps, now)


class Bucket:
    """A token bucket; ``steps`` are ``(from when, tokens per second)``."""

    def __init__(self, steps: Steps, burst: float, weight: Callable[[Job], float]) -> None:
        self._steps = steps
        self._burst = burst
        self._weight = weight
        self._level = burst
        self._filled_at = 0.0

    def room(self, now: float, job: Job) -> bool:
        self._fill(now)
        return self._level >= self._weight(job)

    def take(self, now: float, job: Job) -> None:
        self._level -= self._weight(job)

    def give(self, now: float, job: Job) -> None:
        pass

    def opens_at(self, now: float, job: Job) -> float:
        self._fill(now)
        wait = (self._weight(job) - self._level) / _value_at(self._steps, now)
        return min(now + max(wait, 0.0) + _TICK, _next_step(self._steps, now))

    def _fill(self, now: float) -> None:
        while self._filled_at < now:
            upto = min(now, _next_step(self._steps, self._filled_at))
            gained = (upto - self._filled_at) * _value_at(self._steps, self._filled_at)
            self._level = min(self._burst, self._level + gained)
            self._filled_at = upto


class Window:
    """So many per fixed window; the first window began ``phase`` seconds before the run."""

    def __init__(self, limit: int, period: float, phase: float) -> None:
        self._limit, self._period, self._phase = limit, period, phase
        self._window = -1
        self._taken = 0

    def room(self, now: float, job: Job) -> bool:
        window = math.floor((now + self._phase) / self._period)
        if window != self._window:
            self._window, self._taken = window, 0
        return self._taken < self._limit

    def take(self, now: float, job: Job) -> None:
        self._taken += 1

    def give(self, now: float, job: Job) -> None:
        pass

    def opens_at(self, now: float, job: Job) -> float:
        if self.room(now, job):
            return now
        return (self._window + 1) * self._period - self._phase + _TICK


class Sliding:
    """So many within any period, by the times at which they began, or at which they ended.

    Counting only what has ended (``counts_ends``) is how one family of gateways does it: what is
    in flight is invisible to it, and a burst of any size passes.
    """

    def __init__(self, limit: int, period: float, *, counts_ends: bool = False) -> None:
        self._limit, self._period, self._counts_ends = limit, period, counts_ends
        self._log: deque[float] = deque()

    def room(self, now: float, job: Job) -> bool:
        while self._log and self._log[0] <= now - self._period:
            self._log.popleft()
        return len(self._log) < self._limit

    def take(self, now: float, job: Job) -> None:
        if not self._counts_ends:
            self._log.append(now)

    def give(self, now: float, job: Job) -> None:
        if self._counts_ends:
            self._log.append(now)

    def opens_at(self, now: float, job: Job) -> float:
        if self.room(now, job):
            return now
        return self._log[len(self._log) - self._limit] + self._period + _TICK


@dataclass(slots=True)
class PerModel:
    """A gateway of its own for each model."""

    gateways: dict[str, Gateway]

    def room(self, now: float, job: Job) -> bool:
        return self.gateways[job.model].room(now, job)

    def take(self, now: float, job: Job) -> None:
        self.gateways[job.model].take(now, job)

    def give(self, now: float, job: Job) -> None:
        self.gateways[job.model].give(now, job)

    def opens_at(self, now: float, job: Job) -> float:
        return self.gateways[job.model].opens_at(now, job)


class Account:
    """A gateway over all models, and one of its own for some of them; either may be missing."""

    def __init__(self, over_all: Gateway | None, models: dict[str, Gateway] | None = None) -> None:
        self._over_all, self._models = over_all, models or {}

    def room(self, now: float, job: Job) -> bool:
        return all(each.room(now, job) for each in self._of(job))

    def take(self, now: float, job: Job) -> None:
        for each in self._of(job):
            each.take(now, job)

    def give(self, now: float, job: Job) -> None:
        for each in self._of(job):
            each.give(now, job)

    def opens_at(self, now: float, job: Job) -> float:
        closed = (each for each in self._of(job) if not each.room(now, job))
        return max((each.opens_at(now, job) for each in closed), default=now)

    def _of(self, job: Job) -> list[Gateway]:
        both = (self._over_all, self._models.get(job.model))
        return [each for each in both if each is not None]


def noisy_cap(seed: int, *, stride: int, until: float) -> Cap:
    """A cap that wanders between 8 and 32, by up to ``stride`` every 15 s or so: other tenants."""
    low, high, every = 8, 32, 15.0
    random = Random(f"noisy cap {seed}")
    now, value, steps = 0.0, random.randint(low, high), []
    while now < until:
        steps.append((now, float(value)))
        now += random.expovariate(1 / every)
        value = random.randint(max(low, value - stride), min(high, value + stride))
    return Cap(tuple(steps))


def request_weight(job: Job) -> float:
    """Each request counts one."""
    return 1.0


def token_weight(job: Job) -> float:
    """A request counts its tokens."""
    return job.tokens
