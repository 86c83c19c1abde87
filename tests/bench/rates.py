"""Rates, told and read and unknown, beside rivals: ``python -m tests.bench.rates [seeds]``.

``--short`` leaves the rivals out and takes one seed.

The real limiter in virtual time before gateways with hidden limits; a rival differs by its limit
algorithm and its rule for retries alone. Columns: the time by which the oracle, which stands at
the gateway, has 95 % of the answers, as a share of the policy's, and refusals per 100 answers; a
call that failed for good is marked ``f``. ``told`` is what ``budget=`` makes of the true figures,
``read`` what the gateway's own headers make of it, or the words of its refusals. Where there is no
limit at all, the share is of the unaided limiter's time.

Seeds up to 119 were looked at while the limiter was made; 201, 202 and 203 are held out.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any, Final

from comet_resilience.limits.algorithm import LimitAlgorithm, Ticket
from comet_resilience.limits.budget import Budget, Cost
from comet_resilience.limits.fixed import FixedLimit
from comet_resilience.limits.gate import Standing
from comet_resilience.limits.limiter import Limiter
from comet_resilience.limits.partition import Lease
from comet_resilience.limits.partitions import InAccount
from comet_resilience.observers import Observers
from comet_resilience.verdict.rates import Counted, RateInWords, RateReading
from comet_resilience.verdict.token_estimate import OutputHabit
from comet_resilience.verdict.vocabulary import Signal

from .sim.clock import VirtualLoop
from .sim.fate import LATE, LATE_SHARE, MEDIAN_REFUSAL, ONE_WAY, SPREAD_REFUSAL
from .sim.gateways import Bucket, Cap, Gateway, Sliding, Steps, Window, _value_at
from .sim.policies import (
    Refusal,
    RetryRule,
    account_limit,
    product_retry,
    sdk_retry,
    step_back,
)
from .sim.run import Turn
from .sim.workload import Job, Workload

HELD_OUT: Final = (201, 202, 203)
_MANY: Final = 1_000_000
_MODEL: Final = "m"


def one(job: Job) -> float:
    """Count requests."""
    return 1.0


def by_tokens(job: Job) -> float:
    """Count tokens."""
    return job.tokens


class TellingBucket(Bucket):
    """A bucket that tells in headers what is left of it."""

    def reading(self, now: float) -> RateReading:
        """Return its headers."""
        self._fill(now)
        return RateReading(
            Counted.REQUESTS if self._weight is one else Counted.TOKENS,
            self._burst,
            math.floor(self._level),
            (self._burst - self._level) / _value_at(self._steps, now),
        )


class TellingWindow(Window):
    """A window that tells in headers what is left of it."""

    def reading(self, now: float) -> RateReading:
        """Return its headers."""
        reset = (self._window + 1) * self._period - self._phase - now
        return RateReading(
            Counted.REQUESTS, self._limit, self._limit - self._taken, max(0.0, reset)
        )


class Channels:
    """A gateway without a limit of the caller's that passes on what its channels' providers say."""

    def __init__(self, number: int, sticks: int) -> None:
        self._limits = [60 * 13**place for place in range(number)]
        self._left = [float(limit) for limit in self._limits]
        self._sticks, self._served = sticks, 0

    def room(self, now: float, job: Job) -> bool:
        return True

    def take(self, now: float, job: Job) -> None:
        self._served += 1
        place = self._served // self._sticks % len(self._limits)
        self._left[place] = max(0.0, self._left[place] - 1)

    def give(self, now: float, job: Job) -> None:
        pass

    def opens_at(self, now: float, job: Job) -> float:
        return now

    def reading(self, now: float) -> RateReading:
        """Return the headers of the channel in use."""
        place = self._served // self._sticks % len(self._limits)
        return RateReading(Counted.REQUESTS, self._limits[place], self._left[place], 50.0)


class OthersWindow(TellingWindow):
    """A gateway that passes on the true window of one account, and answers by another when full."""

    def room(self, now: float, job: Job) -> bool:
        super().room(now, job)
        return True

    def take(self, now: float, job: Job) -> None:
        self._taken = min(self._limit, self._taken + 1)


@dataclass
class Both:
    """Two limits at once."""

    parts: tuple[Gateway, ...]

    def room(self, now: float, job: Job) -> bool:
        rooms = [part.room(now, job) for part in self.parts]  # each notes the time
        return all(rooms)

    def take(self, now: float, job: Job) -> None:
        for part in self.parts:
            part.take(now, job)

    def give(self, now: float, job: Job) -> None:
        for part in self.parts:
            part.give(now, job)

    def opens_at(self, now: float, job: Job) -> float:
        return max(part.opens_at(now, job) for part in self.parts if not part.room(now, job))


@dataclass
class Turns:
    """Channels in turn, each with a limit of its own: the first that takes a request gets it."""

    parts: tuple[Gateway, ...]
    turn: int = 0

    def room(self, now: float, job: Job) -> bool:
        rooms = [part.room(now, job) for part in self.parts]  # each notes the time
        order = (*range(self.turn, len(rooms)), *range(self.turn))
        self.turn = next((place for place in order if rooms[place]), self.turn)
        return any(rooms)

    def take(self, now: float, job: Job) -> None:
        self.parts[self.turn].take(now, job)
        self.turn = (self.turn + 1) % len(self.parts)

    def give(self, now: float, job: Job) -> None:
        pass

    def opens_at(self, now: float, job: Job) -> float:
        return min(part.opens_at(now, job) for part in self.parts)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A hidden limit, what a caller would have been told of it, and the work."""

    name: str
    gateway: Callable[[int], Any]
    told: Budget | None
    service: float = 2.0
    count: int = 1_000
    says: bool = False
    words: RateInWords | None = None
    processes: int = 1
    models: int = 1
    is_limited: bool = True


