"""The merging of what members saw, as if one process had seen it all. Pure.

The algorithm is the one that limits a single process. What differs is how its tickets come about:

* How many were in flight when an attempt was sent is what the member had, and what the others
  last said they had.
* Numbers are estimated (``memory.Count``).
* An attempt carries the *epoch* under which it was sent; each step back begins another. A refusal
  of an older epoch is the same news: one overload is one decrease, whoever saw it. While members
  remain that do not know of the step yet, or more is in flight than the limit that it left, what
  fills the gateway is older, and refusals of the new epoch count as older, too. So do those of
  attempts sent within about the time of an answer after it: what it freed is not free yet.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from ..limits.algorithm import LimitAlgorithm, StepBack, Ticket
from .memory import Count, restore, save
from .message import Answer, Ask, Commit

#: Seconds after a step back in which members may still not know of it.
DRAIN_MOST: Final = 5.0
#: The time of an answer, as far as it counts after a step back, in seconds.
SETTLE_LEAST: Final = 0.25
SETTLE_MOST: Final = 1.0
#: More than this many plain acceptances at once teach nothing more.
_MOST_ACCEPTED: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """The beginning or refusal of one attempt: seconds ago, in flight then, and its epoch.

    ``in_flight`` is as many as there may have been, ``told`` as many as others had said.
    """

    age: float
    in_flight: int
    told: int
    epoch: int
    retry_after: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """The sightings of a member since it last reported.

    ``accepted`` counts answers that began and were no probes, on average after ``answer_time``
    seconds; ``probes`` are those sent above the level, or while the gate was closed.
    """

    accepted: int = 0
    answer_time: float = 0.0
    probes: tuple[Sighting, ...] = ()
    refused: tuple[Sighting, ...] = ()

    @property
    def is_urgent(self) -> bool:
        """True if the fleet should hear of it at once."""
        return bool(self.probes or self.refused)


@dataclass(frozen=True, slots=True)
class Understanding:
    """The fleet's algorithm and its numbers, as one member understands them."""

    algorithm: LimitAlgorithm
    count: Count

    @property
    def settles_within(self) -> float:
        """Seconds after a step back in which attempts still meet what was there before."""
        algorithm = self.algorithm
        answer_time = algorithm.answer_time if isinstance(algorithm, StepBack) else 0.0
        return min(SETTLE_MOST, max(SETTLE_LEAST, answer_time))

    @property
    def level(self) -> int:
        """The number that is known to be accepted; above it an attempt is a probe."""
        algorithm = self.algorithm
        return algorithm.level if isinstance(algorithm, StepBack) else algorithm.limit


def ceiling(algorithm: LimitAlgorithm) -> int:
    """Return the highest limit that an algorithm can reach: no answer is believed above it."""
    return algorithm.maximum if isinstance(algorithm, StepBack) else algorithm.limit


def understand(answer: Answer, fresh: LimitAlgorithm, remembered: str) -> Understanding:
    """Return the fleet's algorithm, from its state, from this member's memory, or its limit."""
    for text in (answer.state, remembered):
        count = restore(text, fresh, answer.now)
        if count is not None:
            return Understanding(fresh, count)
    if isinstance(fresh, StepBack):
        fresh.allowance = max(fresh.minimum, min(answer.limit, fresh.maximum))
    return Understanding(fresh, Count(at=answer.now))


def is_needed(fleet: Understanding, news: News, answer: Answer) -> bool:
    """Tell whether there is anything to commit; if not, the answer alone is the renewal."""
    algorithm = fleet.algorithm
    wake_at = algorithm.wake_at
    if algorithm.limit != answer.limit or not answer.state or news.is_urgent:
        return True
    # While growth holds still, acceptances and time are what ends it.
    return wake_at is not None and (news.accepted > 0 or wake_at <= answer.now)


def merge(fleet: Understanding, news: News, answer: Answer, ask: Ask, draw: float) -> Commit:
    """Tell the algorithm the news of the member that asks: the commit that results."""
    algorithm, count, now = fleet.algorithm, fleet.count, answer.now
    step = _last_step(algorithm)
    rate = ask.rate + answer.rate
    in_flight = ask.in_use + answer.in_use
    count.advance(now, rate)
    _number_up_to(algorithm, count.number(now, rate))
    if algorithm.closed_until is not None:  # what ended since is not replaced
        algorithm.ended(Ticket(0, 0, now), now, in_flight)
    algorithm.tick(now)
    for _ in range(min(news.accepted, _MOST_ACCEPTED)):
        algorithm.accepted(Ticket(0, 0, now - news.answer_time), now)
    for sighting in news.probes:
        algorithm.accepted(_ticket(fleet, sighting, answer, rate), now)
    for sighting in sorted(news.refused, key=lambda refused: -refused.age):
        count.refusals += 1
        draining = bool(answer.lagging) or in_flight > algorithm.limit
        ticket = _refused_ticket(fleet, sighting, answer, rate, draining=draining)
        accepted = _accepted(fleet, sighting, in_flight)
        algorithm.refused(ticket, now, accepted, sighting.retry_after, draw)
    stepped = _last_step(algorithm) != step
    if stepped:
        count.stepped_at = now
    return Commit(
        version=answer.version,
        limit=algorithm.limit,
        epoch=answer.epoch + stepped,
        state=save(algorithm, count),
    )


def _accepted(fleet: Understanding, sighting: Sighting, in_flight: int) -> int:
    """Return the number in flight beside what was refused.

    Where only the shares of others say that it was a probe, they have grown since they told what
    they have in flight: then what was accepted is what was known to be.
    """
    is_probe_by_shares = sighting.told <= fleet.level < sighting.in_flight
    return max(in_flight, fleet.level) if is_probe_by_shares else in_flight


def _ticket(fleet: Understanding, sighting: Sighting, answer: Answer, rate: float) -> Ticket:
    """Return a ticket of the fleet: older ones count up to the last step, newer ones after it."""
    last_step = _last_step(fleet.algorithm)
    number = fleet.count.number(answer.now - sighting.age, rate)
    number = min(number, last_step) if sighting.epoch < answer.epoch else max(number, last_step + 1)
    _number_up_to(fleet.algorithm, number)
    return Ticket(number, sighting.in_flight, answer.now - sighting.age)


def _refused_ticket(
    fleet: Understanding, sighting: Sighting, answer: Answer, rate: float, *, draining: bool
) -> Ticket:
    since = answer.now - fleet.count.stepped_at
    if (draining and since < DRAIN_MOST) or since - sighting.age < fleet.settles_within:
        sighting = replace(sighting, epoch=-1)
    ticket = _ticket(fleet, sighting, answer, rate)
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
