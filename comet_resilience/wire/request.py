"""The reading of a request before it is sent: route, model, operation, nature of its body.

A client that was wrapped tells most of it along the way (``Call``); for a transport that somebody
built into an http client of their own it is read from the request.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

from ..verdict.vocabulary import Operation, RequestInfo
from .body import loaded_body
from .sse import TERMINALS, EventWatch

#: The name under which a ``Call`` travels in ``request.extensions``.
EXTENSION: Final = "comet_resilience"

#: The name under which the diagnosis of an error inside a stream travels there.
STREAM_EXTENSION: Final = "comet_resilience.stream"

#: JSON bodies up to this size are parsed for the model's name; larger ones are searched.
_PARSED_UP_TO: Final = 65_536


class AnswerForm(StrEnum):
    """The expected form of a success."""

    JSON = "json"
    STREAM = "stream"
    TRANSCRIPT = "transcript"
    ANY = "any"


class Asked(NamedTuple):
    """The parts of a request's data that matter here: ``choices`` is how many answers it wants."""

    model: str = ""
    stream: bool = False
    choices: int = 1
    in_background: bool = False


@dataclass(slots=True)
class Call:
    """The wrapped client's knowledge of a request, which the transport cannot see.

    ``url`` is where it was to go at first, and ``as_bytes`` says that the caller wants the body as
    it comes (``with_streaming_response``).
    ``credential`` is a number that stands for the key that is used, or for its source.
    ``is_download`` is set once a download was redirected, on the way to where the file is.
    ``renew`` asks the client's key function or token provider again and returns the request as
    the client would build it now; ``None`` where the credentials never change.
    """

    max_retries: int
    base_url: str = field(repr=False)  # it may hold a name and a password
    url: Any = field(repr=False)
    asked: Asked
    as_bytes: bool
    credential: int
    renew: Callable[[], Awaitable[Any]] | None
    is_download: bool = False


@dataclass(frozen=True, slots=True)
class _Route:
    """A known path: how to recognise it, what it is, and members its JSON answer must have."""

    method: str
    path: str
    operation: Operation
    expected: tuple[str, ...] = ()

    @property
    def pattern(self) -> re.Pattern[str]:
        return re.compile(re.sub(r"\\{id\\}", "[^/]+", re.escape(self.path)))


_ROUTES: Final = tuple(
    (route, route.pattern)
    for route in (
        _Route("POST", "/chat/completions", Operation.TEXT, ("choices",)),
        _Route("POST", "/completions", Operation.TEXT, ("choices",)),
        _Route("POST", "/responses", Operation.TEXT, ("output", "id")),
        _Route("POST", "/embeddings", Operation.TEXT, ("data",)),
        _Route("POST", "/moderations", Operation.TEXT, ("results",)),
        _Route("POST", "/rerank", Operation.TEXT, ("results", "data")),
        _Route("POST", "/images/generations", Operation.MEDIA, ("data",)),
        _Route("POST", "/images/edits", Operation.MEDIA, ("data",)),
        _Route("POST", "/images/variations", Operation.MEDIA, ("data",)),
        _Route("POST", "/audio/speech", Operation.MEDIA),
        _Route("POST", "/audio/transcriptions", Operation.TRANSCRIPT),
        _Route("POST", "/audio/translations", Operation.TRANSCRIPT),
        _Route("POST", "/videos", Operation.JOB, ("id", "task_id")),
        _Route("POST", "/videos/{id}/remix", Operation.JOB, ("id", "task_id")),
        _Route("GET", "/videos/{id}/content", Operation.DOWNLOAD),
        _Route("GET", "/files/{id}/content", Operation.DOWNLOAD),
        _Route("GET", "/containers/{id}/files/{id}/content", Operation.DOWNLOAD),
        _Route("GET", "/videos/{id}", Operation.READ, ("id", "task_id", "status", "data")),
        _Route("GET", "/models", Operation.READ, ("data",)),
        _Route("GET", "/models/{id}", Operation.READ, ("id",)),
    )
)
_PUBLIC_HEADERS: Final = frozenset(
    {"accept", "accept-encoding", "connection", "host", "range", "user-agent"}
)
#: Headers of the body and of the count of retries: a renewed token does not touch them.
_BODY_HEADERS: Final = frozenset(
    {"content-length", "content-type", "transfer-encoding", "host", "x-stainless-retry-count"}
)
#: Paths of providers' own APIs behind which something is made that costs, twice if asked twice.
_MAKES_MEDIA = re.compile(
    r"video|image|audio|music|speech|imagine|suno|kling|runway|/mj/|/generations", re.IGNORECASE
)
_LOOKS_LIKE_ID = re.compile(r"(?=[^/]*\d)[A-Za-z0-9_-]{8,}")
_ORIGIN = re.compile(r"\A[a-z]++://[^/]*+")
_DEPLOYMENT = re.compile(r"/deployments/([^/]+)(/.*)")
_VERSIONED = re.compile(r"\A.*?/v\d+(?:beta)?(?=/)")
_MODEL_IN_JSON = re.compile(rb'"model"\s*:\s*"((?:[^"\\]|\\.){1,200}+)"')
_STREAM_IN_JSON = re.compile(rb'"stream"\s*:\s*true\b')
_MODEL_IN_FORM = re.compile(rb'name="model"\r\n\r\n([^\r]{1,200})\r\n')


