"""The observers of one client: the log first, then the functions of ``on_event``."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from .escaping import escaped_traceback
from .events import Event, Observer
from .log import CallLater, LogWriter, logger

#: What an observer, or other foreign code, may raise to be felt.
ENDS_THE_PROGRAM: Final = (KeyboardInterrupt, SystemExit)


class Observers:
    """Hands events to functions. The failure of one is logged once and never reaches a request.

    ``call_later`` lets the log write the number of repetitions although nothing else happens.
    """

    def __init__(self, observers: Sequence[Observer], call_later: CallLater | None = None) -> None:
        self._observers = observers
        self._call_later = call_later
        self._failed: set[int] = set()
        self._log: LogWriter = LogWriter(None if call_later is None else self._later)

    def wanted(self) -> bool:
        """Return True if an ordinary event would reach anybody; if not, it need not be made."""
        return bool(self._observers) or logger.isEnabledFor(logging.DEBUG)

    def emit(self, event: Event) -> None:
        """Give an event to the log and to each observer."""
        self.tell(self._log, self._log, event)
        for observer in self._observers:
            self.tell(observer, observer, event)

    def tell(self, observer: object, function: Callable[..., Any], *arguments: object) -> Any:
        """Call a function of an observer; return its result, ``None`` if it raised."""
        try:
            return function(*arguments)
        except ENDS_THE_PROGRAM:
            raise
        except BaseException:  # noqa: BLE001 - logged below
            if id(observer) not in self._failed:
                self._failed.add(id(observer))
                _complain("an on_event observer failed; further failures are not logged")
            return None

    def close(self) -> None:
        """Write what the log has counted so far."""
        self.tell(self._log, self._log.write_counts, time.monotonic())

    def _later(self, seconds: float, function: Callable[[], object], /) -> None:
        """Have a function of the log called later, with its failures contained."""
        if self._call_later is not None:
            self._call_later(seconds, lambda: self.tell(self._log, function))


def _complain(what: str) -> None:
    """Log the exception being handled; write it to stderr if the log is what fails."""
    try:
        logger.exception(what)
    except Exception:  # noqa: BLE001 - foreign code as well
        error = sys.exc_info()[1]
        with contextlib.suppress(Exception):
            sys.stderr.write(f"{what}\n{escaped_traceback(error) if error else ''}\n")
