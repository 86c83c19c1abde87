"""What the limiter hands on: hints, orders, moves, slots between event loops, and its figures."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import anyio
import pytest

from comet_resilience import Budget, Event, FixedLimit, LimitChanged, StepBack
from comet_resilience.errors import QueueTimeoutError
from comet_resilience.limits import limiter as limiter_module
from comet_resilience.limits.algorithm import LimitAlgorithm
from comet_resilience.limits.budget import Cost
from comet_resilience.limits.gate import Standing
from comet_resilience.limits.limiter import Limiter
from comet_resilience.limits.partition import Lease, Level, Waiter
from comet_resilience.limits.partitions import InAccount
from comet_resilience.limits.snapshot import Load
from comet_resilience.verdict.vocabulary import Signal
from tests.bench.sim.clock import VirtualLoop

from .conftest import KEY, limiter_of
from .test_limiter import state_of
from .test_partition import Loop, Told

pytestmark = pytest.mark.timeout(120)
T = TypeVar("T")


def of_four() -> StepBack:
    """An algorithm that begins with four."""
    return StepBack(4, 1, 100)


# -- Within one event loop -----------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_retry_has_the_order_of_its_first_attempt() -> None:
    """Whether it waited or not, so that a third attempt stands before later arrivals too."""
    limiter = limiter_of(lambda: FixedLimit(2))
    first = await limiter.acquire(KEY)
    later = await limiter.acquire(KEY)
    first.release(Signal.OVERLOAD)
    again = await limiter.acquire(KEY, first.order)
    assert again.order == first.order < later.order


@pytest.mark.anyio
async def test_one_request_may_wait_longer_than_another() -> None:
    """Each waits for its own queue_timeout; without one it waits for ever."""
    limiter = limiter_of()
    held = await limiter.acquire(KEY)
    got: list[Lease] = []

    async def wait() -> None:
        got.append(await limiter.acquire(KEY))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        with pytest.raises(QueueTimeoutError, match="queue_timeout=0.01 s"):
            await limiter.acquire(KEY, queue_timeout=0.01)
        held.release(Signal.SUCCESS)
    assert len(got) == 1
    assert state_of(limiter) == (1, 0)


@pytest.mark.anyio
async def test_an_accepted_probe_lets_the_next_in_before_it_ends() -> None:
    """Answers that begin are news: who waits need not wait for their end."""
    limiter, got = limiter_of(of_four), []
    leases = [await limiter.acquire(KEY) for _ in range(4)]

    async def wait() -> None:
        got.append(await limiter.acquire(KEY))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        assert state_of(limiter) == (4, 1)
        for lease in leases:
            lease.accept()
        await anyio.wait_all_tasks_blocked()
        assert len(got) == 1
    assert state_of(limiter) == (5, 0)


@pytest.mark.anyio
async def test_the_servers_hint_keeps_the_gate_closed() -> None:
    """Retry-After reaches the algorithm with the refusal."""
    told = Told(5)
    limiter = limiter_of(lambda: told)
    (await limiter.acquire(KEY)).release(Signal.OVERLOAD, 30.0)
    (refused,) = (said for said in told.told if said[0] == "refused")
    assert refused[-2:] == (30.0, 0.5)


@pytest.mark.anyio
async def test_a_dropped_lease_counts_as_neither_answered_nor_refused() -> None:
    """It teaches nothing, and its slot is free at the next look."""
    limiter = limiter_of()
    (await limiter.acquire(KEY)).abandon()
    (shown,) = limiter.snapshot().partitions
    assert (shown.in_flight, shown.ok, shown.refused, shown.other) == (0, 0, 0, 1)


@pytest.mark.anyio
async def test_an_observer_that_ends_the_program_keeps_no_slot() -> None:
    """What is no ``Exception`` goes through, and the slot that was just given goes back."""

    def observer(event: Event) -> None:
        raise KeyboardInterrupt

    moving = Told(5)
    limiter = limiter_of(lambda: moving, on_event=observer)
    (await limiter.acquire(KEY)).release(Signal.SUCCESS)
    moving.limit = 6
    with pytest.raises(KeyboardInterrupt):
        limiter.acquire_nowait(KEY)
    (shown,) = limiter.snapshot().partitions
    assert (shown.in_flight, shown.ok, shown.other) == (0, 1, 1)


def test_figures_of_one_partition() -> None:
    """Limit, in flight, waiting, refused; all 0 for a partition that nobody used."""
    limiter = limiter_of(lambda: FixedLimit(7))
    assert limiter.load_of(KEY) == Load(limit=0, in_flight=0, waiting=0, refused=0)
    leases = [limiter.acquire_nowait(KEY) for _ in range(5)]
    for lease in leases[:2]:
        assert lease is not None
        lease.release(Signal.OVERLOAD)
    assert leases[0] is not None
    leases[0].partition.slots.waiting = 4
    assert limiter.load_of(KEY) == Load(limit=7, in_flight=3, waiting=4, refused=2)


def test_each_new_partition_is_made_known() -> None:
    """Once, with its algorithm and key, before it is used; and so is an account above it."""
    known: list[Level] = []
    limiter = limiter_of(on_partition=known.append, make_account_limit=lambda: StepBack(5, 1, 64))
    for key in ("a", InAccount("x", "b"), InAccount("x", "c"), "a"):
        limiter.acquire_nowait(key)
    assert [level.key for level in known] == ["a", "account", "b", "c"]


# -- Between event loops -------------------------------------------------------------------------


class Threads:
    """A limiter as several event loops see it; time, and who runs, by hand."""

    lease: Lease

    def __init__(self, make: Callable[[], LimitAlgorithm], patch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.here: Any = None
        self.heard: list[Event] = []
        self.limiter = limiter_of(make, on_event=self.heard.append)
        patch.setattr(limiter_module, "time_and_loop", self._time_and_loop)
        patch.setattr(limiter_module, "running_loop", lambda: self.here)

    def _time_and_loop(self, here: Any = None) -> tuple[float, Any]:
        return self.now, here or self.here

    def adjust(self, step: Callable[[float], T]) -> T:
        """Change something, and have what follows from it done."""
        return self.limiter.adjust(self.lease.partition, step)

    def wait(self, loop: Timed) -> Waiter:
        """Somebody queues on a loop."""
        self.here = loop
        return self.limiter._enqueue(KEY, None)


class Timed(Loop):
    """An event loop with timers."""

    def __init__(self, threads: Threads) -> None:
        super().__init__()
        self.threads = threads
        self.timers: dict[float, Callable[[], object]] = {}

    def now(self) -> float:
        return self.threads.now

    def call_at(self, when: float, function: Callable[[], object]) -> Callable[[], object]:
        self.timers[when] = function
        return lambda: self.timers.pop(when, None)

    def turn(self) -> None:
        """Run what is due here."""
        self.threads.here = self
        soon, self.soon = self.soon, []
        for function in soon:
            function()
        for when in [when for when in self.timers if when <= self.threads.now]:
            self.timers.pop(when)()


class Waking(Told):
    """A limit that rises by itself at a time."""

    def tick(self, now: float) -> None:
        """Rise once the time has come."""
        if self.wake_at is not None and now >= self.wake_at:
            self.limit, self.wake_at = self.limit + 1, None


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> tuple[Threads, Waking, Timed, Timed]:
    """Two event loops that share a limit of 1, which is taken."""
    algorithm = Waking(1)
    threads = Threads(lambda: algorithm, monkeypatch)
    lease = threads.limiter.acquire_nowait(KEY)
    assert lease is not None
    threads.lease = lease
    return threads, algorithm, Timed(threads), Timed(threads)


#: Before the partition would look after a standstill by a timer of its own.
SOON = 102.0


def test_a_slot_freed_on_one_loop_wakes_a_waiter_of_another(
    pair: tuple[Threads, Waking, Timed, Timed],
) -> None:
    """It owns the slot at once, with its order, time and loop; its own loop lets it run."""
    threads, algorithm, one, other = pair
    waiter = threads.wait(one)
    threads.here, threads.now = other, 103.0
    threads.adjust(lambda now: algorithm.told.clear())
    algorithm.limit = 2
    result = threads.adjust(lambda now: now)
    assert result == 103.0
    assert algorithm.told == [("sent", 103.0, 2)]
    assert waiter.lease is not None
    assert waiter.lease.order == waiter.order
    assert waiter.lease.loop is waiter.loop
    assert not waiter.parking.is_over
    one.turn()
    assert waiter.parking.is_over
    (change,) = threads.heard
    assert isinstance(change, LimitChanged)
    assert (change.old, change.new) == (1, 2)


def test_a_slot_for_a_loop_that_is_gone_goes_to_the_next(
    pair: tuple[Threads, Waking, Timed, Timed],
) -> None:
    """Its waiter will never run; nothing was sent, so nothing is learnt."""
    threads, algorithm, gone, other = pair
    dead, alive = threads.wait(gone), threads.wait(other)
    gone.gone = True
    algorithm.limit, algorithm.told = 2, []
    threads.adjust(lambda now: None)
    assert dead.lease is not None
    assert dead.lease.released
    assert alive.lease is not None
    assert alive.parking.is_over
    assert [said[0] for said in algorithm.told] == ["sent", "ended", "sent"]
    assert algorithm.told[1] == ("ended", 2, 100.0, 1)
    assert state_of(threads.limiter) == (2, 0)


def test_the_timer_runs_on_the_loop_of_the_first_who_waits(
    pair: tuple[Threads, Waking, Timed, Timed],
) -> None:
    """Set from another loop it is set by its own; it gives the slot out at its time."""
    threads, algorithm, one, other = pair
    waiter = threads.wait(one)
    algorithm.wake_at = SOON
    threads.here = other
    threads.adjust(lambda now: None)
    assert SOON not in {*one.timers, *other.timers}
    one.turn()
    assert SOON in one.timers
    threads.now = SOON
    one.turn()
    assert waiter.lease is not None
    assert waiter.parking.is_over
    assert not one.timers


def test_a_timer_moves_with_the_time_and_with_the_first_who_waits(
    pair: tuple[Threads, Waking, Timed, Timed],
) -> None:
    """There is one at most; the same time on the same loop leaves it alone."""
    threads, algorithm, one, other = pair
    first, _ = threads.wait(one), threads.wait(other)
    threads.here, algorithm.wake_at = one, SOON + 1
    threads.adjust(lambda now: None)
    timers = dict(one.timers)
    threads.adjust(lambda now: None)
    assert one.timers == timers
    algorithm.wake_at = SOON
    threads.adjust(lambda now: None)
    assert list(one.timers) == [SOON]
    threads.limiter._leave(first)
    assert not one.timers
    other.turn()
    assert list(other.timers) == [SOON]
    algorithm.wake_at = None
    threads.adjust(lambda now: None)
    assert SOON not in other.timers


def test_one_who_leaves_hands_its_slot_on_at_that_moment(
    pair: tuple[Threads, Waking, Timed, Timed],
) -> None:
    """A slot that came together with the cancellation is not lost, and counts as unsent."""
    threads, algorithm, one, other = pair
    first, second = threads.wait(one), threads.wait(other)
    algorithm.limit = 2
    threads.adjust(lambda now: None)
    threads.here, threads.now, algorithm.told = one, 101.0, []
    threads.limiter._leave(first)
    assert algorithm.told == [("ended", 2, 101.0, 1), ("sent", 101.0, 2)]
    assert second.lease is not None
    assert not second.parking.is_over
    other.turn()
    assert second.parking.is_over


def test_a_dropped_lease_comes_back_at_the_time_of_the_next_look(
    pair: tuple[Threads, Waking, Timed, Timed],
) -> None:
    """The finalizer only notes it; whoever comes next takes it back and hands it on."""
    threads, algorithm, one, _ = pair
    waiter = threads.wait(one)
    (held,) = (said for said in algorithm.told if said[0] == "sent")
    assert held == ("sent", 100.0, 1)
    threads.now, algorithm.told = 103.0, []
    threads.lease.abandon()
    assert algorithm.told == []
    threads.limiter.snapshot()
    assert algorithm.told == [("ended", 1, 103.0, 0), ("sent", 103.0, 1)]
    assert waiter.parking.is_over


def test_what_is_noted_under_the_lock_is_told_after_it() -> None:
    """The fleet's moves reach the observers in their turn."""
    heard: list[Event] = []
    limiter = limiter_of(on_event=heard.append)
    lease = limiter.acquire_nowait(KEY)
    assert lease is not None
    moved: Any = object()
    limiter.adjust(lease.partition, lambda now: limiter.note(moved))
    assert heard == [moved]


