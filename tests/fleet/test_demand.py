"""The limit that requests wait for: their model's, or the account's."""

from __future__ import annotations

import pytest

from comet_resilience.fleet.demand import further_slots, is_held_back
from comet_resilience.limits.account import Account
from comet_resilience.limits.algorithm import StepBack
from comet_resilience.limits.fixed import FixedLimit
from comet_resilience.limits.partition import Partition


def below(account: Account[Partition] | None, in_flight: int, waiting: int) -> Partition:
    """A partition with four slots."""
    partition = Partition("m", FixedLimit(4), above=account)
    partition.slots.in_flight, partition.slots.waiting = in_flight, waiting
    return partition


@pytest.mark.parametrize(("waiting", "held_back"), [(0, False), (3, True)])
def test_a_partition_by_itself_waits_for_its_own_limit(waiting: int, held_back: bool) -> None:
    partition = below(None, 4, waiting)
    assert is_held_back(partition) is held_back
    assert further_slots(partition) == waiting


def test_an_account_wants_no_more_than_its_models_could_send() -> None:
    """A hundred wait at a model's own limit: the account's slots would be of no use to them."""
    account: Account[Partition] = Account("account", StepBack(5, 1, 64))
    full, free, other = (below(account, *one) for one in ((4, 100), (1, 100), (0, 2)))
    account.slots.waiting = 202
    assert not is_held_back(account)
    assert further_slots(account) == 0
    for partition in (free, other):
        account.ring.place(partition, 0, 0)
    assert is_held_back(account)
    assert further_slots(account) == 3 + 2
    assert is_held_back(full)


def test_below_a_full_account_a_model_wants_one_more_slot() -> None:
    account: Account[Partition] = Account("account", StepBack(5, 1, 64))
    partition = below(account, 2, 100)
    account.slots.in_flight = 3
    assert is_held_back(partition)
    assert further_slots(partition) == 2 + 1
    account.slots.in_flight = 5
    assert not is_held_back(partition)
    assert further_slots(partition) == 1
