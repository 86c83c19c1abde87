"""The facts for a support report, taken at the failure: bounded, and already without secrets.

The report is asked for minutes later, when request, response and client may be gone, and what
hangs on an exception may end up anywhere meanwhile. So nothing is kept that may not be shown. A
body is kept in two forms: with its texts replaced by their lengths, and with its texts, which is
shown only on request and does not survive pickling.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ..escaping import harmless
from ..wire.body import form_fields
from ..wire.family import library_of
from ..wire.request import base_path_of
from ..wire.response import reason_phrase
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

if TYPE_CHECKING:
    from ..wire.http import Request, Response
    from ..wire.response import ResponseHead

#: Texts of a request are looked for in its answer up to this many characters.
_CONTENT_KEPT: Final = 65_536
#: So many fields of a form are looked at.
_FIELDS_KEPT: Final = 50


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


def redactor_of(request: Request | None, body: bytes | None, also: Iterable[str] = ()) -> Redactor:
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
    data, form = parsed(body), form_fields(request, _FIELDS_KEPT, _CONTENT_KEPT)
    fields = tuple((field.name, field.text) for field in form if field.text is not None)
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
    request: Request | None,
    body: bytes | None,
    redactor: Redactor,
    response: Response | ResponseHead | None,
    answer: bytes,
    message: str,
) -> Facts:
    """Return the facts of a failure; ``request`` or ``response`` may be ``None``."""
    facts: dict[str, Any] = {"http": library_of(request if request is not None else response)}
    if request is not None:
        facts |= _of_request(request, body, redactor)
    facts.setdefault("body_content", Content(""))
    if response is not None:
        facts["phrase"] = redactor.line(reason_phrase(response))
        facts["headers"] = shown_headers(header_pairs(response.headers), redactor)
    plain, content = shown_answer(answer, redactor)
    return Facts(
        **facts,
        answer=plain,
        answer_content=Content(content),
        message=harmless(redactor.without_content(message))[:KEPT],
        message_content=Content(harmless(redactor.scrub(message))[:KEPT]),
    )


def _of_request(request: Request, body: bytes | None, redactor: Redactor) -> dict[str, Any]:
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


def _parts(request: Request, redactor: Redactor) -> Iterator[Part]:
    for field in form_fields(request, _FIELDS_KEPT, _CONTENT_KEPT):
        plain, full = (
            Shown(redactor, False, False, *CUTS[1]),
            Shown(redactor, True, False, *CUTS[1]),
        )
        yield Part(
            name=redactor.line(field.name),
            value=None if field.text is None else plain.text(field.text, field.name),
            content=Content(full.text(field.text or "", field.name)),
            filename=redactor.line(re.split(r"[/\\]", field.filename)[-1]),
            type=redactor.line(field.content_type),
            size=field.size,
        )
