"""Error bodies of every shape, read into plain fields.

The gateway and what stands around it report errors in a dozen shapes: an ``error`` object or
string, top-level ``code`` and ``message``, Anthropic's and Midjourney's forms, ``success: false``,
the CDN's problem documents, HTML. A body is tried as JSON whatever its content type says, because
the gateway labels JSON errors as event streams. Nothing here raises: hostile bodies become text.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, cast

from .reading import Party, Reading, Topic, topic_named
from .retry_after import parse_duration
from .vocabulary import BodyKind

#: Longest text kept from a body: enough for every real message, harmless in a log line.
TEXT_KEPT: Final = 4_000

#: A provider's headers inside a body are kept up to this many, and up to this length.
_HEADERS_KEPT: Final = 20
_ID_KEPT: Final = 128

#: The code under which the gateway reports the status of a provider that it cannot name.
MAPPED: Final = "bad_response_status_code"

_HTML = re.compile(r"<(!doctype html|html|head|body|title|center)\b", re.IGNORECASE)
_TITLE = re.compile(
    r"<title[^<>]{0,200}+>(.{0,400}?)</title>|<h1[^<>]{0,200}+>(.{0,400}?)</h1>",
    re.IGNORECASE | re.DOTALL,
)
_EDGE_CODE = re.compile(
    r"\berror(?: code)?:?\s{0,9}+(?:<[^<>]{0,200}+>\s{0,9}+){0,4}(1\d{3})\b", re.IGNORECASE
)
_RAY_ID = re.compile(
    r"ray id:?\s{0,9}+(?:<[^<>]{0,200}+>\s{0,9}+){0,4}([0-9a-f]{16}(?:-[A-Z]{3})?)",
    re.IGNORECASE,
)
_REQUEST_ID = re.compile(
    r"request[ _-]?id(?:\s{0,3}[:\uff1a=]\s{0,3}|\s{1,3}(?=[A-Za-z_-]*\d))"
    r"([A-Za-z0-9_-]{8,128})(?![A-Za-z0-9_-])",
    re.IGNORECASE,
)
_STATUS_IN_TEXT = re.compile(r"bad response status code\D{0,3}([45]\d\d)\b", re.IGNORECASE)
#: Where a body begins inside a message: at its start, or where words precede an error envelope.
_INNER_ERROR = re.compile(r"\A\[?\{|\{(?=\s{0,9}[\"']error[\"']\s{0,9}:\s{0,9}[{\"'])")
#: A provider's status in the words before, or instead of, its body.
_INNER_STATUS = re.compile(
    r"(?:error code|status(?:[ _-]?code)?|http(?: status)?(?: ?code)?|said|returned|responded)"
    r"[ :=(]{0,4}([45]\d\d)\b|\(([45]\d\d)\)",
    re.IGNORECASE,
)
#: A class at the head of a message: of the provider's library, or of the gateway's own.
_CLASS = re.compile(
    r"\A\W{0,3}(?:[a-z_]{1,20}\.){0,3}([A-Z][A-Za-z]{2,39}?(?:Error|Exception|Exceeded|Exhausted)"
    r"|Timeout)\b(?= ?:)"
)
_WORD = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_MISSING: Final = object()
_DECODER: Final = json.JSONDecoder()

#: What a code says where nothing is wrong, in whatever case.
_SUCCESS_CODES: Final = frozenset({"", "0", "1", "200", "201", "202", "ok", "success", "succeed"})
#: Words that are all of a message where nothing is wrong.
_SUCCESS_WORDS = re.compile(
    r"(?:ok(?:ay)?|succe(?:ss|ed|eded)|success(?:ful|fully)?|accepted|created|submitted|queued|done"
    r"|completed|no error|(?:提交|操作|请求)?成功)[.!]?",
    re.IGNORECASE,
)
#: Members of a bare ``detail`` or ``errors`` report; an answer with more to say is no error.
_REPORT_MEMBERS: Final = frozenset(
    {"detail", "errors", "title", "type", "status", "message", "instance", "traceId"}
)
#: Codes that name no cause: the code inside an error which is passed on in a message says more.
_VAGUE_CODES: Final = frozenset({"", "bad_response", "upstream_error", "unknown_error", "error"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """The fields of an error body; every text is ``""`` where the body has none.

    ``is_error`` tells whether the body is an error envelope, for answers that arrive under a
    success status. ``upstream_request_id`` is the id of a gateway behind the gateway, where the
    message names two. ``edge_retryable`` and the other ``edge`` fields come from a CDN's problem
    document or page. ``true_status`` is the provider's status where the gateway answered with
    another one; ``type`` is then ``MAPPED``, because the body's own says nothing of the provider.
    ``inner_status`` is the status that the text of an error names, which counts where the answer's
    own is a server's failure or a success. ``headers`` are those of a provider that a gateway
    repeats in the body, their names in lower case.
    """

    kind: BodyKind
    is_error: bool = False
    code: str = ""
    type: str = ""
    message: str = ""
    param: str = ""
    request_id: str = ""
    upstream_request_id: str = ""
    retry_after: float | None = None
    edge_retryable: bool | None = None
    edge_code: str = ""
    edge_id: str = ""
    true_status: int | None = None
    inner_status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


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
    edge_code = _EDGE_CODE.match(text[:100])
    if _is_binary(text[:2_000]):
        return Envelope(kind=BodyKind.BINARY, request_id=request_id_in(text))
    return Envelope(
        kind=BodyKind.TEXT,
        message=text[:TEXT_KEPT],
        request_id=request_id_in(text),
        edge_code=edge_code.group(1) if edge_code else "",
    )


def _is_binary(text: str) -> bool:
    """Return True for binary data: a zero byte, or too many bytes that are no character."""
    return "\x00" in text or 10 * text.count("\ufffd") > len(text)


def request_id_in(message: str) -> str:
    """Return the gateway's request id in a message: the last, which the outermost gateway wrote."""
    return (_request_ids_in(message) or [""])[-1]


