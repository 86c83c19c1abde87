"""A budget is the user's word; all else is evidence, and no call may be lost by it."""

from __future__ import annotations

import math
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from comet_resilience import (
    Budget,
    BudgetSpentError,
    DeadlineExceededError,
    QueueTimeoutError,
    Signal,
    StepBack,
)
from comet_resilience.limits.budget import Cost
from comet_resilience.limits.eventloop import clock
from comet_resilience.limits.gate import Standing
from comet_resilience.limits.limiter import Limiter
from comet_resilience.limits.partition import Lease, Partition

from ..conftest import LIMITED, OK, ask, in_virtual_time, scripted
from .conftest import limiter_of

pytestmark = [pytest.mark.anyio, in_virtual_time]


class Evidence:
    """What holds everybody back until a time, as headers may, and lets one go each ``gap``."""

    def __init__(self, until: float, gap: float = 0.0) -> None:
        self.until, self.gap = clock() + until, gap

    def ready_at(self, partition: Partition, request: Standing, now: float) -> float:
        """Return when the next may go."""
        return max(now, self.until)

    def sent(self, lease: Lease, now: float) -> None:
        """Let the next go a gap later."""
        self.until = max(now, self.until) + self.gap

    def accepted(self, lease: Lease, now: float) -> None:
        """Learn nothing."""

    def ended(self, lease: Lease, signal: Signal, now: float) -> None:
        """Learn nothing."""

    def withdrawn(self, lease: Lease, now: float) -> None:
        """Learn nothing."""


def _limiter(evidence: Evidence | None, budget: Budget | None = None, most: int = 8) -> Limiter:
    budgets = {} if budget is None else {"*": budget}
    limiter = limiter_of(lambda: StepBack(most, 1, most), budgets=budgets)
    if evidence is not None:
        pacer = limiter._pacer
        pacer._sources = (*pacer._sources, evidence)
        pacer._evidence = (evidence,)
    return limiter


async def _send(limiter: Limiter, takes: float = 0.1, **more: Any) -> float:
    """Send one; return how long it waited."""
    began = anyio.current_time()
    lease = await limiter.acquire("m", request=Standing(cost=Cost("m")), **more)
    waited = anyio.current_time() - began
    await anyio.sleep(takes)
    lease.release(Signal.SUCCESS)
    return round(waited, 3)


async def _latest(seconds: float) -> float:
    return clock() + seconds


async def test_evidence_that_opens_too_late_holds_nobody_back() -> None:
    """It would be lost; sent, it may be answered."""
    limiter = _limiter(Evidence(30.0))
    assert await _send(limiter, latest=await _latest(5.0)) == 0.0
    assert await _send(limiter, queue_timeout=5.0) == 0.0
    assert await _send(limiter, queue_timeout=0) == 0.0


async def test_evidence_that_opens_soon_is_waited_for() -> None:
    """Half of the time is left for the answer, and one who can wait for ever waits."""
    limiter = _limiter(Evidence(2.4))
    assert await _send(limiter, latest=await _latest(5.0)) == 2.4
    assert await _send(_limiter(Evidence(2.6)), latest=await _latest(5.0)) == 0.0
    assert await _send(_limiter(Evidence(59.0))) == 59.0


async def test_nobody_who_is_behind_others_is_lost() -> None:
    """Each goes at half of its time at the latest, out of turn; those who can wait do."""
    limiter, waits = _limiter(Evidence(1.0, gap=1.0), most=100), list[float]()

    async def send(latest: float) -> None:
        waits.append(await _send(limiter, latest=latest))

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(send, math.inf)
        await anyio.wait_all_tasks_blocked()
        for _ in range(20):
            tasks.start_soon(send, await _latest(6.0))
    assert sum(wait <= 3.0 for wait in waits) == 23  # three of the patient in their turn
    assert [round(wait) for wait in sorted(waits)[-2:]] == [24, 25]


