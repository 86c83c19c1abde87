"""The body of a request: what is in memory, what can be sent again, how large its parts are."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .family import NAMES

if TYPE_CHECKING:
    from .http import Request


def loaded_body(request: Any) -> bytes | None:
    """Return the body if it is in memory, ``None`` if it is a stream of some kind."""
    try:
        content: bytes = request.content
    except Exception:  # noqa: BLE001 - RequestNotRead, of whichever family
        return None
    return content


def why_not_replayable(request: Any) -> str:
    """Return why the body of a request cannot be sent again, ``""`` if it can."""
    if loaded_body(request) is not None or _is_bodiless(request):
        return ""
    stream = request.stream
    if not _is_multipart(stream):
        return "it is a stream that can be read only once"
    for field in stream.fields:
        file = getattr(field, "file", b"")
        if not isinstance(file, (bytes, str)) and not _seekable(file):
            return "it holds a file that cannot be rewound"
    return ""


def _is_bodiless(request: Any) -> bool:
    """Return True if no body is announced, as in the request that follows a redirect."""
    return not ("content-length" in request.headers or "transfer-encoding" in request.headers)


@dataclass(frozen=True, slots=True, repr=False)
class FormField:
    """One field of a multipart body, as far as it may be read without touching a file.

    ``text`` is ``None`` for a file, whose bytes are never read; ``size`` in bytes is approximate,
    ``None`` where it is not known.
    """

    name: str
    text: str | None
    filename: str
    content_type: str
    size: int | None


def form_fields(request: Request, most: int, longest: int) -> Iterator[FormField]:
    """Yield the first fields of a multipart body, with texts cut at ``longest`` characters.

    Other bodies have none, a caller's own stream among them.
    """
    for field in _raw_fields(request)[:most]:
        size: int | None = None
        with contextlib.suppress(Exception):  # a caller's file object may do anything
            size = field.get_length()
        headers = getattr(field, "headers", {}).items()
        types = [value for name, value in headers if name.lower() == "content-type"]
        yield FormField(
            name=str(field.name),
            text=_text_of(field, longest),
            filename=str(getattr(field, "filename", "") or ""),
            content_type=str(types[0]) if types else "",
            size=size,
        )


def part_sizes(request: Request) -> dict[str, int]:
    """Return the sizes in bytes of a multipart body's fields, by name; empty for other bodies."""
    sizes: dict[str, int] = {}
    for field in _raw_fields(request):
        with contextlib.suppress(Exception):  # a caller's file object may do anything
            sizes[str(field.name)] = int(field.get_length() or 0)
    return sizes


def _raw_fields(request: Any) -> list[Any]:
    stream: Any = getattr(request, "stream", None)
    return list(stream.fields) if _is_multipart(stream) else []


def _text_of(field: Any, longest: int) -> str | None:
    value = getattr(field, "value", None)
    if isinstance(value, bytes):
        value = value[:longest].decode("utf-8", "replace")
    return value[:longest] if isinstance(value, str) else None


def _is_multipart(stream: object) -> bool:
    """Return True if a stream is the form of either HTTP library."""
    cls = type(stream)
    return cls.__name__ == "MultipartStream" and cls.__module__.partition(".")[0] in NAMES


def _seekable(file: Any) -> bool:
    """Return True if a file can be rewound; the HTTP libraries silently send it empty if not."""
    try:
        return bool(file.seekable()) if hasattr(file, "seekable") else hasattr(file, "seek")
    except Exception:  # noqa: BLE001 - whatever a caller's file object does
        return False
