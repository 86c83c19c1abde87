"""The file of finished calls: what a run that was killed need not do again.

One line of JSON for each event, appended by a single unbuffered write, so that a killed process
leaves every line but perhaps the last whole; the torn rest of that one is cut off at the next
start. ``fsync`` follows once a second from a thread (``sync``): a power cut costs what happened
since, and that is run again.

``{"answered": key, "result": ...}`` is written before the result is handed over (only where
results are stored), ``{"done": key}`` when the reader came back for the next one.
"""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import IO, Any, Final

from ..escaping import printable
from .keys import Names, name_of

try:
    import fcntl
except ImportError:  # Windows: two runs on one file go unnoticed there
    fcntl = None  # type: ignore[assignment]

HEADER: Final = b'{"comet_resilience": "finished calls", "version": 1}\n'
_DONE: Final = b'{"done": '
_ANSWERED: Final = b'{"answered": '


class Finished:
    """The calls of earlier runs on a file, and of this one. ``open`` and ``sync`` block."""

    def __init__(self, path: str | Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None
        self._seen = Names()
        self._stored: dict[bytes, Any] = {}
        self._synced = True

    def open(self) -> None:
        """Read what is there, cut off a torn end, and make ready to append.

        Raises:
            ValueError: If the file is something else; it is left as it is.
            BlockingIOError: If another run has it open.
            OSError: If it cannot be read or written.

        """
        file = open(self._path, "a+b", buffering=0, opener=_for_the_owner)  # noqa: SIM115
        try:
            self._lock(file)
            whole = self._read(file)
            if whole < file.seek(0, os.SEEK_END):
                file.truncate(whole)
        except BaseException:
            file.close()
            raise
        self._file = file
        if not whole:
            self._append(HEADER)

    def is_new(self, name: bytes) -> bool:
        """Whether a call is neither done nor under way; from now on it is."""
        return self._seen.add(name)

    def stored(self, name: bytes) -> tuple[bool, Any]:
        """Whether an earlier run left a result that nobody took, and that result."""
        found = name in self._stored
        return found, self._stored.pop(name, None)

    def answered(self, name: bytes, result: object) -> None:
        """Keep a result before it is handed over.

        Raises:
            TypeError: If the result is nothing that JSON knows.
            OSError: If it cannot be written.

        """
        try:
            text = json.dumps(result)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"a {type(result).__name__} cannot be stored ({error}): let the function that asks"
                " return text, numbers, or lists and dicts of these"
            ) from None
        self._append(b'%s%s, "result": %s}\n' % (_ANSWERED, name, text.encode()))

    def done(self, name: bytes) -> None:
        """Note that the reader is done with a call.

        Raises:
            OSError: If it cannot be written.

        """
        self._append(b"%s%s}\n" % (_DONE, name))

    def sync(self) -> None:
        """Bring to the disk what the system still holds."""
        if self._file is not None and not self._synced:
            self._synced = True
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Bring all to the disk and let the file go."""
        try:
            self.sync()
        finally:
            if self._file is not None:
                self._file.close()
            self._file = None

    def _append(self, line: bytes) -> None:
        if self._file is None:
            raise ValueError(f"{self._path} is closed")
        while line:  # a full disk may take a part, and then raises
            line = line[self._file.write(line) :]
        self._synced = False

    def _lock(self, file: IO[bytes]) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(f"{self._path} is in use by another run") from None

    def _read(self, file: IO[bytes]) -> int:
        """Take in all whole lines; how many bytes they are."""
        with open(file.fileno(), "rb", closefd=False) as lines:
            lines.seek(0)
            header = lines.readline()
            if not header.endswith(b"\n") and HEADER.startswith(header):
                return 0  # new, or torn at birth
            if header != HEADER:
                raise ValueError(
                    f"{self._path} is no file of finished calls: its first line is not"
                    f" {HEADER.decode().strip()}; it was left as it is"
                )
            whole, unreadable = len(header), 0
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                whole += len(line)
                unreadable += not self._take_in(line)
        if unreadable:
            path = printable(str(self._path))
            warnings.warn(
                f"{path}: {unreadable} lines cannot be read; their calls are run again",
                stacklevel=2,
            )
        return whole

    def _take_in(self, line: bytes) -> bool:
        """Note what a line tells; ``False`` if it tells nothing."""
        if line.startswith(_DONE) and line.endswith(b"}\n"):
            name = line[len(_DONE) : -2]
            self._seen.add(name)
            self._stored.pop(name, None)
            return True
        try:
            event = json.loads(line)
            self._stored[name_of(event["answered"])] = event["result"]
        except (ValueError, TypeError, KeyError):
            return False
        return True


def _for_the_owner(path: str, flags: int) -> int:
    """Results may be private: nobody else may read the file that is made for them."""
    return os.open(path, flags, 0o600)
