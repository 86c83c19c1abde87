"""The log: its logger, which escapes what it is given, and the writer of events."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias
from weakref import WeakSet

from .escaping import escaped, escaped_traceback
from .events import Event, GaveUp, HollowAnswer, RetryScheduled, StreamAbandoned, StreamBroken
from .log_lines import describe, fields_of, level_of

#: Seconds for which repetitions are counted instead of written, and of how many things at once.
COUNTS_FOR: Final = 10.0
MOST_COUNTED: Final = 256

logger: logging.Logger = logging.getLogger("comet_resilience")
logger.addHandler(logging.NullHandler())  # silent until the application configures logging


class EscapingFilter(logging.Filter):
    """Escapes what goes into a line of the log, so that no model or message forges another line.

    It stands at the logger itself, so that no call has to think of it.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Escape a record's message, arguments, fields and traceback; let it pass."""
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


logger.addFilter(EscapingFilter())


#: A way to have a function called after some seconds, on the event loop that runs now; where none
#: runs, it is not called.
CallLater: TypeAlias = Callable[[float, Callable[[], object]], object]


class LogWriter:
    """Writes events to the log: each state once, repetitions as their number.

    An ERROR where an algorithm failed. A WARNING where a gate closes, a partition stalls,
    the fleet's state changes (except for the first share that comes), a model is refused by a 429,
    a request is given up, or a stream or an answer is broken, abandoned or hollow. INFO where a
    gate opens and a request is sent again for another reason; DEBUG for the rest.

    Of events of one kind about one thing (a model that fails for one reason) the first is written,
    those of the next ``COUNTS_FOR`` seconds at DEBUG, and then their number: by a timer of the
    event loop, or before the next line, when the client is closed or when the program ends. Each
    client has a writer of its own, which two threads may use: at worst a line is not counted.
    """

    def __init__(self, call_later: CallLater | None) -> None:
        self._call_later = call_later
        self._repeats: dict[Hashable, _Repeats] = {}
        _writers.add(self)

    def __call__(self, event: Event) -> None:
        """Write an event."""
        level = level_of(event)
        if level > logging.DEBUG:
            self.write_counts(time.monotonic() - COUNTS_FOR)
            if not self._is_first(event, level):
                level = logging.DEBUG
        if logger.isEnabledFor(level):
            logger.log(level, "%s", describe(event), extra=fields_of(event))

    def write_counts(self, since: float) -> None:
        """Write how often events came again that were written at ``since`` or earlier."""
        for subject, repeats in list(self._repeats.items()):  # the oldest first
            if repeats.since > since:
                return
            self._write_count(subject, repeats, time.monotonic() - repeats.since)

    def forget_counts(self) -> None:
        """Forget what came again: after a fork it is the parent's to write."""
        self._repeats.clear()

    def _is_first(self, event: Event, level: int) -> bool:
        subject = _subject_of(event)
        if subject is None:
            return True
        repeats = self._repeats.get(subject)
        if repeats is not None:
            repeats.count += 1
            if repeats.count == 1 and self._call_later is not None:
                self._call_later(
                    max(0.0, repeats.since + COUNTS_FOR - time.monotonic()),
                    lambda: self._write_count(subject, repeats, COUNTS_FOR),
                )
            return False
        if len(self._repeats) >= MOST_COUNTED:
            return True
        self._repeats[subject] = _Repeats(time.monotonic(), level, event)
        return True

    def _write_count(self, subject: Hashable, repeats: _Repeats, seconds: float) -> None:
        if self._repeats.get(subject) is not repeats:
            return  # it has been written
        del self._repeats[subject]
        if repeats.count and logger.isEnabledFor(repeats.level):
            extra = {**fields_of(repeats.event), "comet_repeats": repeats.count}
            what = describe(repeats.event)
            words = "and %d more in %.0f s: %s"
            logger.log(repeats.level, words, repeats.count, seconds, what, extra=extra)


@dataclass(slots=True)
class _Repeats:
    """An event that was written, and how many like it came since."""

    since: float
    level: int
    event: Event
    count: int = 0


def _subject_of(event: Event) -> Hashable:
    """Return what repeated events have in common; ``None`` for those written one by one."""
    if isinstance(event, RetryScheduled | GaveUp | StreamBroken | StreamAbandoned | HollowAnswer):
        kind = getattr(event, "kind", None)
        account = getattr(event, "account", None)
        return type(event), event.request.route, event.request.model, kind, account
    return None


#: All that live: what they have counted is written when the program ends, by this process alone.
_writers: Final[WeakSet[LogWriter]] = WeakSet()


def _write_all_counts() -> None:
    for writer in list(_writers):
        with contextlib.suppress(Exception):  # a handler that fails ends no other writer's counts
            writer.write_counts(time.monotonic())


def _forget_all_counts() -> None:
    for writer in list(_writers):
        writer.forget_counts()


atexit.register(_write_all_counts)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all_counts)
