"""A limit algorithm of the user's, contained: its mistakes cost no slot and no call.

It runs under the limiter's lock, between the grant of a slot and its use, where an exception would
leak the slot or leave a waiting request asleep for ever. So its first exception, or first value out
of range, retires it: the partition goes on under ``StepBack`` within the last valid limit, and the
log and the observers are told why once the lock is free.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any, Final, TypeVar

from ..errors import CallbackError
from ..escaping import printable
from .algorithm import LimitAlgorithm, StepBack, Ticket
from .fixed import FixedLimit

T = TypeVar("T")

#: Called when an algorithm is retired: its mistake in words, the exception, the limit from now on.
Retired = Callable[[str, BaseException, int], object]

_OWN: Final = (StepBack, FixedLimit)
#: Seconds after the last ``tick`` until an algorithm is woken whose ``wake_at`` has passed already:
#: sooner would be a busy loop.
LEAST_WAIT: Final = 0.05
_METHODS: Final = ("sent", "accepted", "refused", "ended", "tick")
_MOST_WORDS: Final = 200


def contained(algorithm: LimitAlgorithm, retired: Retired) -> LimitAlgorithm:
    """Return an algorithm that never raises; those of this package are returned as they are.

    Raises:
        CallbackError: If it lacks a method, or its first limit is not a number of 0 or more.

    """
    if type(algorithm) in _OWN or getattr(type(algorithm), "is_contained", False):
        return algorithm
    return Guarded(algorithm, retired)


class Guarded:
    """The algorithm of one partition until it fails, then ``StepBack``."""

    __slots__ = ("_algorithm", "_limit", "_retired", "_ticked")

    def __init__(self, algorithm: LimitAlgorithm, retired: Retired) -> None:
        kind = type(algorithm).__name__
        for member in _METHODS:
            if not callable(getattr(algorithm, member, None)):
                raise CallbackError(
                    f"algorithm: expected a function that makes a LimitAlgorithm; the {kind} that"
                    f" it made has no method {member!r}"
                )
        try:
            self._limit: int = _whole(algorithm.limit)
        except Exception as error:
            raise CallbackError(
                f"algorithm: the {kind} gives no limit ({words_of(error)})"
            ) from error
        self._algorithm: LimitAlgorithm = algorithm
        self._retired = retired
        self._ticked = -math.inf

    @property
    def limit(self) -> int:
        """Return how many may be in flight now."""
        self._limit = self._read("limit", _whole)
        return self._limit

    @property
    def closed_until(self) -> float | None:
        """Return when the closed gate lets a canary out, ``None`` while it is open."""
        return self._read("closed_until", _time)

    @property
    def wake_at(self) -> float | None:
        """Return when the limit may rise without any event, ``None`` if it will not."""
        at = self._read("wake_at", _time)
        return self._ticked + LEAST_WAIT if at is not None and at <= self._ticked else at

    @property
    def ready(self) -> bool:
        """Return True if an attempt may be sent now, or the algorithm has no such property."""
        return self._try("ready", lambda algorithm: bool(getattr(algorithm, "ready", True)))

    @property
    def reason(self) -> str:
        """Return why the limit last moved, in words."""
        return self._read("reason", str)

    def sent(self, now: float, in_flight: int) -> Ticket:
        """Return a ticket that records which algorithm issued it."""
        ticket = self._call("sent", now, in_flight)
        return _Issued(0, in_flight, now, by=self._algorithm, ticket=ticket)

    def accepted(self, ticket: Ticket, now: float) -> None:
        """Note that its answer has begun, and is no refusal."""
        self._report("accepted", ticket, now)

    def refused(
        self, ticket: Ticket, now: float, in_flight: int, retry_after: float | None, jitter: float
    ) -> None:
        """Note that it was refused for load."""
        self._report("refused", ticket, now, in_flight, retry_after, jitter)

    def ended(self, ticket: Ticket, now: float, in_flight: int) -> None:
        """Note that its slot was released."""
        self._report("ended", ticket, now, in_flight)

    def tick(self, now: float) -> None:
        """Do what is due by now."""
        self._ticked = now
        self._call("tick", now)

    def __getattr__(self, name: str) -> Any:
        """Return any other attribute of the algorithm."""
        return getattr(self._algorithm, name)

    def _read(self, member: str, parse: Callable[[object], T]) -> T:
        return self._try(member, lambda algorithm: parse(getattr(algorithm, member)))

    def _call(self, member: str, *arguments: object) -> object:
        return self._try(member, lambda algorithm: getattr(algorithm, member)(*arguments))

    def _report(self, member: str, issued: Any, *arguments: object) -> None:
        def use(algorithm: LimitAlgorithm) -> None:
            if issued.by is algorithm:  # one that was retired issued tickets that mean nothing here
                getattr(algorithm, member)(issued.ticket, *arguments)

        self._try(member, use)

    def _try(self, member: str, use: Callable[[LimitAlgorithm], T]) -> T:
        """Return the result of the algorithm, or of ``StepBack`` if it raises."""
        try:
            return use(self._algorithm)
        except BaseException as error:  # noqa: BLE001 - reported by the limiter, which may raise it
            self._retire(member, error)
        return use(self._algorithm)

    def _retire(self, member: str, error: BaseException) -> None:
        limit = max(1, self._limit)
        self._algorithm = StepBack(limit, 1, limit)
        self._retired(f"{member}: {words_of(error)}", error, limit)


@dataclass(slots=True, eq=False)
class _Issued(Ticket):
    by: LimitAlgorithm | None = None
    ticket: object = None


def _whole(limit: object) -> int:
    """Return a limit as a whole number, rounded up."""
    number: Any = limit
    if isinstance(limit, Real) and not isinstance(limit, bool) and number >= 0:
        return sys.maxsize if number == math.inf else math.ceil(number)
    raise ValueError(f"limit={limit!r}: expected a whole number, 0 or more")


def _time(at: object) -> float | None:
    """Return a time in seconds, ``None`` for ``None`` or infinity."""
    if at is None or at == math.inf:
        return None
    if isinstance(at, Real) and not isinstance(at, bool) and not math.isnan(at):
        return float(at)
    raise ValueError(f"{at!r}: expected seconds, or None")


def words_of(error: BaseException) -> str:
    """Return an exception as text, even if its own ``str`` raises."""
    try:
        return printable(f"{type(error).__name__}: {error}")[:_MOST_WORDS]
    except Exception:  # noqa: BLE001 - its own words fail
        return type(error).__name__
