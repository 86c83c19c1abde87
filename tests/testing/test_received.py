"""Requests as they are received."""

from __future__ import annotations

import pytest

from comet_resilience.testing.received import ReceivedRequest, receive

_FORM = (
    b'--b7\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n'
    b'--b7\r\nContent-Disposition: form-data; name="file"; filename="a;b.wav"\r\n'
    b"Content-Type: audio/wav\r\n\r\n\x00\r\n\r\n\xff\r\n--b7--\r\n"
)


def _received(body: bytes, content_type: str = "application/json") -> ReceivedRequest:
    return receive(1, 0.5, "POST", "/v1/x?a=1&b", [("Content-Type", content_type)], body)


def test_the_target_is_taken_apart() -> None:
    """Path and query are apart, header names are in lower case, repeated headers are joined."""
    request = receive(1, 0.5, "GET", "/v1/x?a=1&b", [("X-A", "1"), ("x-a", "2")], b"")
    assert (request.path, request.query) == ("/v1/x", "a=1&b")
    assert request.headers == {"x-a": "1, 2"}


def test_json_is_read() -> None:
    """The model comes from the JSON body."""
    request = _received(b'{"model": "m", "n": 2}')
    assert request.model == "m"
    assert request.json() == request.fields() == {"model": "m", "n": 2}


def test_multipart_is_read() -> None:
    """The model comes from the form, and a file may hold any bytes."""
    request = _received(_FORM, 'multipart/form-data; boundary="b7"')
    assert request.model == "whisper-1"
    assert request.form() == {"model": b"whisper-1", "file": b"\x00\r\n\r\n\xff"}


def test_a_plain_form_is_read() -> None:
    """An url-encoded form counts as a form."""
    request = _received(b"model=m&prompt=a+b", "application/x-www-form-urlencoded")
    assert request.fields() == {"model": "m", "prompt": "a b"}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"m"', b'{"model": 5}', b'{"model": ""}'])
def test_a_body_without_a_model_has_none(body: bytes) -> None:
    """Whatever the body is, reading the model never fails."""
    assert _received(body).model is None


def test_fields_of_something_else_are_an_error() -> None:
    """JSON that is not an object has no fields."""
    with pytest.raises(ValueError, match="not an object"):
        _received(b"[]").fields()


def test_the_repr_tells_no_secrets() -> None:
    """Keys and prompts do not get into logs by accident."""
    request = receive(1, 0.0, "POST", "/v1/x", [("Authorization", "Bearer k3y")], b"a prompt")
    assert "k3y" not in repr(request)
    assert "prompt" not in repr(request)
