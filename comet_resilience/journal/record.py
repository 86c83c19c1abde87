"""A line of the journal: one attempt, without key, header, query, message or content."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Final, TypedDict

from ..escaping import printable
from ..events import AttemptFinished

#: The version of a line's shape.
VERSION: Final = 1

#: What a server's code and id may look like; neither a key, nor a sentence.
_CODE: Final = re.compile(r"(?!.{0,64}[A-Za-z0-9]{24})(?!sk-)[\w.:-]{0,64}", re.ASCII)
_ID: Final = re.compile(r"(?!sk-)[\w.:-]{0,128}", re.ASCII)


class JournalRecord(TypedDict):
    """One line: one attempt, written when its answer has begun or when it has failed.

    ``time`` is the wall clock at that moment (ISO 8601, UTC); it was sent ``latency`` seconds
    earlier, after ``queued`` seconds of waiting for a slot. ``status`` is ``None`` after a fault,
    which ``fault`` names; ``kind`` is ``None`` after a success. ``in_flight`` (this attempt
    included) and ``limit`` are those of its partition when it was sent. Bodies' sizes are
    ``None`` where they are not known, as for a stream. ``canary`` marks one that went through a
    closed gate: from the first of them to the first that succeeds there was an outage.
    """

    version: int
    time: str
    route: str
    model: str
    attempt: int
    status: int | None
    code: str
    fault: str
    kind: str | None
    request_id: str
    queued: float
    latency: float
    in_flight: int
    limit: int
    request_bytes: int | None
    response_bytes: int | None
    canary: bool


def record_of(event: AttemptFinished, at: float) -> JournalRecord:
    """The line of an attempt that ended at ``at``, in seconds of the Unix clock."""
    return JournalRecord(
        version=VERSION,
        time=datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds"),
        route=printable(event.request.route),
        model=printable(event.request.model),
        attempt=event.attempt,
        status=event.status,
        code=_plain(event.code, _CODE),
        fault=event.fault,
        kind=None if event.kind is None else event.kind.value,
        request_id=_plain(event.request_id, _ID),
        queued=round(event.queued, 4),
        latency=round(event.elapsed, 4),
        in_flight=event.in_flight,
        limit=event.limit,
        request_bytes=event.request_bytes,
        response_bytes=event.response_bytes,
        canary=event.canary,
    )


def _plain(text: str, pattern: re.Pattern[str]) -> str:
    """A code or id of the server's, which is foreign text: what is no plain name is left out."""
    return text if pattern.fullmatch(text) else "?"


def line_of(event: AttemptFinished, at: float) -> bytes:
    """The line of an attempt, with its end of line."""
    record = json.dumps(record_of(event, at), separators=(",", ":"))
    return record.encode() + b"\n"
