"""Events: what happened, as frozen values.

No event holds a key, a header, a body or a word of a prompt, so that each can be logged as it is.
Durations are in seconds. An observer may be called outside of any task, from a timer of the event
loop, and should return at once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from .verdict.usage import Usage
from .verdict.vocabulary import FailureKind, RequestInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFinished:
    """An attempt is over.

    ``status`` is ``None`` after a fault, which ``fault`` then names; ``kind`` is ``None`` after a
    success. ``queued`` is the time spent waiting for a slot before this attempt. ``in_flight``
    (this attempt included) and ``limit`` are its partition's when it was sent. The bodies' sizes
    are in bytes, ``None`` where unknown, as for a stream that has only begun. ``canary`` says that
    it went through a closed gate, to find out whether an outage is over. ``usage`` has the tokens
    that a whole answer names; those of a stream come with ``StreamFinished``. ``account`` is the
    name of the partition's account, as ``snapshot()`` shows it, ``account_in_flight`` and
    ``account_limit`` are its figures over all models; all are ``None`` where there is no account.
    """

    request: RequestInfo
    attempt: int
    status: int | None
    kind: FailureKind | None
    code: str
    fault: str
    reason: str
    request_id: str
    queued: float
    elapsed: float
    in_flight: int
    limit: int
    request_bytes: int | None
    response_bytes: int | None
    canary: bool = False
    usage: Usage | None = None
    account: str | None = None
    account_in_flight: int | None = None
    account_limit: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryScheduled:
    """The request will be sent again after ``delay`` seconds, as attempt number ``attempt``.

    ``account`` is the name of the account whose limit refused the last one, ``None`` where it was
    not the account's.
    """

    request: RequestInfo
    attempt: int
    delay: float
    reason: str
    status: int | None
    kind: FailureKind
    account: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GaveUp:
    """A request was given up after ``attempts`` attempts (0: nothing was sent).

    ``account`` is as in ``RetryScheduled``.
    """

    request: RequestInfo
    attempts: int
    kind: FailureKind
    status: int | None
    reason: str
    account: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitChanged:
    """The limit of a partition or of an account has changed."""

    partition: Hashable
    old: int
    new: int
    reason: str
    in_flight: int
    waiting: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RateChanged:
    """The rate that refusals have taught is learnt, has changed by a tenth, or is given up.

    ``old`` and ``new`` are requests a minute, ``None`` where none is kept to.
    """

    partition: Hashable
    old: int | None
    new: int | None
    reason: str
    in_flight: int
    waiting: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AlgorithmRetired:
    """A limit algorithm of the caller's raised or returned a meaningless value.

    The partition goes on without it, with at most ``limit`` at once.
    """

    partition: Hashable
    reason: str
    error: BaseException
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Standstill:
    """Requests wait for a slot, and for ``seconds`` none was released.

    ``held`` of the slots belong to answers that the caller has in hand; ``reason`` says what that
    means and what to do. Emitted once, and again only after something has moved.
    """

    partition: Hashable
    limit: int
    held: int
    waiting: int
    seconds: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GateClosed:
    """An outage: nothing but canaries is sent until one of them is answered.

    ``partition`` is ``None`` where the whole ``host`` is out. ``reason`` is the latest failure,
    ``waiting`` the number of waiting requests, ``next_canary`` the seconds until the next canary.
    """

    partition: Hashable
    host: str
    reason: str
    waiting: int
    next_canary: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GateOpened:
    """The outage is over after ``after`` seconds; waiting requests are sent in steps."""

    partition: Hashable
    host: str
    after: float
    waiting: int


class FleetState(StrEnum):
    """The state of a process in its fleet.

    ``joining``: it waits for its first share. ``shared``: its share is renewed. ``degraded``: Redis
    does not answer, and the last share still holds. ``local``: it limits itself alone.
    """

    JOINING = "joining"
    SHARED = "shared"
    DEGRADED = "degraded"
    LOCAL = "local"


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetChanged:
    """The state of the process in its fleet has changed: ``wrap(fleet=...)``."""

    old: FleetState
    new: FleetState
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFinished:
    """A stream was read to its end, ``elapsed`` seconds after its attempt was sent.

    ``usage`` has the tokens that it names, if the caller asked for them
    (``stream_options={"include_usage": True}``) or the gateway names them unasked. Otherwise they
    are counted where there is a budget, and ``None`` without one.
    """

    request: RequestInfo
    attempt: int
    elapsed: float
    events: int
    usage: Usage | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamAbandoned:
    """A response was dropped without being closed; its slot was released."""

    request: RequestInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamBroken:
    """A stream ended badly after ``events`` events: cut, stalled, incomplete, or by an error."""

    request: RequestInfo
    kind: FailureKind
    events: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HollowAnswer:
    """An answer without content was handed over, after ``attempts`` attempts brought no other."""

    request: RequestInfo
    attempts: int
    reason: str


Event: TypeAlias = (
    AttemptFinished
    | RetryScheduled
    | GaveUp
    | LimitChanged
    | RateChanged
    | AlgorithmRetired
    | Standstill
    | FleetChanged
    | GateClosed
    | GateOpened
    | StreamFinished
    | StreamAbandoned
    | StreamBroken
    | HollowAnswer
)
Observer: TypeAlias = Callable[[Event], object]
