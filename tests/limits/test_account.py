"""The account above the partitions: fair, bounded, never a deadlock, and its own for each key."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from comet_resilience import Event, FixedLimit, LimitChanged, StepBack, snapshot
from comet_resilience.limits.account import FAIR_STEP
from comet_resilience.limits.limiter import Limiter
from comet_resilience.limits.partition import Lease
from comet_resilience.limits.partitions import InAccount
from comet_resilience.verdict.vocabulary import Signal
from tests.bench.sim.clock import VirtualLoop

from ..conftest import (
    COMPLETION,
    ask,
    httpx,
    run_in_virtual_time,
    scripted,
)
from .conftest import limiter_of


def narrow(most: int, on_event: Callable[[Event], object] | None = None) -> Limiter:
    """A limiter whose partitions are wide, and whose accounts begin with so many."""
    return limiter_of(
        lambda: FixedLimit(100),
        on_event=on_event,
        make_account_limit=lambda: StepBack(most, 1, most),
    )


def growing(events: list[Event], start: int = 8) -> Limiter:
    """A limiter whose partitions and accounts begin alike."""
    return limiter_of(
        lambda: StepBack(start, 1, 100),
        on_event=events.append,
        make_account_limit=lambda: StepBack(start, 1, 100),
    )


def key(model: str, account: str = "a") -> InAccount:
    """The key of a model's partition."""
    return InAccount(account, model)


@pytest.mark.anyio
async def test_partitions_that_the_account_holds_back_take_turns() -> None:
    """A model with a long queue gets every other slot, not all until its queue is empty."""
    limiter, served = narrow(1), list[str]()
    first = await limiter.acquire(key("x"))

    async def wait(model: str) -> None:
        lease = await limiter.acquire(key(model))
        served.append(model)
        lease.release(Signal.SUCCESS)

    async with anyio.create_task_group() as tasks:
        for model in "aaaabbc":
            tasks.start_soon(wait, model)
            await anyio.wait_all_tasks_blocked()
        first.release(Signal.SUCCESS)
    assert served == list("abcabaa")
    (account,) = limiter.snapshot().accounts
    assert (account.partition, account.in_flight, account.waiting) == ("account", 0, 0)
    assert account.ok == 8


@pytest.mark.anyio
async def test_slow_answers_of_one_model_do_not_take_all_slots() -> None:
    """In turn alone they would: each turn gives it a slot, and it gives none back."""
    limiter = narrow(20)
    first = [await limiter.acquire(key("x")) for _ in range(20)]
    held = Counter[str]()
    ended = list[Lease]()

    async def wait(model: str) -> None:
        lease = await limiter.acquire(key(model))
        held[model] += 1
        if model == "quick":
            ended.append(lease)

    async with anyio.create_task_group() as tasks:
        for number in range(200):
            tasks.start_soon(wait, "slow" if number % 2 else "quick")
        await anyio.wait_all_tasks_blocked()
        while first or ended:
            (first or ended).pop().release(Signal.SUCCESS)
            await anyio.wait_all_tasks_blocked()
            assert held["slow"] <= 10 + FAIR_STEP or held["quick"] == 100
        tasks.cancel_scope.cancel()
    assert held["quick"] == 100


@pytest.mark.anyio
@pytest.mark.parametrize("models", [1, 30])
async def test_an_urgent_request_passes_the_bulk_of_other_models(models: int) -> None:
    """However many requests of however many models wait for the same account."""
    limiter, served = narrow(1), list[int]()
    first = await limiter.acquire(key("x"))

    async def wait(model: str, priority: int) -> None:
        lease = await limiter.acquire(key(model), priority=priority)
        served.append(priority)
        lease.release(Signal.SUCCESS)

    async with anyio.create_task_group() as tasks:
        for number in range(400):
            tasks.start_soon(wait, f"bulk {number % models}", 10)
        await anyio.wait_all_tasks_blocked()
        for _ in range(20):
            tasks.start_soon(wait, "chat", -5)
        await anyio.wait_all_tasks_blocked()
        first.release(Signal.SUCCESS)
    assert served[:20] == [*[-5] * 8, 10, *[-5] * 8, 10, -5, -5]
    assert len(served) == 420


