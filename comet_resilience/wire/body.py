"""The body of a request: what is in memory, what can be sent again, how large its parts are."""

from __future__ import annotations

import contextlib
from typing import Any

from .family import NAMES


def loaded_body(request: Any) -> bytes | None:
    """Return the body if it is in memory, else ``None``: it is then a stream of some kind."""
    try:
        content: bytes = request.content
    except Exception:  # noqa: BLE001 - RequestNotRead, of whichever family
        return None
    return content


def why_not_replayable(stream: Any) -> str:
    """Say why a body that is not in memory cannot be sent twice, ``""`` if it can."""
    if not _is_multipart(stream):
        return "it is a stream that can be read only once"
    for field in stream.fields:
        file = getattr(field, "file", b"")
        if not isinstance(file, (bytes, str)) and not _seekable(file):
            return "it holds a file that cannot be rewound"
    return ""


def form_fields(request: Any) -> list[Any]:
    """Return the fields of a multipart body; none of another body, such as a caller's stream."""
    stream: Any = getattr(request, "stream", None)
    return list(stream.fields) if _is_multipart(stream) else []


def part_sizes(request: Any) -> dict[str, int]:
    """Return the sizes in bytes of a multipart body's fields, by name; empty for other bodies."""
    sizes: dict[str, int] = {}
    for field in form_fields(request):
        with contextlib.suppress(Exception):  # a caller's file object may do anything
            sizes[str(field.name)] = int(field.get_length() or 0)
    return sizes


def _is_multipart(stream: object) -> bool:
    """Tell whether a stream is the form of either HTTP library."""
    cls = type(stream)
    return cls.__name__ == "MultipartStream" and cls.__module__.partition(".")[0] in NAMES


def _seekable(file: Any) -> bool:
    """Tell whether a file can be rewound; if not, HTTP libraries silently send it empty."""
    try:
        return bool(file.seekable()) if hasattr(file, "seekable") else hasattr(file, "seek")
    except Exception:  # noqa: BLE001 - whatever a caller's file object does
        return False
