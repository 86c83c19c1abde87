"""Whose ceiling a refusal met: the model's, or the account's above all models. Pure.

1. An answer that names the scope is taken at its word.
2. While the account's gate is closed a refusal is the account's, and nothing else changes.
3. Otherwise the partition is told in any case: a wrong step back there costs little.
4. The account's ceiling is known once it was refused, until ``BEYOND`` more than that are accepted
   (one more may be, by the slot of an answer whose end is still under way). A refusal of an
   attempt that asked more of the account than before, but no more of its partition, then is the
   account's as well, unless the partition has a ceiling of its own: it was refused with as many in
   flight, and not accepted so since.
5. Where neither is known, an attempt that asked more of its partition than before, but no more of
   the account, is the partition's. Otherwise witnesses are needed: refusals from two partitions
   within ``WITNESS`` seconds, from three where far fewer were in flight than the account is known
   to take, with nothing accepted between that was sent later and with more in flight. Then
   all of them are the account's. A partition's routine probe of its own ceiling is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from ..verdict.vocabulary import Signal
from .algorithm import LimitAlgorithm, Ticket
from .evidence import Ceiling

#: Seconds within which refusals of several partitions bear witness against the account, and how
#: many it takes: more below this share of its level, which is what saturated models look like.
WITNESS: Final = 2.0
WITNESSES: Final = 2
WITNESSES_BELOW: Final = 3
BELOW: Final = 0.9
#: The latest witnesses are enough, however many partitions are refused at once.
SUSPECTS_KEPT: Final = 8
#: How many more than were in flight at a refusal show that it was not the account's.
MORE: Final = 1
#: How far above the account's ceiling an acceptance disproves it.
BEYOND: Final = 2


class AccountLimit(LimitAlgorithm, Protocol):
    """The limit of an account: ``StepBack``, or the share of one that a fleet moves."""

    @property
    def level(self) -> int:
        """Return what is known to be accepted."""
        ...

    @property
    def holds_still(self) -> bool:
        """Tell whether nothing may be tried above the level, as after a step back."""
        ...

    def is_above(self, ticket: Ticket) -> bool:
        """Tell whether an attempt was sent above the level."""
        ...

    def has_heard_of(self, ticket: Ticket) -> bool:
        """Tell whether this was told of an attempt's refusal."""
        ...


class Blamed(Protocol):
    """A partition below the account; ``ceiling`` is where it was refused by itself."""

    ceiling: Ceiling | None


@dataclass(slots=True, frozen=True)
class Judgement:
    """A judgement: tell the partition or not, and the attempts to tell the account of."""

    partition: bool
    account: tuple[Ticket, ...] = ()


@dataclass(slots=True, frozen=True)
class _Suspect:
    partition: Blamed
    ticket: Ticket
    at: float

    def is_cleared_by(self, upper: Ticket) -> bool:
        """Tell whether an acceptance shows that this refusal did not meet the account's ceiling."""
        return _is_above(upper, self.ticket.in_flight + MORE, self.ticket.number)


@dataclass(slots=True)
class Blame:
    """The evidence on one account, whose own limit is ``limit``.

    Each attempt has two tickets: ``own``, of its partition, and ``upper``, of the account.
    """

    limit: AccountLimit
    ceiling: int | None = None
    _refused_at: int = 0
    _suspects: tuple[_Suspect, ...] = ()

    def accepted(self, partition: Blamed, own: Ticket, upper: Ticket) -> None:
        """Take an acceptance for proof of as many in flight, there and in the account."""
        if self._suspects:
            self._suspects = tuple(one for one in self._suspects if not one.is_cleared_by(upper))
        if self.ceiling is not None and _is_above(upper, self.ceiling + BEYOND, self._refused_at):
            self.ceiling = None
        if partition.ceiling is not None and partition.ceiling.is_disproved_by(own):
            partition.ceiling = None

    def judge(
        self, partition: Blamed, own: Ticket, upper: Ticket, signal: Signal, now: float
    ) -> Judgement:
        """Say whose ceiling a refusal met."""
        if signal is Signal.OVERLOAD_ACCOUNT or (
            signal is not Signal.OVERLOAD_MODEL and self.limit.closed_until is not None
        ):
            return Judgement(partition=False, account=(upper,))
        if signal is Signal.OVERLOAD_MODEL:
            return Judgement(partition=True)
        is_probe = self.limit.is_above(upper)
        is_known = is_probe and self.ceiling is not None and not _asks_more(own)
        has_own = partition.ceiling is not None and partition.ceiling.meet(own)
        if is_known != has_own:
            return Judgement(partition=True, account=(upper,) if is_known else ())
        _lower(partition, own, now)
        if own.is_probe and not is_probe:
            return Judgement(partition=True)
        return self._hear(_Suspect(partition, upper, now))

    def _hear(self, suspect: _Suspect) -> Judgement:
        """Judge a refusal that nothing explains, by others that nothing explains."""
        others = (one for one in self._suspects if _bears_witness(one, suspect))
        self._suspects = (*others, suspect)[-SUSPECTS_KEPT:]
        is_near = suspect.ticket.in_flight > BELOW * self.limit.level
        needed = WITNESSES if is_near else WITNESSES_BELOW
        if len(self._suspects) < needed:
            return Judgement(partition=True)
        tickets = (one.ticket for one in self._suspects)
        return Judgement(
            partition=True,
            account=tuple(one for one in tickets if not self.limit.has_heard_of(one)),
        )

    def stepped_back(self, upper: Ticket) -> None:
        """Note where the account was refused, once its limit was told."""
        if self.limit.holds_still:
            self._know(max(upper.in_flight, self.limit.level + 1), upper.number)

    def learn(self, number: int | None) -> None:
        """Learn of the others in a fleet: its limit has stepped back, ``None`` if it has not.

        ``number`` is that of the latest attempt here.
        """
        level = self.limit.level
        if number is not None:
            self._know(level + 1, number)
        elif self.ceiling is not None and level >= self.ceiling + BEYOND:
            self.ceiling = None

    def _know(self, ceiling: int, number: int) -> None:
        self.ceiling = min(self.ceiling or ceiling, ceiling)
        self._refused_at = max(self._refused_at, number)


def _lower(partition: Blamed, own: Ticket, now: float) -> None:
    """Note that a partition was refused by itself."""
    before = partition.ceiling
    in_flight = own.in_flight if before is None else min(before.in_flight, own.in_flight)
    partition.ceiling = Ceiling(in_flight, now)


def _asks_more(own: Ticket) -> bool:
    """Tell whether an attempt asked more of its partition than before: more than one at least."""
    return own.is_probe and own.in_flight > 1


def _bears_witness(earlier: _Suspect, now: _Suspect) -> bool:
    """Tell whether an earlier refusal bears witness together with one of a partition now."""
    return earlier.partition is not now.partition and now.at - earlier.at <= WITNESS


def _is_above(ticket: Ticket, in_flight: int, number: int) -> bool:
    """Tell whether an attempt was sent later and with as many in flight."""
    return ticket.number > number and ticket.in_flight >= in_flight
