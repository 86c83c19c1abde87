"""The one place which knows what is secret, huge or harmful in a text."""

from __future__ import annotations

from typing import Final

#: A server's message is shown up to this many characters.
MESSAGE_SHOWN: Final = 500


def printable(text: str) -> str:
    """A foreign text as one printable line: control and bidi characters escaped, long ones cut."""
    cut = text[: MESSAGE_SHOWN + 1]
    shown = "".join(char if char.isprintable() else _escape(char) for char in cut[:MESSAGE_SHOWN])
    return shown + "\u2026" if len(cut) > MESSAGE_SHOWN else shown


def _escape(char: str) -> str:
    return " " if char in "\n\r\t" else char.encode("unicode_escape").decode("ascii")
