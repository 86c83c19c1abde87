"""The perfect rival: it stands at the gateway, sees its state, and is never refused.

No client can be as good: 30 ms away, and finding the limit only by being refused.
"""

from __future__ import annotations

import math
from collections import deque

from .clock import VirtualLoop
from .result import Result, p99_latency, recovery_time
from .scenario import Kind, Scenario
from .workload import Job


class Oracle:
    """Sends each model's requests in order, each as soon as the gateway has room for it."""

    def __init__(self, scenario: Scenario, seed: int, kind: Kind) -> None:
        self._scenario, self._kind = scenario, kind
        self._gateway = scenario.gateway(seed)
        self._loop = VirtualLoop()
        self._jobs = scenario.jobs(seed, kind)
        self._queues: dict[str, deque[Job]] = {}
        self._ring: deque[str] = deque()
        self._next_look: dict[str, float] = {}
        self._began_at: list[float] = []
        self._ended_at: list[float] = []

    def play(self) -> Result:
        """Run to the end, or to the horizon."""
        for job in self._jobs:
            self._loop.at(job.arrival, self._arrive, job)
        if self._scenario.outage[1] < math.inf:
            self._loop.at(self._scenario.outage[1], self._go_round)
        self._loop.run(self._scenario.horizon(self._kind))
        return self._result()

    def _arrive(self, job: Job) -> None:
        if job.model not in self._queues:
            self._ring.append(job.model)
        self._queues.setdefault(job.model, deque()).append(job)
        self._send_all(job.model)

    def _send_all(self, model: str) -> None:
        while self._send_one(model):
            pass
        queue, now = self._queues[model], self._loop.time()
        if queue:
            self._look_again(model, self._gateway.opens_at(now, queue[0]))

    def _look_again(self, model: str, when: float) -> None:
        if when < math.inf and self._next_look.get(model) != when:
            self._next_look[model] = when
            self._loop.at(when, self._send_all, model)

    def _finish(self, job: Job) -> None:
        job.done_at = now = self._loop.time()
        self._gateway.give(now, job)
        self._ended_at.append(now)
        self._go_round()

    def _go_round(self) -> None:
        """Send one request of each model in turn, as long as there is room for any."""
        ring, refused = self._ring, 0
        while refused < len(ring):
            ring.rotate(-1)
            refused = 0 if self._send_one(ring[0]) else refused + 1

    def _send_one(self, model: str) -> bool:
        queue, now = self._queues[model], self._loop.time()
        if not queue or self._scenario.is_out(now) or not self._gateway.room(now, queue[0]):
            return False
        job = queue.popleft()
        self._gateway.take(now, job)
        self._began_at.append(now)
        self._loop.at(now + job.service, self._finish, job)
        return True

    def _result(self) -> Result:
        scenario = self._scenario
        done = [job.done_at for job in self._jobs if job.done_at is not None]
        recovery = None
        if scenario.recovers and self._kind is Kind.SATURATED:
            recovery = recovery_time(self._began_at, self._ended_at, *scenario.recovers)
        return Result(
            successes=len(done),
            refused=0,
            failed=0,
            left=len(self._jobs) - len(done),
            makespan=max(done, default=math.nan) - scenario.batch_starts,
            p99=p99_latency(self._jobs),
            wait=0.0,
            burst=0,
            recovery=recovery,
            in_outage=0,
            most_attempts=1,
        )
