"""The log: its logger, which escapes what it is given, and how events are written to it."""

from __future__ import annotations

import logging
import time
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Final

from .escaping import escaped, escaped_traceback
from .events import Event, GaveUp, HollowAnswer, RetryScheduled, StreamAbandoned, StreamBroken
from .log_lines import describe, fields_of, level_of

#: Seconds for which the log counts what repeats itself, and how many things it does so for.
COUNTS_FOR: Final = 10.0
MOST_COUNTED: Final = 256

logger: logging.Logger = logging.getLogger("comet_resilience")
logger.addHandler(logging.NullHandler())  # silent until the application configures logging


class EscapingFilter(logging.Filter):
    """Escapes what is put into a line of our log, so that no model or message forges another.

    It stands at the logger itself: whoever logs something need not think of it.
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
        level = level_of(event)
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