async def test_the_pressed_wait_for_a_slot_as_all_do() -> None:
    """Evidence is not a limit of calls at once: with one slot they go one after the other."""
    limiter, waits = _limiter(Evidence(30.0), most=1), list[float]()

    async def send() -> None:
        waits.append(await _send(limiter, latest=await _latest(5.0)))

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(send)
    assert sorted(waits) == [0.0, 0.1, 0.2, 0.3, 0.4]


async def test_evidence_never_breaks_a_budget() -> None:
    """One that is pressed still pays."""
    limiter = _limiter(Evidence(30.0), Budget(requests=60))
    assert await _send(limiter) == 30.0
    waits: list[float] = []

    async def send() -> None:
        waits.append(await _send(limiter, latest=await _latest(5.0)))

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(send)
    assert sorted(waits) == [0.9, 1.9, 2.9]


async def test_who_gives_up_while_pressed_leaves_nothing() -> None:
    """Cancelled and out of time: the next is served, and the queue is empty at the end."""
    limiter = _limiter(Evidence(2.0, gap=2.0))
    for _ in range(100):
        with anyio.move_on_after(0.01):
            await limiter.acquire("m", latest=await _latest(10.0))
    assert await _send(limiter) > 0.0
    [partition] = limiter.snapshot().partitions
    assert (partition.waiting, partition.in_flight) == (0, 0)


async def test_what_a_budget_cannot_let_go_in_time_fails_at_once() -> None:
    """With the time that it would have taken, as a number and in words."""
    limiter = _limiter(None, Budget(requests=6, per=60))
    assert await _send(limiter, takes=0.0) == 0.0
    began = anyio.current_time()
    with pytest.raises(BudgetSpentError) as caught:
        await _send(limiter, latest=await _latest(5.0))
    assert anyio.current_time() == began
    assert caught.value.available_in == pytest.approx(10.0)
    assert str(caught.value) == (
        "the budget of 6 requests in 60 s has room for this request to m in 10.0 s at best, and"
        " it cannot wait for longer than 5.0 s; it was not sent"
    )
    assert isinstance(caught.value, QueueTimeoutError)
    assert await _send(limiter, latest=await _latest(10.5)) == 10.0
    assert limiter.snapshot().budgets[0].requests == 2


async def test_who_stands_behind_others_is_told_at_once_as_well() -> None:
    """So many as can be paid for in time wait for it, and are answered."""
    limiter, waits, failed = _limiter(None, Budget(requests=60)), list[float](), list[float]()

    async def send() -> None:
        began = anyio.current_time()
        try:
            waits.append(await _send(limiter, latest=await _latest(5.5)))
        except BudgetSpentError:
            failed.append(anyio.current_time() - began)

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(send)
    assert sorted(waits) == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert failed == [0.0] * 14


async def test_no_slot_in_time_is_told_as_before() -> None:
    """A budget that has room is not to blame."""
    limiter = _limiter(None, Budget(requests=6_000), most=1)
    await limiter.acquire("m", request=Standing(cost=Cost("m")))
    await anyio.sleep(1.0)
    with pytest.raises(QueueTimeoutError, match="no slot for m was free within queue_timeout=2"):
        await _send(limiter, queue_timeout=2.0)


async def test_a_queue_timeout_of_nought_fails_at_a_spent_budget() -> None:
    """Nobody waits who does not want to."""
    limiter = _limiter(None, Budget(requests=60))
    await _send(limiter, takes=0.0)
    with pytest.raises(BudgetSpentError, match=r"in 1\.0 s at best.*longer than 0\.0 s"):
        await _send(limiter, queue_timeout=0)


async def test_one_fails_at_once_only_if_nothing_under_way_could_help() -> None:
    """An answer that may take less than it was charged for is waited for."""
    limiter = _limiter(None, Budget(tokens=600, per=60))
    cost = Cost("m", prompt_tokens=10, output_tokens=290, is_bound=True)
    first = await limiter.acquire("m", request=Standing(cost=cost))
    waited: list[float] = []

    async def wait() -> None:
        began = anyio.current_time()
        lease = await limiter.acquire("m", request=Standing(cost=cost), latest=await _latest(5.0))
        waited.append(anyio.current_time() - began)
        lease.release(Signal.SUCCESS)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.sleep(2.0)
        first.took(20)
        first.release(Signal.SUCCESS)
    assert waited == pytest.approx([2.0], abs=0.01)
    with pytest.raises(BudgetSpentError):
        await wait()