def is_error(data: Mapping[str, object]) -> bool:
    """Return True if a JSON object is an error envelope rather than an answer."""
    return (
        (has_error(data) and not reports_on_something(data))
        or data.get("success") is False
        or data.get("type") == "error"
        or "html-message" in data
        or _reports_a_code(data)
        or _is_bare_report(data)
        or bool(_own_report(data))
        or isinstance(data.get("0"), dict)
        or _is_problem_document(data)
    )


def reports_on_something(data: Mapping[str, object]) -> bool:
    """Return True for a resource with an id and a status: its error is the resource's own."""
    return bool(data.get("id") or data.get("task_id")) and isinstance(data.get("status"), str)


def has_error(data: Mapping[str, object]) -> bool:
    """Return True if the ``error`` member of an object says anything, and not that all is well."""
    error = data.get("error")
    if isinstance(error, dict):
        fields = cast("dict[str, object]", error)
        is_blank = not any(value not in (None, "", 0) for value in fields.values())
        return not (is_blank or (not fields.get("type") and _says_success(fields)))
    return bool(error)


def _says_success(fields: Mapping[str, object]) -> bool:
    """Return True if a report's own words, or else its code, say that nothing is wrong."""
    message = _first(fields, "message", "msg", "description", "detail")
    if message:
        return _SUCCESS_WORDS.fullmatch(message.strip()) is not None
    return _text(fields.get("code")).lower() in _SUCCESS_CODES - {"", "1"}


def _request_ids_in(message: str) -> list[str]:
    return _REQUEST_ID.findall(message[-TEXT_KEPT:])


def _parse_json(text: str) -> object:
    try:
        parsed: object = json.loads(text)
        is_encoded_twice = isinstance(parsed, str) and parsed.startswith("{")
        return json.loads(cast("str", parsed)) if is_encoded_twice else parsed
    except (ValueError, RecursionError):
        return _MISSING


