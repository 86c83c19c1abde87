"""Evidence about ceilings: where a partition was refused, and how many were really in flight. Pure.

An attempt counts those in flight when it was sent, and some of them may have been refused already
without anybody knowing it here. Once that is heard they are taken off: they never were in flight
at the gateway, and what it accepted beside them proves less than it seemed to.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from .algorithm import REFUSALS_KEPT, Ticket

#: So many acceptances with as many in flight as were refused disprove a ceiling: one may be by the
#: slot of an answer whose end is still under way.
DISPROOFS: Final = 2
#: How many more than were refused disprove at once that the refusal was the account's.
MORE: Final = 1


@dataclass(slots=True)
class Ceiling:
    """The ceiling of a partition: how many were in flight where it was refused.

    ``known_at`` is when that was learned, ``accepted`` how many attempts were accepted there all
    the same since it was last met.
    """

    in_flight: int
    known_at: float
    accepted: int = 0

    def meet(self, own: Ticket) -> bool:
        """Tell whether this explains the refusal of an attempt, sent when it was known."""
        if own.in_flight < self.in_flight or own.sent_at <= self.known_at:
            return False
        self.accepted = 0
        return True

    def is_disproved_by(self, own: Ticket) -> bool:
        """Note an acceptance; tell whether there is no such ceiling."""
        if own.in_flight == self.in_flight:
            self.accepted += 1
        return own.in_flight > self.in_flight or self.accepted >= min(DISPROOFS, self.in_flight)


@dataclass(slots=True)
class Refusals:
    """The latest refusals of an account: the numbers of the attempts, and when they were heard."""

    _heard: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=REFUSALS_KEPT))

    def note(self, upper: Ticket, now: float) -> None:
        """Note a refusal that is heard now."""
        self._heard.append((upper.number, now))

    def really_in_flight(self, upper: Ticket) -> int:
        """Return how many were in flight with an attempt, without those refused by then."""
        return upper.in_flight - sum(
            number < upper.number and heard_at > upper.sent_at for number, heard_at in self._heard
        )

    def clears(self, accepted: Ticket, refused: Ticket) -> bool:
        """Tell whether an acceptance shows that a refusal did not meet the account's ceiling."""
        return accepted.number > refused.number and (
            self.really_in_flight(accepted) >= self.really_in_flight(refused) + MORE
        )
