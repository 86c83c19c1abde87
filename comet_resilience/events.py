"""What happened, as frozen values, and the functions that hear of it.

No event holds a key, a header, a body or a word of a prompt: each can go to a log as it is.
Durations are in seconds. An observer may be called outside of any task, from a timer of the event
loop, and should return at once.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from .escaping import escaped, escaped_traceback, printable
from .verdict.vocabulary import FailureKind, RequestInfo

if TYPE_CHECKING:
    from .limits.limiter import Limiter

#: What an observer, or other foreign code, may raise to be felt.
ENDS_THE_PROGRAM: Final = (KeyboardInterrupt, SystemExit)

#: Seconds for which the log counts what repeats itself, and how many things it does so for.
COUNTS_FOR: Final = 10.0
MOST_COUNTED: Final = 256
#: The status that refuses a request for load.
_REFUSED: Final = 429
#: Of an event: what its line says in words, and an exception.
_ONLY_IN_WORDS: Final = frozenset({"reason", "error", "code"})

logger: logging.Logger = logging.getLogger("comet_resilience")
logger.addHandler(logging.NullHandler())  # silent until the application configures logging


class _Escaping(logging.Filter):
    """Escapes what is put into a line of our log, so that no model or message forges another.

    It stands at the logger itself: whoever logs something need not think of it.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg = escaped(str(record.msg))
        if isinstance(record.args, Mapping):
            record.args = {name: _escaped_argument(value) for name, value in record.args.items()}
        elif record.args:
            record.args = tuple(map(_escaped_argument, record.args))
        for name, value in vars(record).items():  # the ``extra=`` fields of an event
            if name.startswith("comet_") and isinstance(value, str):
                setattr(record, name, escaped(value))
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            record.exc_text = escaped_traceback(error)
        return True


def _escaped_argument(value: object) -> object:
    return value if isinstance(value, (int, float)) else escaped(str(value))


logger.addFilter(_Escaping())


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFinished:
    """One send is over.

    ``status`` is ``None`` after a fault, which ``fault`` then names; ``kind`` is ``None`` after a
    success. ``queued`` is the time spent waiting for a slot before this attempt. ``in_flight``
    (this attempt included) and ``limit`` are its partition's when it was sent. The bodies' sizes
    are in bytes, ``None`` where unknown, as for a stream that has only begun. ``canary`` says that
    it was let through a closed gate, to find out if an outage is over.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryScheduled:
    """The request will be sent again after ``delay`` seconds, as attempt number ``attempt``."""

    request: RequestInfo
    attempt: int
    delay: float
    reason: str
    status: int | None
    kind: FailureKind


@dataclass(frozen=True, slots=True, kw_only=True)
class GaveUp:
    """The failure goes to the caller after ``attempts`` sends (0: nothing was sent)."""

    request: RequestInfo
    attempts: int
    kind: FailureKind
    status: int | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitChanged:
    """The concurrency that a partition permits has changed."""

    partition: Hashable
    old: int
    new: int
    reason: str
    in_flight: int
    waiting: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AlgorithmRetired:
    """A limit algorithm of the caller's raised, or returned what means nothing.

    The partition goes on without it, with at most ``limit`` at once.
    """

    partition: Hashable
    reason: str
    error: BaseException
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Standstill:
    """Requests wait for a slot, and for ``seconds`` none has come back.

    ``held`` of the slots belong to answers that the caller has in hand; ``reason`` says what that
    means and what to do. Told once, and again only after something has moved.
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
    ``waiting`` how many requests wait, ``next_canary`` the seconds until the next one is tried.
    """

    partition: Hashable
    host: str
    reason: str
    waiting: int
    next_canary: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GateOpened:
    """The outage is over, ``after`` so many seconds: those who wait are let go in steps."""

    partition: Hashable
    host: str
    after: float
    waiting: int


class FleetState(StrEnum):
    """How a process stands to its fleet.

    ``shared``: its share is renewed. ``degraded``: Redis does not answer, the share holds.
    ``local``: it limits itself alone. ``joining``: it waits for its first share.
    """

    JOINING = "joining"
    SHARED = "shared"
    DEGRADED = "degraded"
    LOCAL = "local"


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetChanged:
    """The process stands differently to its fleet: ``wrap(fleet=...)``."""

    old: FleetState
    new: FleetState
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamAbandoned:
    """A response was dropped without being closed; its slot was taken back."""

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
    """An answer was handed over that holds nothing, after ``attempts`` of which none held more."""

    request: RequestInfo
    attempts: int
    reason: str


Event: TypeAlias = (
    AttemptFinished
    | RetryScheduled
    | GaveUp
    | LimitChanged
    | AlgorithmRetired
    | Standstill
    | FleetChanged
    | GateClosed
    | GateOpened
    | StreamAbandoned
    | StreamBroken
    | HollowAnswer
)
Observer: TypeAlias = Callable[[Event], object]


class Outcome(StrEnum):
    """How a request ended, as its caller sees it."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    ABANDONED = "abandoned"


