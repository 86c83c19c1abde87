"""The reading of a request before it is sent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from comet_resilience.verdict.vocabulary import Operation
from comet_resilience.wire.request import (
    EXTENSION,
    AnswerForm,
    Asked,
    Call,
    base_url_of,
    call_of,
    is_elsewhere,
    read_request,
    strip_private_headers,
)
from tests.conftest import BASE_URL, httpx

JSON = {"accept": "application/json"}


def request(method: str, path: str, **keywords: Any) -> Any:
    """A request of the installed family to the usual gateway."""
    return httpx.Request(method, BASE_URL + path, **{"headers": JSON, **keywords})


@pytest.mark.parametrize(("query", "form"), [("?alt=sse", "stream"), ("", "json")])
def test_a_path_may_ask_for_events(query: str, form: str) -> None:
    """Without ``alt=sse`` such a path answers with one list."""
    asked = request("POST", f"/models/m:streamGenerateContent{query}", json={})
    assert read_request(asked, None).form == form


@pytest.mark.parametrize(
    ("method", "path", "route", "operation"),
    [
        ("POST", "/chat/completions", "POST /chat/completions", Operation.TEXT),
        ("POST", "/images/edits", "POST /images/edits", Operation.MEDIA),
        ("POST", "/audio/speech", "POST /audio/speech", Operation.MEDIA),
        ("POST", "/audio/transcriptions", "POST /audio/transcriptions", Operation.TRANSCRIPT),
        ("POST", "/videos", "POST /videos", Operation.JOB),
        ("POST", "/videos/video_123/remix", "POST /videos/{id}/remix", Operation.JOB),
        ("GET", "/videos/video_123", "GET /videos/{id}", Operation.READ),
        ("GET", "/videos/video_123/content", "GET /videos/{id}/content", Operation.DOWNLOAD),
        ("GET", "/files/file-1/content", "GET /files/{id}/content", Operation.DOWNLOAD),
        ("GET", "/models/gpt-4o", "GET /models/{id}", Operation.READ),
        ("GET", "/batches/batch_0123456", "GET /batches/{id}", Operation.READ),
        ("POST", "/unheard/of", "POST /unheard/of", Operation.OTHER),
        ("POST", "/kling/v1/videos/text2video", None, Operation.JOB),
        ("POST", "/mj/submit/imagine", "POST /mj/submit/imagine", Operation.JOB),
        ("POST", "/volc/v3/contents/generations/tasks", None, Operation.JOB),
        ("GET", "/suno/fetch/task_12345678", "GET /suno/fetch/{id}", Operation.READ),
        ("DELETE", "/video/generations/task_1234567", None, Operation.OTHER),
    ],
)
def test_routes(method: str, path: str, route: str | None, operation: Operation) -> None:
    """A path below the version is a route, with its ids replaced."""
    info = read_request(request(method, path), None).info
    assert (info.route, info.operation) == (route or info.route, operation)


@pytest.mark.parametrize(
    ("keywords", "model", "stream"),
    [
        ({"json": {"model": "m", "stream": True}}, "m", True),
        ({"json": {"model": "m", "messages": []}}, "m", False),
        ({"json": {"model": 3}}, "", False),
        ({"json": [1]}, "", False),
        ({"content": b"no json"}, "", False),
        (
            {"content": json.dumps({"pad": "x" * 70_000, "model": "big", "stream": True})},
            "big",
            True,
        ),
        ({"data": {"model": "whisper"}, "files": {"file": ("a", b"1")}}, "", False),
    ],
)
def test_model_and_stream_are_read_from_the_body(keywords: Any, model: str, stream: bool) -> None:
    """Without a wrapped client the body tells the model, as far as it is in memory."""
    info = read_request(request("POST", "/chat/completions", **keywords), None).info
    assert (info.model, info.stream) == (model, stream)


def test_a_wrapped_client_tells_more() -> None:
    """What travels with a call is believed, whatever the body looks like."""
    call = Call(
        max_retries=3,
        base_url="https://api.cometapi.com/custom/base/",
        url=httpx.URL("https://api.cometapi.com/custom/base/chat/completions"),
        asked=Asked("told", stream=True, choices=2),
        as_bytes=False,
        credential=1,
        renew=None,
    )
    sent = httpx.Request(
        "POST",
        "https://api.cometapi.com/custom/base/chat/completions",
        headers=JSON,
        extensions={EXTENSION: call},
    )
    outgoing = read_request(sent, call_of(sent))
    assert (outgoing.info.route, outgoing.info.model) == ("POST /chat/completions", "told")
    assert (outgoing.form, outgoing.choices) == (AnswerForm.STREAM, 2)
    assert base_url_of(sent) == "https://api.cometapi.com/custom/base"
    assert not is_elsewhere(sent, call)


@pytest.mark.parametrize("background", [True, False, None, 1])
def test_what_runs_in_the_background_is_a_job(background: object) -> None:
    """It is done, and billed, whether or not its answer arrives."""
    data = {"model": "m", "input": "x", "background": background}
    info = read_request(request("POST", "/responses", json=data), None).info
    assert info.operation is (Operation.JOB if background is True else Operation.TEXT)


@pytest.mark.parametrize(
    ("method", "path", "headers", "form"),
    [
        ("POST", "/chat/completions", JSON, AnswerForm.JSON),
        (
            "POST",
            "/chat/completions",
            {**JSON, "x-stainless-raw-response": "stream"},
            AnswerForm.ANY,
        ),
        ("POST", "/audio/speech", {"accept": "application/octet-stream"}, AnswerForm.ANY),
        ("POST", "/audio/transcriptions", JSON, AnswerForm.TRANSCRIPT),
        ("GET", "/files/file-1/content", {"accept": "application/binary"}, AnswerForm.ANY),
    ],
)
def test_the_form_of_an_answer(
    method: str, path: str, headers: dict[str, str], form: AnswerForm
) -> None:
    """JSON where the SDK asks for it and reads it whole; other bodies pass as they are."""
    assert read_request(request(method, path, headers=headers), None).form is form


def test_only_public_headers_leave_the_gateway() -> None:
    """A redirected download keeps what any server may see and nothing else."""
    sent = httpx.Request(
        "GET",
        "https://cdn.test/file",
        headers={
            "authorization": "Bearer k",
            "x-api-key": "k",
            "range": "bytes=0-1",
            "cookie": "c",
        },
    )
    strip_private_headers(sent)
    assert set(sent.headers) <= {"host", "range", "accept", "accept-encoding", "user-agent"}
    assert sent.headers["range"] == "bytes=0-1"


def test_base_url_hides_credentials() -> None:
    """User and password of a base URL never show."""
    sent = httpx.Request("POST", "https://user:secret@gate.test/api/v1/chat/completions?key=1")
    assert base_url_of(sent) == "https://gate.test/api/v1"
