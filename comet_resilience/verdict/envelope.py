"""Error bodies of every shape, read into plain fields.

The gateway and what stands around it report errors in a dozen shapes: an ``error`` object or
string, top-level ``code`` and ``message``, Anthropic's and Midjourney's forms, ``success: false``,
the CDN's problem documents, HTML. A body is tried as JSON whatever its content type says, because
the gateway labels JSON errors as event streams. Nothing here ever raises: hostile bodies (deep,
huge, no UTF-8) become text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

from .vocabulary import BodyKind

#: Longest text kept from a body: enough for every real message, harmless in a log line.
TEXT_KEPT: Final = 4_000

_HTML = re.compile(r"<(!doctype html|html|head|body|title|center)\b", re.IGNORECASE)
_TITLE = re.compile(r"<title[^>]*>(.*?)</title>|<h1[^>]*>(.*?)</h1>", re.IGNORECASE | re.DOTALL)
_REQUEST_ID = re.compile(
    r"request[ _-]?id\s*[:\uff1a=]?\s*([A-Za-z0-9_-]{8,128})(?![A-Za-z0-9_-])", re.IGNORECASE
)
_RAY_ID = re.compile(r"ray id:?\s*(?:<[^>]*>\s*)*([0-9a-f]{16}(?:-[A-Z]{3})?)", re.IGNORECASE)
_STATUS_IN_TEXT = re.compile(r"bad response status code\D{0,3}([1-5]\d\d)\b", re.IGNORECASE)
_MISSING: Final = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """What a body says of itself; every text is ``""`` where the body has none.

    ``is_error`` tells whether the body is an error envelope, for answers that arrive under a
    success status. ``edge_retryable`` and the other ``edge`` fields come from a CDN's problem
    document; ``true_status`` is the upstream status that a gateway mapped to another one.
    """

    kind: BodyKind
    is_error: bool = False
    code: str = ""
    type: str = ""
    message: str = ""
    param: str = ""
    request_id: str = ""
    retry_after: float | None = None
    edge_retryable: bool | None = None
    edge_code: str = ""
    edge_id: str = ""
    true_status: int | None = None


def parse_envelope(body: bytes) -> Envelope:
    """Read a body of any kind. Never raises."""
    text = body.decode("utf-8", errors="replace").lstrip("\ufeff").strip()
    if not text:
        return Envelope(kind=BodyKind.EMPTY)
    parsed = _parse_json(text)
    if parsed is not _MISSING:
        return _from_json(parsed)
    if _HTML.search(text[:2_000]):
        return _from_html(text)
    kind = BodyKind.BINARY if "\x00" in text[:2_000] else BodyKind.TEXT
    return Envelope(kind=kind, message=text[:TEXT_KEPT], request_id=request_id_in(text))


def request_id_in(message: str) -> str:
    """The gateway's request id in a message: the last one, which the outermost gateway wrote."""
    found = _REQUEST_ID.findall(message[-TEXT_KEPT:])
    return found[-1] if found else ""


def _parse_json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return _MISSING


def _from_html(text: str) -> Envelope:
    title = _TITLE.search(text[:20_000])
    words = (title.group(1) or title.group(2) or "") if title else ""
    ray = _RAY_ID.search(text[:60_000])
    return Envelope(
        kind=BodyKind.HTML,
        message=" ".join(re.sub(r"<[^>]{0,200}>", " ", words).split())[:200],
        edge_id=ray.group(1) if ray else "",
    )


def _from_json(parsed: object) -> Envelope:
    if isinstance(parsed, list) and parsed:
        parsed = cast("list[object]", parsed)[0]
    if not isinstance(parsed, dict):
        return Envelope(kind=BodyKind.JSON, is_error=True, message=_text(parsed))
    data = cast("dict[str, object]", parsed)
    if _is_problem_document(data):
        return _from_problem(data)
    return _from_fields(data, _error_fields(data), is_error=is_error(data))


