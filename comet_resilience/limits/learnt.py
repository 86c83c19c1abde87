"""The rates that are learnt from refusals: one source of the ``Pacer``.

Each ``StepBack`` limit has a ``Spacing`` from its first refusal on. Partitions that share one rate
cannot see it, and one that slows down would starve beside the others. So no rate is believed while
another partition of the same account was refused within a minute. For the same reason the limits
of a fleet, and algorithms of the user's own, have no spacing.
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

#: Seconds for which a refusal shows that a rate may be shared, and how many partitions are
#: remembered for it: those before them know already.
_WITNESS: Final = 60.0
_WITNESSES: Final = 8


class Learnt:
    """The spacings of all limits; each is kept with its slots."""

    __slots__ = ()

    def ready_at(self, partition: Partition, request: Standing, now: float) -> float:
        """Return when the learnt rate lets a request go: ``now`` if at once."""
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
        """Note a refusal, before the limits learn of it; tell whether a rate alone explains it."""
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
        """Note that an attempt has ended; called after the limit has learnt of it."""
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
    """Return the spacing of a limit, made at its first refusal, if it is a ``StepBack``."""
    algorithm = slots.algorithm
    if slots.spacing is None and isinstance(algorithm, StepBack):
        slots.spacing = Spacing(algorithm.numbered, algorithm.level, slots.began_at, now)
    return slots.spacing


def _doubt(slots: Slots) -> None:
    """Bring the next probe forward if a refusal may be due to a rate instead of a ceiling."""
    at = None if slots.spacing is None else slots.spacing.take_doubt()
    if at is not None and isinstance(slots.algorithm, StepBack):
        slots.algorithm.probe_at(at)
