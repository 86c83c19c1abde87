"""All partitions of a limiter, below their accounts. Nothing waits or locks here.

An account lives as long as any partition below it. The limiter calls under its lock.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from itertools import count
from typing import Final, NamedTuple
from weakref import WeakValueDictionary

from .account import Account
from .partition import Partition

#: Partitions are forgotten after so many idle seconds, and above this number the longest idle ones
#: are, so that memory stays bounded in a service that sees ten thousand model names.
FORGET_AFTER: Final = 300.0
IDLE_KEPT: Final = 1_024
_FIRST_SWEEP: Final = 128


class InAccount(NamedTuple):
    """The key of a partition that an account stands above; both are any hashable values."""

    account: Hashable
    partition: Hashable


class Partitions(dict[Hashable, Partition]):
    """Partitions by their key.

    ``make`` makes a new one of its name and account, ``make_account`` an account of its name.
    """

    def __init__(
        self,
        make: Callable[[Hashable, Account[Partition] | None], Partition],
        make_account: Callable[[str], Account[Partition]],
    ) -> None:
        super().__init__()
        self._make = make
        self._make_account = make_account
        self._accounts: WeakValueDictionary[Hashable, Account[Partition]] = WeakValueDictionary()
        self._sweep_at = _FIRST_SWEEP

    def accounts(self) -> list[Account[Partition]]:
        """Return the accounts above the partitions."""
        return list({partition.above: None for partition in self.values() if partition.above})

    def touch(self, key: Hashable, now: float) -> Partition:
        """Return the partition of a key, made if need be, and mark it as used."""
        partition = self.get(key)
        if partition is None:
            if len(self) >= self._sweep_at:
                self._forget_idle(now)
            partition = self[key] = self._make_below(key)
        partition.used_at = now
        return partition

    def _make_below(self, key: Hashable) -> Partition:
        if not isinstance(key, InAccount):
            return self._make(key, None)
        account = self._accounts.get(key.account)
        if account is None:
            taken = {other.key for other in self._accounts.values()}
            numbers = count(1)
            names = ("account" if number == 1 else f"account {number}" for number in numbers)
            account = self._make_account(next(name for name in names if name not in taken))
            self._accounts[key.account] = account
        return self._make(key.partition, account)

    def _forget_idle(self, now: float) -> None:
        idle = [
            (partition.used_at, key) for key, partition in self.items() if partition.slots.is_idle
        ]
        idle.sort(key=lambda one: one[0])
        for place, (used_at, key) in enumerate(idle):
            if place < len(idle) - IDLE_KEPT or used_at < now - FORGET_AFTER:
                self.pop(key, None)  # a key may have changed its hash
        self._sweep_at = max(_FIRST_SWEEP, 2 * len(self))
