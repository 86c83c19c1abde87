"""The attribution of a refusal, to a partition's limit or to the account's above them all. Pure.

1. A response that names its scope decides.
2. While the account's gate is closed, a refusal is the account's and nothing else changes.
3. Otherwise the partition always steps back: where that is wrong it costs little.
4. The account's ceiling is known from its refusal until ``BEYOND`` more than that are accepted.
   Then a refused attempt that asked more of the account than before, but no more of its partition,
   is the account's as well, unless the partition has a ``Ceiling`` of its own.
5. Where neither ceiling is known, an attempt that asked more of its partition than before, but no
   more of the account, is the partition's. Any other refusal has to be corroborated: by one of
   another partition within ``WITNESS`` seconds, by two where far fewer were in flight than the
   account is known to accept, with nothing accepted in between that was sent later and with more in
   flight. Then all of them are the account's. A partition's routine probe of its own ceiling does
   not count.

One more than a ceiling may be accepted, on the slot of an answer that has not quite ended. That is
why ``BEYOND`` and ``DISPROOFS`` are 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from ..verdict.vocabulary import Signal
from .algorithm import LimitAlgorithm, Ticket

#: Seconds within which refusals of several partitions corroborate each other, and how many it
#: takes: more below this share of the account's level, where several saturated models are likelier.
WITNESS: Final = 2.0
WITNESSES: Final = 2
WITNESSES_BELOW: Final = 3
BELOW: Final = 0.9
#: The latest unattributed refusals that are kept, however many partitions are refused at once.
SUSPECTS_KEPT: Final = 8
#: Requests above the account's ceiling whose acceptance disproves it.
BEYOND: Final = 2
#: Acceptances at a partition's ceiling that disprove it.
DISPROOFS: Final = 2


@dataclass(slots=True)
class Ceiling:
    """The ceiling of one partition: how many were in flight where it was refused.

    ``known_at`` is the time of that refusal (seconds). ``accepted`` counts the attempts that were
    accepted with as many in flight since it was last met.
    """

    in_flight: int
    known_at: float
    accepted: int = 0

    def meet(self, own: Ticket) -> bool:
        """Return True if this ceiling, known when the attempt was sent, explains its refusal."""
        if own.in_flight < self.in_flight or own.sent_at <= self.known_at:
            return False
        self.accepted = 0
        return True

    def is_disproved_by(self, own: Ticket) -> bool:
        """Count an acceptance; return True if it disproves the ceiling."""
        if own.in_flight == self.in_flight:
            self.accepted += 1
        return own.in_flight > self.in_flight or self.accepted >= min(DISPROOFS, self.in_flight)


class AccountLimit(LimitAlgorithm, Protocol):
    """The limit of an account: ``StepBack``, or the share of one that a fleet moves."""

    @property
    def level(self) -> int:
        """Return the number in flight that is known to be accepted."""
        ...

    @property
    def holds_still(self) -> bool:
        """Return True if nothing may be tried above the level, as after a step back."""
        ...

    def is_above(self, ticket: Ticket) -> bool:
        """Return True if an attempt was sent above the level."""
        ...

    def has_heard_of(self, ticket: Ticket) -> bool:
        """Return True if ``refused`` was called for this attempt."""
        ...


class Blamed(Protocol):
    """A partition below the account; ``ceiling`` is where it was refused by itself."""

    ceiling: Ceiling | None


@dataclass(slots=True, frozen=True)
class Judgement:
    """The attribution: whether the partition steps back, and the account's refused attempts."""

    partition: bool
    account: tuple[Ticket, ...] = ()


@dataclass(slots=True, frozen=True)
class _Suspect:
    """A refusal that nothing explains yet; ``ticket`` is the account's."""

    partition: Blamed
    ticket: Ticket
    at: float


@dataclass(slots=True)
class Blame:
    """The evidence on one account, whose limit is ``limit``.

    Each attempt has two tickets: ``own``, of its partition, and ``upper``, of the account.
    """

    limit: AccountLimit
    ceiling: int | None = None
    _refused_at: int = 0
    _suspects: tuple[_Suspect, ...] = ()

    def accepted(self, partition: Blamed, own: Ticket, upper: Ticket) -> None:
        """Drop the ceilings and suspects that an acceptance disproves."""
        if self._suspects:
            self._suspects = tuple(
                one
                for one in self._suspects
                if upper.number <= one.ticket.number or upper.in_flight <= one.ticket.in_flight
            )
        if (
            self.ceiling is not None
            and upper.number > self._refused_at
            and upper.in_flight >= self.ceiling + BEYOND
        ):
            self.ceiling = None
        if partition.ceiling is not None and partition.ceiling.is_disproved_by(own):
            partition.ceiling = None

    def judge(
        self, partition: Blamed, own: Ticket, upper: Ticket, signal: Signal, now: float
    ) -> Judgement:
        """Attribute a refusal: rules 1 to 5."""
        if signal is Signal.OVERLOAD_ACCOUNT or (
            signal is not Signal.OVERLOAD_MODEL and self.limit.closed_until is not None
        ):
            return Judgement(partition=False, account=(upper,))
        if signal is Signal.OVERLOAD_MODEL:
            return Judgement(partition=True)
        is_probe = self.limit.is_above(upper)
        asks_more = own.is_probe and own.in_flight > 1  # its first request is no probe
        is_known = is_probe and self.ceiling is not None and not asks_more
        has_own = partition.ceiling is not None and partition.ceiling.meet(own)
        if is_known != has_own:
            return Judgement(partition=True, account=(upper,) if is_known else ())
        before = partition.ceiling
        lowest = own.in_flight if before is None else min(before.in_flight, own.in_flight)
        partition.ceiling = Ceiling(lowest, now)
        if own.is_probe and not is_probe:
            return Judgement(partition=True)
        return self._corroborate(_Suspect(partition, upper, now))

    def _corroborate(self, suspect: _Suspect) -> Judgement:
        """Judge an unexplained refusal by those of other partitions: rule 5."""
        others = (
            one
            for one in self._suspects
            if one.partition is not suspect.partition and suspect.at - one.at <= WITNESS
        )
        self._suspects = (*others, suspect)[-SUSPECTS_KEPT:]
        is_near = suspect.ticket.in_flight > BELOW * self.limit.level
        if len(self._suspects) < (WITNESSES if is_near else WITNESSES_BELOW):
            return Judgement(partition=True)
        tickets = (one.ticket for one in self._suspects)
        return Judgement(
            partition=True,
            account=tuple(one for one in tickets if not self.limit.has_heard_of(one)),
        )

    def stepped_back(self, upper: Ticket) -> None:
        """Note the account's ceiling, after its limit was told of the refusal."""
        if self.limit.holds_still:
            self._know(max(upper.in_flight, self.limit.level + 1), upper.number)

    def learn(self, number: int | None) -> None:
        """Take over what the fleet knows of the ceiling.

        ``number`` is that of the latest attempt here if the fleet's limit has stepped back, else
        ``None``.
        """
        level = self.limit.level
        if number is not None:
            self._know(level + 1, number)
        elif self.ceiling is not None and level >= self.ceiling + BEYOND:
            self.ceiling = None

    def _know(self, ceiling: int, number: int) -> None:
        self.ceiling = min(self.ceiling or ceiling, ceiling)
        self._refused_at = max(self._refused_at, number)
