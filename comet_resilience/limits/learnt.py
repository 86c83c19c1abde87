"""The rates that are learnt from refusals: one source of the ``Pacer``.

Each limit has a ``Spacing`` of its own from its first refusal on, if it is one of ours: the limit
of a partition, and that of its account. A refusal that names the account as its scope, or does not
say and comes within a minute of another partition's, is told to the account's alone: partitions
that share a rate cannot see it, and whoever gives way starves. Any other is told to the
partition's. Limits of a fleet and of the user have none: a
rate that several processes share is seen by none of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..verdict.vocabulary import Signal
from .algorithm import StepBack, Ticket
from .gate import Standing
from .spacing import Spaced, Spacing

if TYPE_CHECKING:
    from .partition import Lease, Partition
    from .slots import Slots

#: Seconds by which those give way to others who were served later than they.
_GIVE_WAY: Final = 0.01
_GIVE_WAY_MOST: Final = 20
#: Seconds for which a partition's refusal counts: two that are refused may share one rate.
_WITNESS: Final = 60.0


class Learnt:
    """The spacings of all limits; each is kept with its slots."""

    __slots__ = ()

    def ready_at(self, partition: Partition, request: Standing, now: float) -> float:
        """Return when what was learnt lets a request go: ``now`` if at once."""
        own, above, at = partition.slots.spacing, partition.above, now
        if own is not None and not partition.told.binds(now):
            at = own.ready_at(now)
        if above is not None and above.slots.spacing is not None and not above.told.binds(now):
            shared = above.slots.spacing.ready_at(now)
            at = max(at, shared if shared <= now else shared + self._give_way(partition))
        return at

    def sent(self, lease: Lease, now: float) -> None:
        """Count an attempt that goes out."""
        partition = lease.partition
        own, above = partition.slots.spacing, partition.above
        if own is not None:
            lease.spaced = own.sent(lease.ticket.number, now, lease.ticket.in_flight)
        if above is not None and lease.upper is not None and above.slots.spacing is not None:
            upper = lease.upper
            lease.spaced_above = above.slots.spacing.sent(upper.number, now, upper.in_flight)
            above.turns.pop(partition, None)
            if partition.slots.waiting:
                above.turns[partition] = None  # behind all others

    def accepted(self, lease: Lease, now: float) -> None:
        """Note that an answer has begun, and is no refusal."""
        own, above = lease.partition.slots.spacing, lease.partition.above
        if own is not None and lease.spaced is not None:
            own.accepted(lease.spaced, now)
        if above is not None and lease.spaced_above is not None and above.slots.spacing is not None:
            above.slots.spacing.accepted(lease.spaced_above, now)

    def explains(self, lease: Lease, signal: Signal, now: float) -> bool:
        """Note a refusal, before the limits are told; return whether a rate alone explains it."""
        partition, above = lease.partition, lease.partition.above
        is_shared = signal is Signal.OVERLOAD_ACCOUNT or (
            signal is not Signal.OVERLOAD_MODEL and _has_witnesses(partition, now)
        )
        if is_shared and above is not None and lease.upper is not None:
            if lease.spaced is not None and partition.slots.spacing is not None:
                partition.slots.spacing.withdrawn(lease.spaced)
            for one in above.witnesses:
                if one.slots.spacing is not None:
                    one.slots.spacing.share(now)
            return _refused(above.slots, lease.upper, lease.spaced_above, now)
        if lease.spaced_above is not None and above is not None and above.slots.spacing is not None:
            above.slots.spacing.withdrawn(lease.spaced_above)
        return _refused(partition.slots, lease.ticket, lease.spaced, now)

    def ended(self, lease: Lease, signal: Signal, now: float) -> None:
        """Note that an attempt is over, and the limits have learnt what it taught."""
        if signal is Signal.SUCCESS:
            self.accepted(lease, now)
        elif signal.is_overload:
            _doubt(lease.partition.slots)
            if lease.partition.above is not None:
                _doubt(lease.partition.above.slots)

    def withdrawn(self, lease: Lease, now: float) -> None:
        """Note that an attempt was never sent."""
        own, above = lease.partition.slots.spacing, lease.partition.above
        if own is not None and lease.spaced is not None:
            own.withdrawn(lease.spaced)
        if above is not None and lease.spaced_above is not None and above.slots.spacing is not None:
            above.slots.spacing.withdrawn(lease.spaced_above)

    def _give_way(self, partition: Partition) -> float:
        """Return by how much later one may go than those of its account that were served before."""
        above = partition.above
        if above is None or partition not in above.turns:
            return 0.0
        for one in [one for one in above.turns if not one.slots.waiting]:
            del above.turns[one]
        before = list(above.turns).index(partition) + 1 if partition in above.turns else 0
        others = above.slots.waiting > partition.slots.waiting
        return _GIVE_WAY * min(before, _GIVE_WAY_MOST) if others else 0.0


def _has_witnesses(partition: Partition, now: float) -> bool:
    """Note that a partition was refused; tell whether others of its account were of late."""
    above = partition.above
    if above is None:
        return False
    above.witnesses[partition] = now
    for one in [one for one, at in above.witnesses.items() if at < now - _WITNESS]:
        del above.witnesses[one]
    return len(above.witnesses) > 1


def _refused(slots: Slots, ticket: Ticket, spaced: Spaced | None, now: float) -> bool:
    algorithm = slots.algorithm
    if not isinstance(algorithm, StepBack):
        return False
    spacing = slots.spacing
    if spacing is None:
        spacing = slots.spacing = Spacing()
        spacing.begin(algorithm.numbered, algorithm.level, slots.began_at, now)
    if spaced is None:
        spaced = spacing.sent_before(ticket.number, ticket.sent_at, ticket.in_flight)
    return spacing.refused(spaced, now)


def _doubt(slots: Slots) -> None:
    """Let the next probe go soon where what was refused may have been sent too close."""
    at = None if slots.spacing is None else slots.spacing.take_doubt()
    if at is not None and isinstance(slots.algorithm, StepBack):
        slots.algorithm.probe_at(at)
