"""A line of the journal: one attempt, without key, header, query, message or content.

A stream that names its tokens has a second line, written at its end.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Final, TypedDict, TypeGuard

from ..escaping import printable
from ..events import AttemptFinished, Event, StreamFinished
from ..verdict.usage import Usage

#: The version of a line's shape.
VERSION: Final = 1

#: The form of a server's code and id, which excludes keys and sentences.
_CODE: Final = re.compile(r"(?!.{0,64}[A-Za-z0-9]{24})(?!sk-)[\w.:-]{0,64}", re.ASCII)
_ID: Final = re.compile(r"(?!sk-)[\w.:-]{0,128}", re.ASCII)


class TokenCounts(TypedDict):
    """The tokens that an answer names, ``None`` where it names none."""

    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None
    reasoning_tokens: int | None


class JournalRecord(TokenCounts):
    """One attempt, written when its answer has begun or when it has failed.

    ``time`` is the wall clock at that moment (ISO 8601, UTC); it was sent ``latency`` seconds
    earlier, after ``queued`` seconds of waiting for a slot. ``status`` is ``None`` after a fault,
    which ``fault`` names; ``kind`` is ``None`` after a success. ``in_flight`` (this attempt
    included) and ``limit`` are those of its partition when it was sent; ``account_in_flight`` and
    ``account_limit`` those of the ``account`` above it, over all models, or ``None``. An account is
    named by a number, never by its key. Sizes of bodies are ``None`` if unknown, as for a stream.
    ``canary`` marks an attempt through a closed gate: an outage lasts from the first of them to the
    first that succeeds. Tokens are those of a whole answer; a stream's follow in a
    ``StreamRecord``.
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
    account: str | None
    account_in_flight: int | None
    account_limit: int | None
    request_bytes: int | None
    response_bytes: int | None
    canary: bool


class StreamRecord(TokenCounts):
    """The line of a stream that has ended and has named its tokens; ``event`` tells it apart.

    ``duration`` is the time from sending the attempt to the end, which is at ``time``.
    """

    version: int
    event: str
    time: str
    route: str
    model: str
    attempt: int
    duration: float


def is_recorded(event: Event) -> TypeGuard[AttemptFinished | StreamFinished]:
    """Return whether an event has a line: an attempt does, and a stream that names its tokens."""
    if isinstance(event, StreamFinished):
        return event.usage is not None and not event.usage.is_estimate
    return isinstance(event, AttemptFinished)


def record_of(event: AttemptFinished, at: float) -> JournalRecord:
    """Return the line of an attempt that ended at ``at``, in seconds of the Unix clock."""
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
        account=event.account,
        account_in_flight=event.account_in_flight,
        account_limit=event.account_limit,
        request_bytes=event.request_bytes,
        response_bytes=event.response_bytes,
        canary=event.canary,
        **_tokens_of(event.usage),
    )


def any_record_of(
    event: AttemptFinished | StreamFinished, at: float
) -> JournalRecord | StreamRecord:
    """Return the line of an attempt or a stream that ended at ``at``, as ``record_of`` does."""
    if isinstance(event, AttemptFinished):
        return record_of(event, at)
    return StreamRecord(
        version=VERSION,
        event="stream_finished",
        time=datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds"),
        route=printable(event.request.route),
        model=printable(event.request.model),
        attempt=event.attempt,
        duration=round(event.elapsed, 4),
        **_tokens_of(event.usage),
    )


def _tokens_of(usage: Usage | None) -> TokenCounts:
    return TokenCounts(
        prompt_tokens=None if usage is None else usage.prompt_tokens,
        completion_tokens=None if usage is None else usage.completion_tokens,
        cached_tokens=None if usage is None else usage.cached_tokens,
        reasoning_tokens=None if usage is None else usage.reasoning_tokens,
    )


def _plain(text: str, pattern: re.Pattern[str]) -> str:
    """Return a server's code or id if it is a plain name, else ``"?"``: it is foreign text."""
    return text if pattern.fullmatch(text) else "?"


def line_of(event: AttemptFinished | StreamFinished, at: float) -> bytes:
    """Return the line of an attempt or of a stream as bytes, with its end of line."""
    record = json.dumps(any_record_of(event, at), separators=(",", ":"))
    return record.encode() + b"\n"
