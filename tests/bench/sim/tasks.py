"""The slow way, to check the quick one: a task for each request, and the real ``acquire``."""

from __future__ import annotations

from random import Random

import anyio

from comet_resilience.limits.limiter import Limiter
from comet_resilience.limits.partition import Lease
from comet_resilience.observers import Observers
from comet_resilience.verdict.vocabulary import Signal

from .fate import ONE_WAY, Fate
from .policies import Policy, Refusal
from .scenario import Kind, Scenario
from .workload import Job

#: Seconds between arrivals of the same instant, which trio would start in random order.
_APART = 1e-7


class TaskRun:
    """As ``run.Run``, on a real event loop whose clock should be virtual."""

    def __init__(self, scenario: Scenario, policy: Policy, seed: int, kind: Kind) -> None:
        self.done_at: list[float] = []
        self.refused_at: list[float] = []
        self._jobs = scenario.jobs(seed, kind)
        self._policy = policy
        self._scenario = scenario
        self._random = Random(f"policy {seed}")
        self._fate = Fate(scenario, seed)
        self._start = 0.0
        self._limiter = Limiter(
            make_algorithm=policy.make_algorithm,
            max_queue=None,
            observers=Observers(()),
            jitter=self._random.random,
            make_account_limit=policy.make_account_limit,
        )

    async def play(self) -> None:
        """Run to the end."""
        self._start = anyio.current_time()
        async with anyio.create_task_group() as group:
            for number, job in enumerate(self._jobs):
                group.start_soon(self._run_one, job, number * _APART)

    async def _run_one(self, job: Job, apart: float) -> None:
        await anyio.sleep(job.arrival + apart)
        order: int | None = None
        delay: float | None = 0.0
        while delay is not None:
            lease = await self._limiter.acquire(
                self._scenario.key(job, in_account=self._policy.in_account), order
            )
            order = lease.order
            refusal = await self._attempt(job, lease)
            if refusal is None:
                return
            self.refused_at.append(self._now())
            lease.release(Signal.OVERLOAD, refusal.retry_after)
            delay = self._policy.retry(job.attempts, refusal, self._random.random())
            await anyio.sleep(delay or 0.0)

    async def _attempt(self, job: Job, lease: Lease) -> Refusal | None:
        job.attempts += 1
        await anyio.sleep(ONE_WAY)
        refusal = self._fate.judge(self._now(), job)
        if refusal is not None:
            await anyio.sleep(self._fate.refusal_time() - ONE_WAY)
            return refusal
        await anyio.sleep(job.headers)
        if job.headers < job.service:
            await anyio.sleep(ONE_WAY)
            lease.accept()
            await anyio.sleep(max(0.0, job.service - job.headers - ONE_WAY))
        self._fate.give(self._now(), job)
        await anyio.sleep(ONE_WAY)
        self.done_at.append(self._now())
        lease.release(Signal.SUCCESS)
        return None

    def _now(self) -> float:
        return anyio.current_time() - self._start
