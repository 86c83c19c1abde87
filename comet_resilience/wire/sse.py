"""Server-sent events, as far as a transport has to understand them. No I/O.

``EventScanner`` splits a stream into events (WHATWG HTML, "server-sent events") as the SDK does,
however it is sliced: each byte is looked at once, and what is kept of an unfinished event is
bounded. ``FirstEvent`` reads the beginning of a stream with it until something real has come;
``EventWatch`` then counts, and looks out for three things: the terminal sign, ``[DONE]`` and an
error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from ..verdict.envelope import is_error
from ..verdict.output import ToolArguments, has_error_finish

#: What precedes the first event is kept up to this size; a longer first event counts as begun.
HEAD_CAP: Final = 524_288
#: Lines that are no events (a bare JSON error, a web page) are kept up to this size.
STRAY_CAP: Final = 65_536
#: Of a longer event only the terminal sign is looked for.
EVENT_CAP: Final = 65_536

_BOM: Final = b"\xef\xbb\xbf"
_CR, _LF = b"\r\n"
_LINE = re.compile(rb"[^\r\n]*(?:\r\n?|\n)")
#: The lines of a block that ends with a line end: data, an event's name, blank lines, others.
_LINES = re.compile(
    rb"data(?:: ?([^\r\n]*)|())(?:\r\n?|\n)|event: ?([^\r\n]*)(?:\r\n?|\n)|([\r\n]+)"
    rb"|([^\r\n]+)(?:\r\n?|\n|\Z)"
)
_DATA, _BARE_DATA, _NAME, _BLANK, _OTHER = 1, 2, 3, 4, 5
#: Fields that the SDK knows besides, and comments: what is none of them belongs to no event.
_KNOWN_LINE = re.compile(rb"(?:id|retry)?:|(?:id|retry|event)\Z")
#: Without one of these an event's data is no error, in whatever form.
_ERROR_WORDS: Final = (
    '"error"', '"response.failed"', '"message"', '"success"', '"detail"', '"html-message"',
)  # fmt: skip
_MAYBE_ERROR = re.compile(rb'"(?:error|response\.failed|message|success|detail|html-message)"')
_STOP = re.compile(rb'"finish_reason"\s*:\s*"stop"')
_FAILURES: Final = (b"error", b"response.failed")
_PINGS: Final = frozenset({"ping", "keepalive", "keep-alive", "heartbeat"})
_PING_NAMES: Final = frozenset(name.encode() for name in _PINGS)
#: How the JSON of an event ends that is whole.
_WHOLE: Final = (b"}", b"]")

#: Enough of a long line to find a sign that is split between two chunks.
_OVERLAP: Final = 96
#: A long line is searched in parts of this size.
_LONG_PART: Final = 4_096


@dataclass(frozen=True, slots=True)
class Terminal:
    """The terminal sign of an answer; ``absent`` are literals that rule it out in an event."""

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
        re.compile(rb'"type"\s*:\s*"response\.(?:completed|incomplete|failed|cancelled)"'),
        (b".delta", b".added", b".done"),
    ),
    "/audio/transcriptions": Terminal(
        re.compile(rb'"type"\s*:\s*"transcript\.text\.done"'), (b"text.delta",)
    ),
    "/images/generations": Terminal(re.compile(rb'"type"\s*:\s*"image_generation\.completed"'), ()),
    "/images/edits": Terminal(re.compile(rb'"type"\s*:\s*"image_edit\.completed"'), ()),
}


@dataclass(frozen=True, slots=True)
class Event:
    """One event: its name (``""`` if it has none) and its data, lines joined."""

    name: str
    data: str

    @property
    def is_ping(self) -> bool:
        """True if it only keeps the connection alive."""
        return not self.data or self.name in _PINGS or '"type":"ping"' in self.data.replace(" ", "")

    @property
    def is_done(self) -> bool:
        """True if it is the end mark of a stream, which proves nothing."""
        return self.data.startswith("[DONE]")

    @property
    def is_error(self) -> bool:
        """True if it reports a failure instead of content."""
        if self.name in ("error", "response.failed"):
            return True
        if not any(word in self.data for word in _ERROR_WORDS):
            return False
        data = self.parsed
        if isinstance(data, list) and data:
            data = data[0]
        return isinstance(data, dict) and (
            bool(data.get("error"))
            or data.get("type") == "response.failed"
            or data.get("object") == "error"
            or has_error_finish(data)
            or is_error(data)
        )

    @property
    def is_raised(self) -> bool:
        """True if the SDK makes an exception of it: it does so for an ``error`` member alone."""
        data = self.parsed
        return isinstance(data, dict) and bool(data.get("error"))

    @property
    def parsed(self) -> Any:
        """The data as JSON, ``None`` if it is none."""
        try:
            return json.loads(self.data)
        except (ValueError, RecursionError):
            return None


class Scanned(NamedTuple):
    """An event as it came: its name and data, and where in the last chunk it lies.

    ``start`` is 0 if it began before that chunk, ``end`` is behind its blank line. Of an event
    that is too long there is no data, but ``signs``, and ``last`` is what its data ends with.
    """

    name: bytes
    data: bytes
    start: int
    end: int
    last: bytes
    signs: int

    @property
    def as_event(self) -> Event:
        """The same as text."""
        return Event(self.name.decode("utf-8", "replace"), self.data.decode("utf-8", "replace"))


class EventScanner:
    """Splits a stream into events, at most ``cap`` bytes of an unfinished one being kept.

    In an event that is longer the matches of ``sign`` are counted as it passes. ``stray`` holds
    the lines that belong to no event: where the stream is none after all, they are its body.
    """

    __slots__ = ("_after_cr", "_cap", "_counted", "_data", "_is_open", "_last", "_line",
                 "_long", "_name", "_sign", "_signs", "_size", "_start", "stray")  # fmt: skip

    def __init__(self, cap: int, sign: re.Pattern[bytes] | None = None) -> None:
        self.stray: bytearray = bytearray()
        self._cap = cap
        self._sign = sign
        self._line = bytearray()  # a line whose end has not come, or the last of a long one
        self._long = 0  # what kind of line it is, where it is a long one
        self._counted = 0  # how much of a long line's rest was searched for signs before
        self._after_cr = False
        self._start = 0
        self._reset()

    def _reset(self) -> None:
        self._is_open = False
        self._name = b""
        self._data: list[bytes] = []
        self._size = 0
        self._last = b""
        self._signs = 0

    @property
    def is_idle(self) -> bool:
        """Return True if the next byte begins a line of a new event."""
        return not (self._is_open or self._line or self._after_cr)

    @property
    def first_stray(self) -> bytes:
        """The first byte that belongs to no event, if there is one."""
        return bytes(self.stray[:16].lstrip()[:1] or self._line[:16].lstrip()[:1])

    @property
    def unfinished(self) -> bytes:
        """The end of what would be lost if the stream ended here; comments are no loss."""
        line = bytes(self._line) if self._line[:1] != b":" else b""
        return b"\n".join((*self._data, line)) or (b"..." if self._is_open else b"")

    def feed(self, chunk: bytes) -> Iterator[Scanned]:
        """Read on; the events that this chunk completes."""
        at = 0
        if self._after_cr and chunk:
            self._after_cr = False
            at = 1 if chunk[0] == _LF else 0
        end = max(chunk.rfind(b"\n"), chunk.rfind(b"\r")) + 1
        if not (self._is_open or self._line):
            self._start = at
        else:
            self._start = 0
        if end > at:
            yield from self._lines(chunk, at, end)
            self._after_cr = chunk[end - 1] == _CR
            at = end
        if at < len(chunk):
            self._hold(chunk[at:])

    def finish(self) -> Scanned | None:
        """Return the event that its end is missing from where the stream has ended, if any."""
        events = [*self.feed(b"\n"), *self.feed(b"\n")]
        return events[0] if events else None

    def _lines(self, chunk: bytes, at: int, end: int) -> Iterator[Scanned]:
        """Take the block of whole lines between ``at`` and ``end``, with what was held before."""
        block, offset = chunk[at:end], at
        if self._line:
            block, offset = bytes(self._line) + block, at - len(self._line)
            self._line.clear()
        at = self._end_long_line(block) if self._long else 0
        for line in _LINES.finditer(block, at):
            if line.lastindex != _BLANK:
                self._take(line, line.end() + offset)
                continue
            if self._is_open:
                yield self._dispatched(line.end() + offset)
            self._start = line.end() + offset

    def _take(self, line: re.Match[bytes], end: int) -> None:
        """Take a line that is not blank."""
        kind = line.lastindex
        if kind in (_DATA, _BARE_DATA):
            self._add(line[kind])
        elif kind == _NAME:
            self._name, self._is_open = line[_NAME], True
        elif not _KNOWN_LINE.match(line[_OTHER]):
            self._stray_line(line[_OTHER])
        elif not self._is_open:  # a comment before an event is no part of it
            self._start = end

    def _dispatched(self, end: int) -> Scanned:
        data = b"\n".join(self._data)
        signs = self._signs + self._count(data, 0)
        event = Scanned(self._name, data, max(0, self._start), end, self._last, signs)
        self._reset()
        return event

    def _add(self, value: bytes) -> None:
        """Take a line of data; beyond the cap its signs alone."""
        self._is_open = True
        self._size += len(value) + 1
        self._last = value[-_OVERLAP:]
        self._data.append(value)
        if self._size > self._cap:
            self._forget_data()

    def _forget_data(self) -> None:
        for line in self._data:
            self._signs += self._count(line, 0)
        self._data = []

    def _count(self, text: bytes, old: int) -> int:
        """Signs that were not whole in the ``old`` bytes that were looked at before."""
        if self._sign is None:
            return 0
        return sum(match.end() > old for match in self._sign.finditer(text))

    def _stray_line(self, line: bytes) -> None:
        if len(self.stray) < STRAY_CAP:
            self.stray += line[:STRAY_CAP] + b"\n"

    def _hold(self, part: bytes) -> None:
        """Keep the beginning of a line whose end has not come; of a long one no more than that."""
        self._line += part
        if len(self._line) <= (_LONG_PART if self._long else self._cap - self._size):
            return
        if not self._long:
            self._begin_long_line()
        self._search(bytes(self._line))
        del self._line[:-_OVERLAP]
        self._counted = len(self._line)

    def _begin_long_line(self) -> None:
        self._counted = 0
        self._long = _DATA if self._line.startswith(b"data:") else _OTHER
        if self._long == _DATA:
            self._is_open = True
            self._forget_data()
        elif not self._line.startswith(b":"):
            self._stray_line(bytes(self._line))

    def _end_long_line(self, block: bytes) -> int:
        """Take the rest of a long line; where the next one begins."""
        rest = _LINE.match(block)
        line = rest[0] if rest else b""
        self._search(line)
        if self._long == _DATA:
            self._last = line.rstrip()[-_OVERLAP:]
            self._size = self._cap  # of more lines of this event the signs are counted as well
        self._long = 0
        return len(line)

    def _search(self, line: bytes) -> None:
        if self._long == _DATA:
            self._signs += self._count(line, self._counted)


class FirstEvent:
    """Reads the beginning of a stream until its first real event, or the first that ``decides``.

    ``opened`` counts the events before it that are no pings.
    """

    def __init__(self, decides: Callable[[Event], bool] | None = None) -> None:
        self.bytes_read: int = 0
        self.opened: int = 0
        self._decides = decides
        self._scanner = EventScanner(HEAD_CAP)
        self._head: bytes | None = b""

    @property
    def stray(self) -> bytes:
        """The lines that belong to no event."""
        return bytes(self._scanner.stray)

    @property
    def is_body(self) -> bool:
        """Return True if a body is JSON or a web page, not an event stream, whatever its label."""
        return self.opened == 0 and self._scanner.first_stray in (b"{", b"[", b"<")

    def feed(self, data: bytes) -> Event | None:
        """Read on; the first event that is no ping, once it is complete."""
        self.bytes_read += len(data)
        if self._head is not None:
            data = self._head + data
            if len(data) < len(_BOM) and _BOM.startswith(data):
                self._head = data
                return None
            self._head, data = None, data.removeprefix(_BOM)
        return next(filter(self._is_it, (one.as_event for one in self._scanner.feed(data))), None)

    def finish(self) -> Event | None:
        """Return the last event of an ended stream if its blank line is missing."""
        last = self._scanner.finish()
        event = None if last is None else last.as_event
        return event if event is not None and self._is_it(event) else None

    def _is_it(self, event: Event) -> bool:
        if event.is_ping:
            return False
        if self._decides is None or self._decides(event):
            return True
        self.opened += 1
        return False


class EventWatch:
    """Counts events as they pass, and notes how the stream ends.

    A complete answer must contain ``terminal`` ``needed`` times, or as often as it has begun
    choices, for not every provider gives more than one; with ``None`` nothing is known of the
    route's ends and every stream is complete. ``error`` is the data of an event that
    reports one. ``done_at`` and ``torn_at`` are where in the last chunk the end mark, or an event
    whose JSON breaks off, began; -1 if it did not. ``silent_at`` is where in it a stream has to
    end for an error that the SDK does not raise: before it where it would be taken for content,
    behind it where it is handed on as an event.
    """

    __slots__ = ("_absent", "_arguments", "_begun", "_done", "_found", "_needed", "_scanner",
                 "_sign", "done_at", "error", "events", "silent_at", "torn_at")  # fmt: skip

    def __init__(self, terminal: Terminal | None, needed: int) -> None:
        self.events: int = 0
        self.error: bytes = b""
        self.done_at: int = -1
        self.torn_at: int = -1
        self.silent_at: int = -1
        self._sign = terminal.sign if terminal else None
        self._needed = needed if terminal else 0
        self._absent = terminal.absent if terminal and needed == 1 else ()
        self._found = 0
        self._begun: set[int] = set()  # choices, where several are needed
        self._done = False
        self._arguments: ToolArguments | None = None
        self._scanner = EventScanner(EVENT_CAP, self._sign)

    @property
    def is_complete(self) -> bool:
        """True once the terminal sign has come for every choice."""
        return self._found >= self._needed or 0 < len(self._begun) <= self._found

    @property
    def is_finished(self) -> bool:
        """True once all has come that can: what happens to the connection then is no failure."""
        is_last = self._done or self._sign not in (None, _FINISH.sign)
        return is_last and self.is_complete and not self.error

    @property
    def lacks_blank_line(self) -> bool:
        """Return True if the last event lacks only its blank line, without which it is ignored."""
        rest = self._scanner.unfinished
        if self._done or rest.rstrip()[-1:] not in _WHOLE:
            return False
        lines = rest.decode("utf-8", "replace").split("\n")
        return Event("", "\n".join(line.removeprefix("data:") for line in lines)).parsed is not None

    @property
    def is_over(self) -> bool:
        """Return True if the stream has said that it is over, whatever may follow."""
        return self._done or (self._sign is not None and self.is_complete)

    @property
    def lack(self) -> str:
        """The part that an incomplete answer lacks."""
        if self._arguments is not None and self._arguments.are_cut:
            return "the arguments of a tool call break off"
        return "the stream ended without a finish reason"

    @property
    def ends_whole(self) -> bool:
        """True if an end here would lose nothing: the last event has its blank line."""
        rest = self._scanner.unfinished
        return self.is_complete and (self._done or not rest or rest.lstrip().endswith(b"[DONE]"))

    def feed(self, data: bytes) -> bool:
        """Look at the next bytes, decoded; whether there is anything to look at in this watch."""
        # Nearly every chunk of nearly every stream is one whole event of content. For those a
        # few literal searches tell all; everything else takes the thorough way.
        if (
            data.endswith(b"}\n\n")
            and data.startswith(b"data:")
            and b"error" not in data
            and b'"arguments"' not in data
            and data.find(b"\n\n") == len(data) - 2
            and self._scanner.is_idle
        ):
            for literal in self._absent:
                if literal in data:
                    self.events += 1
                    return False
        return self._inspect(data)

    def finish(self) -> None:
        """End the stream: an error whose blank line is missing is one all the same."""
        event = self._scanner.finish()
        stray = bytes(self._scanner.stray)
        if event is not None and not self._done:
            self._find_error(event)
        elif stray.lstrip()[:1] == b"{" and not self.is_complete:
            self._find_error(Scanned(b"", stray, 0, 0, b"", 0))

    def _inspect(self, data: bytes) -> bool:
        self.done_at = self.torn_at = self.silent_at = -1
        found = False
        for event in self._scanner.feed(data):
            found = True
            if not self._done:
                self._note(event)
        return found

    def _note(self, event: Scanned) -> None:
        if event.data.startswith(b"[DONE]"):
            self._done, self.done_at = True, event.start
            return
        if event.last and event.name not in _PING_NAMES:
            self.events += 1
        if self._sign is not None and event.last.rstrip()[-1:] not in _WHOLE and event.last:
            self.torn_at = event.start if self.torn_at < 0 else self.torn_at
        if self._sign is _FINISH.sign:
            if self._is_cut(event):
                return
            if self._needed > 1:
                self._note_choices(event.as_event.parsed)
        self._found += event.signs
        if not self.error:
            self._find_error(event)

    def _note_choices(self, data: object) -> None:
        choices = data.get("choices") if isinstance(data, dict) else None
        for choice in choices if isinstance(choices, list) else ():
            index = choice.get("index") if isinstance(choice, dict) else None
            if isinstance(index, int) and len(self._begun) < self._needed:
                self._begun.add(index)

    def _is_cut(self, event: Scanned) -> bool:
        """Take arguments of tool calls; whether a ``stop`` stands behind some that break off.

        A gateway writes such a ``stop`` of its own where the provider's stream was cut.
        """
        if b'"arguments"' in event.data:
            self._arguments = self._arguments or ToolArguments()
            self._arguments.take(event.as_event.parsed)
        is_stop = self._arguments is not None and event.signs and _STOP.search(event.data)
        return bool(is_stop) and self._arguments is not None and self._arguments.are_cut

    def _find_error(self, scanned: Scanned) -> None:
        is_named = scanned.name in _FAILURES
        if not is_named and not _MAYBE_ERROR.search(scanned.data):
            return
        event = scanned.as_event
        if not event.is_error:
            return
        self.error = scanned.data
        if event.is_raised:
            return
        if self._sign is _FINISH.sign:
            self.silent_at = scanned.start
        elif not self.is_complete:
            self.silent_at = scanned.end
