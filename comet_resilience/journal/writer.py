"""The file of a journal: a bounded queue, and one daemon thread per path that writes it.

A request pays for one ``put`` into a queue. If the disk is too slow, lines are dropped and counted;
if it fails, that is logged once. Neither affects a request. Each batch of whole lines is appended
by one ``write``, so several clients and processes may share a file. A large file is moved to
``path.1``, ``path.1`` to ``path.2``, and so on.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from ..events import Event
from ..log import logger
from ..private_files import open_private
from .record import is_recorded, line_of

if TYPE_CHECKING:
    from collections.abc import Iterator

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows: several processes should not share a file
    fcntl = None  # type: ignore[assignment]

#: The most lines in one batch.
BATCH_LINES: Final = 1_000
#: Seconds that the first line of a batch waits for others, and that a flush may take.
GATHER: Final = 0.2
EXIT_PATIENCE: Final = 2.0


class Writer:
    """One file of this process: a bounded queue, and the thread that empties it.

    ``dropped`` counts the lines for which the queue had no room.
    """

    #: The size at which the file is moved away; this many are kept, the current one included.
    rotate_bytes: int = 10_000_000
    files_kept: int = 5
    #: The most lines that wait for the disk.
    queue_lines: int = 20_000

    def __init__(self, path: str) -> None:
        self.path = path
        self.reset()

    def reset(self) -> None:
        """Start empty and without a thread; in a forked child the parent writes what waits."""
        self.dropped: int = 0
        self._lock = threading.Lock()
        self._queue: SimpleQueue[Any] = SimpleQueue()  # attempts with their time, and flushes
        self._hurry = threading.Event()
        self._thread: threading.Thread | None = None
        self._torn = False
        self._logged: set[str] = set()

    def observe(self, event: Event) -> None:
        """Queue an attempt; it is written within half a second."""
        if not is_recorded(event):
            return
        if self._queue.qsize() >= self.queue_lines:
            self.dropped += 1
            return
        self._queue.put((event, time.time()))
        if self._thread is None:
            self._start()

    def flush(self) -> None:
        """Wait until everything queued so far is written, or for ``EXIT_PATIENCE``."""
        if self._thread is None and not self._queue.empty():
            self._start()
            if self._thread is None:  # no thread available: write in this one
                while batch := list(self._waiting()):
                    self._write_batch(batch)
        if self._thread is not None:
            written = threading.Event()
            self._queue.put(written)
            self._hurry.set()
            written.wait(EXIT_PATIENCE)

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(
                    target=self._run, name="comet_resilience journal", daemon=True
                )
                try:
                    thread.start()
                except RuntimeError as error:  # no more threads, or the interpreter is ending
                    # The next attempt tries again.
                    what = "the thread of the journal %s cannot start: %s; its lines wait"
                    self._log_once(logging.WARNING, what, self.path, error)
                else:
                    self._thread = thread

    def _run(self) -> None:
        for first in iter(self._queue.get, None):
            if not isinstance(first, threading.Event):
                self._hurry.wait(GATHER)
            self._hurry.clear()
            self._write_batch([first, *self._waiting()])

    def _waiting(self) -> Iterator[Any]:
        with suppress(Empty):
            for _ in range(BATCH_LINES):
                yield self._queue.get_nowait()

    def _write_batch(self, batch: list[Any]) -> None:
        lines = [line_of(*item) for item in batch if not isinstance(item, threading.Event)]
        try:
            if lines:
                self._append(b"".join(lines))
        except Exception as error:  # noqa: BLE001 - must not affect a request
            what = "the journal %s cannot be written (%s); requests go on without it"
            self._log_once(logging.ERROR, what, self.path, type(error).__name__)
        for item in batch:
            if isinstance(item, threading.Event):
                item.set()
        if self.dropped:
            what = "the journal %s cannot keep up with the requests: %d lines dropped so far"
            what += "; further drops are only counted"
            self._log_once(logging.WARNING, what, self.path, self.dropped)

    def _log_once(self, level: int, what: str, *values: object) -> None:
        if what not in self._logged:
            self._logged.add(what)
            logger.log(level, what, *values)

    def _append(self, data: bytes) -> None:
        with _opened(self.path) as file:
            size = os.fstat(file).st_size
            if size and size + len(data) > self.rotate_bytes:
                with suppress(FileNotFoundError):  # another process has moved it just now
                    self._rotate(file)
            else:
                self._write(file, data)
                return
        with _opened(self.path) as file:
            self._write(file, data)

    def _write(self, file: int, data: bytes) -> None:
        """Write once; a line that a full disk has truncated must not damage the next one."""
        data = b"\n" + data if self._torn else data
        self._torn = True
        if os.write(file, data) < len(data):
            raise OSError("the disk accepted only a part")
        self._torn = False

    def _rotate(self, file: int) -> None:
        """Rotate the files unless another process has just done so."""
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)  # until the file is closed
        if not os.path.samestat(os.fstat(file), Path(self.path).stat()):
            return
        for number in range(self.files_kept - 2, 0, -1):
            with suppress(FileNotFoundError):
                Path(f"{self.path}.{number}").replace(f"{self.path}.{number + 1}")
        Path(self.path).replace(f"{self.path}.1")


@contextmanager
def _opened(path: str) -> Iterator[int]:
    file = open_private(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        yield file
    finally:
        os.close(file)