async def test_each_model_in_line_has_its_turn_before_a_call_is_told() -> None:
    """Those of other models that wait for the same budget count."""
    limiter, failed = _limiter(None, Budget(requests=60)), list[str]()

    async def send(key: str) -> None:
        try:
            request = Standing(cost=Cost(key))
            lease = await limiter.acquire(key, request=request, latest=await _latest(4.5))
            lease.release(Signal.SUCCESS)
        except BudgetSpentError:
            failed.append(key)

    async with anyio.create_task_group() as tasks:
        for key in "aaaabbbb":
            tasks.start_soon(send, key)
            await anyio.lowlevel.checkpoint()
    assert 2 <= len(failed) <= 3  # of eight, five can be sent in 4.5 s


async def test_time_is_left_for_the_answer() -> None:
    """A budget that has room just before the caller gives up has none in time."""
    for seconds, is_of_the_slot, waited in (
        (9.9, False, None), (10.1, False, 7.0), (6.9, True, None), (7.1, True, 7.0),
    ):  # fmt: skip
        limiter = _limiter(None, Budget(requests=6, per=60))
        assert await _send(limiter, takes=3.0) == 0.0
        patience: dict[str, Any] = {"queue_timeout": seconds}
        if not is_of_the_slot:
            patience = {"latest": await _latest(seconds)}
        if waited is not None:
            assert await _send(limiter, **patience) == waited
            continue
        with pytest.raises(BudgetSpentError, match="in 7.0 s at best, answers begin after some 3."):
            await _send(limiter, **patience)


async def test_refusals_of_the_pressed_teach_the_limit_nothing() -> None:
    """They are what the evidence said, and the next goes against it a second later."""
    limiter = _limiter(Evidence(30.0))
    began, sent = anyio.current_time(), list[float]()

    async def send() -> None:
        lease = await limiter.acquire("m", latest=await _latest(10.0))
        sent.append(round(anyio.current_time() - began, 3))
        lease.release(Signal.OVERLOAD)

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(send)
    assert sent == [0.0, 1.0, 3.0, 7.0]
    [partition] = limiter.snapshot().partitions
    assert (partition.refused, partition.limit, partition.closed_for) == (4, 8, None)


async def test_who_waited_long_for_a_slot_alone_teaches_the_limit_what_refuses_it() -> None:
    """Half of its time is over, and yet nothing was known that it went against."""
    limiter = _limiter(None, most=1)
    first = await limiter.acquire("m")
    leases: list[Lease] = []

    async def wait() -> None:
        leases.append(await limiter.acquire("m", latest=await _latest(10.0)))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.sleep(6.0)
        first.release(Signal.SUCCESS)
    assert not leases[0].is_pressed


@pytest.mark.parametrize("way", ["deadline", "queue_timeout", "cancel scope"])
async def test_through_the_sdk(way: str) -> None:
    """However the caller says how long it waits, it is told at once, and nothing was sent."""
    options = {} if way == "cancel scope" else {way: 5.0}
    client, inner = scripted(OK, budget=Budget(requests=6, per=60), **options)
    await ask(client)
    began = anyio.current_time()
    with pytest.raises(BudgetSpentError) as caught, anyio.fail_after(5.0):
        await ask(client)
    assert anyio.current_time() - began < 0.1
    assert len(inner.sent) == 1
    diagnosis = caught.value.diagnosis
    assert diagnosis is not None
    assert "has no room for the request in time" in str(diagnosis)


async def test_a_retry_that_a_budget_has_no_room_for_gets_the_last_answer() -> None:
    """Nothing is lost of what the server said."""
    client, inner = scripted(LIMITED, OK, budget=Budget(requests=6, per=60), deadline=5.0)
    with pytest.raises(Exception, match="slow down") as caught:
        await ask(client)
    assert not isinstance(caught.value, DeadlineExceededError)
    assert len(inner.sent) == 1