@dataclass(slots=True)
class Outgoing:
    """A request as the transport sees it: what it asks for and what its answer must be."""

    info: RequestInfo
    form: AnswerForm
    expected: tuple[str, ...]
    choices: int
    call: Call | None


def call_of(request: Any) -> Call | None:
    """Return what a wrapped client knows of a request, ``None`` for any other request."""
    call: Call | None = request.extensions.get(EXTENSION)
    return call


def read_request(request: Any, call: Call | None) -> Outgoing:
    """Read a request of either family. Never raises, never consumes the body."""
    base_url = "" if call is None else call.base_url
    route, expected, operation, deployment = _read_path(request.method, request.url.path, base_url)
    if call is not None:
        asked, as_bytes = call.asked, call.as_bytes
        operation = Operation.DOWNLOAD if call.is_download else operation
    else:
        as_bytes = request.headers.get("x-stainless-raw-response") == "stream"
        content_type = request.headers.get("content-type", "")
        asked = _read_body(content_type, loaded_body(request) or b"")
    if asked.in_background:  # it is done whoever hears of it
        operation = Operation.JOB
    model = asked.model or deployment
    is_stream = asked.stream or _is_stream_by_path(request.url)
    info = RequestInfo(route=route, model=model, operation=operation, stream=is_stream)
    return Outgoing(
        info=info,
        form=_form_of(info, expected, as_bytes, request),
        expected=expected,
        choices=asked.choices,
        call=call,
    )


def _is_stream_by_path(url: Any) -> bool:
    """Return True if a URL asks for events by itself, as Gemini's own routes do."""
    return url.path.endswith(":streamGenerateContent") and b"alt=sse" in url.query


@lru_cache(maxsize=4_096)
def _read_path(
    method: str, path: str, base_url: str
) -> tuple[str, tuple[str, ...], Operation, str]:
    """Route, members of its answer, operation, and Azure's deployment, of a method and path."""
    below, deployment = _relative_path(path, base_url)
    return (*_find_route(method, below), deployment)


def _relative_path(path: str, base_url: str) -> tuple[str, str]:
    """Return the path below the base URL, and the model where Azure has it in the path."""
    base = unquote(_ORIGIN.sub("", base_url.partition("?")[0])).rstrip("/")
    if base and path.startswith(base + "/"):
        path = path[len(base) :]
    elif not base_url:
        path = _VERSIONED.sub("", path, count=1)
    deployment = _DEPLOYMENT.fullmatch(path)
    return (deployment.group(2), deployment.group(1)) if deployment else (path, "")


def _find_route(method: str, path: str) -> tuple[str, tuple[str, ...], Operation]:
    for route, pattern in _ROUTES:
        if route.method == method and pattern.fullmatch(path):
            return f"{method} {route.path}", route.expected, route.operation
    short = "/".join("{id}" if _LOOKS_LIKE_ID.fullmatch(part) else part for part in path.split("/"))
    return f"{method} {short[:200]}", (), _operation_of(method, path)


def _operation_of(method: str, path: str) -> Operation:
    """Return the operation of an unknown path, as far as its name tells."""
    if method in ("GET", "HEAD"):
        return Operation.READ
    return Operation.JOB if method == "POST" and _MAKES_MEDIA.search(path) else Operation.OTHER