@pytest.mark.anyio
async def test_a_model_stands_where_its_most_urgent_request_does() -> None:
    """Its own bulk holds its chat back neither before that came nor after it has left."""
    limiter, served = narrow(1), list[str]()
    first = await limiter.acquire(key("x"))

    async def wait(model: str, priority: int) -> None:
        lease = await limiter.acquire(key(model), priority=priority)
        served.append(f"{model}{priority}")
        lease.release(Signal.SUCCESS)

    async with anyio.create_task_group() as tasks:
        for model, priority in (("a", 10), ("b", 10), ("a", 10), ("a", 0), ("b", 0)):
            tasks.start_soon(wait, model, priority)
            await anyio.wait_all_tasks_blocked()
        async with anyio.create_task_group() as left:
            left.start_soon(wait, "b", -5)
            await anyio.wait_all_tasks_blocked()
            left.cancel_scope.cancel()
        first.release(Signal.SUCCESS)
    assert served == ["a0", "b0", "a10", "b10", "a10"]


_arrivals = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from([-5, 0, 10])), min_size=1, max_size=60
)


@given(_arrivals, st.integers(1, 3))
def test_below_one_account_order_holds_within_a_priority_and_nobody_starves(
    arrivals: list[tuple[str, int]], most: int
) -> None:
    """Any requests of several models and priorities, served one after the other."""
    loop, limiter = VirtualLoop(), narrow(most)
    served: list[tuple[str, int, int]] = []

    def run() -> None:
        held = [limiter.acquire_nowait(key("x")) for _ in range(most)]
        waiting = [
            (model, priority, number, limiter._enqueue(key(model), None, priority=priority))
            for number, (model, priority) in enumerate(arrivals)
        ]
        leases = [lease for lease in held if lease is not None]
        while leases:
            leases.pop().release(Signal.SUCCESS)
            for one in [one for one in waiting if one[3].lease is not None]:
                waiting.remove(one)
                served.append(one[:3])
                assert one[3].lease is not None
                leases.append(one[3].lease)
        assert not waiting

    loop.at(0.0, run)
    loop.run(until=0.0)
    assert len(served) == len(arrivals)
    for model, priority in set(arrivals):
        numbers = [number for one, at, number in served if (one, at) == (model, priority)]
        assert numbers == sorted(numbers)
    gaps = Counter[str]()  # turns since a model was served last, while it waits
    left = Counter(model for model, _ in arrivals)
    for model, *_ in served:
        left[model] -= 1
        gaps.update(one for one in left if left[one] and one != model)
        gaps[model] = 0
        assert max(gaps.values()) <= (8 + 3) * 4


@pytest.mark.anyio
async def test_a_newcomer_does_not_pass_those_in_the_ring() -> None:
    """A slot of the account that is free for a moment belongs to whoever is in turn."""
    limiter = narrow(1)
    lease = await limiter.acquire(key("x"))
    got = list[Lease]()

    async def wait() -> None:
        got.append(await limiter.acquire(key("a")))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        lease.release(Signal.SUCCESS)
        assert limiter.acquire_nowait(key("b")) is None
    got[0].release(Signal.SUCCESS)
    free = limiter.acquire_nowait(key("b"))
    assert free is not None
    free.release(Signal.SUCCESS)


@pytest.mark.anyio
async def test_who_leaves_the_queue_leaves_nothing_behind() -> None:
    """Cancelled while the account holds them back; the slot then goes to the other model."""
    limiter = narrow(1)
    lease = await limiter.acquire(key("x"))
    async with anyio.create_task_group() as tasks:
        with anyio.move_on_after(0):
            tasks.start_soon(limiter.acquire, key("b"))
            await anyio.wait_all_tasks_blocked()
        with anyio.CancelScope() as scope:
            scope.cancel()
            await limiter.acquire(key("a"))
        lease.release(Signal.SUCCESS)
    shown = limiter.snapshot()
    assert {p.partition: p.in_flight for p in shown.partitions} == {"x": 0, "a": 0, "b": 1}
    assert [(a.in_flight, a.waiting) for a in shown.accounts] == [(1, 0)]


