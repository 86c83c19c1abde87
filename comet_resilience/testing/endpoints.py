"""The routes of the gateway, with the fields they require and the functions that answer.

A request passes four checks, in the order of the real gateway: the path (an unknown one, or a known
one with the wrong method, is sent on to the web front end), the key, the capacity and, last, the
shape of the body. This file holds the first and the last of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from . import media_answers as media
from . import text_answers as text
from .failures import FRONT_PAGE, failure
from .replies import FRONT_END, Reply, error_reply, html_reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from .received import ReceivedRequest
    from .text_answers import Setting

#: Where the web front end lies on its own host.
FRONT_END_PATH: Final = "/web"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One route. *required* are the fields without which the request validator refuses."""

    method: str
    path: re.Pattern[str]
    answer: Callable[[ReceivedRequest, Setting], Reply]
    required: tuple[str, ...] = ()


def _endpoint(
    method: str,
    path: str,
    answer: Callable[[ReceivedRequest, Setting], Reply],
    *required: str,
) -> Endpoint:
    pattern = re.compile("/v1" + path.replace("{id}", "[^/]+"))
    return Endpoint(method=method, path=pattern, answer=answer, required=required)


ENDPOINTS: Final = (
    _endpoint("POST", "/chat/completions", text.chat, "messages"),
    _endpoint("POST", "/completions", text.completions, "prompt"),
    _endpoint("POST", "/embeddings", text.embeddings, "input"),
    _endpoint("POST", "/responses", text.responses, "input"),
    _endpoint("GET", "/models", text.models),
    _endpoint("GET", "/models/{id}", text.model),
    _endpoint("POST", "/audio/transcriptions", media.transcription, "file"),
    _endpoint("POST", "/audio/translations", media.transcription, "file"),
    _endpoint("POST", "/audio/speech", media.speech, "input"),
    _endpoint("POST", "/images/generations", media.images, "prompt"),
    _endpoint("POST", "/images/edits", media.images, "prompt"),
    _endpoint("POST", "/images/variations", media.not_implemented),
    _endpoint("POST", "/videos", media.video_created, "prompt"),
    _endpoint("GET", "/videos/{id}", media.video),
    _endpoint("GET", "/videos/{id}/content", media.video_content),
    _endpoint("GET", "/files/{id}/content", media.file_content),
    _endpoint("GET", "/files", media.not_implemented),
    _endpoint("POST", "/files", media.not_implemented),
)


def find(request: ReceivedRequest) -> Endpoint | None:
    """Find the endpoint that a request is for, if there is one."""
    for endpoint in ENDPOINTS:
        if endpoint.method == request.method and endpoint.path.fullmatch(request.path):
            return endpoint
    return None


def outside(request: ReceivedRequest) -> Reply:
    """Reply to a request for no endpoint: a page, a file, or the way to the front end."""
    in_front_end = request.path == FRONT_END_PATH or request.path.startswith(f"{FRONT_END_PATH}/")
    if in_front_end and request.method == "GET":
        return html_reply(200, FRONT_PAGE)
    if request.path.startswith("/cdn/") and request.method == "GET":
        return media.cdn_file(request.path)
    return Reply(status=301, headers=(("Location", f"{FRONT_END}{request.path}"),))


def complaint(
    endpoint: Endpoint, request: ReceivedRequest, models: tuple[str, ...] | None
) -> Reply | None:
    """Return the real gateway's error for the body of a request; None if nothing is wrong."""
    if endpoint.method != "POST" or endpoint.answer is media.not_implemented:
        return None
    try:
        fields = request.fields()
    except ValueError:
        return error_reply(400, "invalid JSON body")
    if request.model is None:
        return failure("bad_request")
    if models is not None and request.model not in models:
        return failure("model_not_found")
    missing = [name for name in endpoint.required if not fields.get(name)]
    # A malformed request under a server status: one of the traps that the guide names.
    return _missing(missing[0]) if missing else None


def _missing(name: str) -> Reply:
    return error_reply(500, f"field {name} is required", code="invalid_request", param="")