def _steps(per_minute: float) -> Steps:
    return ((0.0, per_minute / 60),)


def _phase(seed: int, period: float) -> float:
    return Random(f"phase {seed}").uniform(0, period)


SCENES: Final = (
    Scene(name="bucket 300/min, burst 10",
          gateway=lambda seed: TellingBucket(_steps(300), 10, one),
          told=Budget(300, burst=2), says=True),
    Scene(name="bucket 60/min, burst 5, answers 0.3 s",
          gateway=lambda seed: TellingBucket(_steps(60), 5, one),
          told=Budget(60), service=0.3, says=True),
    Scene(name="strict 600/min, answers 3 s", gateway=lambda seed: Bucket(_steps(600), 1, one),
          told=Budget(600), service=3.0),
    Scene(name="2 a second, answers 5 s", gateway=lambda seed: Window(2, 1, _phase(seed, 1)),
          told=Budget(2, per=1), service=5.0),
    Scene(name="window 60/min", gateway=lambda seed: TellingWindow(60, 60, _phase(seed, 60)),
          told=Budget(60), says=True),
    Scene(name="10 per 10 s", gateway=lambda seed: TellingWindow(10, 10, _phase(seed, 10)),
          told=Budget(10, per=10), says=True),
    Scene(name="sliding 30/min, 45 calls", gateway=lambda seed: Sliding(30, 60),
          told=Budget(30, burst=60), service=0.1, count=45),
    Scene(name="tokens 240k/min",
          gateway=lambda seed: TellingBucket(_steps(240_000), 20_000, by_tokens),
          told=Budget(tokens=240_000), says=True),
    Scene(name="300, then 60, then 600/min",
          gateway=lambda seed: TellingBucket(((0.0, 5.0), (100.0, 1.0), (300.0, 10.0)), 10, one),
          told=None, count=1_600, says=True),
    Scene(name="4 processes, 300/min", gateway=lambda seed: TellingBucket(_steps(300), 10, one),
          told=Budget(75), says=True, processes=4),
    Scene(name="3 models, 300/min together",
          gateway=lambda seed: TellingBucket(_steps(300), 10, one), told=Budget(300, burst=2),
          says=True, models=3),
    Scene(name="words: sliding 30/min, 45 calls", gateway=lambda seed: Sliding(30, 60),
          told=Budget(30, burst=60), service=0.1, count=45,
          words=RateInWords(Counted.REQUESTS, 30, 60.0, of_account=True)),
    Scene(name="words: window 60/min", gateway=lambda seed: Window(60, 60, _phase(seed, 60)),
          told=Budget(60), words=RateInWords(Counted.REQUESTS, 60, 60.0, of_account=False)),
    Scene(name="words: bucket 300/min, burst 10",
          gateway=lambda seed: Bucket(_steps(300), 10, one), told=Budget(300, burst=2),
          words=RateInWords(Counted.REQUESTS, 300, 60.0, of_account=False)),
    Scene(name="words: 5 channels of 60/min each",
          gateway=lambda seed: Turns(tuple(Bucket(_steps(60), 60, one) for _ in range(5))),
          told=Budget(300, burst=2),
          words=RateInWords(Counted.REQUESTS, 60, 60.0, of_account=False)),
    Scene(name="cap 20 and 300/min",
          gateway=lambda seed: Both((Cap(((0.0, 20.0),)), Bucket(_steps(300), 10, one))),
          told=Budget(300, burst=2)),
    Scene(name="2 channels in turn", gateway=lambda seed: Channels(2, 1), told=None, says=True,
          is_limited=False),
    Scene(name="7 channels in turn", gateway=lambda seed: Channels(7, 1), told=None, says=True,
          is_limited=False),
    Scene(name="2 sticky channels", gateway=lambda seed: Channels(2, 40), told=None, says=True,
          is_limited=False),
    Scene(name="a channel's own window", gateway=lambda seed: OthersWindow(60, 60, 0.0), told=None,
          says=True, is_limited=False),
    Scene(name="cap 20 alone", gateway=lambda seed: Cap(((0.0, 20.0),)), told=None),
)  # fmt: skip


