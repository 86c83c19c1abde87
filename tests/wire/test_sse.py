"""Event streams, however they are sliced."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comet_resilience.wire import sse
from comet_resilience.wire.sse import TERMINALS, Event, EventWatch, FirstEvent, Terminal

from ..conftest import chunk, sliced

CHAT = TERMINALS["/chat/completions"]
STREAM = (
    b"\xef\xbb\xbf: ping\r\n\r\nevent: ping\ndata: {}\n\n"
    b'data: {"choices": [{"finish_reason": null}]}\n\ndata: {"choices":\ndata: []}\r\r'
    b'data: {"choices": [{"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)
ERROR = b'data: {"a": 1}\n\ndata: {"error": {"code": "x", "message": "y"}}\n\n'
cuts = st.lists(st.integers(1, 40), min_size=1)


def held(watch: EventWatch) -> int:
    """Return how many bytes a watch keeps."""
    return len(watch._scanner.unfinished) + len(watch._scanner.stray)


@given(cuts)
def test_the_first_event_is_found(sizes: list[int]) -> None:
    """Comments and pings are passed over; the first real event is whole."""
    first, found = FirstEvent(), None
    for part in sliced(STREAM, sizes):
        found = first.feed(part)
        if found:
            break
    assert found == Event("", '{"choices": [{"finish_reason": null}]}')


@given(cuts)
def test_the_watch_counts_alike(sizes: list[int]) -> None:
    """However the stream is cut, events, end and completeness are the same."""
    watch, done = EventWatch(CHAT, 1), 0
    for part in sliced(STREAM, sizes):
        watch.feed(part)
        done += watch.done_at >= 0
    assert (watch.events, watch.is_complete, watch.ends_whole, watch.error) == (3, True, True, b"")
    assert done == 1


@given(cuts)
def test_the_watch_finds_errors(sizes: list[int]) -> None:
    """An error event is found whole, wherever the chunks end."""
    watch = EventWatch(CHAT, 1)
    for part in sliced(ERROR, sizes):
        watch.feed(part)
    assert watch.error == b'{"error": {"code": "x", "message": "y"}}'


@given(st.lists(st.binary(max_size=50)))
def test_no_bytes_upset_it(parts: list[bytes]) -> None:
    """Whatever comes, nothing raises and memory stays bounded."""
    first, watch = FirstEvent(), EventWatch(CHAT, 1)
    for part in parts:
        first.feed(part)
        watch.feed(part)
    first.finish()
    watch.finish()
    assert held(watch) <= 65_536 + 50


@pytest.mark.parametrize(
    ("data", "name", "expected"),
    [
        ('{"error": {"message": "x"}}', "", True),
        ('{"error": "x"}', "", True),
        ('{"error": null, "type": "response.created"}', "", False),
        ('{"type": "response.failed", "response": {}}', "", True),
        ('{"type": "error", "message": "x", "error": 1}', "", True),
        ('{"message": "x"}', "error", True),
        ('{"content": "say \\"error\\": {"}', "", False),
        ('{"error": ', "", False),
        ('["error"]', "", False),
    ],
)
def test_which_events_are_errors(data: str, name: str, expected: bool) -> None:
    """Error objects and typed failures are; words about errors are not."""
    assert Event(name, data).is_error is expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ('{"error": {"message": "x"}}', True),
        ('{"error": null, "type": "error"}', False),
        ('{"type": "response.failed"}', False),
        ('[{"error": "x"}]', False),
        ('{"error": ', False),
    ],
)
def test_which_errors_the_sdk_raises(data: str, expected: bool) -> None:
    """Those that have a member of that name, and no others."""
    assert Event("", data).is_raised is expected


@given(cuts)
def test_a_stop_behind_arguments_that_break_off_is_no_end(sizes: list[int]) -> None:
    """A gateway writes such a one itself where its provider's stream was cut."""
    for arguments, lack in (('{"city": "Oslo"}', ""), ('{"city": "Os', "arguments")):
        function = {"name": "weather", "arguments": arguments}
        call = chunk({"tool_calls": [{"index": 0, "id": "1", "function": function}]})
        watch = EventWatch(CHAT, 1)
        for part in sliced(call + chunk(finish="stop"), sizes):
            watch.feed(part)
        assert watch.is_complete is not bool(lack)
        assert lack in watch.lack


def test_quoted_signs_prove_nothing() -> None:
    """A finish reason inside the text of an answer is no finish reason."""
    watch = EventWatch(CHAT, 1)
    watch.feed(b'data: {"content": "{\\"finish_reason\\":\\"stop\\"}"}\n\n')
    assert not watch.is_complete


def test_routes_without_a_known_end_are_always_complete() -> None:
    """Where nothing is known nothing is claimed."""
    watch = EventWatch(None, 3)
    assert watch.is_complete
    assert watch.ends_whole


