"""Replies as values."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comet_resilience.testing import Reply, error_reply, html_reply, json_reply, stream_reply
from comet_resilience.testing.replies import MODEL, REQUEST_ID, with_retry_after


@pytest.mark.parametrize(
    "fields",
    [
        {"status": 100},
        {"status": 600},
        {"status": "200"},
        {"delay": -1},
        {"chunk_delay": -0.1},
        {"cut_after": -1},
        {"body": "text"},
        {"body": (b"chunk", "text")},
        {"headers": {"Retry-After": 1}},
        {"headers": [("Retry-After", "1", "2")]},
        {"headers": "Retry-After: 1"},
        {"headers": None},
    ],
)
def test_senseless_fields_are_refused(fields: dict[str, Any]) -> None:
    """A reply that no server can send is an error where it is written."""
    with pytest.raises(ValueError, match=f"{next(iter(fields))}.*(must be|seconds|number)"):
        Reply(**fields)


@pytest.mark.parametrize("make", [json_reply, html_reply])
@pytest.mark.parametrize("headers", [{"X-A": "1"}, [("X-A", "1")], (["X-A", "1"],)])
def test_headers_are_a_mapping_or_pairs(make: Any, headers: Any) -> None:
    """They come after those of the reply itself; what is neither is refused at the call."""
    assert make(200, "", headers=headers).headers[-1] == ("X-A", "1")
    assert Reply(headers=headers).headers == (("X-A", "1"),)
    with pytest.raises(ValueError, match=r"headers must be a mapping or pairs of strings, not \("):
        make(200, "", headers={"X-A": 1})


@given(st.lists(st.binary()), st.integers(0, 200))
def test_a_cut_body_is_a_prefix(chunks: list[bytes], cut: int) -> None:
    """What reaches the client is the beginning of the body, as long as the cut says."""
    sent = Reply(body=tuple(chunks), cut_after=cut).chunks()
    assert b"".join(sent) == b"".join(chunks)[:cut]
    assert b"" not in sent


@given(st.binary(), st.none() | st.integers(0, 50))
def test_every_cut_can_be_noticed(body: bytes, cut: int | None) -> None:
    """A length is announced only if the client can see by it that something is missing."""
    headers = dict(Reply(body=body, cut_after=cut).wire_headers())
    if cut is None or cut < len(body):
        assert headers == {"Content-Length": str(len(body))}
    else:
        assert headers == {"Transfer-Encoding": "chunked"}


def test_placeholders_are_filled_and_escaped() -> None:
    """A value that stands within JSON is escaped; a reply without placeholders stays as it is."""
    reply = error_reply(503, f"no {MODEL}").filled({MODEL: 'a"b', REQUEST_ID: "r1"})
    assert isinstance(reply.body, bytes)
    assert json.loads(reply.body)["error"]["message"] == 'no a"b (request id: r1)'
    assert ("X-Cometapi-Request-Id", "r1") in reply.headers
    assert stream_reply(f"id: {REQUEST_ID}").filled({REQUEST_ID: "r1"}).body == (b"id: r1",)


def test_an_error_has_param_only_when_told() -> None:
    """The gateway leaves param out in front of its relay, and sends it empty behind."""
    for param in (None, ""):
        body = error_reply(400, "no", param=param, request_id=False).body
        assert isinstance(body, bytes)
        assert json.loads(body)["error"].get("param") == param


@pytest.mark.parametrize(
    ("value", "text"), [(2, "2"), (0.05, "0.05"), (86_400.0, "86400"), ("soon", "soon")]
)
def test_retry_after_is_a_number_or_a_text(value: float | str, text: str) -> None:
    """A later Retry-After takes the place of an earlier one."""
    reply = with_retry_after(with_retry_after(html_reply(503, ""), 9), value)
    assert [v for name, v in reply.headers if name == "Retry-After"] == [text]