def test_nobody_listens_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without observers moves of the limit do not pile up."""
    moving = Told(5)
    limiter = limiter_of(lambda: moving)
    for limit in (6, 7, 8):
        limiter.acquire_nowait(KEY)
        moving.limit = limit
    assert not limiter._events


def outage(budgets: dict[str, Budget]) -> tuple[VirtualLoop, Limiter]:
    """A limiter with accounts of one slot, after three calls that did not reach the host "h"."""
    loop = VirtualLoop()
    limiter = limiter_of(
        lambda: FixedLimit(9), make_account_limit=lambda: StepBack(1, 1, 1), budgets=budgets
    )

    def fail() -> None:
        for _ in range(3):
            request = Standing(cost=Cost("m"))
            lease = limiter.acquire_nowait("first", request=request, host="h")
            assert lease is not None
            lease.release(Signal.UNREACHABLE, what="refused")

    loop.at(0.0, fail)
    loop.run(until=0.0)
    return loop, limiter


def test_a_canary_for_which_there_is_no_slot_is_looked_for_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its time has come, and is not to be waited for any more: that once took the whole CPU."""
    loop, limiter = outage({})
    looks, look = list[float](), limiter._scheduler.look

    def counted(*arguments: Any) -> int | None:
        looks.append(loop.time())
        assert len(looks) < 200
        return look(*arguments)

    monkeypatch.setattr(limiter._scheduler, "look", counted)

    def wait() -> None:
        assert limiter.acquire_nowait(InAccount("a", "x"), host="another") is not None
        limiter._enqueue(InAccount("a", "y"), None, host="h")

    loop.at(1.0, wait)
    loop.run(until=11.0)
    assert 20 <= len(looks) <= 60


