"""The samples of members, told to the fleet's algorithm as if one process had sent all. Pure.

The algorithm is the one that limits a single process. What differs is how its tickets come about:

* How many were in flight when an attempt was sent is what the member had, and what the others
  last said they had.
  An acceptance proves no more than is known to be in flight when it is told, too: of what the
  others had some may have ended, and a level above the ceiling is refused again and again.
* Numbers are estimated (``memory.Count``).
* An attempt carries the *epoch* under which it was sent; each step back begins another. A refusal
  of an older epoch tells nothing new: one overload is one decrease, whoever met it. While members
  remain that do not know of the step yet, or more is in flight than the limit that it left, what
  fills the gateway is older, and refusals of the new epoch count as older, too. So do those of
  attempts sent within about the time of an answer after it: what it freed is not free yet.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from ..limits.algorithm import LimitAlgorithm, StepBack, Ticket
from .memory import Count, restore, save
from .message import MOST, Commit, ShareReply, ShareRequest

#: Seconds after a step back in which members may still not know of it.
DRAIN_MOST: Final = 5.0
#: The time of an answer, as far as it counts after a step back, in seconds.
SETTLE_LEAST: Final = 0.25
SETTLE_MOST: Final = 1.0
#: More than this many plain acceptances at once teach nothing more.
_MOST_ACCEPTED: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledAttempt:
    """One attempt that was accepted or refused: seconds ago, in flight then, and its epoch.

    ``in_flight`` is as many as there may have been, ``known_in_flight`` as many as were reported.
    """

    age: float
    in_flight: int
    known_in_flight: int
    epoch: int
    retry_after: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The outcomes of a member's attempts since it last reported.

    ``accepted`` counts answers that began and were no probes, on average after ``answer_time``
    seconds; ``probes`` are those sent above the level, or while the gate was closed.
    """

    accepted: int = 0
    answer_time: float = 0.0
    probes: tuple[SampledAttempt, ...] = ()
    refused: tuple[SampledAttempt, ...] = ()

    @property
    def is_urgent(self) -> bool:
        """Tell whether the fleet should hear of it at once."""
        return bool(self.probes or self.refused)


@dataclass(frozen=True, slots=True)
class Understanding:
    """The fleet's algorithm and its numbers, as one member understands them."""

    algorithm: LimitAlgorithm
    count: Count

    @property
    def settles_within(self) -> float:
        """Return for how many seconds after a step back attempts still meet what was before it."""
        algorithm = self.algorithm
        answer_time = algorithm.answer_time if isinstance(algorithm, StepBack) else 0.0
        return min(SETTLE_MOST, max(SETTLE_LEAST, answer_time))

    @property
    def level(self) -> int:
        """Return what is known to be accepted; above it an attempt is a probe."""
        return level_of(self.algorithm)


def level_of(algorithm: LimitAlgorithm) -> int:
    """Return what an algorithm knows to be accepted."""
    return algorithm.level if isinstance(algorithm, StepBack) else algorithm.limit


def ceiling(algorithm: LimitAlgorithm) -> int:
    """Return the highest limit that an algorithm can come to: no reply is believed above it."""
    return algorithm.maximum if isinstance(algorithm, StepBack) else algorithm.limit


def understand(reply: ShareReply, fresh: LimitAlgorithm, remembered: str) -> Understanding:
    """Rebuild the fleet's algorithm from its state, this member's memory, or the bare limit."""
    for text in (reply.state, remembered):
        count = restore(text, fresh, reply.now)
        if count is not None:
            return Understanding(fresh, count)
    if isinstance(fresh, StepBack):
        fresh.allowance = max(fresh.minimum, min(reply.limit, fresh.maximum))
    return Understanding(fresh, Count(at=reply.now))


def is_needed(fleet: Understanding, sample: Sample, reply: ShareReply) -> bool:
    """Tell whether there is anything to commit: else the reply alone is the renewal."""
    algorithm = fleet.algorithm
    wake_at = algorithm.wake_at
    if algorithm.limit != reply.limit or not reply.state or sample.is_urgent:
        return True
    # While growth holds still, acceptances and time are what ends it.
    return wake_at is not None and (sample.accepted > 0 or wake_at <= reply.now)