class Paced(FixedLimit):
    """A rate as an algorithm that says *not yet*: so many a second, so many at once."""

    def __init__(self, rate: float, burst: float) -> None:
        super().__init__(_MANY)
        self.rate, self.burst, self.level, self.at = rate, burst, burst, 0.0
        self.wake_at = None

    def tick(self, now: float) -> None:
        self.level = min(self.burst, self.level + (now - self.at) * self.rate)
        self.at = now
        self.wake_at = None if self.ready else now + (1 - self.level) / self.rate + 1e-6

    @property
    def ready(self) -> bool:
        """Return True if one may go."""
        return self.level >= 1

    def sent(self, now: float, in_flight: int) -> Ticket:
        self.tick(now)
        self.level -= 1
        self.wake_at = None if self.ready else now + (1 - self.level) / self.rate + 1e-6
        return FixedLimit.sent(self, now, in_flight)


class Adaptive(Paced):
    """The cubic rate of AWS' adaptive retries, with its published constants."""

    SCALE, BETA, SMOOTH, LEAST = 0.4, 0.7, 0.8, 0.5

    def __init__(self) -> None:
        super().__init__(math.inf, math.inf)
        self.most = self.measured = self.counted_until = self.throttled_at = 0.0
        self.count = 0

    def tick(self, now: float) -> None:
        if self.rate < math.inf:
            super().tick(now)

    def sent(self, now: float, in_flight: int) -> Ticket:
        if self.rate < math.inf:
            return super().sent(now, in_flight)
        return FixedLimit.sent(self, now, in_flight)

    def accepted(self, ticket: Ticket, now: float) -> None:
        if not ticket.decided:
            ticket.decided = True
            self._update(now, False)

    def refused(
        self, ticket: Ticket, now: float, in_flight: int, retry_after: float | None, jitter: float
    ) -> None:
        ticket.decided = True
        self._update(now, True)

    def _update(self, now: float, throttled: bool) -> None:
        half, self.count = math.floor(now * 2) / 2, self.count + 1
        if half > self.counted_until:
            rate = self.count / (half - self.counted_until)
            self.measured += self.SMOOTH * (rate - self.measured)
            self.count, self.counted_until = 0, half
        if throttled:
            self.most = min(self.measured, self.rate)
            self.throttled_at, rate = now, self.most * self.BETA
        elif self.rate == math.inf:
            return
        else:
            window = (self.most * (1 - self.BETA) / self.SCALE) ** (1 / 3)
            rate = self.SCALE * (now - self.throttled_at - window) ** 3 + self.most
        if self.rate == math.inf:
            self.level, self.at = 0.0, now
        self.rate = max(self.LEAST, min(rate, 2 * self.measured))
        self.burst = max(1.0, self.rate)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """A column of the table."""

    name: str
    make: Callable[[Scene], LimitAlgorithm] = lambda scene: step_back()
    retry: RetryRule = product_retry
    is_told: bool = False
    reads: bool = False
    is_ours: bool = False


def _leaky(scene: Scene) -> LimitAlgorithm:
    """Return aiolimiter's leaky bucket, told the rate of requests: it lets a whole period go."""
    if scene.told is None or scene.told.requests is None:
        return FixedLimit(_MANY)
    return Paced(scene.told.requests / scene.told.per, scene.told.requests)