def _from_html(text: str) -> Envelope:
    title = _TITLE.search(text[:8_000])
    words = (title.group(1) or title.group(2) or "") if title else ""
    edge_code, ray = _EDGE_CODE.search(text), _RAY_ID.search(text)
    return Envelope(
        kind=BodyKind.HTML,
        message=" ".join(re.sub(r"<[^<>]{0,200}+>", " ", words).split())[:200],
        edge_code=edge_code.group(1) if edge_code else "",
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
    if isinstance(listed := data.get("0"), dict):  # a gateway that makes an object of a list
        data = cast("dict[str, object]", listed)
    page = data.get("html-message")
    if isinstance(page, str):  # a gateway that wraps web pages, and texts, into JSON
        if _HTML.search(page[:2_000]):
            return _from_html(page)
        data = {"message": page}
    return _from_fields(data, _error_fields(data), is_error=is_error(data))


def _reports_a_code(data: Mapping[str, object]) -> bool:
    """Recognise the form of task routes: a top-level code with words, and no payload."""
    has_words = "message" in data or "description" in data
    code = _first(data, "code", "statusCode").lower()
    success = code in _SUCCESS_CODES or _says_success(data)
    has_payload = "id" in data or data.get("data") or data.get("result")
    return has_words and not success and not has_payload


def _is_bare_report(data: Mapping[str, object]) -> bool:
    is_report = bool(data.get("detail") or data.get("errors")) and _REPORT_MEMBERS.issuperset(data)
    return is_report and not _says_success(data)


def _error_fields(data: Mapping[str, object]) -> Mapping[str, object]:
    """Return the part of a body that describes the error."""
    own = _own_report(data)
    if own:
        return own
    error = data.get("error")
    if isinstance(error, dict):
        inner = cast("dict[str, object]", error)
        nested = inner.get("error")
        return cast("dict[str, object]", nested) if isinstance(nested, dict) else inner
    if isinstance(error, str) and data.get("message") and _WORD.fullmatch(error):
        return {**data, "code": data.get("code") or error}
    return {**data, "message": data.get("message") or error}


def _own_report(data: Mapping[str, object]) -> Mapping[str, object]:
    """Return a failure reported in a provider's own form as code and message."""
    base = data.get("base_resp")
    if isinstance(base, dict):
        report = cast("dict[str, object]", base)
        code = _text(report.get("status_code"))
        return {} if code in _SUCCESS_CODES else {"code": code, "message": report.get("status_msg")}
    code = _text(data.get("error_code"))
    if code and code not in _SUCCESS_CODES and "error_msg" in data:
        return {"code": code, "message": data.get("error_msg")}
    return {}


def _from_fields(
    data: Mapping[str, object], fields: Mapping[str, object], *, is_error: bool
) -> Envelope:
    message = _first(fields, "message", "description", "detail", "msg", "error_description") or (
        _first(data, "message", "title", "errors", "error")
    )
    code = _said(_first(fields, "code") or _first(data, "code"))
    status = _first(fields, "status", "statusCode")
    code = code or (status if _is_status(status) else "")
    type_ = _said(_type(fields)) or ("" if status.isdecimal() else status)
    param = _said(_first(fields, "param")) or _location(fields)
    ids = _request_ids_in(message)
    given_id = _first(data, "request_id") or _first(fields, "request_id")
    true_status = _true_status(code, param, message, fields)
    inner = _inside(message, fields) if true_status is None else None
    inner_status = None
    hint = _hint_in(fields)
    if inner is not None and _leaves_open(code):
        inner_status = inner.inner_status
        code, type_ = inner.code or code, inner.type or type_
    if inner is not None:
        message, param = inner.message or message, param or inner.param
        hint = inner.retry_after if hint is None else hint
    return Envelope(
        kind=BodyKind.JSON,
        is_error=is_error,
        code=_label(code),
        type=MAPPED if true_status and code == MAPPED else _label(type_),
        message=message[:TEXT_KEPT],
        param=_label(param),
        retry_after=hint,
        headers=_headers_in(fields),
        inner_status=inner_status,
        request_id=ids[-1] if ids else _label(given_id),
        upstream_request_id=ids[0] if len(ids) > 1 else "",
        true_status=true_status,
    )


def _leaves_open(code: str) -> bool:
    """Return True if a code names no cause, so that the error inside says more."""
    if code.lower() in _VAGUE_CODES or code.isdecimal():
        return True
    topic = topic_named(code)
    return Reading(named=topic).party in (Party.NOBODY, Party.PLATFORM) or topic is Topic.RATE


def _inside(message: str, fields: Mapping[str, object]) -> Envelope | None:
    """Return the provider's error inside another one, ``None`` if there is none.

    It stands in the message, whole or behind some words, in ``param``, or where a gateway keeps
    what a provider said as it came.
    """
    metadata = fields.get("metadata")
    raw = cast("dict[str, object]", metadata).get("raw") if isinstance(metadata, dict) else None
    for text in (_text(raw), message, _text(fields.get("param"))):
        found = _passed_on(text)
        if found is not None:
            return found
    status = _status_in(message)
    if isinstance(raw, str) and raw.strip():
        said = raw.strip() if raw.strip() in message else f"{message}: {raw.strip()}"
        return Envelope(kind=BodyKind.JSON, message=said, inner_status=status)
    return Envelope(kind=BodyKind.JSON, inner_status=status) if status else None


def _passed_on(text: str) -> Envelope | None:
    """Return a provider's error whose body stands in a text, whole or behind some words."""
    text = text[:TEXT_KEPT]
    if '\\"error\\"' in text:  # encoded once more than it was decoded
        text = text.replace('\\"', '"').replace("\\n", " ")
    inner = _INNER_ERROR.search(text)
    if inner is None:
        return None
    parsed = _parsed_at(text, inner.start())
    if isinstance(parsed, list) and parsed:
        parsed = cast("list[object]", parsed)[0]
    if not isinstance(parsed, dict):
        return None
    fields = _error_fields(cast("dict[str, object]", parsed))
    code, status = _said(_first(fields, "code")), _said(_first(fields, "status"))
    number = next((int(each) for each in (code, status) if _is_status(each)), None)
    return Envelope(
        kind=BodyKind.JSON,
        code="" if _is_status(code) else code,
        type=_said(_type(fields)) or ("" if status.isdecimal() else status),
        message=_first(fields, "message", "detail"),
        param=_said(_first(fields, "param")),
        retry_after=_hint_in(fields),
        inner_status=number or _status_in(text[: inner.start()]),
    )


def _parsed_at(text: str, start: int) -> object:
    """Return the JSON or Python value that begins at ``start``, ``None`` if there is none."""
    try:
        return cast("object", _DECODER.raw_decode(text, start)[0])
    except (ValueError, RecursionError):
        pass
    end = max(text.rfind("}"), text.rfind("]"))
    try:
        return cast("object", ast.literal_eval(text[start : end + 1]))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _status_in(text: str) -> int | None:
    found = _INNER_STATUS.search(text[:TEXT_KEPT])
    return int(found.group(1) or found.group(2)) if found else None


def _is_status(text: str) -> bool:
    return re.fullmatch(r"[45]\d\d", text, re.ASCII) is not None


def class_in(message: str) -> str:
    """Return the class at the head of a message if it says something, else ``""``."""
    found = _CLASS.match(message)
    return found.group(1) if found and topic_named(found.group(1)) else ""


def _location(fields: Mapping[str, object]) -> str:
    """Return the field that a validation report names first, without its ``body`` prefix."""
    detail = fields.get("detail")
    first = cast("list[object]", detail)[0] if isinstance(detail, list) and detail else None
    place = cast("dict[str, object]", first).get("loc") if isinstance(first, dict) else None
    if not isinstance(place, list):
        return ""
    parts = [str(part) for part in cast("list[object]", place)[:9]]
    return ".".join(parts[1:] if parts[:1] == ["body"] else parts)


def _hint_in(fields: Mapping[str, object]) -> float | None:
    """Return the seconds that an error names: Google's ``RetryInfo``, or a member of its own."""
    details = fields.get("details")
    for each in cast("list[object]", details)[:20] if isinstance(details, list) else ():
        if isinstance(each, dict):
            hint = parse_duration(_text(cast("dict[str, object]", each).get("retryDelay")))
            if hint is not None:
                return hint
    named = _first(fields, "retry_after", "retry_after_seconds", "retryAfter")
    return parse_duration(named)


def _headers_in(fields: Mapping[str, object]) -> Mapping[str, str]:
    """Return the headers of a provider that a gateway repeats in an error."""
    metadata = fields.get("metadata")
    headers = (
        cast("dict[str, object]", metadata).get("headers") if isinstance(metadata, dict) else None
    )
    if not isinstance(headers, dict):
        return {}
    pairs = list(cast("dict[str, object]", headers).items())[:_HEADERS_KEPT]
    return {name.lower(): _text(value)[:_ID_KEPT] for name, value in pairs}


def _type(fields: Mapping[str, object]) -> str:
    """Return the type of an error: its own member, or the name of a class behind its package."""
    return _first(fields, "type") or _first(fields, "__type").rpartition("#")[2]


def _said(text: str) -> str:
    """Return a member's text, ``""`` for a null in words."""
    return "" if text.lower() in ("none", "null", "undefined", "<nil>") else text


def _true_status(code: str, param: str, message: str, fields: Mapping[str, object]) -> int | None:
    """Return the provider's status where the gateway answered with another one, else ``None``."""
    if "description" in fields and code == "30":  # Midjourney's "too many queued"
        return 429
    if code != MAPPED:
        return None
    if re.fullmatch(r"[45]\d\d", param, re.ASCII):
        return int(param)
    in_text = _STATUS_IN_TEXT.search(message)
    return int(in_text.group(1)) if in_text else None


def _is_problem_document(data: Mapping[str, object]) -> bool:
    """Recognise a problem document of the CDN (RFC 9457 with its own members)."""
    members = ("error_code", "error_category", "retryable", "ray_id")
    return "error" not in data and sum(name in data for name in members) >= 2


def _from_problem(data: Mapping[str, object]) -> Envelope:
    retryable = data.get("retryable")
    if data.get("owner_action_required") is True:
        retryable = False
    wait = data.get("retry_after")
    is_hint = isinstance(wait, (int, float)) and not isinstance(wait, bool) and 0 <= wait < 1e9
    return Envelope(
        kind=BodyKind.JSON,
        is_error=True,
        type=_label(_first(data, "error_category", "type")),
        message=_first(data, "detail", "title", "error_name")[:TEXT_KEPT],
        retry_after=float(cast("float", wait)) if is_hint else None,
        edge_retryable=retryable if isinstance(retryable, bool) else None,
        edge_code=_label(_first(data, "error_code")),
        edge_id=_label(_first(data, "ray_id")),
    )


def _first(data: Mapping[str, object], *names: str) -> str:
    """Return the first of these members that says anything, as text."""
    return next((text for name in names if (text := _text(data.get(name)))), "")


def _label(text: str) -> str:
    """Return a short text that may go to a log as it is: no control or bidi characters."""
    return "".join(char for char in text.strip()[:128] if char.isprintable())


def _text(value: object) -> str:
    """Return a member as text: objects as JSON, nothing for null and booleans."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, bool):
        return ""
    try:
        return json.dumps(value, ensure_ascii=False)
    except (ValueError, RecursionError):
        return ""
