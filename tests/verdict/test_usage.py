"""The tokens that an answer took are read from its end, whatever else it holds."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comet_resilience.verdict.usage import Usage, UsageWatch, find_usage

_CHAT = {
    "prompt_tokens": 12,
    "completion_tokens": 34,
    "prompt_tokens_details": {"cached_tokens": 5},
    "completion_tokens_details": {"reasoning_tokens": 20},
}
_RESPONSES = {
    "input_tokens": 12,
    "output_tokens": 34,
    "input_tokens_details": {"cached_tokens": 5},
    "output_tokens_details": {"reasoning_tokens": 20},
}
_READ = Usage(prompt_tokens=12, completion_tokens=34, cached_tokens=5, reasoning_tokens=20)


@pytest.mark.parametrize("said", [_CHAT, _RESPONSES])
def test_both_dialects_are_read(said: dict[str, object]) -> None:
    """Chat completions and responses name the same things differently."""
    body = json.dumps({"id": "a", "choices": [{"usage": 3}], "usage": said}).encode()
    assert find_usage(body) == _READ


def test_content_that_looks_like_usage_is_content() -> None:
    """A quotation mark inside of a text is escaped, so it never begins a member."""
    content = json.dumps({"usage": {"prompt_tokens": 9, "completion_tokens": 9}})
    body = json.dumps({"usage": _CHAT, "choices": [{"message": {"content": content}}]}).encode()
    assert find_usage(body) == _READ
    assert find_usage(json.dumps({"content": content}).encode()) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{"usage": null}',
        b'{"usage": {}}',
        b'{"usage": {"prompt_tokens": "many"}}',
        b'{"usage": {"prompt_tokens": -1}}',
        b'{"usage": {"prompt_tokens": true}}',
        b'{"usage": {"prompt_tokens": 1, ',
        b'["usage"]',
        b'{"usage": {"a": ' + b"[" * 5_000,
    ],
)
def test_nonsense_is_no_usage(body: bytes) -> None:
    """What names no tokens tells nothing."""
    assert find_usage(body) is None


def _event(data: object) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"


_STREAM = b"".join(
    [
        *(_event({"choices": [{"delta": {"content": "four"}}], "usage": None}) for _ in range(50)),
        _event({"choices": [{"delta": {}, "finish_reason": "stop"}]}),
    ]
)
_WITH_USAGE = _STREAM + _event({"choices": [], "usage": _CHAT}) + b"data: [DONE]\n\n"


@given(st.lists(st.integers(1, 400), min_size=1, max_size=40))
def test_a_streams_usage_is_found_however_it_is_cut(sizes: list[int]) -> None:
    """The bytes count, not the chunks that they come in."""
    watch, at = UsageWatch(), 0
    for size in sizes:
        watch.feed(_WITH_USAGE[at : at + size])
        at += size
    watch.feed(_WITH_USAGE[at:])
    assert watch.usage(1) == _READ


def test_a_stream_without_usage_is_counted() -> None:
    """Some four bytes of text are a token; the prompt is what was estimated."""
    watch = UsageWatch()
    watch.feed(_STREAM)
    assert watch.usage(7) == Usage(prompt_tokens=7, completion_tokens=50, is_estimate=True)


def test_a_long_stream_is_not_kept() -> None:
    """Only the end is, by single bytes as by large chunks."""
    watch = UsageWatch()
    for _ in range(200):
        watch.feed(b"x" * 10_000)
        watch.feed(b"y")
    assert watch._kept <= 2 * UsageWatch.KEPT
