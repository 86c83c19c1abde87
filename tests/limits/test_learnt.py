"""Learnt rates in the limiter: for whom, by which log, and what they leave alone."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from comet_resilience import Event, FixedLimit, LimitChanged, RateChanged, RateView, Signal
from comet_resilience.limits.algorithm import StepBack
from comet_resilience.limits.belief import Keeping
from comet_resilience.limits.eventloop import clock
from comet_resilience.limits.explanations import Family, Kind
from comet_resilience.limits.limiter import Limiter
from comet_resilience.limits.partition import Partition
from comet_resilience.limits.partitions import InAccount
from comet_resilience.log_lines import describe, level_of

from ..conftest import in_virtual_time
from ..servers import Server, bucket, cap, sliding
from .conftest import limiter_of

pytestmark = [pytest.mark.anyio, in_virtual_time]


def learning(make: Any = lambda: StepBack(8, 1, 512), **more: Any) -> Limiter:
    return limiter_of(make, make_account_limit=lambda: StepBack(8, 1, 100_000), **more)


class Calls:
    """Calls to a server behind a limiter, each repeated until it is answered."""

    def __init__(self, limiter: Limiter, server: Server, refusal: Signal = Signal.OVERLOAD) -> None:
        self.limiter, self.server, self.refusal = limiter, server, refusal
        self.at_server = 0
        self.refused = 0
        self.answered: dict[Any, int] = {}
        self.began = clock()

    async def one(self, key: Any) -> None:
        order = None
        while True:
            lease = await self.limiter.acquire(key, order)
            order = lease.order
            taken = self.server(clock() - self.began, self.at_server + 1)
            await anyio.sleep(0.05)
            if taken:
                break
            self.refused += 1
            lease.release(self.refusal)
            await anyio.sleep(0.5)
        self.at_server += 1
        lease.accept()
        await anyio.sleep(0.5)
        self.at_server -= 1
        lease.release(Signal.SUCCESS)
        self.answered[key] = self.answered.get(key, 0) + 1

    async def run(self, count: int, *keys: Any) -> float:
        """Make so many calls for each key at once; return how long it took."""
        began = clock()
        async with anyio.create_task_group() as group:
            for _ in range(count):
                for key in keys:
                    group.start_soon(self.one, key)
        return clock() - began


def partition_of(limiter: Limiter, key: Any) -> Partition:
    return limiter._partitions[key]


async def test_a_rate_is_learnt_and_kept_to() -> None:
    limiter = learning()
    calls = Calls(limiter, bucket(5.0, 4.0))
    took = await calls.run(400, "m")
    spacing = partition_of(limiter, "m").slots.spacing
    assert spacing is not None
    assert spacing.log.attempts
    assert took < 1.3 * 400 / 5
    spacing.state = Keeping("", Family(Kind.BUCKET, 4.0), 5.0, 0.0)
    (shown,) = limiter.snapshot().partitions[0].rates
    assert (shown.source, shown.per) == ("learnt", 60.0)
    assert shown.limit == 300
    assert f"paced at about {shown.limit} requests a minute (learnt)" in str(limiter.snapshot())
    assert calls.refused < 300  # by the limit alone it is more, whatever order tasks run in


async def test_a_rate_is_told_when_it_is_learnt_and_when_it_is_given_up() -> None:
    """In the words of the snapshot, at the level that moves of the limit have."""
    events: list[Event] = []
    limiter = learning(on_event=events.append)
    await Calls(limiter, bucket(5.0, 4.0)).run(300, "m")
    told = [event for event in events if isinstance(event, RateChanged)]
    assert told
    assert told[0].old is None
    assert told[0].new is not None
    assert "than a cap" in told[0].reason
    shown = RateView(
        source="learnt", counted="requests", limit=told[0].new, left=None, per=60.0, state="kept"
    )
    assert f"m is {shown}: " in describe(told[0])
    await anyio.sleep(300)
    (await limiter.acquire("m")).release(Signal.SUCCESS)
    last = [event for event in events if isinstance(event, RateChanged)][-1]
    assert (last.partition, last.new, last.reason) == ("m", None, "nothing was held back")
    assert "m is no longer paced: nothing was held back" in describe(last)
    assert level_of(last) == level_of(next(e for e in events if isinstance(e, LimitChanged)))


async def test_a_window_that_closes_is_waited_for() -> None:
    calls = Calls(learning(), sliding(30, 60.0))
    assert await calls.run(45, "m") < 66
    assert calls.refused < 20


async def test_no_log_is_kept_before_the_first_refusal() -> None:
    limiter = learning()
    await Calls(limiter, cap(1_000)).run(50, "m")
    assert partition_of(limiter, "m").slots.spacing is None


async def test_a_cap_is_left_to_the_limit() -> None:
    limiter = learning()
    calls = Calls(limiter, cap(5))
    await calls.run(300, "m")
    spacing = partition_of(limiter, "m").slots.spacing
    assert spacing is not None
    assert spacing.rate is None


async def test_an_algorithm_of_the_users_is_left_alone() -> None:
    limiter = learning(lambda: FixedLimit(4))
    calls = Calls(limiter, bucket(5.0, 1.0))
    await calls.run(60, "m")
    assert calls.refused > 0
    assert partition_of(limiter, "m").slots.spacing is None


async def test_models_that_are_refused_together_learn_no_rate_of_their_own() -> None:
    limiter = learning()
    keys = [InAccount("a", name) for name in ("m", "n", "o")]
    calls = Calls(limiter, bucket(5.0, 4.0))
    rates: list[float | None] = []
    async with anyio.create_task_group() as group:
        group.start_soon(calls.run, 120, *keys)
        for _ in range(6):
            await anyio.sleep(10)
            spacings = [partition_of(limiter, key).slots.spacing for key in keys]
            rates += [spacing.rate for spacing in spacings if spacing is not None]
    assert rates
    assert set(rates) == {None}


async def test_many_models_that_are_refused_at_once_are_a_few_witnesses() -> None:
    limiter = learning()
    keys = [InAccount("a", str(number)) for number in range(30)]
    for key in keys:
        (await limiter.acquire(key)).release(Signal.OVERLOAD)
    above = partition_of(limiter, keys[0]).above
    assert above is not None
    assert len(above.witnesses) == 8


async def test_models_that_share_a_rate_do_not_starve_by_it() -> None:
    limiter = learning()
    keys = [InAccount("a", name) for name in ("m", "n", "o")]
    calls = Calls(limiter, bucket(5.0, 4.0))
    took = await calls.run(130, *keys)
    assert took < 1.4 * 390 / 5


async def test_a_refusal_that_a_rate_explains_teaches_the_limits_nothing() -> None:
    limiter = learning()
    calls = Calls(limiter, bucket(5.0, 4.0))
    await calls.run(100, "m")
    partition = partition_of(limiter, "m")
    heard = list(partition.slots.algorithm.refused_numbers)  # type: ignore[attr-defined]
    await calls.run(300, "m")
    later = [one for one in partition.slots.algorithm.refused_numbers if one not in heard]  # type: ignore[attr-defined]
    assert partition.slots.refused == calls.refused
    assert len(later) < partition.slots.refused - len(heard)


async def test_one_who_goes_before_it_was_sent_leaves_no_trace() -> None:
    limiter = learning()
    calls = Calls(limiter, bucket(5.0, 1.0))
    await calls.run(20, "m")
    partition = partition_of(limiter, "m")
    spacing = partition.slots.spacing
    assert spacing is not None
    lease = await limiter.acquire("m")
    sent = len(spacing.log.attempts)
    with limiter._lock:
        limiter._scheduler.release_unsent(lease, clock())
    assert len(spacing.log.attempts) == sent - 1
