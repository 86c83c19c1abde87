"""The outcomes of one member's attempts, between two reports to the fleet. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from ..limits.algorithm import VERDICT_TIME, Ticket
from .merge import Sample, SampledAttempt

#: How many attempts one report describes; what is beyond teaches nothing more.
_MOST: Final = 64


@dataclass(slots=True, eq=False)
class FleetTicket(Ticket):
    """An attempt; ``in_flight`` is the fleet's, ``alone`` the ticket of the local algorithm.

    ``in_flight`` rests on what the others last reported, ``at_most`` on what they hold: an
    acceptance is to prove no more than was there, a refusal not to pass for noise because too
    little was.
    """

    epoch: int = 0
    at_most: int = 0
    alone: Ticket | None = None


@dataclass(slots=True)
class Sampler:
    """Counts, probes and refusals, with times of this process."""

    sends: int = 0
    accepted: int = 0
    answer_time: float = 0.0
    probes: list[FleetTicket] = field(default_factory=list)
    refused: list[tuple[FleetTicket, float | None]] = field(default_factory=list)
    undecided: deque[FleetTicket] = field(default_factory=deque)

    @property
    def is_urgent(self) -> bool:
        """Tell whether the fleet should hear of it at once."""
        return bool(self.probes or self.refused)

    def send(self, ticket: FleetTicket) -> None:
        """Count an attempt that goes out."""
        self.sends += 1
        if ticket.is_probe:
            self.undecided.append(ticket)

    def accept(self, ticket: FleetTicket, now: float) -> None:
        """Note that its answer has begun: a probe is reported by itself, others are counted."""
        if ticket.decided:
            return
        ticket.decided = True
        if ticket.is_probe:
            self.probes.append(ticket)
            del self.probes[_MOST:]
        else:
            self.accepted += 1
            self.answer_time += now - ticket.sent_at

    def refuse(self, ticket: FleetTicket, retry_after: float | None) -> None:
        """Note that it was refused for load."""
        ticket.decided = True
        self.refused.append((ticket, retry_after))
        del self.refused[_MOST:]

    def settle(self, now: float) -> None:
        """Count a probe as accepted that was not refused within a second."""
        undecided = self.undecided
        while undecided and (undecided[0].decided or undecided[0].sent_at + VERDICT_TIME <= now):
            self.accept(undecided.popleft(), now)

    def hand_over(self) -> Sampler:
        """Return what is to be reported, and count afresh."""
        report = Sampler(self.sends, self.accepted, self.answer_time, self.probes, self.refused)
        self.sends, self.accepted, self.answer_time = 0, 0, 0.0
        self.probes, self.refused = [], []
        return report

    def take_back(self, report: Sampler) -> None:
        """Take back a report that did not arrive: it goes with the next one."""
        self.accepted += report.accepted
        self.answer_time += report.answer_time
        self.probes = (report.probes + self.probes)[:_MOST]
        self.refused = (report.refused + self.refused)[:_MOST]

    def sample(self, now: float) -> Sample:
        """Return it as the fleet is told."""
        return Sample(
            accepted=self.accepted,
            answer_time=self.answer_time / self.accepted if self.accepted else 0.0,
            probes=tuple(_sampled(ticket, ticket.in_flight, now) for ticket in self.probes),
            refused=tuple(
                _sampled(ticket, max(ticket.in_flight, ticket.at_most), now, hint)
                for ticket, hint in self.refused
            ),
        )


def _sampled(
    ticket: FleetTicket, in_flight: int, now: float, retry_after: float | None = None
) -> SampledAttempt:
    return SampledAttempt(
        age=max(0.0, now - ticket.sent_at),
        in_flight=in_flight,
        known_in_flight=ticket.in_flight,
        epoch=ticket.epoch,
        retry_after=retry_after,
    )