POLICIES: Final = (
    Policy(name="unaided", is_ours=True),
    Policy(name="told", is_told=True, is_ours=True),
    Policy(name="read", reads=True, is_ours=True),
    Policy(name="SDK, 2", make=lambda scene: FixedLimit(_MANY), retry=sdk_retry(2)),
    Policy(name="SDK, 10", make=lambda scene: FixedLimit(_MANY), retry=sdk_retry(10)),
    Policy(name="semaphore 5", make=lambda scene: FixedLimit(5)),
    Policy(name="LangChain 1/s", make=lambda scene: Paced(1.0, 1.0)),
    Policy(name="AWS adaptive", make=lambda scene: Adaptive()),
    Policy(name="aiolimiter told", make=_leaky),
)


@dataclass(frozen=True)
class Outcome:
    """The result of one run: when 95 % were answered, and what was refused and lost."""

    done: float
    refused: float
    failed: int


@dataclass
class Run:
    """One scene under one policy and one seed."""

    scene: Scene
    policy: Policy
    seed: int
    loop: VirtualLoop = field(default_factory=VirtualLoop)
    habit: OutputHabit = field(default_factory=OutputHabit)
    refused: int = 0
    failed: int = 0
    #: When each answer ended, and when each refusal was heard, in seconds.
    answered_at: list[float] = field(default_factory=list)
    refused_at: list[float] = field(default_factory=list)

    def play(self) -> Outcome:
        """Send everything at once and wait for the end."""
        self.random = Random(f"rates {self.seed}")
        self.gateway = self.scene.gateway(self.seed)
        budgets: Mapping[str, Budget] = {}
        if self.policy.is_told and self.scene.told is not None:
            budgets = {"*": self.scene.told}
        self.limiters = [self.new_limiter(budgets) for _ in range(self.scene.processes)]
        models = tuple(f"{_MODEL}{number or ''}" for number in range(self.scene.models))
        workload = Workload(median=self.scene.service, models=models)
        jobs = workload.draw(self.seed, self.scene.count, math.inf)
        self.open = len(jobs)
        for number, job in enumerate(jobs):
            limiter = self.limiters[number % self.scene.processes]
            self.loop.at(0.0, self.ask, limiter, job, Standing(cost=self.cost(job)), None)
        self.loop.run(100_000.0, lambda: self.open == 0)
        done = sorted(job.done_at for job in jobs if job.done_at is not None)
        enough = math.ceil(0.95 * len(jobs))
        at = done[enough - 1] if len(done) >= enough else math.inf
        return Outcome(at, 100 * self.refused / max(1, len(done)), self.failed)

    def new_limiter(self, budgets: Mapping[str, Budget]) -> Limiter:
        """Return the limiter of one process."""
        return Limiter(
            make_algorithm=partial(self.policy.make, self.scene),
            max_queue=None,
            observers=Observers(()),
            jitter=self.random.random,
            budgets=budgets,
            make_account_limit=account_limit,
        )

    def cost(self, job: Job) -> Cost:
        """Estimate: the prompt, half of the tokens, is known; the answer's length is not."""
        return Cost(job.model, int(job.tokens / 2), self.habit.expect(_MODEL))

    def ask(self, limiter: Limiter, job: Job, standing: Standing, order: int | None) -> None:
        """Ask for a slot."""
        standing.cost = self.cost(job)
        key = InAccount("", job.model) if self.policy.is_ours else job.model
        waiter = limiter._enqueue(key, order, request=standing)
        if waiter.lease is not None:
            self.send(job, waiter.lease)
        else:
            waiter.parking = Turn(lambda: self.send(job, waiter.lease))

    def send(self, job: Job, lease: Lease | None) -> None:
        """Send an attempt."""
        assert lease is not None
        job.attempts += 1
        self.loop.at(self.loop.time() + ONE_WAY, self.arrive, job, lease)

    def arrive(self, job: Job, lease: Lease) -> None:
        """Reach the gateway."""
        now = self.loop.time()
        if self.gateway.room(now, job):
            self.gateway.take(now, job)
            self.tell(lease, now)
            self.loop.at(now + job.service, self.end, job, lease)
            if job.headers < job.service:
                self.loop.at(now + job.headers + ONE_WAY, lease.accept)
            return
        self.tell(lease, now)
        took = self.random.lognormvariate(math.log(MEDIAN_REFUSAL), SPREAD_REFUSAL)
        if self.random.random() < LATE_SHARE:
            took = self.random.uniform(*LATE)
        self.loop.at(now - ONE_WAY + max(2 * ONE_WAY, took), self.refuse, job, lease)

    def tell(self, lease: Lease, now: float) -> None:
        """Put headers on the answer."""
        if self.policy.reads and self.scene.says:
            lease.rates = (self.gateway.reading(now),)

    def end(self, job: Job, lease: Lease) -> None:
        """Let the gateway send the end of an answer."""
        self.gateway.give(self.loop.time(), job)
        self.loop.at(self.loop.time() + ONE_WAY, self.succeed, job, lease)

    def succeed(self, job: Job, lease: Lease) -> None:
        """Take the end of an answer."""
        job.done_at = self.loop.time()
        self.answered_at.append(job.done_at)
        self.open -= 1
        self.habit.note(_MODEL, int(job.tokens / 2))
        lease.took(int(job.tokens))
        lease.release(Signal.SUCCESS)

    def refuse(self, job: Job, lease: Lease) -> None:
        """Take a refusal."""
        self.refused += 1
        self.refused_at.append(self.loop.time())
        lease.words = self.scene.words if self.policy.reads else None
        step = self.policy.retry(job.attempts, Refusal(429, None), self.random.random())
        lease.release(Signal.OVERLOAD)
        if step is None:
            self.failed += 1
            self.open -= 1
            return
        again = (lease.limiter, job, lease.request, lease.order)
        self.loop.at(self.loop.time() + step, self.ask, *again)