def test_partitions_in_line_at_a_closed_gate_are_asked_once_each() -> None:
    """They may leave the line and join it again as often as anybody looks."""
    loop, limiter = outage({"m": Budget(requests=3, per=60, burst=60)})
    waiters: list[Waiter] = []

    def wait() -> None:
        waiters.extend(
            limiter._enqueue(key, None, request=Standing(cost=Cost("m")), host="h")
            for key in ("a", "b", "c")
        )

    loop.at(1.0, wait)
    loop.run(until=59.0)
    assert not any(waiter.lease for waiter in waiters)
    loop.run(until=61.0)
    assert any(waiter.lease for waiter in waiters)


class Host:
    """Partitions behind one host, in virtual time."""

    def __init__(self) -> None:
        self.loop, self.now = VirtualLoop(), 0.0
        self.limiter = limiter_of(lambda: FixedLimit(99))
        self.waiters: dict[str, list[Waiter]] = {"a": [], "b": []}

    def do(self, function: Callable[[], object]) -> None:
        """Do something on the loop, now."""
        self.loop.at(self.now, function)
        self.loop.run(until=self.now)

    def break_down(self, key: str, signal: Signal) -> None:
        """Fail five requests of a partition, and let a dozen others wait."""
        leases = [
            self.limiter.acquire_nowait(key, request=Standing(cost=Cost("m")), host="h")
            for _ in range(5)
        ]
        for lease in leases:
            assert lease is not None
            lease.release(signal, what="x", answered=signal is Signal.OUTAGE)
        self.waiters[key] += [
            self.limiter._enqueue(key, None, request=Standing(cost=Cost("m")), host="h")
            for _ in range(12)
        ]

    def under_way(self, key: str) -> list[Lease]:
        """Return what was sent and has not ended."""
        leases = [waiter.lease for waiter in self.waiters[key]]
        return [lease for lease in leases if lease is not None and not lease.released]

    def canary(self, key: str) -> Lease:
        """Let time pass until something of a partition is sent."""
        while not self.under_way(key):
            self.now += 0.05
            assert self.now < 60
            self.loop.run(until=self.now)
        return self.under_way(key)[0]


def test_a_host_that_is_back_has_its_closed_partitions_tried_at_once() -> None:
    """One that has failed for long would wait for seconds, although all may be well again."""
    host = Host()
    host.do(lambda: host.break_down("a", Signal.OUTAGE))
    while host.now < 6:
        canary = host.canary("a")
        host.do(partial(canary.release, Signal.OUTAGE, what="x", answered=True))
    host.do(lambda: host.break_down("b", Signal.UNREACHABLE))
    canary = host.canary("b")
    assert not host.under_way("a")
    host.do(partial(canary.release, Signal.SUCCESS, answered=True))
    assert host.under_way("a")
