"""A limit algorithm of the user's, contained: its mistakes cost nobody a slot or a call.

It runs under the limiter's lock, between the grant of a slot and its use, where an exception
would leave a slot taken or a waiter asleep for ever. So the first exception, and the first value
that means nothing, retires it: the partition goes on under ``StepBack`` within the last limit that
it gave, and the log and the observers hear why once the lock is free.
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

#: Told that an algorithm was retired: what it did wrong, the exception, the limit from now on.
Retired = Callable[[str, BaseException, int], object]

_OWN: Final = (StepBack, FixedLimit)
#: An algorithm that wants to be woken at a time that has passed is woken after so many seconds.
LEAST_WAIT: Final = 0.05
_METHODS: Final = ("sent", "accepted", "refused", "ended", "tick")
_MOST_WORDS: Final = 200


def contained(algorithm: LimitAlgorithm, retired: Retired) -> LimitAlgorithm:
    """Return an algorithm that never raises; those of this package do not anyway.

    Raises:
        CallbackError: If it is no algorithm, or its first limit is no number.

    """
    if type(algorithm) in _OWN or getattr(type(algorithm), "is_contained", False):
        return algorithm
    return Guarded(algorithm, retired)


class Guarded:
    """The algorithm of one partition until it fails, then a stand-in."""

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
        """Tell how many may be in flight now."""
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
        """Tell whether an attempt may be sent now; one that does not say so always lets it go."""
        try:
            return bool(getattr(self._algorithm, "ready", True))
        except BaseException as error:  # noqa: BLE001 - as below
            self._retire("ready", error)
        return True

    @property
    def reason(self) -> str:
        """Return why the limit last moved, in words."""
        return self._read("reason", str)

    def sent(self, now: float, in_flight: int) -> Ticket:
        """Return an attempt's ticket, which says which algorithm knows it."""
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
        """Note that its slot is free."""
        self._report("ended", ticket, now, in_flight)

    def tick(self, now: float) -> None:
        """Do what is due by now."""
        self._ticked = now
        self._call("tick", now)

    def __getattr__(self, name: str) -> Any:
        """Show whatever else the algorithm has, such as a view of its own."""
        return getattr(self._algorithm, name)

    def _read(self, member: str, parse: Callable[[object], T]) -> T:
        try:
            return parse(getattr(self._algorithm, member))
        except BaseException as error:  # noqa: BLE001 - told by the limiter, which may raise it
            self._retire(member, error)
        return parse(getattr(self._algorithm, member))

    def _call(self, member: str, *arguments: object) -> object:
        try:
            return getattr(self._algorithm, member)(*arguments)
        except BaseException as error:  # noqa: BLE001 - as above
            self._retire(member, error)
        return getattr(self._algorithm, member)(*arguments)

    def _report(self, member: str, issued: Any, *arguments: object) -> None:
        if issued.by is not self._algorithm:
            return  # only the algorithm that was retired could make something of it
        try:
            getattr(self._algorithm, member)(issued.ticket, *arguments)
        except BaseException as error:  # noqa: BLE001 - as above
            self._retire(member, error)

    def _retire(self, member: str, error: BaseException) -> None:
        limit = max(1, self._limit)
        self._algorithm = StepBack(limit, 1, limit)
        self._retired(f"{member}: {words_of(error)}", error, limit)


@dataclass(slots=True, eq=False)
class _Issued(Ticket):
    by: LimitAlgorithm | None = None
    ticket: object = None


def _whole(limit: object) -> int:
    """Return a limit as a whole number; between two of them it permits as many as the larger."""
    number: Any = limit
    if isinstance(limit, Real) and not isinstance(limit, bool) and number >= 0:
        return sys.maxsize if number == math.inf else math.ceil(number)
    raise ValueError(f"limit={limit!r}: expected a whole number, 0 or more")


def _time(at: object) -> float | None:
    """Return a time as it is, or ``None``; one that never comes is none."""
    if at is None or at == math.inf:
        return None
    if isinstance(at, Real) and not isinstance(at, bool) and not math.isnan(at):
        return float(at)
    raise ValueError(f"{at!r}: expected seconds, or None")


def words_of(error: BaseException) -> str:
    """Return an exception as text, also one that cannot be shown."""
    try:
        return printable(f"{type(error).__name__}: {error}")[:_MOST_WORDS]
    except Exception:  # noqa: BLE001 - its own words fail
        return type(error).__name__