def is_error(data: Mapping[str, object]) -> bool:
    """Whether a JSON object is an error envelope rather than an answer."""
    return bool(
        data.get("error")
        or data.get("success") is False
        or data.get("type") == "error"
        or "html-message" in data
        or _reports_a_code(data)
        or data.get("detail")
        or data.get("errors")
    )


def _reports_a_code(data: Mapping[str, object]) -> bool:
    """The form of task routes: a top-level code with words, unless the code means success."""
    has_words = "message" in data or "description" in data
    success = data.get("code") in (None, "", 0, 1, 200, "0", "200", "ok", "success")
    return has_words and not success and "id" not in data


def _error_fields(data: Mapping[str, object]) -> Mapping[str, object]:
    """The part of a body that describes the error."""
    error = data.get("error")
    if isinstance(error, dict):
        inner = cast("dict[str, object]", error)
        nested = inner.get("error")
        return cast("dict[str, object]", nested) if isinstance(nested, dict) else inner
    if isinstance(error, str):
        return {**data, "message": data.get("message") or error}
    return data


def _from_fields(
    data: Mapping[str, object], fields: Mapping[str, object], *, is_error: bool
) -> Envelope:
    message = _first(fields, "message", "description", "detail", "msg", "error_description") or (
        _first(data, "message", "html-message", "title", "errors")
    )
    code = _first(fields, "code") or _first(data, "code")
    param = _first(fields, "param")
    given_id = _first(data, "request_id") or _first(fields, "request_id")
    return Envelope(
        kind=BodyKind.JSON,
        is_error=is_error,
        code=_label(code),
        type=_label(_first(fields, "type")),
        message=message,
        param=_label(param),
        request_id=request_id_in(message) or _label(given_id),
        true_status=_true_status(code, param, message, fields),
    )


def _true_status(
    code: str, param: str, message: str, fields: Mapping[str, object]
) -> int | None:
    """The provider's status where the gateway answered with another one, else ``None``."""
    if "description" in fields and code == "30":  # Midjourney's "too many queued"
        return 429
    if code != "bad_response_status_code":
        return None
    if re.fullmatch(r"[45]\d\d", param):
        return int(param)
    in_text = _STATUS_IN_TEXT.search(message)
    return int(in_text.group(1)) if in_text else None


def _is_problem_document(data: Mapping[str, object]) -> bool:
    """A problem document of the CDN (RFC 9457 with its own members), not of the gateway."""
    members = ("error_code", "error_category", "retryable", "ray_id")
    return "error" not in data and sum(name in data for name in members) >= 2


def _from_problem(data: Mapping[str, object]) -> Envelope:
    retryable = data.get("retryable")
    if data.get("owner_action_required") is True:
        retryable = False
    wait = data.get("retry_after")
    is_number = isinstance(wait, (int, float)) and not isinstance(wait, bool)
    return Envelope(
        kind=BodyKind.JSON,
        is_error=True,
        type=_label(_first(data, "error_category", "type")),
        message=_first(data, "detail", "title", "error_name"),
        retry_after=_seconds(cast("float", wait)) if is_number else None,
        edge_retryable=retryable if isinstance(retryable, bool) else None,
        edge_code=_label(_first(data, "error_code")),
        edge_id=_label(_first(data, "ray_id")),
    )


def _seconds(value: float) -> float | None:
    try:
        return float(value) if 0 <= value < 1e9 else None
    except OverflowError:
        return None


def _first(data: Mapping[str, object], *names: str) -> str:
    """The first of these members that says anything, as text."""
    for name in names:
        text = _text(data.get(name))
        if text:
            return text
    return ""


def _label(text: str) -> str:
    """A short text that may go to a log as it is: no control or bidi characters."""
    return "".join(char for char in text[:128] if char.isprintable())


def _text(value: object) -> str:
    """A member as text: numbers too, objects as JSON, nothing for null and booleans."""
    if isinstance(value, str):
        return value[:TEXT_KEPT]
    if value is None or isinstance(value, bool):
        return ""
    try:
        return json.dumps(value, ensure_ascii=False)[:TEXT_KEPT]
    except (ValueError, RecursionError):
        return ""
