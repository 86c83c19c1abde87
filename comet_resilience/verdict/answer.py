"""Whether a body under a success status is the answer that was due, or only says so."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final, cast

from .envelope import is_error

#: Bodies up to this size are parsed whole. Of larger ones (embeddings, images as base64) only
#: head, tail and the names of their members are looked at: parsing them twice would cost more
#: than the request's whole way through this library.
PARSED_UP_TO: Final = 65_536
_LOOKED_AT: Final = 2_048

_ERROR_MEMBER = re.compile(rb'"(?:error|html-message)"\s*:\s*(?!null|"?\s*[,}])')


def is_answer(body: bytes, expected: tuple[str, ...]) -> bool:
    """Whether a body is a whole JSON object with one of the expected members and no error.

    With nothing expected any whole JSON value will do that is no error envelope.
    """
    if len(body) > PARSED_UP_TO:
        return _looks_like_answer(body, expected)
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return False
    if not isinstance(data, dict):
        return isinstance(data, list) and not expected
    fields = cast("Mapping[str, object]", data)
    if expected:
        return any(fields.get(name) is not None for name in expected) and not fields.get("error")
    return not is_error(fields)


def _looks_like_answer(body: bytes, expected: tuple[str, ...]) -> bool:
    if body[:64].lstrip()[:1] not in (b"{", b"[") or body[-64:].rstrip()[-1:] not in (b"}", b"]"):
        return False
    ends = body[:_LOOKED_AT] + body[-_LOOKED_AT:]
    if expected and not any(f'"{name}"'.encode() in ends for name in expected):
        return False
    return _ERROR_MEMBER.search(body[:_LOOKED_AT]) is None
