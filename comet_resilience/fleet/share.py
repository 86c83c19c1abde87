"""One partition's share of the fleet's limit, in one process. Pure.

For the limiter it is an algorithm like any other; the coordinator's thread reads what there is to
report (``ask``) and delivers the new share (``take``). It never waits for the thread: when no share
arrives in time, for whatever reason, it limits this process by itself.
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
from .renewal import MOST_SCOPES, Renewal, RenewalRequest
from .sampler import FleetTicket, Sampler
from .scope import Keys

if TYPE_CHECKING:
    from ..limits.partition import Level

#: Seconds to wait for a first share before the process limits itself. A Redis that does not answer
#: is noticed sooner; this is for a client that hangs, and long enough for a process that starts a
#: thousand calls at once and lets no other thread run.
JOIN_WITHIN: Final = 2.0
#: Seconds over which the rate of attempts is averaged.
_RATE_MEMORY: Final = 1.0

MakeAlgorithm = Callable[[], LimitAlgorithm]


class FleetShare(InFleet):
    """A share of the fleet's limit, or a limit of its own while there is none.

    ``make`` returns the algorithm that decides the fleet's limit. ``wake`` is called, under the
    limiter's lock, when a renewal is due sooner than ``planned``, and returns why none is possible;
    ``moved`` is called with each new state and its reason.
    """

    #: Mistakes of a user's algorithm are contained here.
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
        self.partition: Level
        self.retired: Retired = lambda *_: None
        self.keys: Keys = ("", "")
        self.remembered: str = ""
        self._wake, self._moved, self._next_jitter = wake, moved, jitter
        self._jitter = jitter()
        self._rate = 0.0
        self._numbered = 0
        self._refusals: deque[int] = deque(maxlen=REFUSALS_KEPT)
        self._reset()

    def _reset(self) -> None:
        """Start without a share; tickets keep their numbers, the fleet's state is remembered."""
        self.state: FleetState = FleetState.JOINING
        self.reason: str = "waiting for a share of the fleet's limit"
        self.planned: float = math.inf
        self._limit = self._share = self._in_use = self._level = 0
        self._local: LimitAlgorithm | None = None
        self._reply: ShareReply | None = None
        self._closed_until: float | None = None
        self._good_until = self._fleet_moves_at = math.inf
        self._asked_at = self._busy_at = -math.inf
        self._was_waiting = self._must_confirm = self._has_failed = False
        self._sampler = Sampler()

    def bind(self, partition: Level, keys: Keys) -> None:
        """Set the partition or account whose limit this is, and its keys in Redis."""
        self.partition, self.keys = partition, keys

    @property
    def limit(self) -> int:
        """The number of requests that this process may have in flight now."""
        return self._limit

    @property
    def closed_until(self) -> float | None:
        """The time of the gate's next canary, the fleet's or ours; ``None`` while open."""
        return self._local.closed_until if self._local is not None else self._closed_until

    @property
    def wake_at(self) -> float | None:
        """The time at which the limit may change without news from the fleet."""
        if self._local is not None:
            return self._local.wake_at
        return self._good_until if self._good_until < math.inf else None

    @property
    def level(self) -> int:
        """The concurrency known to be accepted, of the fleet or of this process by itself."""
        return level_of(self._local) if self._local is not None else self._level

    @property
    def holds_still(self) -> bool:
        """Return whether the local limit has just stepped back; ``take`` learns of the fleet's."""
        return isinstance(self._local, StepBack) and self._local.holds_still

    def is_above(self, ticket: Any) -> bool:
        """Return whether an attempt may have been sent above the level."""
        return bool(max(ticket.in_flight, ticket.at_most) > self.level)

    def has_heard_of(self, ticket: Ticket) -> bool:
        """Return whether an attempt's refusal was noted here."""
        return ticket.number in self._refusals

    @property
    def view(self) -> FleetView:
        """The figures that ``snapshot()`` shows."""
        reply = self._reply
        return FleetView(
            state=self.state,
            share=self._limit,
            limit=reply.limit if reply else None,
            members=reply.members if reply else None,
        )

    def sent(self, now: float, in_flight: int) -> Ticket:
        """Return an attempt's ticket; in a fleet it counts on top of all members' requests."""
        self._in_use = in_flight
        self._numbered += 1
        number, reply = self._numbered, self._reply
        if self._local is not None:
            return FleetTicket(number, in_flight, now, local=self._local.sent(now, in_flight))
        if reply is None:
            return FleetTicket(number, in_flight, now)
        in_fleet = min(in_flight + reply.in_use, reply.limit)
        is_probe = in_fleet > self._level or self._closed_until is not None
        ticket = FleetTicket(number, in_fleet, now, epoch=reply.epoch, is_probe=is_probe)
        if reply.contended:  # the others use all they hold, whatever they last reported
            ticket.at_most = min(reply.limit, in_flight + reply.limit - self._share)
        self._sampler.send(ticket)
        return ticket

    def accepted(self, ticket: Any, now: float) -> None:
        """Note that its answer has begun and is not a refusal."""
        if self._local is None:
            self._sampler.accept(ticket, now)
        elif ticket.local is not None:
            self._local.accepted(ticket.local, now)

    def refused(
        self, ticket: Any, now: float, in_flight: int, retry_after: float | None, jitter: float
    ) -> None:
        """Note that it was refused for load, which is reported at once.

        The slot is not used again before the reply: a whole queue could be refused in it.
        """
        self._in_use = in_flight
        self._refusals.append(ticket.number)
        if self._local is None:
            self._sampler.refuse(ticket, retry_after)
            self._limit = max(0, min(self._limit - 1, in_flight))
        elif ticket.local is not None:
            self._local.refused(ticket.local, now, in_flight, retry_after, jitter)

    def ended(self, ticket: Any, now: float, in_flight: int) -> None:
        """Note that its slot is free."""
        ticket.decided = True
        self._in_use = in_flight
        if self._local is not None and ticket.local is not None:
            self._local.ended(ticket.local, now, in_flight)

    def tick(self, now: float) -> None:
        """Check whether the share has expired, or a renewal is due sooner than planned."""
        if self._reply is None and self._good_until == math.inf and self._waiting:
            self._good_until = now + JOIN_WITHIN
        if self._local is not None:
            self._tick_local(self._local, now)
        elif now >= self._good_until:
            self.go_local(now, "no share arrived in time")
        else:
            self._sampler.settle(now)
        if self.due_at() < self.planned:
            self.planned = -math.inf  # wake it once
            why = self._wake()
            if why:  # no thread: it is tried again later
                self._asked_at, self.planned = now, math.inf
                if self._local is None and self._reply is None:
                    self.go_local(now, why)

    def due_at(self) -> float:
        """Return the time of the next renewal, by this process' clock; infinity while unused."""
        if self._reply is None and self._local is None and not self._in_use + self._waiting:
            return math.inf
        regular = renew_every(self._members) * (0.5 + self._jitter)
        if self.state in (FleetState.DEGRADED, FleetState.LOCAL):
            return self._asked_at + regular
        limit, contended = (reply.limit, reply.contended) if (reply := self._reply) else (1, False)
        is_held_back = self._is_held_back
        due_at = self._asked_at + next_renewal(
            self._members,
            self._jitter,
            is_urgent=self._sampler.is_urgent or self._must_confirm,
            is_waiting=is_held_back and self._share <= self._in_use and self._share < limit,
            is_new=not self._was_waiting,
            has_surplus=contended and 0 < self._share >= 2 * (self._in_use + self._waiting),
        )
        return min(due_at, self._fleet_moves_at) if is_held_back else due_at

    def is_due_soon(self, now: float) -> bool:
        """Return whether to renew now, along with others, instead of by itself soon."""
        due_at = self.due_at()
        return due_at <= now or due_at - now <= SOON * (due_at - self._asked_at) < math.inf

    def is_idle(self, now: float) -> bool:
        """Return whether the share has long been neither used nor wanted."""
        has_share = self._reply is not None or self._local is not None
        return has_share and not self._in_use + self._waiting and now >= self._busy_at + IDLE

    def ask(self, now: float) -> RenewalRequest:
        """Return the next request, with the sample to report."""
        sampler = self._sampler.drain()
        waiting = self._waiting
        elapsed = min(_RATE_MEMORY * 10, max(0.001, now - self._asked_at))
        weight = 1 - math.exp(-elapsed / _RATE_MEMORY)
        self._rate += weight * ((sampler.sends - len(sampler.refused)) / elapsed - self._rate)
        self._rate = max(0.0, self._rate)
        if self._in_use or waiting or sampler.sends or self._reply is None:
            self._busy_at = now
        self._asked_at = now
        self._was_waiting = self._is_held_back and self._in_use >= self._share
        self._must_confirm = False
        self._jitter = self._next_jitter()
        request = ShareRequest(
            member=self.member,
            in_use=self._in_use,
            want=self._in_use + (further_slots(self.partition) if self._reply else waiting),
            share=self._share,
            epoch=self._reply.epoch if self._reply else 0,
            rate=self._rate,
            ttl=time_to_live(self._members),
            learn=LEARN_RENEWALS * renew_every(self._members),
            limit=self._reply.limit if self._reply else self.make().limit,
        )
        return RenewalRequest(
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

    def take(self, asked: RenewalRequest, renewal: Renewal, now: float) -> None:
        """Apply a renewal; a lowered share is confirmed soon, for members that wait for it.

        A sample that could not be reported, because others were faster, goes with the next one.
        """
        reply, algorithm = renewal.reply, renewal.fleet.algorithm
        if not renewal.is_reported:
            self._sampler.restore(asked.sampler)
        self._must_confirm = reply.contended and reply.share < self._share
        self._local, self._reply, self._has_failed = None, reply, False
        self._share = reply.share
        self._limit = max(0, reply.share - len(self._sampler.refused))
        self._good_until = asked.at + KEPT * asked.request.ttl
        self._level = level_of(algorithm)
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

    def conclude(self, asked: RenewalRequest, result: Renewal | Exception, now: float) -> None:
        """Apply the result of an exchange."""
        if isinstance(result, Renewal):
            self.take(asked, result, now)
            return
        # The share stays valid for its time, the sample goes with the next request.
        self._sampler.restore(asked.sampler)
        why = str(result) if isinstance(result, StoreError) else words_of(result)
        if self._local is None and self._reply is None:
            self.go_local(now, why)
        elif self._local is None:
            self._limit = max(1, self._limit) if self._share else 0
            if self._has_failed:  # the first may be a connection that broke
                self._move(FleetState.DEGRADED, why)
            self._has_failed = True

    def go_local(self, now: float, why: str) -> None:
        """Limit this process by itself, to an even part of the fleet's limit if that is known.

        It does not grow beyond that part, because the others keep theirs.
        """
        self._local = contained(self._make_local(), self.retired)
        self._sampler = Sampler()
        self._move(FleetState.LOCAL, why)
        self._tick_local(self._local, now)

    def leave(self, idle_at: float, now: float) -> Addressed | None:
        """Return the request that gives the share up; ``None`` if a request has arrived since.

        The next request asks for a share again.
        """
        if not self.is_idle(idle_at):
            return None
        self._reset()
        return Addressed(self.keys, ShareRequest(member=self.member), self.maximum)

    @property
    def _waiting(self) -> int:
        return self.partition.slots.waiting

    @property
    def _is_held_back(self) -> bool:
        """Return whether a request waits for this limit, or for a first share."""
        return is_held_back(self.partition) if self._reply else bool(self._waiting)

    @property
    def _members(self) -> int:
        return self._reply.members if self._reply is not None else 1

    def _make_local(self) -> LimitAlgorithm:
        try:
            return local_algorithm(self.make(), self._reply)
        except Exception as error:  # noqa: BLE001 - the user's factory, called under the lock
            self.retired(f"its factory: {words_of(error)}", error, 1)
            return StepBack(1, 1, 1)

    def _tick_local(self, algorithm: LimitAlgorithm, now: float) -> None:
        algorithm.tick(now)
        self._limit = self._share = algorithm.limit
        self.reason = f"without the fleet: {algorithm.reason}"

    def _move(self, state: FleetState, why: str) -> None:
        if state is not self.state:
            self.state = state
            self._moved(state, why)


def due_together(shares: Sequence[FleetShare], now: float) -> Iterator[Sequence[FleetShare]]:
    """Return the shares to renew now, as many at a time as go into one command.

    Those due soon are included.
    """
    if any(share.due_at() <= now for share in shares):
        due = [share for share in shares if share.is_due_soon(now)]
        for first in range(0, len(due), MOST_SCOPES):
            yield due[first : first + MOST_SCOPES]


def local_algorithm(fresh: LimitAlgorithm, known: ShareReply | None) -> LimitAlgorithm:
    """Return the algorithm of a process without its fleet: an even part of the last limit."""
    if known is None:
        return fresh
    part = max(1, known.limit // known.members)
    if isinstance(fresh, StepBack):
        return StepBack(part, min(part, fresh.minimum), part)
    return FixedLimit(part)
