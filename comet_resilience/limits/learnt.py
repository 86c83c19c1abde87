"""The rates that are learnt from refusals: one source of the ``Pacer``.

The limit of each partition has a ``Spacing`` of its own from its first refusal on, if it is one of
ours. Partitions that share a rate cannot see it, and whoever gives way to the others starves: where
another partition of the same account was refused within a minute, nobody's rate is believed. For
the same reason limits of a fleet and of the user have no spacing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..verdict.vocabulary import Signal
from .algorithm import StepBack
from .gate import Standing
from .spacing import Spacing

if TYPE_CHECKING:
    from .partition import Lease, Partition
    from .slots import Slots

#: Seconds for which a partition's refusal counts: two that are refused may share one rate. The
#: latest few are enough: those before them know already that they share it.
_WITNESS: Final = 60.0
_WITNESSES: Final = 8


class Learnt:
    """The spacings of all limits; each is kept with its slots."""

    __slots__ = ()

    def ready_at(self, partition: Partition, request: Standing, now: float) -> float:
        """Return when what was learnt lets a request go: ``now`` if at once."""
        spacing = partition.slots.spacing
        if spacing is None or partition.told.binds:
            return now
        return spacing.ready_at(now)

    def sent(self, lease: Lease, now: float) -> None:
        """Count an attempt that goes out."""
        spacing = lease.partition.slots.spacing
        if spacing is not None:
            lease.spaced = spacing.sent(lease.ticket.number, now, lease.ticket.in_flight)

    def accepted(self, lease: Lease, now: float) -> None:
        """Note that an answer has begun, and is no refusal."""
        spacing = lease.partition.slots.spacing
        if spacing is not None and lease.spaced is not None:
            spacing.accepted(lease.spaced, now)

    def explains(self, lease: Lease, signal: Signal, now: float) -> bool:
        """Note a refusal, before the limits are told; return whether a rate alone explains it."""
        partition, above = lease.partition, lease.partition.above
        spacing = _spacing_of(partition.slots, now)
        if above is not None and _has_witnesses(partition, above.witnesses, now):
            for one in above.witnesses:
                if one.slots.spacing is not None:
                    one.slots.spacing.share(now)
        if spacing is None:
            return False
        ticket = lease.ticket
        sent = lease.spaced or spacing.sent_before(ticket.number, ticket.sent_at, ticket.in_flight)
        return spacing.refused(sent, now)

    def ended(self, lease: Lease, signal: Signal, now: float) -> None:
        """Note that an attempt is over, and the limit has learnt what it taught."""
        if lease.partition.slots.spacing is None:
            return
        if signal is Signal.SUCCESS:
            self.accepted(lease, now)
        elif signal.is_overload:
            _doubt(lease.partition.slots)

    def withdrawn(self, lease: Lease, now: float) -> None:
        """Note that an attempt was never sent."""
        spacing = lease.partition.slots.spacing
        if spacing is not None and lease.spaced is not None:
            spacing.withdrawn(lease.spaced)


def _has_witnesses(partition: Partition, witnesses: dict[Partition, float], now: float) -> bool:
    """Note that a partition was refused; tell whether others of its account were of late."""
    witnesses.pop(partition, None)
    witnesses[partition] = now
    for one in [*witnesses][:-_WITNESSES]:
        del witnesses[one]
    for one in [one for one, at in witnesses.items() if at < now - _WITNESS]:
        del witnesses[one]
    return len(witnesses) > 1


def _spacing_of(slots: Slots, now: float) -> Spacing | None:
    """Return the spacing of a limit, which begins with its first refusal, if it is one of ours."""
    algorithm = slots.algorithm
    if slots.spacing is None and isinstance(algorithm, StepBack):
        slots.spacing = Spacing(algorithm.numbered, algorithm.level, slots.began_at, now)
    return slots.spacing


def _doubt(slots: Slots) -> None:
    """Let the next probe go soon where what was refused may have been sent too close."""
    at = None if slots.spacing is None else slots.spacing.take_doubt()
    if at is not None and isinstance(slots.algorithm, StepBack):
        slots.algorithm.probe_at(at)
