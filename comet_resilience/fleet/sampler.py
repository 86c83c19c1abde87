"""The outcomes of one member's attempts between two reports to the fleet. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from ..limits.algorithm import VERDICT_TIME, Ticket
from .merge import Sample, SampledAttempt

#: The most attempts that one report describes; more carry no further information.
_MOST: Final = 64


@dataclass(slots=True, eq=False)
class FleetTicket(Ticket):
    """An attempt; ``in_flight`` is the fleet's, ``local`` the ticket of the local algorithm.

    ``in_flight`` counts what the others last reported, ``at_most`` all that they hold: an
    acceptance must not prove more than was in flight, and a refusal must not pass for noise
    because too few were counted.
    """

    epoch: int = 0
    at_most: int = 0
    local: Ticket | None = None


@dataclass(slots=True)
class Sampler:
    """Counts, probes and refusals, with times of this process' clock."""

    sends: int = 0
    accepted: int = 0
    answer_time: float = 0.0
    probes: list[FleetTicket] = field(default_factory=list)
    refused: list[tuple[FleetTicket, float | None]] = field(default_factory=list)
    undecided: deque[FleetTicket] = field(default_factory=deque)

    @property
    def is_urgent(self) -> bool:
        """Return whether it should be reported at once."""
        return bool(self.probes or self.refused)

    def send(self, ticket: FleetTicket) -> None:
        """Count an attempt that is sent."""
        self.sends += 1
        if ticket.is_probe:
            self.undecided.append(ticket)

    def accept(self, ticket: FleetTicket, now: float) -> None:
        """Note that its answer has begun: probes are reported one by one, others counted."""
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

    def drain(self) -> Sampler:
        """Return what there is to report, and reset the counts."""
        report = Sampler(self.sends, self.accepted, self.answer_time, self.probes, self.refused)
        self.sends, self.accepted, self.answer_time = 0, 0, 0.0
        self.probes, self.refused = [], []
        return report

    def restore(self, report: Sampler) -> None:
        """Restore a report that did not arrive, for the next one."""
        self.accepted += report.accepted
        self.answer_time += report.answer_time
        self.probes = (report.probes + self.probes)[:_MOST]
        self.refused = (report.refused + self.refused)[:_MOST]

    def sample(self, now: float) -> Sample:
        """Return the sample to report."""
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
