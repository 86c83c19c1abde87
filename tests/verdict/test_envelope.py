"""Bodies of every shape become plain fields, and nothing ever raises."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comet_resilience.verdict.envelope import (
    MAPPED,
    TEXT_KEPT,
    _text,
    has_error,
    is_error,
    parse_envelope,
    reports_on_something,
    request_id_in,
)
from comet_resilience.verdict.rules import classify
from comet_resilience.verdict.vocabulary import BodyKind, Fault, Observation, Operation, Verdict

ID = "20261102031415926535897Qx7LmZ2p"

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["error", "message", "code", "type", "param", "success", "detail", "data",
                 "description", "request_id", "retryable", "error_code", "ray_id", "retry_after",
                 "html-message", "id", "status", "owner_action_required"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)  # fmt: skip
bodies = st.binary(max_size=200) | values.map(lambda value: json.dumps(value).encode())


def _parse(value: object) -> Any:
    return parse_envelope(json.dumps(value).encode())


@settings(max_examples=150)
@given(
    body=bodies,
    status=st.integers(-1, 1_000) | st.none(),
    fault=st.sampled_from(Fault) | st.none(),
    challenge=st.booleans(),
    operation=st.sampled_from(Operation),
)
def test_there_is_always_a_verdict(
    body: bytes, status: int | None, fault: Fault | None, challenge: bool, operation: Operation
) -> None:
    """Whatever bytes come under whatever status, the table says something and nothing raises."""
    envelope = parse_envelope(body)
    observation = Observation(
        status=status,
        fault=fault,
        body=envelope.kind,
        code=envelope.code,
        type=envelope.type,
        message=envelope.message,
        param=envelope.param,
        retry_after=envelope.retry_after,
        challenge=challenge,
        edge_retryable=envelope.edge_retryable,
        edge_code=envelope.edge_code,
        operation=operation,
    )
    assert isinstance(classify(observation), Verdict)
    assert len(envelope.message) <= TEXT_KEPT
    for label in (envelope.code, envelope.type, envelope.param, envelope.edge_code):
        assert len(label) <= 128
        assert label.isprintable()


@pytest.mark.parametrize(
    "unit",
    [b"<title", b"<title>", b"<h1>", b"ray id<", b"ray id: <a> ", b"error<", b"request id ",
     b"request id:    ", b"<", b"[", b'{"error":', b"model a b ",
     b"model 1", b"model `", b"\\", b'"', b"is required "],
)  # fmt: skip
@pytest.mark.timeout(120)
def test_hostile_repetition_takes_no_time(unit: bytes) -> None:
    """64 KiB of anything are read and judged: a pattern that tried again and again would hang."""
    for prefix in (b"", b"<html>", b'{"error":"'):
        envelope = parse_envelope((prefix + unit * 65_536)[:65_536])
        classify(Observation(status=500, body=envelope.kind, message=envelope.message))


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", BodyKind.EMPTY),
        (b" \r\n ", BodyKind.EMPTY),
        (b"\xef\xbb\xbf{}", BodyKind.JSON),
        (b"null", BodyKind.JSON),
        (b"<html><body>hi", BodyKind.HTML),
        (b"  <!DOCTYPE HTML>", BodyKind.HTML),
        (b"Service Unavailable", BodyKind.TEXT),
        (b"\x00\x01", BodyKind.BINARY),
        (b'{"cut":', BodyKind.TEXT),
    ],
)
def test_kind_of_body(body: bytes, kind: BodyKind) -> None:
    """The content decides what a body is, not its label."""
    assert parse_envelope(body).kind is kind


def test_message_code_and_param_of_the_usual_envelope() -> None:
    """The gateway's own form gives every field."""
    error = {"message": "m", "type": "comet_api_error", "param": "p", "code": "c"}
    found = _parse({"error": error})
    assert (found.message, found.type, found.param, found.code) == (
        "m",
        "comet_api_error",
        "p",
        "c",
    )
    assert found.is_error


@pytest.mark.parametrize(
    ("code", "expected"),
    [(None, ""), ("", ""), (404, "404"), (True, ""), ([1], "[1]"), ("a\x1b\u202eb", "ab")],
)
def test_code_of_any_type_becomes_a_short_text(code: object, expected: str) -> None:
    """Codes are null, empty, numbers or worse."""
    assert _parse({"error": {"message": "m", "code": code}}).code == expected


