"""Which member of a body becomes which field, in which order, and what stays empty."""

from __future__ import annotations

import json
from typing import Any

import pytest

from comet_resilience.verdict.envelope import (
    MAPPED,
    TEXT_KEPT,
    Envelope,
    has_error,
    is_error,
    parse_envelope,
)
from comet_resilience.verdict.vocabulary import BodyKind

ID = "20261102031415926535897Qx7LmZ2p"


def _parse(value: object) -> Envelope:
    return parse_envelope(json.dumps(value).encode())


WORDS = ("message", "description", "detail", "msg", "error_description")


@pytest.mark.parametrize("place", range(len(WORDS)))
def test_message_is_the_first_of_the_names_that_errors_use(place: int) -> None:
    """Each name is read where those before it are missing, in the error and at the top level."""
    members = {name: f"the {name}" for name in WORDS[place:]}
    assert _parse({"error": members}).message == f"the {WORDS[place]}"
    assert _parse(members).message == f"the {WORDS[place]}"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"error": {"code": "c"}, "message": "top", "title": "t"}, "top"),
        ({"error": {"code": "c"}, "title": "t", "errors": ["e"]}, "t"),
        ({"error": {"code": "c"}, "errors": ["e"]}, '["e"]'),
        ({"error": {"code": "c"}}, '{"code": "c"}'),
        ({"error": {"code": "c", "message": ""}, "message": "top"}, "top"),
    ],
)
def test_an_error_without_words_is_told_by_what_stands_around_it(
    data: dict[str, object], message: str
) -> None:
    """Message, title and list of errors of the body, then the error itself as text."""
    assert _parse(data).message == message


def test_code_beside_the_error_counts_where_the_error_has_none() -> None:
    """A code at the top level is the error's, unless the error has one."""
    assert _parse({"error": {"message": "m"}, "code": 503}).code == "503"
    assert _parse({"error": {"message": "m", "code": "own"}, "code": 503}).code == "own"
    assert _parse({"error": "model_not_found", "message": "m", "code": 7}).code == "7"


def test_error_inside_an_error_gives_every_field() -> None:
    """The inner envelope is the provider's and says what happened; the outer one is packing."""
    inner = {"message": "m", "code": "c", "type": "t", "param": "p"}
    found = _parse({"error": {"error": inner, "message": "outer", "code": "500"}})
    assert (found.message, found.code, found.type, found.param) == ("m", "c", "t", "p")


def test_error_passed_on_gives_its_param_and_its_detail() -> None:
    """Of a body inside the message the param is kept too, and a bare detail is its message."""
    inner = json.dumps({"error": {"message": "m", "param": "size"}})
    assert _parse({"error": {"message": inner}}).param == "size"
    assert _parse({"error": {"message": inner, "param": "own"}}).param == "own"
    detail = json.dumps({"error": {"detail": "not there"}})
    assert _parse({"error": {"message": detail}}).message == "not there"


@pytest.mark.parametrize("code", ["", "bad_response", "UPSTREAM_ERROR", "Unknown_Error", "500"])
def test_vague_codes_give_way_to_the_code_inside_in_any_case(code: str) -> None:
    """A code that names no cause is replaced by the one of the body that was passed on."""
    inner = json.dumps({"error": {"message": "m", "code": "model_not_found"}})
    assert _parse({"error": {"message": inner, "code": code}}).code == "model_not_found"


def test_an_error_text_with_words_is_the_message_of_its_body() -> None:
    """``error`` as a sentence is what happened, wherever there is no message."""
    found = _parse({"error": "it broke badly", "code": "c"})
    assert (found.message, found.code, found.is_error) == ("it broke badly", "c", True)


@pytest.mark.parametrize("code", ["SUCCESS", "Ok", "ok", "succeed", 200, "0", 1, ""])
def test_codes_of_success_are_no_error_in_any_case(code: object) -> None:
    """Task routes say success in a code, in capitals or not."""
    assert not is_error({"code": code, "message": "m"})


@pytest.mark.parametrize("text", ["", None])
def test_an_error_of_nothing_is_none(text: object) -> None:
    """Members without a word do not make an error; a single word does."""
    assert not has_error({"error": {"code": text, "message": text}})
    assert has_error({"error": {"code": text, "message": "m"}})


@pytest.mark.parametrize("value", [[], "oops", 5, None, True, [7]])
def test_json_that_is_no_object_is_an_error(value: object) -> None:
    """No answer of an API is a bare text, number or list of those."""
    found = _parse(value)
    assert (found.kind, found.is_error) == (BodyKind.JSON, True)


