"""The further slots that a process could use, of a partition or its account. Pure.

A request waits in its partition and in its account, but possibly for a slot of only one of them: a
larger share of the other would be taken from members that could use it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..limits.account import Account

if TYPE_CHECKING:
    from ..limits.partition import Level
    from ..limits.slots import Slots


def is_held_back(level: Level) -> bool:
    """Return whether a request waits for this limit, not for the one below or above it."""
    if isinstance(level, Account):
        return bool(level.ring)
    above = level.above
    return bool(level.slots.waiting) and (above is None or above.slots.has_room)


def further_slots(level: Level) -> int:
    """Return the further slots that could be used, as far as the limits above or below allow.

    A partition counts one more than its account has free: the account's next slot may go to it.
    """
    if isinstance(level, Account):
        below = (partition.slots for partition in level.ring)
        return sum(min(slots.waiting, _free(slots)) for slots in below)
    waiting, above = level.slots.waiting, level.above
    return waiting if above is None else min(waiting, _free(above.slots) + 1)


def _free(slots: Slots) -> int:
    return max(0, slots.algorithm.limit - slots.in_flight)
