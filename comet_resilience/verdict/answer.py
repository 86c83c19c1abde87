"""Check of a body under a success status: the answer that was due, or a failure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final, cast

from .envelope import has_error, is_error, parse_envelope, reports_on_something
from .vocabulary import BodyKind

try:  # The SDK brings it along, and it reads an answer in a third of the time.
    from jiter import from_json as _fast
except ImportError:  # pragma: no cover - nothing but speed depends on it
    _fast = json.loads

#: Bodies up to this size are parsed whole. Of larger ones (embeddings, images as base64) only
#: head, tail and the names of their members are looked at: parsing them twice would cost more
#: than the request's whole way through this library.
PARSED_UP_TO: Final = 65_536
_LOOKED_AT: Final = 2_048
BROKEN: Final = object()

#: An error that says something, among the plain members with which a large body begins.
_ERROR_MEMBER = re.compile(
    rb'\s*\{\s*(?:"[^"\\]{0,99}"\s*:\s*(?:"(?:[^"\\]|\\.)*"|[^\s"\[\]{},]+)\s*,\s*)*'
    rb'"(?:error|html-message)"\s*:(?!\s*(?:null|false|""|\{\s*\}))'
)


def is_answer(body: bytes, expected: tuple[str, ...]) -> bool:
    """Return True if a body is a whole JSON object with an expected member and no error.

    With nothing expected any whole JSON value will do that is no error envelope. Where a
    ``status`` is among the expected members, an error is the state of what was asked about.
    """
    if len(body) > PARSED_UP_TO:
        return _looks_like_answer(body, expected)
    data = parsed(body)
    if data is BROKEN:
        return False
    if not isinstance(data, dict):
        return not expected
    fields = cast("Mapping[str, object]", data)
    if not expected:
        return not is_error(fields)
    for name in expected:
        if fields.get(name) is not None:
            return not has_error(fields) or ("status" in expected and reports_on_something(fields))
    return False


def is_transcript(body: bytes) -> bool:
    """Return True for a possible transcript: text that is no web page, or JSON without an error.

    Anything may be said, a number, a quotation or the name of a tag.
    """
    envelope, first = parse_envelope(body[:PARSED_UP_TO]), body[:64].lstrip()[:1]
    if envelope.kind is BodyKind.JSON:
        return not envelope.is_error or first != b"{" or len(body) > PARSED_UP_TO
    return envelope.kind in (BodyKind.TEXT, BodyKind.EMPTY) or (
        envelope.kind is BodyKind.HTML and first != b"<"
    )


def parsed(body: bytes) -> object:
    """Return a whole JSON value, or ``BROKEN``; the SDK may read what the fast parser refuses."""
    for parse in (_fast, json.loads):
        try:
            return cast("object", parse(body))
        except (ValueError, RecursionError):
            continue
    return BROKEN


def _looks_like_answer(body: bytes, expected: tuple[str, ...]) -> bool:
    if body[:64].lstrip()[:1] not in (b"{", b"[") or body[-64:].rstrip()[-1:] not in (b"}", b"]"):
        return False
    ends = body[:_LOOKED_AT] + body[-_LOOKED_AT:]
    if expected and not any(f'"{name}"'.encode() in ends for name in expected):
        return False
    return _ERROR_MEMBER.match(body[:_LOOKED_AT]) is None
