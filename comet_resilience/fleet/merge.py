"""The members' samples, fed to the fleet's algorithm as if one process had sent everything. Pure.

The algorithm is the one that limits a single process. Only its tickets are made differently:

* The number in flight when an attempt was sent is the member's own, plus what the others last
  reported. An acceptance proves no more than is in flight when it is reported: some of the others'
  requests may have ended, and a level above the ceiling is refused again and again.
* Numbers are estimated (``memory.Count``).
* An attempt carries the *epoch* in which it was sent; each step back starts another. A refusal of
  an older epoch is no news: one overload is one decrease, whichever member met it. While some
  members do not know of the step yet, or more is in flight than the new limit, older requests fill
  the gateway, and refusals of the new epoch count as older, too. So do those of attempts sent
  within about one answer time after the step: the slots that it freed are not free yet.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from ..limits.algorithm import LimitAlgorithm, StepBack, Ticket
from .memory import Count, restore, save
from .message import MOST, Commit, ShareReply, ShareRequest

#: Seconds after a step back for which some members may not know of it.
DRAIN_MOST: Final = 5.0
#: Bounds of the answer time that counts after a step back, in seconds.
SETTLE_LEAST: Final = 0.25
SETTLE_MOST: Final = 1.0
#: More plain acceptances in one report carry no further information.
_MOST_ACCEPTED: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledAttempt:
    """One attempt that was accepted or refused ``age`` seconds after it was sent, and its epoch.

    ``in_flight`` is the most that may have been in flight, ``known_in_flight`` what was reported.
    """

    age: float
    in_flight: int
    known_in_flight: int
    epoch: int
    retry_after: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The outcomes of a member's attempts since its last report.

    ``accepted`` counts answers other than to probes, ``answer_time`` is their average in seconds;
    ``probes`` were sent above the level, or while the gate was closed.
    """

    accepted: int = 0
    answer_time: float = 0.0
    probes: tuple[SampledAttempt, ...] = ()
    refused: tuple[SampledAttempt, ...] = ()


@dataclass(frozen=True, slots=True)
class FleetLimit:
    """The fleet's algorithm and its attempt numbers, as rebuilt by one member."""

    algorithm: LimitAlgorithm
    count: Count


def level_of(algorithm: LimitAlgorithm) -> int:
    """Return the concurrency known to be accepted; an attempt above it is a probe."""
    return algorithm.level if isinstance(algorithm, StepBack) else algorithm.limit


def ceiling(algorithm: LimitAlgorithm) -> int:
    """Return an algorithm's highest possible limit; replies are capped at it."""
    return algorithm.maximum if isinstance(algorithm, StepBack) else algorithm.limit


def rebuild(reply: ShareReply, fresh: LimitAlgorithm, remembered: str) -> FleetLimit:
    """Return the fleet's algorithm from its state, this member's memory, or the limit alone."""
    for text in (reply.state, remembered):
        count = restore(text, fresh, reply.now)
        if count is not None:
            return FleetLimit(fresh, count)
    if isinstance(fresh, StepBack):
        fresh.allowance = max(fresh.minimum, min(reply.limit, fresh.maximum))
    return FleetLimit(fresh, Count(at=reply.now))


def needs_commit(fleet: FleetLimit, sample: Sample, reply: ShareReply) -> bool:
    """Return whether there is anything to commit: without it the reply is the renewal."""
    algorithm = fleet.algorithm
    wake_at = algorithm.wake_at
    if algorithm.limit != reply.limit or not reply.state or sample.probes or sample.refused:
        return True
    # While growth is on hold, acceptances and time end the hold.
    return wake_at is not None and (sample.accepted > 0 or wake_at <= reply.now)


def merge(
    fleet: FleetLimit, sample: Sample, reply: ShareReply, request: ShareRequest, jitter: float
) -> Commit:
    """Feed a member's sample to the algorithm, and return the commit."""
    algorithm, count, now = fleet.algorithm, fleet.count, reply.now
    step = _last_step(algorithm)
    rate = request.rate + reply.rate
    in_flight = request.in_use + reply.in_use
    count.advance(now, rate)
    _number_up_to(algorithm, count.number(now, rate))
    if algorithm.closed_until is not None:  # requests that ended are not replaced
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


def _accepted(fleet: FleetLimit, ticket: Ticket, attempt: SampledAttempt, in_flight: int) -> int:
    """Return how many were in flight and accepted when an attempt was refused.

    If it was a probe only by the shares of others, these have grown since their last report: then
    at least the known level was accepted. Not after a step back, which starts from what was in
    flight, including refusals that are not reported yet.
    """
    level = level_of(fleet.algorithm)
    is_new = ticket.number > _last_step(fleet.algorithm)
    is_probe_by_shares = attempt.known_in_flight <= level < attempt.in_flight
    return max(in_flight, level) if is_new and is_probe_by_shares else in_flight


def _ticket(fleet: FleetLimit, attempt: SampledAttempt, reply: ShareReply, rate: float) -> Ticket:
    """Return a fleet-wide ticket, numbered before or after the last step by its epoch."""
    last_step = _last_step(fleet.algorithm)
    number = fleet.count.number(reply.now - attempt.age, rate)
    number = min(number, last_step) if attempt.epoch < reply.epoch else max(number, last_step + 1)
    _number_up_to(fleet.algorithm, number)
    return Ticket(number, attempt.in_flight, reply.now - attempt.age)


def _refused_ticket(
    fleet: FleetLimit, attempt: SampledAttempt, reply: ShareReply, rate: float, *, draining: bool
) -> Ticket:
    algorithm = fleet.algorithm
    since = reply.now - fleet.count.stepped_at
    answer_time = algorithm.answer_time if isinstance(algorithm, StepBack) else 0.0
    settles_within = min(SETTLE_MOST, max(SETTLE_LEAST, answer_time))
    if (draining and since < DRAIN_MOST) or since - attempt.age < settles_within:
        attempt = replace(attempt, epoch=-1)
    ticket = _ticket(fleet, attempt, reply, rate)
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
