"""Server-sent events, as far as a transport has to understand them. No I/O.

Two readers of the same format (WHATWG HTML, "server-sent events"): ``FirstEvent`` parses the
beginning of a stream line by line until something real has come; ``EventWatch`` then only counts
and looks out for three things in the bytes that pass by: the terminal sign, ``[DONE]`` and an
error. It runs for each chunk of each stream, so it searches instead of parsing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from ..verdict.envelope import is_error

#: What precedes the first event is kept up to this size; a longer first event counts as begun.
HEAD_CAP: Final = 1_048_576
#: Lines that are no events (a bare JSON error, a web page) are kept up to this size.
STRAY_CAP: Final = 65_536

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM: Final = b"\xef\xbb\xbf"
#: Without one of these an event's data is no error, in whatever form.
_ERROR_WORDS: Final = ('"error"', '"response.failed"', '"message"', '"success"', '"detail"')
_PINGS: Final = frozenset({"ping", "keepalive", "keep-alive", "heartbeat"})

#: Enough of the last chunk to find a sign that is split between two.
_OVERLAP: Final = 96
#: A line that may hold an error is waited for up to this size.
_ERROR_CAP: Final = 65_536


@dataclass(frozen=True, slots=True)
class Terminal:
    """What a complete answer contains; ``absent`` are literals that show it is not in an event."""

    sign: re.Pattern[bytes]
    absent: tuple[bytes, ...]


_FINISH = Terminal(
    re.compile(rb'"finish_reason"\s*:\s*"[^"]+"'),
    (b'"finish_reason":null', b'"finish_reason": null'),
)

#: By the path of the route: for chat and completions a finish reason for each choice, elsewhere
#: the event that closes the stream.
TERMINALS: Final = {
    "/chat/completions": _FINISH,
    "/completions": _FINISH,
    "/responses": Terminal(
        re.compile(rb'"type"\s*:\s*"response\.(?:completed|incomplete|failed)"'),
        (b".delta", b".added", b".done"),
    ),
    "/audio/transcriptions": Terminal(
        re.compile(rb'"type"\s*:\s*"transcript\.text\.done"'), (b"text.delta",)
    ),
    "/images/generations": Terminal(re.compile(rb'"type"\s*:\s*"image_generation\.completed"'), ()),
    "/images/edits": Terminal(re.compile(rb'"type"\s*:\s*"image_edit\.completed"'), ()),
}
_DATA_LINE = re.compile(rb"(?:\A|[\r\n])data:")
_DONE = re.compile(rb"(?:\A|(?<=[\r\n]))data: ?\[DONE\]")
#: An event whose data breaks off before the end of its JSON.
_TORN = re.compile(rb"(?:\A|(?<=[\r\n]))data:[^\r\n]*[^\s\]}][ \t]*(?:\r\n\r\n|\n\n|\r\r)")
_WHOLE_END = re.compile(rb"(?:\A|\r\n\r\n|\n\n|\r\r|[\r\n]:[^\r\n]*[\r\n]*)\s*\Z")
_MAYBE_ERROR = re.compile(rb'"error"\s*:\s*[{"]|event: ?(?:error|response\.failed)\b')
_ERROR_LINE = re.compile(
    rb"(?:\A|(?<=[\r\n]))(?:"
    rb'data: ?(\{[^\r\n]*"error"\s*:\s*[{"][^\r\n]*)|'
    rb"event: ?(?:error|response\.failed)(?:\r\n|\r|\n)data: ?([^\r\n]*)"
    rb")[\r\n]"
)


@dataclass(frozen=True, slots=True)
class Event:
    """One event: its name (``""`` if it has none) and its data, lines joined."""

    name: str
    data: str

    @property
    def is_ping(self) -> bool:
        """Whether it only keeps the connection alive."""
        return not self.data or self.name in _PINGS or '"type":"ping"' in self.data.replace(" ", "")

    @property
    def is_done(self) -> bool:
        """Whether it is the end mark of a stream, which proves nothing."""
        return self.data.startswith("[DONE]")

    @property
    def is_error(self) -> bool:
        """Whether it reports a failure instead of content."""
        if self.name in ("error", "response.failed"):
            return True
        if not any(word in self.data for word in _ERROR_WORDS):
            return False
        data = self._parsed()
        if isinstance(data, list) and data:
            data = data[0]
        if not isinstance(data, dict):
            return False
        return bool(data.get("error")) or data.get("type") == "response.failed" or is_error(data)

    @property
    def is_raised(self) -> bool:
        """Whether the SDK makes an exception of it: it does so for an ``error`` member alone."""
        data = self._parsed()
        return isinstance(data, dict) and bool(data.get("error"))

    def _parsed(self) -> Any:
        try:
            return json.loads(self.data)
        except (ValueError, RecursionError):
            return None


class FirstEvent:
    """Reads the beginning of a stream until its first real event.

    ``stray`` holds the lines that belong to no event: where the stream is none after all, they
    are its body.
    """

    def __init__(self) -> None:
        self.stray: bytearray = bytearray()
        self.seen_bytes: int = 0
        self._rest = b""
        self._name = ""
        self._data: list[str] = []

    def feed(self, data: bytes) -> Event | None:
        """Read on; the first event that is no ping, once it is complete."""
        if self.seen_bytes < len(_BOM):
            data = (self._rest + data).removeprefix(_BOM)
            self._rest = b""
        self.seen_bytes += len(data)
        for line in self._lines(data):
            event = self._line(line)
            if event is not None and not event.is_ping:
                return event
        return None

    def finish(self) -> Event | None:
        """The stream has ended: an event that its blank line was missing from, if any."""
        event = self._line(self._rest) if self._rest else None
        event = event or self._line(b"")
        return event if event is not None and not event.is_ping else None

    def _lines(self, data: bytes) -> Iterator[bytes]:
        data = self._rest + data
        start = 0
        for end in _LINE_END.finditer(data):
            if end.group() == b"\r" and end.end() == len(data):
                break  # the other half of a CRLF may follow
            yield data[start : end.start()]
            start = end.end()
        self._rest = data[start:]

    def _line(self, line: bytes) -> Event | None:
        if not line:
            return self._dispatch()
        field, _, value = line.partition(b":")
        text = value.removeprefix(b" ").decode("utf-8", "replace")
        if field == b"data":
            self._data.append(text)
        elif field == b"event":
            self._name = text
        elif field not in (b"", b"id", b"retry") and len(self.stray) < STRAY_CAP:
            self.stray += line[:STRAY_CAP] + b"\n"
        return None

    def _dispatch(self) -> Event | None:
        name, data = self._name, self._data
        self._name, self._data = "", []
        return Event(name, "\n".join(data)) if name or data else None


class EventWatch:
    """Counts events as they pass, and notes how the stream ends.

    A complete answer must contain ``terminal`` ``needed`` times; with ``None`` nothing is known
    of the route's ends and every stream is complete. ``error`` is the data of an event that
    reports one. ``done_at`` and ``torn_at`` are where in the last chunk the end mark, or an event
    whose JSON breaks off, began; -1 if it did not. ``silent_at`` is where in it a stream has to
    end for an error that the SDK does not raise: before it where it would be taken for content,
    behind it where it is handed on as an event.
    """

    __slots__ = ("_absent", "_aligned", "_done", "_missing", "_sign", "_tail", "done_at", "error",
                 "events", "silent_at", "torn_at")  # fmt: skip

    def __init__(self, terminal: Terminal | None, needed: int) -> None:
        self.events: int = 0
        self.error: bytes = b""
        self.done_at: int = -1
        self.torn_at: int = -1
        self.silent_at: int = -1
        self._sign = terminal.sign if terminal else None
        self._absent = terminal.absent if terminal else ()
        self._missing = needed if terminal else 0
        self._done = False
        self._tail = b""
        self._aligned = True

    @property
    def is_complete(self) -> bool:
        """Whether the terminal sign has come for every choice."""
        return self._missing <= 0

    @property
    def ends_whole(self) -> bool:
        """Whether an end here would lose nothing: the last event has its blank line."""
        return self.is_complete and (
            self._aligned or self._done or _WHOLE_END.search(self._tail) is not None
        )

    def feed(self, data: bytes) -> bool:
        """Look at the next bytes, decoded; whether there is anything to look at in this watch."""
        # Nearly every chunk of nearly every stream is one whole event of content. For those a
        # few literal searches tell all; everything else takes the thorough way.
        if (
            self._aligned
            and data.endswith(b"}\n\n")
            and data.startswith(b"data:")
            and b"error" not in data
            and data.find(b"\n\n") == len(data) - 2
        ):
            for literal in self._absent:
                if literal in data:
                    self.events += 1
                    return False
        self._look(data)
        return True

    def _look(self, data: bytes) -> None:
        old = len(self._tail)
        text = self._tail + data
        self.events += _count(_DATA_LINE, text, old)
        if self._missing > 0 and self._sign is not None:
            self._missing -= _count(self._sign, text, old)
        self.done_at = _place_of(_DONE, text, old) if b"[DONE]" in text else -1
        self._done = self._done or self.done_at >= 0
        self.torn_at = -1 if self._sign is None else _place_of(_TORN, text, old)
        self.silent_at = -1
        unfinished = not self.error and self._find_error(text, old)
        self._aligned = not unfinished and text.endswith((b"\n\n", b"\r\n\r\n"))
        self._tail = b"" if self._aligned else text[-_ERROR_CAP if unfinished else -_OVERLAP :]

    def _find_error(self, text: bytes, old: int) -> bool:
        """Look for an error event; whether one may have begun whose line is not whole yet."""
        maybe = _MAYBE_ERROR.search(text)
        if maybe is None:
            return False
        found = _ERROR_LINE.search(text)
        if found is None:
            return not re.search(rb"[\r\n].*[\r\n]", text[maybe.end() :], re.DOTALL)
        data = found.group(1) or found.group(2)
        event = Event("", data.decode("utf-8", "replace"))
        if event.is_error or found.group(2):
            self.error = data
            if not event.is_raised and self._sign is _FINISH.sign:
                self.silent_at = max(0, found.start() - old)
            elif not event.is_raised and self._missing > 0:
                self.silent_at = len(text) - old
        return False


def _place_of(pattern: re.Pattern[bytes], text: bytes, old: int) -> int:
    """Where a match begins behind the ``old`` bytes, 0 if before them, -1 if nowhere."""
    found = pattern.search(text)
    return max(0, found.start() - old) if found and found.end() > old else -1


def _count(pattern: re.Pattern[bytes], text: bytes, old: int) -> int:
    """Matches that were not whole in the ``old`` bytes that were looked at before."""
    return sum(match.end() > old for match in pattern.finditer(text))
