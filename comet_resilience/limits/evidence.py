"""Evidence about a partition's own ceiling: where it was refused, and what disproves that. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .algorithm import Ticket

#: So many acceptances with as many in flight as were refused disprove a ceiling: one may be by the
#: slot of an answer whose end is still under way.
DISPROOFS: Final = 2


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
