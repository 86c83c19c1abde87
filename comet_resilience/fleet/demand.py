"""The slots that a process could use more of, as its partitions and their account stand. Pure.

A request waits in its partition and in its account, but only one of them may be what it waits for:
a larger share of the other one would be taken from members that could use it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..limits.account import Account

if TYPE_CHECKING:
    from ..limits.partition import Level
    from ..limits.slots import Slots


def is_held_back(level: Level) -> bool:
    """Tell whether anybody waits for this limit, and not for that of a model or the account."""
    if isinstance(level, Account):
        return bool(level.ring)
    above = level.above
    return bool(level.slots.waiting) and (above is None or above.slots.has_room)


def further_slots(level: Level) -> int:
    """Count the further slots that could be used, as far as the limits above or below allow.

    Below an account one more than it has free: its next slot may come here.
    """
    if isinstance(level, Account):
        below = (partition.slots for partition in level.ring)
        return sum(min(slots.waiting, _free(slots)) for slots in below)
    waiting, above = level.slots.waiting, level.above
    return waiting if above is None else min(waiting, _free(above.slots) + 1)


def _free(slots: Slots) -> int:
    return max(0, slots.algorithm.limit - slots.in_flight)
