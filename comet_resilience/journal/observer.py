"""The observer that keeps a journal: in a file or through a function.

A process has one writer for each path. No failure here affects a request.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..events import Event, Observer
from ..log import logger
from .record import any_record_of, is_recorded
from .writer import Writer


def observer_for(journal: str | Path | Callable[[Any], object]) -> Observer:
    """Return the observer that keeps a journal."""
    if callable(journal):
        return _ToFunction(journal)
    return _writer_for(os.path.abspath(journal)).observe


def flush() -> None:
    """Wait until everything is written, at most two seconds per file; it blocks an event loop."""
    for writer in list(_writers.values()):
        writer.flush()


class _ToFunction:
    """An observer that passes each record to a function, whose first failure is logged."""

    def __init__(self, function: Callable[[Any], object]) -> None:
        self._function = function
        self._failed = False

    def __call__(self, event: Event) -> None:
        if not is_recorded(event):
            return
        try:
            self._function(any_record_of(event, time.time()))
        except Exception:  # noqa: BLE001 - logged once; must not affect a request
            if not self._failed:
                self._failed = True
                logger.exception("the journal's function failed; further failures are not logged")


_writers: dict[str, Writer] = {}
_writers_lock = threading.Lock()


def _writer_for(path: str) -> Writer:
    with _writers_lock:
        if path not in _writers:
            _writers[path] = Writer(path)
        return _writers[path]


def _after_fork() -> None:
    global _writers_lock  # noqa: PLW0603 - a thread of the parent may have held it
    _writers_lock = threading.Lock()
    for writer in _writers.values():
        writer.reset()


atexit.register(flush)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