def oracle(scene: Scene, seed: int) -> float:
    """Return when 95 % are answered for one who stands at the gateway and sees its state."""
    loop, gateway = VirtualLoop(), scene.gateway(seed)
    queue = deque(Workload(median=scene.service).draw(seed, scene.count, math.inf))
    jobs = list(queue)
    looks_at = math.inf

    def look() -> None:
        nonlocal looks_at
        looks_at = math.inf
        send_all()

    def send_all() -> None:
        nonlocal looks_at
        now = loop.time()
        while queue and gateway.room(now, queue[0]):
            job = queue.popleft()
            gateway.take(now, job)
            loop.at(now + job.service, finish, job)
        if queue and (opens := gateway.opens_at(now, queue[0])) < looks_at:
            looks_at = opens
            loop.at(opens, look)

    def finish(job: Job) -> None:
        job.done_at = loop.time()
        gateway.give(job.done_at, job)
        send_all()

    loop.at(0.0, send_all)
    loop.run(math.inf, lambda: all(job.done_at is not None for job in jobs[-1:]) and not queue)
    loop.run()
    return sorted(job.done_at or 0.0 for job in jobs)[math.ceil(0.95 * len(jobs)) - 1]


def watch(scene: str, policy: str, seed: int = 1) -> Run:
    """Play a scene under a policy, both by name, and return the run with its times."""
    [played] = [one for one in SCENES if one.name == scene]
    [under] = [one for one in POLICIES if one.name == policy]
    run = Run(played, under, seed)
    run.play()
    return run


def reference(scene: Scene, seed: int) -> float:
    """Return when the oracle is done, or the unaided limiter where there is no limit at all."""
    if not scene.is_limited:
        return Run(scene, POLICIES[0], seed).play().done
    return oracle(scene, seed)


def cell(scene: Scene, policy: Policy, seeds: tuple[int, ...]) -> str:
    """Return one figure of the table: goodput and refusals per 100, means over the seeds."""
    tells = scene.says or scene.words is not None
    if (policy.is_told and scene.told is None) or (policy.reads and not tells):
        return ""
    runs = [(Run(scene, policy, seed).play(), reference(scene, seed)) for seed in seeds]
    goodput = statistics.mean(best / run.done for run, best in runs)
    refused = statistics.mean(run.refused for run, _ in runs)
    lost = "f" if any(run.failed for run, _ in runs) else ""
    return f"{goodput:.2f} / {refused:.1f}{lost}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seeds", nargs="?", help="as 1,2; those that are held out by default")
    parser.add_argument("--short", action="store_true", help="no rivals, one seed")
    chosen = parser.parse_args()
    seeds = tuple(map(int, chosen.seeds.split(","))) if chosen.seeds else HELD_OUT
    policies: tuple[Policy, ...] = POLICIES
    if chosen.short:
        seeds, policies = seeds[:1], tuple(policy for policy in POLICIES if policy.is_ours)
    print("| scene |", " | ".join(policy.name for policy in policies), "|")
    print("|---|" + "--:|" * len(policies))
    for scene in SCENES:
        cells = [cell(scene, policy, seeds) for policy in policies]
        print(f"| {scene.name} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
