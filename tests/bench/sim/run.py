"""One run: the clients' side drives the real limiter, the gateway takes or refuses.

A request goes the way of ``call.retry_loop`` without its tasks: it asks for a slot,
is sent, accepted when its headers come, and gives the slot back at the end of its body; refused,
it gives the slot back at once, waits, and queues again under its old order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Hashable
from functools import partial
from random import Random
from typing import Any, cast

from comet_resilience.events import Event, LimitChanged
from comet_resilience.limits.limiter import Limiter
from comet_resilience.limits.partition import Lease, Waiter
from comet_resilience.observers import Observers
from comet_resilience.verdict.vocabulary import Signal

from .clock import VirtualLoop
from .fate import ONE_WAY, Fate
from .policies import Policy, Refusal
from .result import Result, largest_burst, mean_wait, p99_latency, recovery_time
from .scenario import Kind, Scenario
from .workload import Job


class Turn:
    """Stands in for a waiter's place to wait: granted a slot, the request goes on at once."""

    __slots__ = ("_go", "is_over")

    def __init__(self, go: Callable[[], object]) -> None:
        self._go = go
        self.is_over = False

    def go(self) -> None:
        """Go on."""
        self.is_over = True
        self._go()

    def __await__(self) -> Generator[Any, Any, Any]:
        raise NotImplementedError("no task waits here")


class Run:
    """One scenario under one policy and one seed; everything that happens is in its lists.

    With ``watch`` the moves of the limit are kept too, in ``limits``, and whose it was in
    ``limits_of``. ``served`` has model, begin and end at the gateway of each request.
    """

    def __init__(
        self, scenario: Scenario, policy: Policy, seed: int, kind: Kind, *, watch: bool = False
    ) -> None:
        self.loop = VirtualLoop()
        self.limits: list[tuple[float, int]] = []
        self.limits_of: list[tuple[float, Hashable, int]] = []
        self.served: list[tuple[str, float, float]] = []
        self.jobs = scenario.jobs(seed, kind)
        self.refused_at: list[float] = []
        self.began_at: list[float] = []
        self.ended_at: list[float] = []
        self.sent_at: list[float] = []
        self._scenario, self._policy, self._kind = scenario, policy, kind
        self._fate = Fate(scenario, seed)
        self._random = Random(f"policy {seed}")
        self._open = len(self.jobs)
        self.limiters = [
            Limiter(
                make_algorithm=policy.make_algorithm,
                max_queue=None,
                observers=Observers([self._note] if watch else ()),
                jitter=self._random.random,
                make_account_limit=policy.make_account_limit,
            )
            for _ in range(scenario.processes)
        ]

    def play(self) -> Result:
        """Run to the end, or to the horizon."""
        for number, job in enumerate(self.jobs):
            limiter = self.limiters[number % len(self.limiters)]
            self.loop.at(job.arrival, self._arrive, limiter, job)
        self.loop.run(self._scenario.horizon(self._kind), lambda: self._open == 0)
        return self._result()

    def _key(self, job: Job) -> Hashable:
        return self._scenario.key(job, in_account=self._policy.in_account)

    def _note(self, event: Event) -> None:
        if isinstance(event, LimitChanged):
            self.limits.append((self.loop.time(), event.new))
            self.limits_of.append((self.loop.time(), event.partition, event.new))

    def _arrive(self, limiter: Limiter, job: Job) -> None:
        lease = limiter.acquire_nowait(self._key(job))
        if lease is not None:
            self._send(job, lease)
        else:
            self._queue(limiter, job, None)

    def _queue(self, limiter: Limiter, job: Job, order: int | None) -> None:
        waiter = limiter._enqueue(self._key(job), order)
        if waiter.lease is not None:
            self._send(job, waiter.lease)
        else:
            waiter.parking = Turn(partial(self._go, job, waiter))

    def _go(self, job: Job, waiter: Waiter) -> None:
        assert waiter.lease is not None
        self._send(job, waiter.lease)

    def _send(self, job: Job, lease: Lease) -> None:
        job.attempts += 1
        self.sent_at.append(self.loop.time())
        self.loop.at(self.loop.time() + ONE_WAY, self._reach_gateway, job, lease)

    def _reach_gateway(self, job: Job, lease: Lease) -> None:
        now, loop = self.loop.time(), self.loop
        refusal = self._fate.judge(now, job)
        if refusal is not None:
            heard = now - ONE_WAY + self._fate.refusal_time()
            loop.at(heard, self._refused, job, lease, refusal)
            return
        self.began_at.append(now)
        loop.at(now + job.service, self._leave_gateway, job, lease)
        if job.headers < job.service:
            loop.at(now + job.headers + ONE_WAY, lease.accept)

    def _leave_gateway(self, job: Job, lease: Lease) -> None:
        now = self.loop.time()
        self._fate.give(now, job)
        self.ended_at.append(now)
        self.served.append((job.model, now - job.service, now))
        self.loop.at(now + ONE_WAY, self._succeed, job, lease)

    def _succeed(self, job: Job, lease: Lease) -> None:
        job.done_at = self.loop.time()
        self._open -= 1
        lease.release(Signal.SUCCESS)

    def _refused(self, job: Job, lease: Lease, refusal: Refusal) -> None:
        self.refused_at.append(self.loop.time())
        step = self._policy.retry(job.attempts, refusal, self._random.random())
        if not self._policy.holds_slot or step is None:
            lease.release(Signal.OVERLOAD, refusal.retry_after)
        if step is None:
            job.failed = True
            self._open -= 1
        elif self._policy.holds_slot:
            self.loop.at(self.loop.time() + step, self._send, job, lease)
        else:
            again = partial(self._queue, cast("Limiter", lease.limiter), job, lease.order)
            self.loop.at(self.loop.time() + step, again)

    def _result(self) -> Result:
        jobs, scenario = self.jobs, self._scenario
        done = [job for job in jobs if job.done_at is not None]
        failed = sum(job.failed for job in jobs)
        recovery = None
        if scenario.recovers and self._kind is Kind.SATURATED:
            recovery = recovery_time(self.began_at, self.ended_at, *scenario.recovers)
        return Result(
            successes=len(done),
            refused=len(self.refused_at),
            failed=failed,
            left=len(jobs) - len(done) - failed,
            makespan=max((job.done_at or 0.0 for job in done), default=math.nan)
            - scenario.batch_starts,
            p99=p99_latency(jobs),
            wait=mean_wait(jobs, scenario.others),
            burst=largest_burst(self.refused_at),
            recovery=recovery,
            in_outage=sum(scenario.is_out(when) for when in self.sent_at),
            most_attempts=max(job.attempts for job in jobs),
        )