def test_error_as_text() -> None:
    """A bare text is the message, and a word beside a message is the code."""
    assert _parse({"error": "it broke"}).message == "it broke"
    both = _parse({"error": "model_not_found", "message": "no such model"})
    assert (both.code, both.message) == ("model_not_found", "no such model")
    title = _parse({"error": "Not Found", "message": "nothing here"})
    assert (title.code, title.message) == ("", "nothing here")


def test_error_inside_an_error() -> None:
    """An envelope around an envelope is looked through."""
    assert _parse({"error": {"error": {"message": "m", "code": "c"}}}).code == "c"


def test_error_passed_on_as_the_message() -> None:
    """A provider's body inside the message names the cause where the gateway's code does not."""
    inner = {"error": {"message": "no such model", "code": "model_not_found", "type": "t"}}
    vague = _parse(
        {"error": {"message": json.dumps(inner) + f" (request id: {ID})", "code": "500"}}
    )
    assert (vague.code, vague.type, vague.message) == ("model_not_found", "t", "no such model")
    assert vague.request_id == ID
    exact = _parse({"error": {"message": json.dumps(inner), "code": "invalid_request"}})
    assert (exact.code, exact.message) == ("invalid_request", "no such model")
    empty = _parse({"error": {"message": "{}", "code": "", "type": "own"}})
    assert (empty.code, empty.type, empty.message) == ("", "own", "{}")
    assert _parse({"error": {"message": "{broken"}}).message == "{broken"
    assert _parse({"error": {"message": '{"a":' * 3_000}}).message.startswith('{"a":')


def test_first_of_a_list_counts() -> None:
    """Errors in a list are read by the first; an empty list says nothing."""
    assert _parse([{"error": {"code": "c"}}]).code == "c"
    assert _parse([]).message == "[]"


def test_values_that_do_not_print_are_left_out() -> None:
    """A value nested as deep as the parser goes is no text any more."""
    deep = b'{"error":{"message":' + b"[" * 900 + b"]" * 900 + b"}}"
    assert parse_envelope(deep).kind in (BodyKind.JSON, BodyKind.TEXT)
    endless: list[object] = []
    endless.append(endless)
    assert _text(endless) == ""


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"code": MAPPED, "param": "404"}, 404),
        ({"code": MAPPED, "param": 401}, 401),
        ({"code": MAPPED, "message": "bad response status code 503"}, 503),
        ({"code": MAPPED, "param": "abc", "message": "bad response status code: 429"}, 429),
        ({"code": MAPPED, "param": "200", "message": "busy"}, None),
        ({"code": MAPPED, "param": "٤٠٤"}, None),
        ({"code": "other", "param": "404"}, None),
    ],
)
def test_status_that_the_gateway_mapped(error: dict[str, object], status: int | None) -> None:
    """The provider's status is in the param, or else in the message."""
    found = _parse({"error": error})
    assert found.true_status == status
    assert (found.type == MAPPED) == (status is not None)


def test_midjourney_code_30_is_a_429() -> None:
    """The queue of that route is full, whatever the status says."""
    assert _parse({"description": "full", "type": "upstream_error", "code": 30}).true_status == 429
    assert _parse({"description": "bad", "type": "upstream_error", "code": 4}).true_status is None


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (f"oops (request id: {ID})", ID),
        (f"oops (Request ID {ID})", ID),
        (f"oops (request_id={ID})", ID),
        (f"\u574f\u4e86\uff08request id\uff1a{ID}\uff09", ID),
        (f"oops (request id: other-gateway-1) (request id: {ID})", ID),
        ("oops (request id: ...)", ""),
        ("oops (request id: short)", ""),
        ("request id validation failed", ""),
        ("request identification failed", ""),
        ("oops (request id: " + "a" * 200 + ")", ""),
        ("x" * 10_000 + f" (request id: {ID})", ID),
        (f"(request id: {ID})" + "x" * 10_000, ""),
    ],
)
def test_request_id_in_message(message: str, expected: str) -> None:
    """The last id counts, of any length that ids have; placeholders and words are none."""
    assert request_id_in(message) == expected
    assert _parse({"error": {"message": message}}).request_id == expected


def test_both_ids_of_chained_gateways() -> None:
    """The outermost gateway wrote last; the first id is the one behind it."""
    found = _parse({"error": {"message": f"m (request id: inner-12345) (request id: {ID})"}})
    assert (found.upstream_request_id, found.request_id) == ("inner-12345", ID)


