"""A budget that processes share, in virtual time: the real spendings and the real script.

Each process asks without a pause under no limit but the budget; the gateway counts exactly what
comes, as a bucket that refuses or as the fullest period that it has seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any

from comet_resilience.fleet.draws import DrawReply, DrawRequest
from comet_resilience.fleet.scope import budget_key
from comet_resilience.fleet.spending import SharedSpending
from comet_resilience.limits.budget import EVERY_MODEL, Budget, Cost, Spending
from comet_resilience.limits.fixed import FixedLimit
from comet_resilience.limits.gate import Standing
from comet_resilience.limits.limiter import Limiter
from comet_resilience.limits.partition import Lease
from comet_resilience.observers import Observers
from comet_resilience.verdict.vocabulary import Signal

from .clock import Handle, VirtualLoop
from .fleet import ONE_WAY, VirtualServer
from .gateways import Gateway
from .result import jain
from .run import Turn
from .workload import Job

_MODEL = "m"
#: Seconds to the gateway, at least and at most.
_TRAVEL = (0.025, 0.035)
_SERVICE = 0.3


@dataclass(slots=True)
class Spent:
    """What a run came to: attempts as ``(when, tokens)``, and how many of them were refused."""

    sent: list[tuple[float, float]] = field(default_factory=list)
    refused: int = 0
    by_process: dict[int, int] = field(default_factory=dict)
    commands: int = 0

    def rate(self, since: float, until: float) -> float:
        """Return the requests per second between two times."""
        return sum(since <= at < until for at, _ in self.sent) / (until - since)

    def fullest(self, period: float) -> tuple[int, float]:
        """Return the most requests, and the most tokens, of any period."""
        most, heaviest, first, tokens = 0, 0.0, 0, 0.0
        for place, (at, amount) in enumerate(self.sent):
            tokens += amount
            while self.sent[first][0] <= at - period:
                tokens -= self.sent[first][1]
                first += 1
            most, heaviest = max(most, place - first + 1), max(heaviest, tokens)
        return most, heaviest

    @property
    def jain(self) -> float:
        """Return how fairly the processes were served."""
        return jain(list(self.by_process.values()))


class Process:
    """One process: its limiter, and in the coordinator's place events of the virtual loop.

    While ``is_cut_off`` no command of it reaches the server; ``stop`` is a kill.
    """

    def __init__(
        self,
        number: int,
        loop: VirtualLoop,
        server: VirtualServer,
        budget: Budget,
        jitter: Callable[[], float],
    ) -> None:
        self._number, self._loop, self._server, self._jitter = number, loop, server, jitter
        self._timer: Handle | None = None
        self._is_busy = False
        self.is_cut_off = False
        self.is_stopped = False
        self.spending: SharedSpending | None = None
        self.limiter = Limiter(
            make_algorithm=lambda: FixedLimit(100_000),
            max_queue=None,
            observers=Observers(()),
            jitter=jitter,
            budgets={EVERY_MODEL: budget},
            make_spending=self._make,
        )

    def stop(self) -> None:
        """Send nothing more."""
        self.is_stopped = True

    def _make(self, name: str, budget: Budget, waiting: Callable[[], int]) -> Spending:
        key, member = budget_key("virtual", name), f"member-{self._number}"
        self.spending = SharedSpending(budget, member, key, waiting, self._wake, self._jitter)
        return self.spending

    def _wake(self, spending: SharedSpending) -> str:
        self._loop.at(self._loop.time(), self._look)
        return ""

    def _look(self) -> None:
        spending, now = self.spending, self._loop.time()
        assert spending is not None
        if self._is_busy or self.is_stopped:
            return
        if spending.due_at() <= now:
            self._is_busy = True
            request = self.limiter.adjust(None, spending.ask)
            self._loop.at(now + ONE_WAY, self._exchange, request)
            return
        spending.planned = spending.due_at()
        if self._timer is not None:
            self._timer.cancel()
        if spending.planned < float("inf"):
            self._timer = self._loop.call_at(spending.planned, self._look)

    def _exchange(self, request: DrawRequest) -> None:
        assert self.spending is not None
        result: DrawReply | Exception = OSError("cut off")
        if not self.is_cut_off:
            result = self._server.draw(self.spending.key, request)
        self._loop.at(self._loop.time() + ONE_WAY, self._conclude, request, result)

    def _conclude(self, request: DrawRequest, result: DrawReply | Exception) -> None:
        if self.is_stopped:
            return
        assert self.spending is not None
        conclude = partial(self.spending.conclude, request, result)
        self.limiter.adjust(None, conclude)
        self._is_busy = False
        self._look()


class Spenders:
    """So many processes at a server that must be empty, each with so many workers.

    ``tokens`` draws what a request takes. What happens when is in ``events``.
    """

    def __init__(
        self,
        processes: int,
        client: Any,
        budget: Budget,
        gateway: Gateway,
        *,
        workers: int = 8,
        tokens: Callable[[Random], int] = lambda random: 0,
        seed: int = 1,
    ) -> None:
        self.loop = VirtualLoop()
        self.server = VirtualServer(client, self.loop)
        self.spent = Spent()
        self._random, self._gateway, self._tokens = Random(f"spenders {seed}"), gateway, tokens
        self._workers = workers
        self.processes = [
            Process(number, self.loop, self.server, budget, self._random.random)
            for number in range(processes)
        ]

    def play(
        self, seconds: float, events: tuple[tuple[float, Callable[[], object]], ...] = ()
    ) -> Spent:
        """Run for so many seconds."""
        for when, event in events:
            self.loop.at(when, event)
        for process in self.processes:
            for _ in range(self._workers):
                self.loop.at(self._random.uniform(0.0, 0.5), self._ask, process)
        self.loop.run(seconds)
        self.spent.commands = len(self.server.called_at)
        return self.spent

    def _ask(self, process: Process) -> None:
        tokens = self._tokens(self._random)
        standing = Standing(cost=Cost(_MODEL, tokens, 0, is_bound=True))
        waiter = process.limiter._enqueue(_MODEL, None, request=standing)
        go = partial(self._go, process, waiter, tokens)
        if waiter.lease is not None:
            go()
        else:
            waiter.parking = Turn(go)

    def _go(self, process: Process, waiter: Any, tokens: int) -> None:
        if not process.is_stopped:
            when = self.loop.time() + self._random.uniform(*_TRAVEL)
            self.loop.at(when, self._arrive, process, waiter.lease, tokens)

    def _arrive(self, process: Process, lease: Lease, tokens: int) -> None:
        now = self.loop.time()
        job = Job(arrival=now, service=_SERVICE, headers=_SERVICE, tokens=tokens)
        self.spent.sent.append((now, tokens))
        number = self.processes.index(process)
        self.spent.by_process[number] = self.spent.by_process.get(number, 0) + 1
        signal = Signal.SUCCESS
        if self._gateway.room(now, job):
            self._gateway.take(now, job)
        else:
            self.spent.refused += 1
            signal = Signal.OVERLOAD
        self.loop.at(now + _SERVICE, self._end, process, lease, signal, tokens)

    def _end(self, process: Process, lease: Lease, signal: Signal, tokens: int) -> None:
        lease.took(tokens)
        lease.release(signal)
        self._ask(process)
