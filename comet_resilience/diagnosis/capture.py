"""The facts for a support report, taken at the failure: bounded, and already without secrets.

The report is asked for minutes later, when request, response and client may be gone, and what
hangs on an exception may end up anywhere meanwhile. So nothing is kept that may not be shown. A
body is kept in two forms: with its texts replaced by their lengths, and with its texts, which is
shown only on request and does not survive pickling.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from ..escaping import harmless
from ..wire.body import form_fields
from ..wire.family import family_of
from ..wire.request import base_path_of
from .content import (
    CUTS,
    KEPT,
    PARSED_UP_TO,
    SETTINGS,
    Shown,
    as_json,
    media_in,
    parsed,
    secrets_of,
    shown_answer,
    texts_of,
)
from .redaction import (
    Redactor,
    header_pairs,
    header_secrets,
    path_secrets,
    query_secrets,
    redactor,
    shown_headers,
    shown_query,
    unusual,
)

#: Texts of a request are looked for in its answer up to this many characters.
_CONTENT_KEPT: Final = 65_536


@dataclass(slots=True, repr=False, eq=False)
class Content:
    """Text that is shown only on request: not in a ``repr``, and not in a pickle."""

    text: str

    def __repr__(self) -> str:
        return f"<{len(self.text)} characters>"

    def __reduce__(self) -> tuple[type[Content], tuple[str]]:
        return Content, ("",)

    def __copy__(self) -> Content:
        return self

    def __deepcopy__(self, memo: object) -> Content:
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One field of an upload: ``value`` for a text, ``filename`` and ``type`` for a file.

    ``size`` is in bytes and approximate, ``None`` where it is not known.
    """

    name: str
    value: str | None
    content: Content
    filename: str
    type: str
    size: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """A failed request and its answer, as far as they may be shown.

    ``media`` says how pictures, sound and documents were given: by URL, or embedded as base64.
    ``body`` and ``answer`` are JSON or text; ``message`` is the error's, whole.
    """

    method: str = ""
    url: str = ""
    query: tuple[tuple[str, str], ...] = ()
    type: str = ""
    size: int | None = None
    body: str = ""
    body_content: Content
    parts: tuple[Part, ...] = ()
    media: tuple[str, ...] = ()
    phrase: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    answer: str = ""
    answer_content: Content
    message: str = ""
    message_content: Content
    http: str = ""


def redactor_of(request: Any, body: bytes | None, also: Iterable[str] = ()) -> Redactor:
    """Return a redactor for the secrets and the content of a request, empty for ``None``.

    ``also`` are secrets besides: the keys of attempts before a renewal.
    """
    if request is None:
        return Redactor()
    secrets = [*also, *header_secrets(header_pairs(request.headers)), *_proxy_secrets()]
    url = request.url
    secrets += (url.password, *(unusual(url.username) if url.password else (url.username,)))
    secrets += query_secrets(url.params.multi_items())
    secrets += path_secrets(base_path_of(request))
    data, fields = parsed(body), tuple(_texts(request))
    secrets += secrets_of(data, "")
    secrets += secrets_of(dict(fields), "")
    content = "\0".join(texts_of(data, ""))
    if body and len(body) > PARSED_UP_TO:
        content += body[:_CONTENT_KEPT].decode("utf-8", "replace")
    content += "\0" + "\0".join(part for name, part in fields if name not in SETTINGS)
    return redactor(secrets, content[:_CONTENT_KEPT])


def _proxy_secrets() -> Iterator[str]:
    """Yield the passwords of the proxies that the environment names."""
    for name, value in os.environ.items():
        if name.lower().endswith("_proxy"):
            userinfo = value.rpartition("@")[0].rpartition("://")[2]
            yield from (userinfo, userinfo.partition(":")[2])


def capture(
    request: Any, body: bytes | None, redactor: Redactor, response: Any, answer: bytes, message: str
) -> Facts:
    """Return the facts of a failure; ``request`` or ``response`` may be ``None``."""
    facts: dict[str, Any] = {"http": _library(request if request is not None else response)}
    if request is not None:
        facts |= _of_request(request, body, redactor)
    facts.setdefault("body_content", Content(""))
    if response is not None:
        facts["phrase"] = redactor.line(str(getattr(response, "reason_phrase", "")))
        facts["headers"] = shown_headers(header_pairs(response.headers), redactor)
    plain, content = shown_answer(answer, redactor)
    return Facts(
        **facts,
        answer=plain,
        answer_content=Content(content),
        message=harmless(redactor.without_content(message))[:KEPT],
        message_content=Content(harmless(redactor.scrub(message))[:KEPT]),
    )


def _of_request(request: Any, body: bytes | None, redactor: Redactor) -> dict[str, Any]:
    url = request.url
    data = parsed(body)
    length = request.headers.get("content-length", "")
    facts: dict[str, Any] = {
        "method": request.method,
        # The caller's own server is no secret, also where it is a bare address.
        "url": f"{url.scheme}://{url.netloc.decode('ascii', 'replace')}{redactor.line(url.path)}",
        "query": shown_query(url.params.multi_items()[:50], redactor),
        "type": redactor.line(request.headers.get("content-type", "").partition(";")[0]),
        "size": int(length) if length.isdecimal() else len(body) if body is not None else None,
        "parts": tuple(_parts(request, redactor)),
    }
    if data is not None:
        facts["body"] = as_json(data, redactor, content=False)
        facts["body_content"] = Content(as_json(data, redactor, content=True))
        facts["media"] = tuple(media_in(data, "", 0, redactor))[:20]
    elif body and not facts["parts"]:
        facts["body"] = f"[{len(body)} bytes, not JSON]"
    return facts


def _texts(request: Any) -> Iterator[tuple[str, str]]:
    """Yield the text fields of a multipart body."""
    for field in _fields(request):
        text = _text_of(field)
        if text is not None:
            yield str(field.name), text


def _fields(request: Any) -> Iterator[Any]:
    """Yield the first fields of a multipart body."""
    yield from form_fields(request)[:50]


def _text_of(field: Any) -> str | None:
    """Return the text of a field; ``None`` for a file, whose bytes are never read."""
    value = getattr(field, "value", None)
    if isinstance(value, bytes):
        value = value[:_CONTENT_KEPT].decode("utf-8", "replace")
    return value[:_CONTENT_KEPT] if isinstance(value, str) else None


def _parts(request: Any, redactor: Redactor) -> Iterator[Part]:
    for field in _fields(request):
        name, text, size = str(field.name), _text_of(field), None
        with contextlib.suppress(Exception):  # a caller's file object may do anything
            size = field.get_length()
        kinds = [v for k, v in getattr(field, "headers", {}).items() if k.lower() == "content-type"]
        path = str(getattr(field, "filename", "") or "")
        yield Part(
            name=redactor.line(name),
            value=None
            if text is None
            else Shown(redactor, False, False, *CUTS[1]).text(text, name),
            content=Content(Shown(redactor, True, False, *CUTS[1]).text(text or "", name)),
            filename=redactor.line(re.split(r"[/\\]", path)[-1]),
            type=redactor.line(str(kinds[0])) if kinds else "",
            size=size,
        )


def _library(thing: Any) -> str:
    """Return the HTTP library that a request belongs to, with its version."""
    with contextlib.suppress(Exception):
        family = family_of(thing)
        return f"{family.__name__} {family.__version__}"
    return ""
