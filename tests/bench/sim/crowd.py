"""Many processes of one fleet, whose demand moves: how soon, how fairly, at what cost.

Virtual time, the real shares, the real script on a real server. Three phases: all want the same;
then half of them want twice as much and the others nothing; then all the same again.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any, Final

from comet_resilience.fleet.pace import renew_every
from comet_resilience.limits.fixed import FixedLimit
from comet_resilience.limits.limiter import Limiter
from comet_resilience.limits.partition import Lease, Waiter
from comet_resilience.verdict.vocabulary import Signal

from .clock import VirtualLoop
from .fleet import VirtualCoordinator, VirtualServer
from .policies import account_limit
from .result import jain
from .run import Turn

#: Slots for each process, and how many it asks for at once: always more than there are.
SLOTS: Final = 2
WORKERS: Final = 4
SERVICE: Final = 2.0
_KEY: Final = "model"
_FULL: Final = 0.95
_WIDTH: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """What one crowd came to.

    ``even`` is the utilisation while all want the same, ``moved`` in the second phase and
    ``back`` in the third; ``commands`` are per second, of all, in the first phase's later half
    and over all; ``script_us`` is the server's CPU time for one. ``follows`` is how long after
    demand moved the slots are in use again, and ``rejoins`` how long those who come back wait for
    their first slot, on average and at most.
    """

    members: int
    most: int
    even: float
    moved: float
    back: float
    jain: float
    commands: float
    commands_overall: float
    busiest_second: int
    follows: float | None
    rejoins: tuple[float, float]
    script_us: float
    requests: int


class Crowd:
    """So many processes at a server that must be empty."""

    def __init__(self, members: int, client: Any, seed: int = 1) -> None:
        self.loop = VirtualLoop()
        self.cap = SLOTS * members
        self.phase = max(20.0, 6 * renew_every(members))
        self._client = client
        self._random = Random(f"crowd {seed}")
        self._server = VirtualServer(client, self.loop)
        self._members = [self._member(number) for number in range(members)]
        self._waits: list[tuple[int, float, float]] = []
        self._served = 0
        self._held = [0.0] * members
        self._times, self._levels = [0.0], [0]

    def play(self) -> Crossing:
        """All three phases."""
        began = server_cpu(self._client)
        for number in range(len(self._members)):
            for worker in range(2 * WORKERS):
                self.loop.at(self._random.uniform(0.0, 1.0), self._ask, number, worker)
        self.loop.run(3 * self.phase)
        spent = server_cpu(self._client) - began
        return self._crossing(1e6 * spent / len(self._server.called_at))

    def _member(self, number: int) -> Limiter:
        coordinator = VirtualCoordinator(
            f"member-{number}",
            self.loop,
            self._server,
            partial(FixedLimit, self.cap),
            self._random.random,
            account_limit,
        )
        return coordinator.limiter

    def _is_active(self, number: int, worker: int) -> bool:
        if self.phase <= self.loop.time() < 2 * self.phase:
            return number % 2 == 0
        return worker < WORKERS

    def _ask(self, number: int, worker: int) -> None:
        now = self.loop.time()
        if not self._is_active(number, worker):
            next_phase = self.phase * (now // self.phase + 1)
            self.loop.at(next_phase + self._random.uniform(0.0, 0.01), self._ask, number, worker)
            return
        limiter = self._members[number]
        lease = limiter.acquire_nowait(_KEY)
        if lease is not None:
            self._begin(number, worker, now, lease)
            return
        waiter = limiter._enqueue(_KEY, None)
        go = partial(self._go, number, worker, now, waiter)
        if waiter.lease is not None:
            go()
        else:
            waiter.parking = Turn(go)

    def _go(self, number: int, worker: int, asked: float, waiter: Waiter) -> None:
        assert waiter.lease is not None
        self._begin(number, worker, asked, waiter.lease)

    def _begin(self, number: int, worker: int, asked: float, lease: Lease) -> None:
        now = self.loop.time()
        self._waits.append((number, asked, now - asked))
        self._note(now, 1)
        ends = now + self._random.expovariate(1 / SERVICE)
        in_window = min(ends, self.phase) - max(now, self.phase / 2)
        self._held[number] += max(0.0, in_window)
        self.loop.at(ends, self._end, number, worker, lease)

    def _end(self, number: int, worker: int, lease: Lease) -> None:
        now = self.loop.time()
        self._note(now, -1)
        self._served += 1
        lease.release(Signal.SUCCESS)
        self._ask(number, worker)

    def _note(self, now: float, change: int) -> None:
        self._times.append(now)
        self._levels.append(self._levels[-1] + change)

    def _crossing(self, script_us: float) -> Crossing:
        phase, settled = self.phase, self.phase / 2
        calls = self._server.called_at
        even = [when for when in calls if settled <= when < phase]
        rejoins = self._first_waits(2 * phase)
        return Crossing(
            members=len(self._members),
            most=max(self._levels),
            even=self._use(settled, phase),
            moved=self._use(phase, 2 * phase),
            back=self._use(2 * phase, 3 * phase),
            jain=jain(self._held),
            commands=len(even) / (phase - settled),
            commands_overall=len(calls) / (3 * phase),
            busiest_second=max(
                bisect_right(calls, when + 1.0) - place for place, when in enumerate(calls)
            ),
            follows=self._full_after(phase),
            rejoins=(sum(rejoins) / len(rejoins), max(rejoins)),
            script_us=script_us,
            requests=self._served,
        )

    def _first_waits(self, since: float) -> list[float]:
        """How long those who had nothing before waited for their first slot."""
        firsts: dict[int, float] = {}
        for number, asked, wait in self._waits:
            if number % 2 and asked >= since:
                firsts[number] = min(firsts.get(number, wait), wait + asked - since)
        return list(firsts.values())

    def _use(self, since: float, until: float) -> float:
        """The share of all slots in use, on average."""
        area, at = 0.0, since
        place = bisect_right(self._times, since)
        level = self._levels[place - 1]
        while place < len(self._times) and self._times[place] < until:
            area += level * (self._times[place] - at)
            level, at = self._levels[place], self._times[place]
            place += 1
        return (area + level * (until - at)) / (until - since) / self.cap

    def _full_after(self, since: float) -> float | None:
        """Seconds until the slots are in use again, once they were not."""
        start, was_low = since, False
        while start + _WIDTH <= 3 * self.phase:
            is_full = self._use(start, start + _WIDTH) >= _FULL
            if is_full and (was_low or start > since + 4 * SERVICE):
                return start - since
            was_low = was_low or not is_full
            start += 0.05
        return None


def server_cpu(client: Any) -> float:
    """Seconds that the server's one thread has worked: not disturbed by what else runs here."""
    told = client.info("cpu")
    return float(told["used_cpu_user_main_thread"] + told["used_cpu_sys_main_thread"])
