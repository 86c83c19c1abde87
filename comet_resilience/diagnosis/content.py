"""JSON bodies as they may be shown: settings stay, texts become lengths."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ..escaping import harmless
from .redaction import SECRET, Redactor, is_secret_name, shown_page

#: A body is kept up to this many characters in each of its two forms.
KEPT: Final = 16_384
#: The longest strings are cut out of a larger request body; beyond the last it is not parsed.
PARSED_UP_TO: Final = 262_144
_LOOKED_AT_UP_TO: Final = 67_108_864
#: Steps by which a body is cut down until it fits: the length of its texts and of its lists.
CUTS: Final = ((2_000, 200), (400, 40), (80, 10), (20, 3))
_DEPTH: Final = 24
#: No more of a body that is not JSON is scanned: more than is kept, since redaction shrinks it.
_SCANNED: Final = 2 * KEPT
#: No more texts and names of one body are shown: each costs more than its characters do.
_TEXTS: Final = 1_000

#: Fields whose texts are settings: everything else that is a text is content.
SETTINGS: Final = frozenset(
    {
        "background", "call_id", "code", "detail", "effort", "encoding_format", "event", "file_id",
        "format", "id", "include", "language", "mime_type", "mode", "moderation", "modalities",
        "model", "name", "object", "output_format", "param", "quality", "reasoning_effort",
        "required", "resolution", "response_format", "role", "seconds", "service_tier", "size",
        "status", "style", "summary", "timestamp_granularities", "timestamp_granularities[]",
        "tool_call_id", "tool_choice", "truncation", "type", "verbosity", "voice",
    }
)  # fmt: skip
#: Fields of an error that say what is wrong; they are shown as far as they echo no content.
_ANSWERS: Final = frozenset(
    {"message", "error", "title", "reason", "ray_id", "error_name", "error_category", "zone",
     "request_id", "msg", "detail", "details", "error_description", "instance", "error_code",
     "description", "fail_reason", "err_msg"}
)  # fmt: skip
#: Fields that are content as a whole, names and numbers included.
_WHOLLY_CONTENT: Final = frozenset({"metadata", "arguments", "logit_bias", "variables"})
_LABEL = re.compile(r"[\w./:@+ -]{0,100}")
_FIELD_NAME = re.compile(r"[A-Za-z_$][\w$.\-\[\]]{0,63}")
_EMBEDDED = re.compile(rb'"((?:data:[\w.+-]{1,60}/[\w.+-]{1,60};base64,)?)([^"\\]{4096,})"')
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{200,}={0,2}")
_DATA_URL = re.compile(r"data:([\w.+-]{1,60}+/[\w.+-]{1,60}+)[^,]{0,100}+,")
_CUT_OUT = re.compile(r"\[(?:data:[\w.+/-]++;base64 )?\d++ bytes\]")
_NOT_SPACE = re.compile(r"\S")
_WEB_PAGE = re.compile(r"<(?:!doctype|html|head|body)", re.IGNORECASE)


def texts_of(value: object, name: str, depth: int | None = None) -> Iterator[str]:
    """Yield the texts of a request's JSON data that are content."""
    depth = depth or 0
    if isinstance(value, str):
        if not (name in SETTINGS and _LABEL.fullmatch(value)) and not is_embedded(value):
            yield value[:PARSED_UP_TO]
    elif depth < _DEPTH and isinstance(value, Mapping):
        for key, item in value.items():
            yield from texts_of(item, str(key), depth + 1)
    elif depth < _DEPTH and isinstance(value, list):
        for item in value:
            yield from texts_of(item, name, depth + 1)


def secrets_of(value: object, name: str, depth: int | None = None) -> Iterator[str]:
    """Yield the texts of a request's JSON data whose field names say that they are secret."""
    depth = depth or 0
    if isinstance(value, str) and is_secret_name(name):
        yield value
    elif depth < _DEPTH and isinstance(value, Mapping):
        for key, item in value.items():
            yield from secrets_of(item, str(key), depth + 1)
    elif depth < _DEPTH and isinstance(value, list):
        for item in value:
            yield from secrets_of(item, name, depth + 1)


def shown_answer(answer: bytes, redactor: Redactor) -> tuple[str, str]:
    """Return the body of a response without content and with it."""
    if not answer:
        return "", ""
    data = parsed(answer)
    if data is not None:
        plain = as_json(data, redactor, content=False, answer=True)
        return plain, as_json(data, redactor, content=True, answer=True)
    text = answer[:_SCANNED].decode("utf-8", "replace")
    if _is_web_page(text):
        page = shown_page(text, redactor)
        return page, page
    if "\0" in text or "\ufffd" in text[:1_000]:
        sizes = f"[{len(answer)} bytes, not text]"
        return sizes, sizes
    plain = redactor.without_content(text)
    return harmless(plain)[:KEPT], harmless(redactor.scrub(text))[:KEPT]


def _is_web_page(text: str) -> bool:
    """Return True if a text is a web page: a tag of one behind nothing but comments."""
    end = 0
    while end >= 0:
        start = _NOT_SPACE.search(text, end)
        if start is None or not text.startswith("<!--", start.start()):
            return start is not None and _WEB_PAGE.match(text, start.start()) is not None
        end = text.find("-->", start.start())
        end += 3 if end >= 0 else 0
    return False