def _form_of(
    info: RequestInfo, expected: tuple[str, ...], as_bytes: bool, request: Any
) -> AnswerForm:
    if info.stream:
        return AnswerForm.STREAM
    if as_bytes or info.operation is Operation.DOWNLOAD:
        return AnswerForm.ANY
    if info.operation is Operation.TRANSCRIPT:
        return AnswerForm.TRANSCRIPT
    if expected or "application/json" in request.headers.get("accept", ""):
        return AnswerForm.JSON
    return AnswerForm.ANY


def _read_body(content_type: str, body: bytes) -> Asked:
    if "multipart/" in content_type:
        found = _MODEL_IN_FORM.search(body[:_PARSED_UP_TO])
        return Asked(found.group(1).decode("utf-8", "replace") if found else "")
    if len(body) <= _PARSED_UP_TO:
        try:
            data = json.loads(body)
        except (ValueError, RecursionError):
            return Asked()
        return of_json(data)
    found = _MODEL_IN_JSON.search(body)
    name = found.group(1).decode("utf-8", "replace") if found else ""
    return Asked(name, _STREAM_IN_JSON.search(body) is not None)


def of_json(data: object) -> Asked:
    """Return what a request's JSON data ask for."""
    if not isinstance(data, Mapping):
        return Asked()
    model, choices = data.get("model"), data.get("n")
    return Asked(
        model if isinstance(model, str) else "",
        data.get("stream") is True,
        choices if isinstance(choices, int) and choices > 0 else 1,
        data.get("background") is True,
    )


def authorization_of(request: Any) -> str | None:
    """Return the header that carries the key, in the usual form also where Azure has another."""
    azure = request.headers.get("api-key")
    header: str | None = f"Bearer {azure}" if azure else request.headers.get("authorization")
    return header


def base_url_of(request: Any) -> str:
    """Return the base URL in use, without credentials or query."""
    url = request.url
    return f"{url.scheme}://{url.netloc.decode('ascii', 'replace')}{base_path_of(request)}"


def base_path_of(request: Any) -> str:
    """Return the path of the base URL in use."""
    path, call = str(request.url.path), call_of(request)
    relative, _ = _relative_path(path, call.base_url if call else "")
    return path.removesuffix(relative)


def credential_of(request: Any) -> int:
    """Return a number that stands for the credential of a request, which itself is not kept."""
    return hash(authorization_of(request))


def event_watch(outgoing: Outgoing) -> EventWatch:
    """Return the watch for the stream that a request asks for."""
    terminal = TERMINALS.get(outgoing.info.route.partition(" ")[2])
    return EventWatch(terminal, outgoing.choices)


def is_elsewhere(request: Any, call: Call) -> bool:
    """Return True if a call was redirected away from its gateway, as downloads may be."""
    return request.url is not call.url and not _is_same_place(call.url, request.url)


def _is_same_place(home: Any, url: Any) -> bool:
    """Return True if a URL has the origin of another, or the same one behind TLS."""
    return url.netloc == home.netloc and url.scheme in (home.scheme, "https")


def strip_private_headers(request: Any) -> None:
    """Leave only what any server may see: keys in custom headers stay with the gateway."""
    for name in list(request.headers):
        if name.lower() not in _PUBLIC_HEADERS:
            del request.headers[name]


def count_retries(request: Any, retries: int) -> None:
    """Say in a request which retry it is, as the SDK does for its own."""
    if "x-stainless-retry-count" in request.headers:
        request.headers["x-stainless-retry-count"] = str(retries)


def renew_headers(request: Any, call: Call, fresh: Any) -> None:
    """Bring a request's headers up to date, as the client would write them now.

    ``fresh`` is the request that it would build, its key function or token provider asked again.
    What that brings goes where the request was aimed at and nowhere else: if the client aims
    elsewhere by now, the request keeps the headers that it has, and one that followed a redirect
    gets none that it does not carry already.
    """
    headers = request.headers
    if (fresh.url.scheme, fresh.url.netloc) != (call.url.scheme, call.url.netloc):
        return
    is_redirected = request.url != call.url
    for name, value in fresh.headers.items():
        if name in _BODY_HEADERS or (is_redirected and name not in headers):
            continue
        if headers.get(name) != value:
            headers[name] = value
