"""Escaping of foreign text, so that nothing in it ends a line or steers a terminal."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from typing import Final

#: A server's message is shown up to this many characters.
MESSAGE_SHOWN: Final = 500
#: No more exceptions of a chain are shown.
_CHAIN_SHOWN: Final = 20


def printable(text: str) -> str:
    """Return a foreign text as one printable line, cut if it is long."""
    cut = text[: MESSAGE_SHOWN + 1]
    shown = escaped(cut[:MESSAGE_SHOWN])
    return shown + "\u2026" if len(cut) > MESSAGE_SHOWN else shown


def name_of_key(key: object) -> str:
    """Return a partition's key as it is shown: it may be the caller's, and anything."""
    return printable(" ".join(map(str, key)) if isinstance(key, tuple) else str(key))


def escaped(text: str) -> str:
    """Return a foreign text as one printable line: control and bidi characters are escaped."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def harmless(text: str) -> str:
    """Return a foreign text with its lines, other control and bidi characters escaped."""
    return "".join(c if c.isprintable() or c == "\n" else _escape(c) for c in text)


def escaped_traceback(error: BaseException) -> str:
    """Return a traceback as Python shows it, each exception's text on one printable line."""
    return "\n".join(_lines_of(traceback.TracebackException.from_exception(error), 0))


def _lines_of(shown: traceback.TracebackException, depth: int) -> Iterator[str]:
    before = shown.__cause__ or (None if shown.__suppress_context__ else shown.__context__)
    if before is not None and depth < _CHAIN_SHOWN:
        yield from _lines_of(before, depth + 1)
        yield "" if shown.__cause__ is None else "\nwhich is the cause of\n"
    yield "Traceback (most recent call last):"
    yield from (line.rstrip("\n") for line in shown.stack.format())
    yield escaped("".join(shown.format_exception_only()).rstrip("\n"))
    for one in (shown.exceptions or ())[: _CHAIN_SHOWN - depth]:
        yield from _lines_of(one, depth + 1)


def _escape(char: str) -> str:
    return " " if char in "\n\r\t" else char.encode("unicode_escape").decode("ascii")