class RequestHook(Protocol):
    """What an instrumentation learns of one request besides its events."""

    def answered(self) -> object:
        """Note that the answer goes to the caller now. Called in the request's task."""
        ...

    def finished(self, outcome: Outcome, queued: float) -> object:
        """Note the end of the request, the body of its answer included.

        ``queued`` is the time for which it was waiting for a slot at that moment. Called in the
        task of the request or of the reader of the body, or outside of any task.
        """
        ...


class Instrumentation(ABC):
    """An observer that also accompanies each request from its beginning to its end.

    Only subclasses count: an ``on_event`` observer that merely has methods of these names gets
    events and nothing more. All events of a request carry the very same ``request`` object that
    ``begin`` was given.
    """

    @abstractmethod
    def __call__(self, event: Event) -> object:
        """Take an event, as every observer does."""

    @abstractmethod
    def watch(self, limiter: Limiter) -> object:
        """Take note of a client's limiter. Called once, before its first request."""

    @abstractmethod
    def begin(self, request: RequestInfo) -> RequestHook:
        """Return the hook of a request. Called in its task, before its first event."""


class Observers:
    """Hands events to functions. One that raises is logged once and never felt by a request."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers
        self._failed: set[int] = set()
        self._log: LogWriter = LogWriter()

    def wanted(self) -> bool:
        """Whether anybody would hear of an ordinary event: if not, none need be made."""
        return bool(self._observers) or logger.isEnabledFor(logging.DEBUG)

    @property
    def instrumentations(self) -> tuple[Instrumentation, ...]:
        """The observers that accompany requests."""
        observers: Sequence[object] = self._observers
        return tuple(one for one in observers if isinstance(one, Instrumentation))

    def emit(self, event: Event) -> None:
        """Tell the log and each observer."""
        self.tell(self._log, self._log, event)
        for observer in self._observers:
            self.tell(observer, observer, event)

    def tell(self, observer: object, function: Callable[..., Any], *arguments: object) -> Any:
        """What a function of an observer returns, ``None`` if it raised."""
        try:
            return function(*arguments)
        except ENDS_THE_PROGRAM:
            raise
        except BaseException:  # noqa: BLE001 - logged below
            if id(observer) not in self._failed:
                self._failed.add(id(observer))
                _complain("an on_event observer failed; further failures are silent")
            return None


def _complain(what: str) -> None:
    """Log the exception being handled; without the log where that is what fails."""
    try:
        logger.exception(what)  # noqa: LOG004 - called by a handler
    except Exception:  # noqa: BLE001 - foreign code as well
        error = sys.exc_info()[1]
        with contextlib.suppress(Exception):
            sys.stderr.write(f"{what}\n{escaped_traceback(error) if error else ''}\n")


class LogWriter:
    """Writes events to the log: each state once, what repeats itself counted.

    An ERROR where an algorithm failed. A WARNING where a gate closes, a partition stands still,
    the fleet's state changes (but for the first share that comes), a model is refused by a 429, a
    request is given up, or a stream or an answer is broken, abandoned or hollow. INFO where a gate
    opens and a request is sent again for another reason; DEBUG for the rest.

    Of events of one kind about one thing (a model that fails for one reason) one is written, and
    those of the next ``COUNTS_FOR`` seconds at DEBUG. Their number comes before the next line.
    Each client has a writer of its own, which two threads may use: at worst a line is not counted.
    """

    def __init__(self) -> None:
        self._repeats: dict[Hashable, _Repeats] = {}

    def __call__(self, event: Event) -> None:
        """Write an event."""
        level = _level(event)
        if level > logging.DEBUG:
            self._tell_counts(time.monotonic())
            if not self._is_first(event, level):
                level = logging.DEBUG
        if logger.isEnabledFor(level):
            logger.log(level, "%s", describe(event), extra=fields_of(event))

    def _is_first(self, event: Event, level: int) -> bool:
        subject = _subject_of(event)
        if subject is None:
            return True
        repeats = self._repeats.get(subject)
        if repeats is not None:
            repeats.count += 1
            return False
        if len(self._repeats) >= MOST_COUNTED:
            return True
        self._repeats[subject] = _Repeats(time.monotonic(), level, event)
        return True

    def _tell_counts(self, now: float) -> None:
        """Tell how often what was written came again, once its time is over."""
        for subject, repeats in list(self._repeats.items()):  # the oldest first
            if now - repeats.since < COUNTS_FOR:
                return
            self._repeats.pop(subject, None)
            if repeats.count and logger.isEnabledFor(repeats.level):
                words = "and %d more in %.0f s: %s"
                told = {**fields_of(repeats.event), "comet_repeats": repeats.count}
                what = describe(repeats.event)
                logger.log(
                    repeats.level, words, repeats.count, now - repeats.since, what, extra=told
                )


@dataclass(slots=True)
class _Repeats:
    """An event that was written, and how many like it came since."""

    since: float
    level: int
    event: Event
    count: int = 0


def _subject_of(event: Event) -> Hashable:
    """Return what events have in common that are counted; ``None`` for those told one by one."""
    if isinstance(event, RetryScheduled | GaveUp | StreamBroken | StreamAbandoned | HollowAnswer):
        kind = getattr(event, "kind", None)
        return type(event), event.request.route, event.request.model, kind
    return None


def fields_of(event: Event) -> dict[str, object]:
    """Return an event's fields for structured logs: ``extra=`` of its line.

    Plain text and numbers; the words of providers are in the line alone.
    """
    found: dict[str, object] = {"comet_event": type(event).__name__}
    for declared in fields(event):
        value = getattr(event, declared.name)
        if declared.name == "request":
            found |= {"comet_route": printable(value.route), "comet_model": printable(value.model)}
        elif declared.name == "partition":
            found["comet_partition"] = None if value is None else _shown(value)
        elif declared.name not in _ONLY_IN_WORDS:
            found[f"comet_{declared.name}"] = printable(value) if isinstance(value, str) else value
    return found


def describe(event: Event) -> str:
    """An event as one printable line for a log."""
    return escaped(_describe(event))


def _describe(event: Event) -> str:
    if isinstance(event, GateClosed | GateOpened):
        return _describe_outage(event)
    if isinstance(event, LimitChanged | AlgorithmRetired | Standstill | FleetChanged):
        return _describe_limit(event)
    name = name_of(event.request)
    if isinstance(event, AttemptFinished):
        outcome = event.fault or event.status
        what = f"attempt {event.attempt}: {outcome} {event.code} after {event.elapsed:.2f} s"
        why = f" ({event.reason})" if event.reason else ""
        return f"{name} {what}{why} request_id={event.request_id or '-'}"
    if isinstance(event, RetryScheduled):
        return (
            f"{name} {event.kind} (status {event.status}): attempt {event.attempt} in"
            f" {event.delay:.2f} s: {event.reason}"
        )
    if isinstance(event, GaveUp):
        return f"{name} {event.kind} (status {event.status}): gave up: {event.reason}"
    if isinstance(event, StreamBroken):
        return f"{name} {event.kind}: stream broken after {event.events} events: {event.reason}"
    if isinstance(event, HollowAnswer):
        return f"{name} an answer that holds nothing was handed over: {event.reason}"
    return (
        f"{name} response dropped without being closed; its slot was taken back."
        " Use 'async with' or read the stream to its end."
    )


def name_of(request: RequestInfo) -> str:
    """Return a request's name in a line for a log: its route and model."""
    return f"{printable(request.route)} model={printable(request.model) or '-'}"


