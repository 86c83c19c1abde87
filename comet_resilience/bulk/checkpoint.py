"""The checkpoint: the file of finished calls, which a killed run need not repeat.

One line of JSON for each event, appended by a single unbuffered write, so a killed process leaves
at most the last line incomplete, which is truncated at the next start. A thread calls ``fsync``
once a second (``sync``): a power failure loses what happened since, and that is run again.

``{"answered": key, "result": ...}`` is written before the result is returned (only if results are
stored), ``{"done": key}`` when the reader comes back for the next one.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from dataclasses import is_dataclass
from pathlib import Path
from typing import IO, Final, get_origin, get_type_hints

from ..escaping import escaped
from ..private_files import open_private
from .keys import Names

try:
    import fcntl
except ImportError:  # Windows: two runs on one file are not detected
    fcntl = None  # type: ignore[assignment]

HEADER: Final = b'{"comet_resilience": "finished calls", "version": 2}\n'
_DONE: Final = b'{"done": '
_ANSWERED: Final = b'{"answered": '
_RESULT: Final = ', "result": '
_NEVER_STORED: Final = (tuple, set, frozenset, bytes, bytearray, complex)
#: The most starts of lines that are tried in an incomplete one.
_TORN_MOST: Final = 8
_decoder: Final = json.JSONDecoder()


def check_stored(ask: Callable[..., object]) -> None:
    """Raise ``TypeError`` if a function's annotation says that its results cannot be stored."""
    try:
        returned = get_type_hints(ask).get("return")
    except Exception:  # noqa: BLE001 - annotations may be missing or name anything
        return
    kind = get_origin(returned) or returned
    if isinstance(kind, type) and (
        issubclass(kind, _NEVER_STORED) or is_dataclass(kind) or hasattr(kind, "model_dump")
    ):
        raise TypeError(
            f"store_results: ask returns {kind.__name__}, which JSON would not restore exactly:"
            " expected text, numbers, or lists and dicts of these"
        )


class InexactResultError(TypeError):
    """A result of JSON types that JSON would not restore exactly."""


