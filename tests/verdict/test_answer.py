"""An answer under a success status is told from what only says so."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comet_resilience.verdict.answer import PARSED_UP_TO, is_answer, is_transcript

CHOICES = ("choices",)
POLLED = ("id", "task_id", "status")


def _large(**members: object) -> bytes:
    return json.dumps({**members, "padding": "x" * PARSED_UP_TO}).encode()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"choices": [{}]}, CHOICES),
        ({"choices": [], "error": None}, CHOICES),
        ({"id": "r", "output": [], "status": "completed", "error": None}, ("output", "id")),
        ({"id": "r", "output": [], "error": {"code": None, "message": None}}, ("output", "id")),
        ({"data": [], "error": ""}, ("data",)),
        ({"id": "v", "status": "failed", "error": {"code": "c", "message": "m"}}, POLLED),
        ({"id": "ft", "status": "failed", "error": {"code": "c", "message": "m"}}, ()),
        ({"object": "list", "data": []}, ()),
        ({"choices": [{}], "error": {"code": 0, "message": "success"}}, CHOICES),
        ({"choices": [{}], "error": {"code": "0", "message": ""}}, CHOICES),
        ({"code": 10000, "message": "Success", "request_id": "r"}, ()),
        ({"code": 201, "message": "created"}, ()),
        ({"detail": "accepted"}, ()),
        ([1, 2], ()),
        ([], ()),
        (None, ()),
        ("ok", ()),
        (3, ()),
        ({}, ()),
    ],
)
def test_answers(body: object, expected: tuple[str, ...]) -> None:
    """What was due is let through, null errors and failed jobs that were asked about included."""
    assert is_answer(json.dumps(body).encode(), expected)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", CHOICES),
        (b"", ()),
        (b"<html>", ()),
        (b'{"choices": [', CHOICES),
        (b"\xff\xfe", ()),
        (b"[" * 10_000, ()),
        (b"null", CHOICES),
        (b'"text"', CHOICES),
        (b"[]", CHOICES),
        (b"{}", CHOICES),
        (b'{"choices": null}', CHOICES),
        (b'{"choices": [], "error": {"message": "m"}}', CHOICES),
        (b'{"error": "m"}', ()),
        (b'{"success": false}', ()),
        (b'{"choices": [], "error": {"code": 0, "message": "no quota"}}', CHOICES),
        (b'{"choices": [], "error": {"code": "0", "type": "server_error"}}', CHOICES),
        (b'{"code": 500, "message": "not done"}', ()),
        (b'{"detail": "Not Found"}', ()),
        (b'{"html-message": "<html>"}', CHOICES),
        (b'{"id": "r", "status": "failed", "error": {"code": "c"}}', ("output", "id")),
        (b'{"id": "v", "status": "failed", "error": {"code": "c"}}', ("id", "task_id")),
        (b'{"status": 500, "error": "m"}', POLLED),
    ],
)
def test_what_only_says_success(body: bytes, expected: tuple[str, ...]) -> None:
    """Empty, cut, foreign or erroneous bodies are no answers."""
    assert not is_answer(body, expected)


@pytest.mark.parametrize(
    "body",
    [
        _large(choices=[{}]),
        _large(id="r", error=None, output=[]),
        _large(id="r", error={}, output=[]),
        _large(id="r", error="", output=[]),
        _large(output=[{"type": "mcp_call", "error": "the tool failed"}]),
        _large(id="r", text='the body {"error": "x"} is quoted', output=[]),
        json.dumps(["x" * PARSED_UP_TO]).encode(),
    ],
)
def test_large_answers(body: bytes) -> None:
    """Large answers are judged by their ends, and an error deep inside is not theirs."""
    assert is_answer(body, ())


def test_members_of_large_answers() -> None:
    """A member that was due is looked for at both ends."""
    assert is_answer(_large(data=[]), ("data",))
    assert is_answer(json.dumps({"padding": "x" * PARSED_UP_TO, "data": []}).encode(), ("data",))
    assert not is_answer(_large(other=[]), ("data",))


@pytest.mark.parametrize(
    "body",
    [
        _large(error={"message": "m"}),
        _large(id="r", status=1, error="m"),
        _large(**{"html-message": "<html>"}),
        _large(data=[])[:-1],
        b"x" * (PARSED_UP_TO + 1),
    ],
)
def test_large_failures(body: bytes) -> None:
    """Errors at the head, cut ends and other kinds of data are found in large bodies too."""
    assert not is_answer(body, ())


@settings(max_examples=100)
@given(
    body=st.binary(max_size=100) | st.text(max_size=100).map(str.encode),
    expected=st.sampled_from([(), CHOICES, POLLED]),
    large=st.booleans(),
)
def test_never_raises(body: bytes, expected: tuple[str, ...], large: bool) -> None:
    """Any bytes get a yes or a no."""
    assert is_answer(body * (PARSED_UP_TO if large else 1), expected) in (True, False)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"text": "hi"}', True),
        (b"hi", True),
        (b"", True),
        (b'{"error": {"message": "no"}}', False),
        (b"<html><title>x</title></html>", False),
        (b"a\x00b", False),
        (b"2026", True),
        (b'"never," he said', True),
        (b'"never"', True),
        (b"close the <body> tag", True),
        (b'"error": true, he read', True),
        (b'{"segments": "' + b"x" * 70_000 + b'"}', True),
    ],
)
def test_transcripts(body: bytes, expected: bool) -> None:
    """Text, JSON without an error and silence are transcripts; errors, pages and bytes are not."""
    assert is_transcript(body) is expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(JSON, st.data())
def test_what_is_an_answer_can_be_read(value: object, data: st.DataObject) -> None:
    """No damage makes our parser take what the SDK's, which is Python's, will then refuse."""
    body = bytearray(json.dumps(value, ensure_ascii=data.draw(st.booleans())).encode())
    at = data.draw(st.integers(0, len(body) - 1))
    body[at : at + data.draw(st.integers(0, 2))] = data.draw(st.sampled_from(
        [b"", b" ", b",", b"]", b"}", b'"', b"\\", b"0", b"-", b".", b"e", b"\x00", b"\xed", b"NaN"]
    ))  # fmt: skip
    if is_answer(bytes(body), ()):
        json.loads(body)


@pytest.mark.parametrize(
    "body", [b'{"a": "\\ud800"}', b"\xef\xbb\xbf{}", '{"a": 1}'.encode("utf-16")]
)
def test_what_only_pythons_parser_reads_is_an_answer(body: bytes) -> None:
    """Half a surrogate pair, a byte order mark, another encoding."""
    assert is_answer(body, ())