# -- Text, pages, and where a text is cut ----------------------------------------------------


def test_bytes_that_are_no_utf_8_become_a_text() -> None:
    """A body in another encoding is read with gaps rather than not at all."""
    found = parse_envelope(b"Service \xff\xfe unavailable")
    assert found.message == "Service \ufffd\ufffd unavailable"
    assert found.kind is BodyKind.TEXT


def test_text_has_its_request_id_and_no_edge_code() -> None:
    """The gateway writes its id into plain texts too."""
    found = parse_envelope(f"bad gateway (request id: {ID})".encode())
    assert (found.request_id, found.edge_code) == (ID, "")


def test_page_without_anything_of_the_edge_has_empty_fields() -> None:
    """What a page does not say stays empty."""
    found = parse_envelope(b"<html><title></title><p>hello</p></html>")
    assert (found.message, found.edge_code, found.edge_id) == ("", "", "")


def test_one_request_id_is_nobody_elses() -> None:
    """Only a second id is that of a gateway behind the gateway."""
    assert _parse({"error": {"message": f"m (request id: {ID})"}}).upstream_request_id == ""
    assert _parse({"error": {"message": "m"}}).upstream_request_id == ""


def test_texts_are_cut_where_logs_can_bear_them() -> None:
    """Messages, titles and codes have a longest length each, whatever a server sends."""
    assert _parse({"error": {"message": "m" * 9_000}}).message == "m" * TEXT_KEPT
    assert parse_envelope(b"x" * 9_000).message == "x" * TEXT_KEPT
    assert _parse({"error": {"message": "m", "code": "c" * 900}}).code == "c" * 128
    page = b"<html><title>" + b"t" * 390 + b"</title>"
    assert parse_envelope(page).message == "t" * 200


def test_words_of_any_script_inside_a_list_stay_readable() -> None:
    """A list of errors is shown as it was written, not in escapes."""
    assert _parse({"errors": ["\u4e0d\u5b58\u5728"]}).message == '["\u4e0d\u5b58\u5728"]'


def test_digits_of_another_script_are_no_status() -> None:
    """A status is three plain digits."""
    found = _parse({"error": {"code": MAPPED, "param": "\u0665\u0660\u0663", "message": "m"}})
    assert found.true_status is None
    arabic = "4\u0660\u0663"
    assert _parse({"error": {"code": MAPPED, "param": arabic, "message": "m"}}).true_status is None


# -- The edge's own document -----------------------------------------------------------------


def _problem(**members: object) -> Envelope:
    return _parse({"error_code": 1015, "retryable": True, **members})


@pytest.mark.parametrize("pair", [("error_code", "ray_id"), ("error_category", "retryable")])
def test_two_of_its_members_make_a_problem_document(pair: tuple[str, str]) -> None:
    """Any two members of its own tell the edge's document from other reports; one does not."""
    members: dict[str, Any] = dict.fromkeys(pair, "x")
    assert _parse({"title": "t", "status": 400, **members}).kind is BodyKind.JSON
    assert is_error({"title": "t", "status": 400, **members})
    for name in pair:
        assert not is_error({"data": [], name: "x"})


def test_problem_document_is_an_error_in_json_with_its_category() -> None:
    """The category is its type, or else its ``type``."""
    found = _problem(error_category="rate_limit", type="about:blank")
    assert (found.kind, found.is_error, found.type) == (BodyKind.JSON, True, "rate_limit")
    assert _problem(type="about:blank").type == "about:blank"


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"detail": "d", "title": "t", "error_name": "n"}, "d"),
        ({"title": "t", "error_name": "n"}, "t"),
        ({"error_name": "n"}, "n"),
        ({}, ""),
        ({"detail": "d" * 9_000}, "d" * TEXT_KEPT),
    ],
)
def test_problem_document_says_what_happened_in_one_of_three_places(
    members: dict[str, object], message: str
) -> None:
    """Detail, title, name: the first that says anything."""
    assert _problem(**members).message == message


@pytest.mark.parametrize(("wait", "hint"), [(0, 0.0), (0.5, 0.5), (30, 30.0), (1e9, None)])
def test_hint_of_a_problem_document(wait: float, hint: float | None) -> None:
    """Zero is a hint as well; what lies decades ahead is none."""
    assert _problem(retry_after=wait).retry_after == hint
