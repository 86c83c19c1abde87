"""Event streams, however they are sliced."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comet_resilience.wire.sse import TERMINALS, Event, EventWatch, FirstEvent, Terminal

CHAT = TERMINALS["/chat/completions"]
STREAM = (
    b"\xef\xbb\xbf: ping\r\n\r\nevent: ping\ndata: {}\n\n"
    b'data: {"choices": [{"finish_reason": null}]}\n\ndata: {"choices":\ndata: []}\r\r'
    b'data: {"choices": [{"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)
ERROR = b'data: {"a": 1}\n\ndata: {"error": {"code": "x", "message": "y"}}\n\n'
cuts = st.lists(st.integers(1, 40), min_size=1)


def sliced(data: bytes, sizes: list[int]) -> list[bytes]:
    """The data in chunks of these sizes, over and over."""
    parts, at, turn = [], 0, 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        parts.append(data[at : at + size])
        at, turn = at + size, turn + 1
    return parts


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
    assert (watch.events, watch.is_complete, watch.ends_whole, watch.error) == (6, True, True, b"")
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
    assert len(watch._tail) <= 65_536


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
    assert watch.is_complete
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
    assert len(watch._tail) <= 65_536


@given(cuts)
def test_a_torn_event_is_found(sizes: list[int]) -> None:
    """An event whose JSON breaks off is noticed, however the stream is cut; whole ones are not."""
    watch, torn = EventWatch(CHAT, 1), 0
    for part in sliced(STREAM, sizes):
        watch.feed(part)
        assert watch.torn_at == -1
    for part in sliced(b'data: {"id": "c\n\ndata: {}\n\n', sizes):
        watch.feed(part)
        torn += watch.torn_at >= 0
    assert torn == 1