def test_a_cut_last_event_is_no_whole_end() -> None:
    """The terminal sign without its blank line is lost on the SDK, so the end is not whole."""
    watch = EventWatch(Terminal(re.compile(b"END"), ()), 1)
    watch.feed(b"data: 1 END")
    assert not watch.is_complete
    assert not watch.ends_whole
    watch.feed(b"\n\n: ping\n")
    assert watch.ends_whole


def test_an_unfinished_error_line_is_waited_for_within_bounds() -> None:
    """A line that begins like an error and never ends does not pile up."""
    watch = EventWatch(CHAT, 1)
    watch.feed(b'data: {"error": {"message": "')
    for _ in range(100):
        watch.feed(b"x" * 10_000)
    assert watch.error == b""
    assert held(watch) <= 65_536 + 10_000


@given(cuts)
def test_a_torn_event_is_found(sizes: list[int]) -> None:
    """An event whose JSON breaks off is noticed, however the stream is cut; whole ones are not."""
    watch, torn = EventWatch(CHAT, 1), 0
    for part in sliced(STREAM, sizes):
        watch.feed(part)
        assert watch.torn_at == -1
    watch = EventWatch(CHAT, 1)
    for part in sliced(b'data: {"id": "c\n\ndata: {}\n\n', sizes):
        watch.feed(part)
        torn += watch.torn_at >= 0
    assert torn == 1


class Counting:
    """A pattern that counts how many bytes it was given to search."""

    def __init__(self, pattern: re.Pattern[bytes]) -> None:
        self.pattern, self.bytes = pattern, 0

    def finditer(self, text: bytes, at: int = 0) -> Iterator[re.Match[bytes]]:
        """Search all of it."""
        self.bytes += len(text) - at
        return self.pattern.finditer(text, at)


CONTENT = b'data: {"choices": [{"delta": {"content": "a"}, "finish_reason": null}]}\n\n'
TOTAL = 200_000
PLACES = {
    "head": b"data: " + b"x" * TOTAL,
    "mid": CONTENT + b'data: {"error": {"a":"' + b"x" * TOTAL,
    "end": CONTENT + b"data: [DONE]" + b" " * TOTAL,
    "comment": CONTENT + b": " + b"x" * TOTAL,
    "comments": CONTENT + b": x\n" * (TOTAL // 4),
    "empty lines": CONTENT + b"\n" * TOTAL,
    "CRLF": CONTENT + b"\r\n" * (TOTAL // 2),
    "stray": CONTENT + b"{" * TOTAL,
    "stray lines": CONTENT + b"{\n" * (TOTAL // 2),
    "data lines": b"data: x\n" * (TOTAL // 8),
    "empty data lines": b"data:\n" * (TOTAL // 6),
    "signs": b"data: " + b'"finish_reason":' * (TOTAL // 16),
    "events": CONTENT * (TOTAL // len(CONTENT)),
}


@pytest.mark.parametrize("size", [1, 16, 256, TOTAL * 2])
@pytest.mark.parametrize("place", PLACES)
def test_work_is_linear_and_memory_bounded(
    place: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However a stream is sliced, each byte is split into lines and searched for signs once."""
    lines, sign = Counting(sse._LINES), Counting(CHAT.sign)
    monkeypatch.setattr(sse, "_LINES", lines)
    searched: Any = sign
    first, watch = FirstEvent(), EventWatch(Terminal(searched, CHAT.absent), 1)
    data = PLACES[place]
    for turn, part in enumerate(sliced(data, [size])):
        watch.feed(part)
        assert turn % 5_000 or held(watch) <= 2 * sse.EVENT_CAP + size
    watch.finish()
    assert lines.bytes <= len(data) + 100
    assert sign.bytes <= 1.1 * len(data) + 100
    lines.bytes = 0
    for part in sliced(data, [size]):
        first.feed(part)
    first.finish()
    assert lines.bytes <= len(data) + 100


@given(cuts, st.binary(max_size=200))
def test_a_long_event_counts_like_a_short_one(sizes: list[int], filler: bytes) -> None:
    """The sign, the end and the tear of an event are seen also where it is not kept."""
    filler = filler.translate(None, b'\r\n"]}')
    for end, torn in ((b'"}\n\n', 0), (b"\n\n", 1)):
        event = b'data: {"finish_reason":"stop", "x": "' + filler + end
        watch, seen = EventWatch(CHAT, 1), 0
        watch._scanner = sse.EventScanner(40, CHAT.sign)
        for part in sliced(b"data: {}\n\n" + event + b"data: {}\n\n", sizes):
            watch.feed(part)
            seen += watch.torn_at >= 0
        assert (watch.events, watch.is_complete, watch.ends_whole) == (3, True, True)
        assert seen == torn