def merge(
    fleet: Understanding, sample: Sample, reply: ShareReply, request: ShareRequest, jitter: float
) -> Commit:
    """Tell the algorithm the sample of the member that asks, and return the commit."""
    algorithm, count, now = fleet.algorithm, fleet.count, reply.now
    step = _last_step(algorithm)
    rate = request.rate + reply.rate
    in_flight = request.in_use + reply.in_use
    count.advance(now, rate)
    _number_up_to(algorithm, count.number(now, rate))
    if algorithm.closed_until is not None:  # what ended since is not replaced
        algorithm.ended(Ticket(0, 0, now), now, in_flight)
    algorithm.tick(now)
    for _ in range(min(sample.accepted, _MOST_ACCEPTED)):
        algorithm.accepted(Ticket(0, 0, now - sample.answer_time), now)
    most = in_flight if algorithm.closed_until is None else MOST
    for attempt in sample.probes:
        probe = replace(attempt, in_flight=min(attempt.in_flight, most))
        algorithm.accepted(_ticket(fleet, probe, reply, rate), now)
    for attempt in sorted(sample.refused, key=lambda refused: -refused.age):
        count.refusals += 1
        draining = bool(reply.lagging) or in_flight > algorithm.limit
        ticket = _refused_ticket(fleet, attempt, reply, rate, draining=draining)
        accepted = _accepted(fleet, ticket, attempt, in_flight)
        algorithm.refused(ticket, now, accepted, attempt.retry_after, jitter)
    stepped = _last_step(algorithm) != step
    if stepped:
        count.stepped_at = now
    return Commit(
        version=reply.version,
        limit=algorithm.limit,
        epoch=reply.epoch + stepped,
        state=save(algorithm, count),
    )


def _accepted(fleet: Understanding, ticket: Ticket, attempt: SampledAttempt, in_flight: int) -> int:
    """Return how many are in flight beside what was refused.

    Where only the shares of others say that it was a probe, they have grown since they reported
    what they have in flight: then what was accepted is what was known to be. Not after a step
    back: that left what was in flight, with all that were refused and not heard of yet.
    """
    is_new = ticket.number > _last_step(fleet.algorithm)
    is_probe_by_shares = attempt.known_in_flight <= fleet.level < attempt.in_flight
    return max(in_flight, fleet.level) if is_new and is_probe_by_shares else in_flight


def _ticket(
    fleet: Understanding, attempt: SampledAttempt, reply: ShareReply, rate: float
) -> Ticket:
    """Make a ticket of the fleet: older ones are numbered up to the last step, newer after it."""
    last_step = _last_step(fleet.algorithm)
    number = fleet.count.number(reply.now - attempt.age, rate)
    number = min(number, last_step) if attempt.epoch < reply.epoch else max(number, last_step + 1)
    _number_up_to(fleet.algorithm, number)
    return Ticket(number, attempt.in_flight, reply.now - attempt.age)


def _refused_ticket(
    fleet: Understanding, attempt: SampledAttempt, reply: ShareReply, rate: float, *, draining: bool
) -> Ticket:
    since = reply.now - fleet.count.stepped_at
    if (draining and since < DRAIN_MOST) or since - attempt.age < fleet.settles_within:
        attempt = replace(attempt, epoch=-1)
    ticket = _ticket(fleet, attempt, reply, rate)
    algorithm = fleet.algorithm
    if isinstance(algorithm, StepBack) and ticket.number > algorithm.last_step:
        while ticket.number in algorithm.refused_numbers:
            ticket.number += 1
        _number_up_to(algorithm, ticket.number)
    return ticket


def _last_step(algorithm: LimitAlgorithm) -> int:
    return algorithm.last_step if isinstance(algorithm, StepBack) else 0


def _number_up_to(algorithm: LimitAlgorithm, number: int) -> None:
    if isinstance(algorithm, StepBack):
        algorithm.numbered = max(algorithm.numbered, number)
