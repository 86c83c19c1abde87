"""The checkpoint: the file of finished calls, which a run that was killed need not repeat.

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
from collections.abc import Callable
from dataclasses import is_dataclass
from pathlib import Path
from typing import IO, Final, get_origin, get_type_hints

from ..escaping import escaped
from ..private_files import open_private
from .keys import Names

try:
    import fcntl
except ImportError:  # Windows: two runs on one file go unnoticed there
    fcntl = None  # type: ignore[assignment]

HEADER: Final = b'{"comet_resilience": "finished calls", "version": 2}\n'
_DONE: Final = b'{"done": '
_ANSWERED: Final = b'{"answered": '
_RESULT: Final = ', "result": '
_NEVER_STORED: Final = (tuple, set, frozenset, bytes, bytearray, complex)
#: How many beginnings of lines are looked for in one that is torn.
_TORN_MOST: Final = 8
_decoder: Final = json.JSONDecoder()


def check_stored(ask: Callable[..., object]) -> None:
    """Raise ``TypeError`` if a function says itself that it returns what cannot be stored."""
    try:
        returned = get_type_hints(ask).get("return")
    except Exception:  # noqa: BLE001 - annotations may name anything, and need not be there
        return
    kind = get_origin(returned) or returned
    if isinstance(kind, type) and (
        issubclass(kind, _NEVER_STORED) or is_dataclass(kind) or hasattr(kind, "model_dump")
    ):
        raise TypeError(
            f"store_results: ask returns {kind.__name__}, which would not come back from JSON as it"
            " is: let it return text, numbers, or lists and dicts of these"
        )


class InexactResultError(TypeError):
    """A result of kinds that JSON knows, but which it would not give back as it is."""


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
        """Tell whether a call is neither done nor under way; from now on it is."""
        return self._names.add(name)

    def stored(self, name: bytes) -> tuple[bool, object]:
        """Return whether an earlier run left a result that nobody took, and that result."""
        found = name in self._stored
        return found, self._stored.pop(name, None)

    def answered(self, name: bytes, result: object) -> None:
        """Keep a result before it is handed over.

        Raises:
            TypeError: If the result is nothing that JSON knows.
            InexactResultError: If it would not come back from JSON as it is.
            OSError: If it cannot be written.

        """
        try:
            text = json.dumps(result, allow_nan=False)
            _check_survival(result, json.loads(text))
        except Exception as error:  # noqa: BLE001 - a dict of the user's may raise anything
            why = "nested too deeply" if isinstance(error, RecursionError) else error
            kind = TypeError if isinstance(error, TypeError) else InexactResultError
            raise kind(
                f"a {type(result).__name__} cannot be stored ({why}): let the function that asks"
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
            raise ValueError(f"{escaped(str(self._path))} is closed")
        if self._is_torn:  # what a full disk left of a line is not to spoil the next
            line = b"\n" + line
        self._is_torn = True
        while line:  # a full disk may take a part, and then raises
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
        """Take in all whole lines, and return how many bytes they are."""
        with open(file.fileno(), "rb", closefd=False) as lines:
            lines.seek(0)
            header = lines.readline()
            if not header.endswith(b"\n") and HEADER.startswith(header):
                return 0  # new, or torn at birth
            if header != HEADER:
                raise ValueError(
                    f"{escaped(str(self._path))} is no file of finished calls: its first line is"
                    f" not {HEADER.decode().strip()}; it was left as it is"
                )
            whole, unreadable, torn = len(header), 0, 0
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                whole += len(line)
                if not self._take_in(line):
                    is_two = self._take_in_second(line)
                    torn, unreadable = torn + is_two, unreadable + (not is_two)
        self._warn(unreadable, torn)
        return whole

    def _warn(self, unreadable: int, torn: int) -> None:
        problems = []
        if unreadable:
            problems.append(f"{unreadable} lines cannot be read; their calls are run again")
        if torn:
            problems.append(
                f"{torn} lines begin with one that was torn (was the disk full?); what follows in"
                " them was read, what was torn is run again"
            )
        if problems:
            warnings.warn(f"{escaped(str(self._path))}: {'; '.join(problems)}", stacklevel=3)

    def _take_in_second(self, line: bytes) -> bool:
        """Note the whole line that follows a torn one, without a line's end between them."""
        at = 0
        for _ in range(_TORN_MOST):
            starts = (line.find(start, at + 1) for start in (_DONE, _ANSWERED))
            at = min((start for start in starts if start > 0), default=-1)
            if at < 0:
                return False
            if self._take_in(line[at:]):
                return True
        return False

    def _take_in(self, line: bytes) -> bool:
        """Note what a line tells; ``False`` if it tells nothing."""
        start = _DONE if line.startswith(_DONE) else _ANSWERED
        try:
            text = line.decode()
            name, at = _name_at(text, len(start)) if line.startswith(start) else (b"", 0)
            if not at:
                return False
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


def _name_at(text: str, at: int) -> tuple[bytes, int]:
    """Return the name that begins there, as it stands, and where it ends."""
    end = _decoder.raw_decode(text, at)[1]
    return text[at:end].encode(), end


def _result_at(text: str, at: int) -> object:
    if not text.startswith(_RESULT, at):
        raise ValueError("no result")
    result, end = _decoder.raw_decode(text, at + len(_RESULT))
    if text[end:] != "}\n":
        raise ValueError("more than a result")
    return result


def _check_survival(result: object, back: object) -> None:
    if not _survives(result, back):
        raise ValueError("it would come back as something else")


def _survives(result: object, back: object) -> bool:
    """Tell whether a result came back from JSON as it was, types included."""
    if type(result) is not type(back):
        return False
    if isinstance(result, list) and isinstance(back, list):
        return len(result) == len(back) and all(map(_survives, result, back))
    if isinstance(result, dict) and isinstance(back, dict):
        return result.keys() == back.keys() and all(
            type(name) is str and _survives(value, back[name]) for name, value in result.items()
        )
    return bool(result == back)


def _for_the_owner(path: str, flags: int) -> int:
    """Open the file so that nobody else may read it where it is new: results may be private."""
    return open_private(path, flags)