def as_json(data: object, redactor: Redactor, *, content: bool, answer: bool = False) -> str:
    """Return JSON data as it may be shown, cut down until it fits; always valid JSON."""
    for length, items in CUTS:
        shown = Shown(redactor, content, answer, length, items).value(data, "", 0)
        text = json.dumps(shown, ensure_ascii=False)
        if len(text) <= KEPT:
            return text
    fields = len(data) if isinstance(data, (Mapping, list)) else 1
    return json.dumps(f"[too large to be shown: {fields} fields]")


@dataclass(frozen=True, slots=True)
class Shown:
    """A way to show JSON data: with or without content, texts and lists up to some length."""

    redactor: Redactor
    content: bool
    answer: bool
    length: int
    items: int
    _left: list[int] = field(default_factory=lambda: [_TEXTS])

    def value(self, value: object, name: str, depth: int) -> object:
        """Return any JSON value as shown; ``name`` is that of the field which holds it."""
        if self._left[0] <= 0:
            return "[not shown]"
        if isinstance(value, str):
            self._left[0] -= 1
            return self.text(value, name)
        if not isinstance(value, (Mapping, list)):
            return value
        if depth >= _DEPTH or (name in _WHOLLY_CONTENT and not self.content):
            return (
                f"[{len(value)} fields]" if isinstance(value, Mapping) else f"[{len(value)} items]"
            )
        if isinstance(value, Mapping):
            return self.members(value, depth)
        if len(value) > 8 and all(isinstance(item, (int, float)) for item in value[:100]):
            return f"[{len(value)} numbers]"
        shown = [self.value(item, name, depth + 1) for item in value[: self.items]]
        return [*shown, f"[{len(value) - self.items} more]"] if len(value) > self.items else shown

    def members(self, value: Mapping[str, object], depth: int) -> dict[str, object]:
        """Return the fields of an object as shown."""
        shown: dict[str, object] = {}
        for key, item in list(value.items())[: self.items]:
            if self._left[0] <= 0:
                break
            self._left[0] -= 1
            name = self.redactor.line(key)
            if not self.content and not _FIELD_NAME.fullmatch(name):
                name = f"[name of {len(key)} characters, {len(shown)}]"
            shown[name] = self.value(item, key, depth + 1)
        if len(value) > len(shown):
            shown["[more]"] = len(value) - len(shown)
        return shown

    def text(self, value: str, name: str) -> str:
        """Return a text itself if it is a setting or content is wanted, else its length."""
        if is_secret_name(name):
            return SECRET
        if is_embedded(value):
            return f"[base64, {_kind_and_size(value)}]"
        is_plain = name in SETTINGS and _LABEL.fullmatch(value) is not None
        is_plain = is_plain or (self.answer and (not name or name in _ANSWERS))
        if not is_plain and not self.content:
            return f"[{len(value)} characters]"
        clean = self.redactor.scrub if self.content else self.redactor.without_content
        shown, more = harmless(clean(value[: self.length])), len(value) - self.length
        return f"{shown}\u2026 [{more} more characters]" if more > 0 else shown


def parsed(body: bytes | None) -> Any:
    """Parse a body as JSON, a large one without its longest texts; ``None`` if it is not JSON."""
    if not body or len(body) > _LOOKED_AT_UP_TO or body.lstrip()[:1] not in b'{["':
        return None
    if len(body) > PARSED_UP_TO:
        body = _EMBEDDED.sub(_size_of_embedded, body)
    if len(body) > 4 * PARSED_UP_TO:
        return {"[body]": len(body)}
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _size_of_embedded(found: re.Match[bytes]) -> bytes:
    """Return a short text of the same kind, which still says the size."""
    if found[1]:
        return b'"[%s %d bytes]"' % (found[1].rstrip(b","), len(found[2]) * 3 // 4)
    return b'"[%d bytes]"' % len(found[2])


def is_embedded(value: str) -> bool:
    """Return True if a text is data, or stands for data that was cut out of a large body."""
    start = value[:400]
    return bool(_DATA_URL.match(start) or _CUT_OUT.fullmatch(start) or _BASE64.fullmatch(value))


def media_in(data: object, path: str, depth: int, redactor: Redactor) -> Iterator[str]:
    """Yield how a JSON body gives each file: embedded, or by URL."""
    if isinstance(data, str):
        name = path.rpartition(".")[2]
        if is_embedded(data):
            yield f"{path}: embedded as base64, {_kind_and_size(data)}"
        elif "url" in name.lower() and data.startswith(("http://", "https://")):
            yield f"{path}: referenced by URL"
    elif depth < _DEPTH and isinstance(data, Mapping):
        for key, item in list(data.items())[:200]:
            name = key if _FIELD_NAME.fullmatch(key) else "?"
            below = f"{path}.{redactor.line(name)}" if path else redactor.line(name)
            yield from media_in(item, below, depth + 1, redactor)
    elif depth < _DEPTH and isinstance(data, list):
        for place, item in enumerate(data[:200]):
            yield from media_in(item, f"{path}[{place}]", depth + 1, redactor)


def _kind_and_size(data: str) -> str:
    if data.startswith("["):
        return data[1:-1].replace(";base64", ",").removeprefix("data:")
    kind = _DATA_URL.match(data[:400])
    size = (len(data) - (kind.end() if kind else 0)) * 3 // 4
    return f"{kind[1] + ', ' if kind else ''}{size} bytes"
