"""All partitions of a limiter: which are remembered, and below which account."""

from __future__ import annotations

from typing import Any

from comet_resilience.limits.account import Account
from comet_resilience.limits.partition import Partition
from comet_resilience.limits.partitions import FORGET_AFTER, IDLE_KEPT, Partitions

from .test_partition import Loop, Told, grant


def no_account(name: str) -> Account[Partition]:
    """Fail: these keys have no account."""
    raise AssertionError(name)


def partitions_of(number: int, now: float = 0.0) -> Partitions:
    """So many partitions, none of which is used."""
    partitions = Partitions(lambda key, _: Partition(key, Told()), no_account)
    for key in range(number):
        partitions.touch(key, now)
    return partitions


def test_what_nobody_used_for_long_is_forgotten() -> None:
    """Once there are many; what was used since, runs or waits stays."""
    partitions = partitions_of(128)
    loop: Any = Loop()
    partitions[3].push(loop, None)
    grant(partitions[4])
    partitions.touch(5, 1.0)
    partitions.touch("new", FORGET_AFTER + 0.5)
    assert set(partitions) == {3, 4, 5, "new"}
    assert partitions["new"].used_at == FORGET_AFTER + 0.5


def test_what_was_used_lately_stays() -> None:
    """Few partitions are never looked through, and exactly at the limit is not yet too long."""
    partitions = partitions_of(127)
    partitions.touch("new", 10 * FORGET_AFTER)
    assert len(partitions) == 128
    partitions = partitions_of(128)
    partitions.touch("new", FORGET_AFTER)
    assert len(partitions) == 129


def test_of_too_many_idle_ones_the_longest_idle_are_forgotten() -> None:
    """So many are kept, however lately the others were used; the look grows rarer with them."""
    partitions = Partitions(lambda key, _: Partition(key, Told()), no_account)
    most = 0
    for key in range(5 * IDLE_KEPT):
        partitions.touch(key, key / 1_000)
        most = max(most, len(partitions))
    assert IDLE_KEPT < most <= 2 * IDLE_KEPT + 1
    partitions._sweep_at = 0
    partitions.touch("new", 5 * IDLE_KEPT / 1_000)
    kept = [*range(4 * IDLE_KEPT, 5 * IDLE_KEPT), "new"]
    assert list(partitions) == kept