def _shown(partition: Hashable) -> str:
    """A partition's key, which is the caller's and may be anything."""
    return printable(repr(partition))


def _describe_outage(event: GateClosed | GateOpened) -> str:
    host = printable(event.host)
    where = host if event.partition is None else f"{_shown(event.partition)} at {host}"
    if isinstance(event, GateOpened):
        over = f"outage of {where} over after {event.after:.1f} s"
        return f"{over}: {event.waiting} requests waited, and go in steps"
    waits = f"{event.waiting} requests wait, a canary goes out in {event.next_canary:.1f} s"
    return f"outage of {where}: {event.reason}; {waits}"


def _describe_limit(event: LimitChanged | AlgorithmRetired | Standstill | FleetChanged) -> str:
    """An event that is about no single request."""
    if isinstance(event, LimitChanged):
        return (
            f"limit of {_shown(event.partition)} {event.old} -> {event.new}: {event.reason}"
            f" ({event.in_flight} in flight, {event.waiting} waiting)"
        )
    if isinstance(event, AlgorithmRetired):
        return (
            f"the limit algorithm of {_shown(event.partition)} failed in {event.reason};"
            f" it is asked no more, and at most {event.limit} are sent at once"
        )
    if isinstance(event, Standstill):
        return f"{_shown(event.partition)} stands still for {event.seconds:.0f} s: {event.reason}"
    return f"fleet {event.old} -> {event.new}: {event.reason}"


def _level(event: Event) -> int:
    if isinstance(event, AlgorithmRetired):
        return logging.ERROR
    if isinstance(
        event,
        GaveUp | Standstill | StreamAbandoned | StreamBroken | GateClosed | HollowAnswer,
    ):
        return logging.WARNING
    if isinstance(event, RetryScheduled):
        return logging.WARNING if event.status == _REFUSED else logging.INFO
    if isinstance(event, GateOpened):
        return logging.INFO
    if isinstance(event, FleetChanged):
        as_expected = (event.old, event.new) == (FleetState.JOINING, FleetState.SHARED)
        return logging.DEBUG if as_expected else logging.WARNING
    return logging.DEBUG