@pytest.mark.anyio
async def test_accounts_do_not_know_each_other() -> None:
    """One that is full holds nobody of the other back; each model has a partition in both."""
    limiter = narrow(1)
    one = limiter.acquire_nowait(key("m", "one"))
    other = limiter.acquire_nowait(key("m", "other"))
    assert one is not None
    assert other is not None
    assert limiter.acquire_nowait(key("n", "one")) is None
    names = [account.partition for account in limiter.snapshot().accounts]
    assert names == ["account", "account 2"]
    one.release(Signal.SUCCESS)
    other.release(Signal.SUCCESS)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("signal", "moved"), [(Signal.OVERLOAD_ACCOUNT, "account"), (Signal.OVERLOAD_MODEL, "m")]
)
async def test_a_refusal_that_names_its_scope_moves_that_alone(signal: Signal, moved: str) -> None:
    """The limit of the other one stays where it is."""
    events: list[Event] = []
    limiter = growing(events)
    leases = [limiter.acquire_nowait(key("m")) for _ in range(4)]
    events.clear()
    for lease in leases:
        assert lease is not None
        lease.release(signal if lease is leases[0] else Signal.IGNORED)
    assert [event.partition for event in events if isinstance(event, LimitChanged)] == [moved]


@pytest.mark.anyio
async def test_growth_of_an_account_that_holds_nobody_back_is_no_news() -> None:
    """Each answer of a single model would be told twice."""
    events: list[Event] = []
    limiter = growing(events, 2)
    for _ in range(2):
        leases = [limiter.acquire_nowait(key("m")) for _ in range(2)]
        for lease in leases:
            assert lease is not None
            lease.release(Signal.SUCCESS)
    assert {e.partition for e in events if isinstance(e, LimitChanged)} == {"m"}


def test_calls_inside_streams_of_another_model_are_no_deadlock() -> None:
    """Each holder of a slot waits for one of the same account: one at a time goes beyond it."""
    limiter, done = narrow(2), list[int]()

    async def hold(number: int) -> None:
        outer = await limiter.acquire(key("large"))
        outer.accept()
        await anyio.sleep(1)
        inner = await limiter.acquire(key("small"))
        await anyio.sleep(1)
        inner.release(Signal.SUCCESS)
        outer.release(Signal.SUCCESS)
        done.append(number)

    async def main() -> float:
        start = trio.current_time()
        async with anyio.create_task_group() as tasks:
            for number in range(4):
                tasks.start_soon(hold, number)
        return trio.current_time() - start

    took = run_in_virtual_time(main)
    assert sorted(done) == [0, 1, 2, 3]
    assert took < 10
    assert all(p.in_flight == p.waiting == 0 for p in limiter.snapshot().partitions)
    assert all(a.in_flight == a.waiting == 0 for a in limiter.snapshot().accounts)


CAP = 3


def test_a_client_learns_the_account_and_tells_its_keys_apart() -> None:
    """Six models of one key share what the gateway allows the key; another key has its own."""

    async def main() -> Any:
        open_now: dict[str, int] = {}

        async def answer(request: Any) -> Any:
            credential = request.headers["authorization"]
            open_now[credential] = open_now.get(credential, 0) + 1
            try:
                await anyio.sleep(0.1)
                if open_now[credential] > CAP:
                    return httpx.Response(429, json={"error": {"message": "busy", "code": ""}})
                await anyio.sleep(0.9)
                return httpx.Response(200, json=COMPLETION)
            finally:
                open_now[credential] -= 1

        client, inner = scripted((200, COMPLETION, {}), max_retries=50)
        inner.behave = answer
        async with anyio.create_task_group() as tasks:
            for place in range(60):
                tasks.start_soon(partial(ask, client, model=f"m{place % 6}"))
            other = client.with_options(api_key="sk-of-another-account")
            tasks.start_soon(partial(ask, other, model="m0"))
        return snapshot(client)

    shown = run_in_virtual_time(main)
    account, other = shown.accounts
    assert CAP <= account.limit <= 6 * CAP  # it grows again while the last calls leave room
    assert 0 < account.refused <= 25
    assert (other.ok, other.refused) == (1, 0)
    lines = str(shown).splitlines()
    assert lines[1].startswith("account  ")
    assert len(lines) == 1 + 1 + 6 + 1  # nobody has met the limit of the second
    assert "sk-of" not in repr(shown)
