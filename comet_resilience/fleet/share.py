"""One partition's part in the fleet, in one process: a limit algorithm like any other. Pure.

The limiter asks it for its limit and tells it what happened; the coordinator's thread takes what
is to be told to the fleet (``ask``) and brings the new share (``take``). It never waits for the
thread: when no share has come for too long, whatever the reason, it limits this process alone.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

from ..events import FleetState
from ..limits.account import Account
from ..limits.algorithm import REFUSALS_KEPT, LimitAlgorithm, StepBack, Ticket
from ..limits.fixed import FixedLimit
from ..limits.guarded import Retired, contained, words_of
from ..limits.snapshot import FleetView, InFleet
from .demand import further_slots, is_held_back
from .merge import ceiling, level_of
from .message import Addressed, ShareReply, ShareRequest, StoreError
from .pace import (
    IDLE,
    KEPT,
    LEARN_RENEWALS,
    SOON,
    next_renewal,
    renew_every,
    time_to_live,
)
from .renewal import MOST_SCOPES, Asked, Renewal
from .sampler import FleetTicket, Sampler
from .scope import Keys

if TYPE_CHECKING:
    from ..limits.partition import Level

#: How long a first share is waited for, in seconds, before the process limits itself alone. A Redis
#: that does not answer is noticed sooner; this is for a client that hangs, and long enough for a
#: process that starts a thousand calls at once and lets no other thread run.
JOIN_WITHIN: Final = 2.0
#: Seconds over which the rate of attempts is averaged.
_RATE_MEMORY: Final = 1.0

MakeAlgorithm = Callable[[], LimitAlgorithm]


class FleetShare(InFleet):
    """A share of the fleet's limit, or a limit of its own while there is none.

    ``make`` makes the algorithm that decides the fleet's limit. ``wake`` is called, under the
    limiter's lock, when a renewal is due sooner than ``planned``, and says why if none can be
    made; ``moved`` with each new state and its reason.
    """

    #: What a user's algorithm does in here is contained in here.
    is_contained: ClassVar[bool] = True

    def __init__(
        self,
        member: str,
        make: MakeAlgorithm,
        wake: Callable[[], str | None],
        moved: Callable[[FleetState, str], None],
        jitter: Callable[[], float],
    ) -> None:
        self.member = member
        self.make: MakeAlgorithm = make
        self.maximum: int = ceiling(make())
        self.partition: Level | None = None
        self.retired: Retired = lambda *_: None
        self.keys: Keys = ("", "")
        self.state: FleetState = FleetState.JOINING
        self.reason: str = "waiting for a share of the fleet's limit"
        self.remembered: str = ""
        self.planned: float = math.inf
        self._wake, self._moved, self._next_jitter = wake, moved, jitter
        self._limit = self._share = self._in_use = self._level = 0
        self._alone: LimitAlgorithm | None = None
        self._reply: ShareReply | None = None
        self._closed_until: float | None = None
        self._fleet_moves_at = math.inf
        self._asked_at = self._busy_at = -math.inf
        self._was_hungry = self._owes = self._has_failed = False
        self._good_until = math.inf
        self._jitter = jitter()
        self._rate = 0.0
        self._numbered = 0
        self._heard: deque[int] = deque(maxlen=REFUSALS_KEPT)
        self._sampler = Sampler()

    def bind(self, partition: Level, keys: Keys) -> None:
        """Take the partition or account whose limit this is, and its keys in Redis."""
        self.partition, self.keys = partition, keys

    @property
    def limit(self) -> int:
        """Return how many this process may have in flight now."""
        return self._limit

    @property
    def closed_until(self) -> float | None:
        """Return when the gate, the fleet's or ours, lets a canary out; ``None`` while open."""
        return self._alone.closed_until if self._alone is not None else self._closed_until

    @property
    def wake_at(self) -> float | None:
        """Return when the limit may rise without a word from the fleet."""
        if self._alone is not None:
            return self._alone.wake_at
        return self._good_until if self._good_until < math.inf else None

    @property
    def level(self) -> int:
        """Return what is known to be accepted: by the fleet, or by this process alone."""
        return level_of(self._alone) if self._alone is not None else self._level

    @property
    def holds_still(self) -> bool:
        """Tell whether the limit has just stepped back; of the fleet's own ``take`` tells."""
        return isinstance(self._alone, StepBack) and self._alone.holds_still

    def is_above(self, ticket: Any) -> bool:
        """Tell whether an attempt may have been sent above the level."""
        return bool(max(ticket.in_flight, ticket.at_most) > self.level)

    def has_heard_of(self, ticket: Ticket) -> bool:
        """Tell whether this was told of an attempt's refusal."""
        return ticket.number in self._heard

    @property
    def view(self) -> FleetView:
        """Return what ``snapshot()`` shows."""
        reply = self._reply
        return FleetView(
            state=self.state,
            share=self._limit,
            limit=reply.limit if reply else None,
            members=reply.members if reply else None,
        )

    def sent(self, now: float, in_flight: int) -> Ticket:
        """Give an attempt a ticket; in the fleet it counts as one more than all have in flight."""
        self._in_use = in_flight
        self._numbered += 1
        number, reply = self._numbered, self._reply
        if self._alone is not None:
            return FleetTicket(number, in_flight, now, alone=self._alone.sent(now, in_flight))
        if reply is None:
            return FleetTicket(number, in_flight, now)
        in_fleet = min(in_flight + reply.in_use, reply.limit)
        is_probe = in_fleet > self._level or self._closed_until is not None
        ticket = FleetTicket(number, in_fleet, now, epoch=reply.epoch, is_probe=is_probe)
        if reply.contended:  # the others use what they hold, whatever they last reported
            ticket.at_most = min(reply.limit, in_flight + reply.limit - self._share)
        self._sampler.send(ticket)
        return ticket

    def accepted(self, ticket: Any, now: float) -> None:
        """Note that its answer has begun, and is no refusal."""
        if self._alone is None:
            self._sampler.accept(ticket, now)
        elif ticket.alone is not None:
            self._alone.accepted(ticket.alone, now)

    def refused(
        self, ticket: Any, now: float, in_flight: int, retry_after: float | None, jitter: float
    ) -> None:
        """Note that it was refused for load: the fleet hears of it at once.

        Until the fleet has replied the slot is not used again: a queue would burn down in it.
        """
        self._in_use = in_flight
        self._heard.append(ticket.number)
        if self._alone is None:
            self._sampler.refuse(ticket, retry_after)
            self._limit = max(0, min(self._limit - 1, in_flight))
        elif ticket.alone is not None:
            self._alone.refused(ticket.alone, now, in_flight, retry_after, jitter)

    def ended(self, ticket: Any, now: float, in_flight: int) -> None:
        """Note that its slot is free."""
        ticket.decided = True
        self._in_use = in_flight
        if self._alone is not None and ticket.alone is not None:
            self._alone.ended(ticket.alone, now, in_flight)

    def tick(self, now: float) -> None:
        """Find out whether the share is out of date, or a renewal due sooner than planned."""
        if self._reply is None and self._good_until == math.inf and self._waiting:
            self._good_until = now + JOIN_WITHIN
        if self._alone is not None:
            self._tick_alone(self._alone, now)
        elif now >= self._good_until:
            self.go_alone(now, "no share came in time")
        else:
            self._sampler.settle(now)
        if self.due_at() < self.planned:
            self.planned = -math.inf  # no need to say it twice
            why = self._wake()
            if why:  # nobody can ask: it is tried again later
                self._asked_at, self.planned = now, math.inf
                if self._alone is None and self._reply is None:
                    self.go_alone(now, why)

    def due_at(self) -> float:
        """Return when to renew next, on this process' clock; never while nobody is there."""
        if self._reply is None and self._alone is None and not self._in_use + self._waiting:
            return math.inf
        regular = renew_every(self._members) * (0.5 + self._jitter)
        if self.state in (FleetState.DEGRADED, FleetState.LOCAL):
            return self._asked_at + regular
        limit, contended = (reply.limit, reply.contended) if (reply := self._reply) else (1, False)
        is_held_back = self._is_held_back
        due_at = self._asked_at + next_renewal(
            self._members,
            self._jitter,
            is_urgent=self._sampler.is_urgent or self._owes,
            is_hungry=is_held_back and self._share <= self._in_use and self._share < limit,
            is_new=not self._was_hungry,
            has_surplus=contended and 0 < self._share >= 2 * (self._in_use + self._waiting),
        )
        return min(due_at, self._fleet_moves_at) if is_held_back else due_at

    def is_due_soon(self, now: float) -> bool:
        """Tell whether a renewal now, together with another's, saves one of its own soon."""
        due_at = self.due_at()
        return due_at <= now or due_at - now <= SOON * (due_at - self._asked_at) < math.inf

    def is_idle(self, now: float) -> bool:
        """Tell whether nobody has used or wanted the share for long."""
        has_share = self._reply is not None or self._alone is not None
        return has_share and not self._in_use + self._waiting and now >= self._busy_at + IDLE

    def ask(self, now: float) -> Asked:
        """Return what to ask of the fleet, and to tell it."""
        sampler = self._sampler.hand_over()
        waiting = self._waiting
        elapsed = min(_RATE_MEMORY * 10, max(0.001, now - self._asked_at))
        weight = 1 - math.exp(-elapsed / _RATE_MEMORY)
        self._rate += weight * ((sampler.sends - len(sampler.refused)) / elapsed - self._rate)
        self._rate = max(0.0, self._rate)
        if self._in_use or waiting or sampler.sends or self._reply is None:
            self._busy_at = now
        self._asked_at = now
        self._was_hungry = self._is_held_back and self._in_use >= self._share
        self._owes = False
        self._jitter = self._next_jitter()
        request = ShareRequest(
            member=self.member,
            in_use=self._in_use,
            want=self._in_use + self._further,
            share=self._share,
            epoch=self._reply.epoch if self._reply else 0,
            rate=self._rate,
            ttl=time_to_live(self._members),
            learn=LEARN_RENEWALS * renew_every(self._members),
            limit=self._reply.limit if self._reply else self.make().limit,
        )
        return Asked(
            request=request,
            keys=self.keys,
            maximum=self.maximum,
            sample=sampler.sample(now),
            sampler=sampler,
            at=now,
            make=self.make,
            remembered=self.remembered,
            jitter=self._next_jitter(),
        )

    def take(self, asked: Asked, renewal: Renewal, now: float) -> None:
        """Take a share that has come; confirm soon what was lowered, for those who wait for it.

        What could not be reported, because others were faster, goes with the next report.
        """
        reply, algorithm = renewal.reply, renewal.fleet.algorithm
        if not renewal.is_reported:
            self._sampler.take_back(asked.sampler)
        self._owes = reply.contended and reply.share < self._share
        self._alone, self._reply, self._has_failed = None, reply, False
        self._share = reply.share
        self._limit = max(0, reply.share - len(self._sampler.refused))
        self._good_until = asked.at + KEPT * asked.request.ttl
        self._level = renewal.fleet.level
        closed_until, moves_at = algorithm.closed_until, algorithm.wake_at
        self._closed_until = None if closed_until is None else now + closed_until - reply.now
        self._fleet_moves_at = math.inf if moves_at is None else now + moves_at - reply.now
        self.remembered = reply.state
        if isinstance(self.partition, Account):
            holds_still = isinstance(algorithm, StepBack) and algorithm.holds_still
            self.partition.blame.learn(self._numbered if holds_still else None)
        why = f" ({algorithm.reason})" if reply.committed else ""
        self.reason = f"{reply.share} of the fleet's {reply.limit}, {reply.members} members{why}"
        self._move(FleetState.SHARED, "the fleet's shares are renewed")

    def conclude(self, asked: Asked, result: Renewal | Exception, now: float) -> None:
        """Take what came of an exchange."""
        if isinstance(result, Renewal):
            self.take(asked, result, now)
        else:
            is_ours = isinstance(result, StoreError)
            self.fail(asked, now, str(result) if is_ours else words_of(result))

    def fail(self, asked: Asked, now: float, why: str) -> None:
        """Go on without a reply: the share holds while it lasts, the sample goes with the next."""
        self._sampler.take_back(asked.sampler)
        if self._alone is None and self._reply is None:
            self.go_alone(now, why)
        elif self._alone is None:
            self._limit = max(1, self._limit) if self._share else 0
            if self._has_failed:  # once, and the next may mend it: a connection breaks
                self._move(FleetState.DEGRADED, why)
            self._has_failed = True

    def go_alone(self, now: float, why: str) -> None:
        """Limit this process by itself: to its even part of what the fleet had, if that is known.

        It does not grow beyond that part, because the others go on with theirs.
        """
        self._alone = contained(self._make_alone(), self.retired)
        self._sampler = Sampler()
        self._move(FleetState.LOCAL, why)
        self._tick_alone(self._alone, now)

    def leave(self, idle_at: float, now: float) -> Addressed | None:
        """Give everything back, unless a request has come since it was found idle.

        The next request asks for a share again.
        """
        if not self.is_idle(idle_at):
            return None
        self._limit = self._share = 0
        self._reply = self._alone = None
        self._good_until = self._fleet_moves_at = math.inf
        self._asked_at = -math.inf
        self._closed_until = None
        self._sampler = Sampler()
        self.state = FleetState.JOINING
        self.planned = math.inf
        return Addressed(self.keys, ShareRequest(member=self.member), self.maximum)

    @property
    def _waiting(self) -> int:
        return self.partition.slots.waiting if self.partition is not None else 0

    @property
    def _is_held_back(self) -> bool:
        """Tell whether anybody waits for this limit; at first for a share of any."""
        if self.partition is None or self._reply is None:
            return bool(self._waiting)
        return is_held_back(self.partition)

    @property
    def _further(self) -> int:
        """Count the further slots that could be used."""
        if self.partition is None or self._reply is None:
            return self._waiting
        return further_slots(self.partition)

    @property
    def _members(self) -> int:
        return self._reply.members if self._reply is not None else 1

    def _make_alone(self) -> LimitAlgorithm:
        try:
            return alone(self.make(), self._reply)
        except Exception as error:  # noqa: BLE001 - the user's factory, called under the lock
            self.retired(f"its factory: {words_of(error)}", error, 1)
            return StepBack(1, 1, 1)

    def _tick_alone(self, algorithm: LimitAlgorithm, now: float) -> None:
        algorithm.tick(now)
        self._limit = self._share = algorithm.limit
        self.reason = f"without the fleet: {algorithm.reason}"

    def _move(self, state: FleetState, why: str) -> None:
        if state is not self.state:
            self.state = state
            self._moved(state, why)


def due_together(shares: Sequence[FleetShare], now: float) -> Iterator[Sequence[FleetShare]]:
    """Return the shares to renew now, as many at a time as go into one command.

    What is due soon goes along.
    """
    if any(share.due_at() <= now for share in shares):
        due = [share for share in shares if share.is_due_soon(now)]
        for first in range(0, len(due), MOST_SCOPES):
            yield due[first : first + MOST_SCOPES]


def alone(fresh: LimitAlgorithm, known: ShareReply | None) -> LimitAlgorithm:
    """Return the algorithm of a process without its fleet: an even part of the last limit."""
    if known is None:
        return fresh
    part = max(1, known.limit // known.members)
    if isinstance(fresh, StepBack):
        return StepBack(part, min(part, fresh.minimum), part)
    return FixedLimit(part)