def test_request_id_as_a_member() -> None:
    """An id beside the error counts where the message has none."""
    assert _parse({"error": {"message": "m"}, "request_id": ID}).request_id == ID
    assert _parse({"error": {"message": "m", "request_id": ID}}).request_id == ID


def test_page_becomes_title_ids_and_code() -> None:
    """Of a page the title is kept, and what the edge says of itself."""
    page = (
        b"<html><title>Access denied</title><h1>Error <span>1015</span></h1>"
        b"Ray ID: <b>9a1b2c3d4e5f6071</b></html>"
    )
    found = parse_envelope(page)
    assert (found.message, found.edge_code) == ("Access denied", "1015")
    assert found.edge_id == "9a1b2c3d4e5f6071"
    assert parse_envelope(b"<html><h1>Only <b>this</b></h1>").message == "Only this"
    assert parse_envelope(b"<html><body>").message == ""
    assert parse_envelope(b"error code: 1010").edge_code == "1010"
    assert _parse({"html-message": "<title>x</title>"}).kind is BodyKind.HTML


def test_problem_document() -> None:
    """The edge's own document tells whether and when to come back."""
    document: dict[str, object] = {
        "title": "Error", "detail": "d", "error_code": 1015, "error_category": "rate_limit",
        "retryable": True, "retry_after": 30, "ray_id": "9a1b2c3d4e5f6071",
    }  # fmt: skip
    found = _parse(document)
    assert (found.edge_retryable, found.retry_after, found.edge_code) == (True, 30, "1015")
    assert (found.edge_id, found.message) == ("9a1b2c3d4e5f6071", "d")
    assert _parse({**document, "owner_action_required": True}).edge_retryable is False
    assert _parse({**document, "retryable": "yes"}).edge_retryable is None
    assert _parse({**document, "error": {"message": "m"}}).edge_retryable is None


@pytest.mark.parametrize("wait", [-1, True, False, "30", None, 10**400, 1e300, float("nan")])
def test_nonsense_hint_of_a_problem_document_is_ignored(wait: object) -> None:
    """Only a number of seconds is a hint."""
    assert _parse({"error_code": 1, "retryable": True, "retry_after": wait}).retry_after is None


@pytest.mark.parametrize(
    "data",
    [
        {"error": {"message": "m"}},
        {"error": "m"},
        {"success": False, "message": "m"},
        {"type": "error"},
        {"html-message": "<html>"},
        {"code": "task_not_exist", "message": "m", "data": None},
        {"code": 4, "description": "m"},
        {"detail": "Not Found"},
        {"errors": ["m"], "status": 400},
        {"retryable": True, "error_code": 524},
    ],
)
def test_error_envelopes(data: dict[str, object]) -> None:
    """Each of these under a success status is an error."""
    assert is_error(data)
    assert _parse(data).is_error or "html-message" in data


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"error": None},
        {"error": ""},
        {"error": {}},
        {"id": "resp_1", "error": {"code": None, "message": None}},
        {"id": "job_1", "status": "failed", "error": {"message": "m"}},
        {"success": True, "message": ""},
        {"code": "success", "message": "", "data": "task-1"},
        {"code": 0, "message": "SUCCEED", "data": {}},
        {"code": 200, "message": "ok"},
        {"code": 22, "description": "queued", "result": "task-1"},
        {"code": 10000, "message": "Success", "data": {"task_id": "1"}},
        {"id": "x", "code": "gpt", "message": "m"},
        {"id": "x", "detail": "high"},
        {"type": "message"},
    ],
)
def test_answers_that_look_a_little_like_errors(data: dict[str, object]) -> None:
    """Members that errors have too do not make an answer an error."""
    assert not is_error(data)


def test_what_tells_of_something_may_carry_its_error() -> None:
    """An id and a status in words make an object a report, with an error of its own."""
    assert reports_on_something({"task_id": "t", "status": "failed"})
    assert not reports_on_something({"id": "t", "status": 500})
    assert has_error({"error": {"code": 1}})
    assert not has_error({"error": {"code": None}})


@pytest.mark.parametrize("body", [b"\x89PNG\xff\xfe\xfd\xfc" * 9, b"ID3\x00\x01text" * 9])
def test_bytes_that_are_no_text_have_no_message(body: bytes) -> None:
    """A binary body puts no unreadable characters into a diagnosis."""
    found = parse_envelope(body)
    assert (found.kind, found.message) == (BodyKind.BINARY, "")