class Checkpoint:
    """The calls of earlier runs on a file, and of this one. ``open`` and ``sync`` block."""

    def __init__(self, path: str | Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None
        self._names = Names()
        self._stored: dict[bytes, object] = {}
        self._synced = True
        self._is_torn = False

    def open(self) -> None:
        """Read the file, truncate an incomplete last line, and prepare to append.

        Raises:
            ValueError: If it is another kind of file, which is not changed.
            BlockingIOError: If another run has it open.
            OSError: If it cannot be read or written.

        """
        file = open(self._path, "a+b", buffering=0, opener=open_private)  # noqa: SIM115
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

    def add(self, name: bytes) -> bool:
        """Add a call; ``False`` if it is done or under way already."""
        return self._names.add(name)

    def stored(self, name: bytes) -> tuple[bool, object]:
        """Return whether an earlier run left a result for a call, and that result."""
        found = name in self._stored
        return found, self._stored.pop(name, None)

    def answered(self, name: bytes, result: object) -> None:
        """Store a result before it is returned.

        Raises:
            TypeError: If the result has no JSON form.
            InexactResultError: If JSON would not restore it exactly.
            OSError: If it cannot be written.

        """
        try:
            text = json.dumps(result, allow_nan=False)
            if not _is_same(result, json.loads(text)):
                raise ValueError("it would come back as something else")  # noqa: TRY301
        except Exception as error:  # noqa: BLE001 - the user's dict may raise anything
            why = "nested too deeply" if isinstance(error, RecursionError) else error
            kind = TypeError if isinstance(error, TypeError) else InexactResultError
            raise kind(
                f"a {type(result).__name__} cannot be stored ({why}): let ask return text, numbers,"
                " or lists and dicts of these"
            ) from None
        self._append(b'%s%s, "result": %s}\n' % (_ANSWERED, name, text.encode()))

    def done(self, name: bytes) -> None:
        """Record that the reader is done with a call.

        Raises:
            OSError: If it cannot be written.

        """
        self._append(b"%s%s}\n" % (_DONE, name))

    def sync(self) -> None:
        """Flush the file to the disk."""
        if self._file is not None and not self._synced:
            self._synced = True
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Flush the file to the disk and close it."""
        try:
            self.sync()
        finally:
            if self._file is not None:
                self._file.close()
            self._file = None

    def _append(self, line: bytes) -> None:
        if self._file is None:
            raise ValueError(f"{escaped(str(self._path))} is closed")
        if self._is_torn:  # the rest of a line from a full disk must not damage the next
            line = b"\n" + line
        self._is_torn = True
        while line:  # a full disk may accept a part, and then raises
            line = line[self._file.write(line) :]
        self._is_torn = self._synced = False

    def _lock(self, file: IO[bytes]) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(f"{escaped(str(self._path))} is in use by another run") from None

    def _read(self, file: IO[bytes]) -> int:
        """Read all complete lines, and return their number of bytes."""
        with open(file.fileno(), "rb", closefd=False) as lines:
            lines.seek(0)
            header = lines.readline()
            if not header.endswith(b"\n") and HEADER.startswith(header):
                return 0  # new, or killed while writing the header
            if header != HEADER:
                raise ValueError(
                    f"{escaped(str(self._path))} is not a file of finished calls: its first line is"
                    f" not {HEADER.decode().strip()}; it was not changed"
                )
            whole, unreadable, torn = len(header), 0, 0
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                whole += len(line)
                if not self._read_line(line):
                    is_torn = self._read_torn(line)
                    torn, unreadable = torn + is_torn, unreadable + (not is_torn)
        self._warn(unreadable, torn)
        return whole

    def _warn(self, unreadable: int, torn: int) -> None:
        problems = []
        if unreadable:
            problems.append(f"{unreadable} lines cannot be read; their calls are run again")
        if torn:
            problems.append(
                f"{torn} lines begin with an incomplete one (was the disk full?); the rest of them"
                " was read, the calls of the incomplete ones are run again"
            )
        if problems:
            warnings.warn(f"{escaped(str(self._path))}: {'; '.join(problems)}", stacklevel=3)

    def _read_torn(self, line: bytes) -> bool:
        """Read the complete line after an incomplete one that has no line ending."""
        at = 0
        for _ in range(_TORN_MOST):
            starts = (line.find(start, at + 1) for start in (_DONE, _ANSWERED))
            at = min((start for start in starts if start > 0), default=-1)
            if at < 0:
                return False
            if self._read_line(line[at:]):
                return True
        return False

    def _read_line(self, line: bytes) -> bool:
        """Read a line; ``False`` if it is invalid."""
        start = _DONE if line.startswith(_DONE) else _ANSWERED
        try:
            text = line.decode()
            if not line.startswith(start):
                return False
            at = _decoder.raw_decode(text, len(start))[1]
            name = text[len(start) : at].encode()  # unchanged, however it is written
            if start is _DONE:
                if text[at:] != "}\n":
                    return False
                self._names.add(name)
                self._stored.pop(name, None)
            else:
                self._stored[name] = _result_at(text, at)
        except (ValueError, RecursionError):
            return False
        return True


def _result_at(text: str, at: int) -> object:
    if not text.startswith(_RESULT, at):
        raise ValueError("no result")
    result, end = _decoder.raw_decode(text, at + len(_RESULT))
    if text[end:] != "}\n":
        raise ValueError("more than a result")
    return result


def _is_same(result: object, back: object) -> bool:
    """Return whether JSON restored a result exactly, types included."""
    if type(result) is not type(back):
        return False
    if isinstance(result, list) and isinstance(back, list):
        return len(result) == len(back) and all(map(_is_same, result, back))
    if isinstance(result, dict) and isinstance(back, dict):
        return result.keys() == back.keys() and all(
            type(name) is str and _is_same(value, back[name]) for name, value in result.items()
        )
    return bool(result == back)
