"""Responses and faults, turned into observations; and what is handed on after a failure.

A body is read only when it may be an error, up to a size and for a time, and decoded up to the
same size: a hostile server can cost neither memory nor patience.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import anyio

from ..verdict.envelope import MAPPED, Envelope, class_in, parse_envelope
from ..verdict.rates import RateReading, parse_rates
from ..verdict.retry_after import (
    is_about_calls_at_once,
    parse_hint_in_message,
    parse_reset,
    parse_retry_after,
)
from ..verdict.vocabulary import BodyKind, Fault, Observation, Operation, RequestIds
from .encoding import decode
from .family import family_of, fault_of
from .http import Request, Response

#: An error body is read up to this many bytes, before and after decoding, and this many seconds.
BODY_CAP: Final = 65_536
BODY_SECONDS: Final = 5.0
#: Closing a connection takes no longer than this, whatever the other side does.
CLOSE_SECONDS: Final = 2.0
#: Ids, and other texts of a server's or of an exception's, are kept up to this many characters.
_ID_KEPT: Final = 128
_TEXT_KEPT: Final = 500
#: A length with more digits than this is nonsense.
_MOST_DIGITS: Final = 19

_SHOULD_RETRY: Final = {"true": True, "false": False}
#: Statuses under which words or an empty budget are a hint.
_MAY_HINT: Final = (429, 503)
_SERVER_ERROR: Final = 500
_GATEWAY_ID_HEADERS: Final = (
    "x-cometapi-request-id", "x-oneapi-request-id", "x-litellm-call-id", "x-portkey-trace-id",
    "apim-request-id",
)  # fmt: skip
_PROVIDER_ID_HEADERS: Final = (
    "x-request-id", "llm_provider-x-request-id", "request-id", "x-amzn-requestid",
    "x-ms-request-id",
)  # fmt: skip
_DROPPED_HEADERS: Final = frozenset(
    {b"content-encoding", b"content-length", b"transfer-encoding", b"x-should-retry", b"set-cookie"}
)


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """The facts of a response that outlive its hand-over.

    Holding on to the response itself would keep its stream alive that nobody reads any more.
    """

    status_code: int
    headers: Any


async def read_bounded(response: Any) -> bytes:
    """Read and decode a response's body, cut at the cap, and close the response.

    A body that breaks off or drips is returned as far as it came.
    """
    if response.is_stream_consumed or response.is_closed:
        return body_so_far(response)[:BODY_CAP]
    raw = bytearray()
    try:
        with anyio.move_on_after(BODY_SECONDS):
            async for chunk in response.stream:
                raw += chunk[: BODY_CAP - len(raw)]
                if len(raw) >= BODY_CAP:
                    break
    except Exception as error:
        if fault_of(error) is None:
            raise
    finally:
        await close(response)
    return decode(bytes(raw), response.headers.get("content-encoding", ""), BODY_CAP)


async def close(response: Any) -> None:
    """Close a response even where the task is being cancelled, within a bounded time."""
    with anyio.move_on_after(CLOSE_SECONDS, shield=True), contextlib.suppress(Exception):
        await response.aclose()  # a broken connection may not close cleanly


def observe(response: Any, body: bytes, operation: Operation) -> Observation:
    """Return the facts of a response and of its body."""
    headers = response.headers
    envelope = parse_envelope(body)
    status = envelope.true_status or response.status_code
    code, type_ = _names(envelope, status)
    type_ = type_ or headers.get("x-amzn-errortype", "").partition(":")[0][:_ID_KEPT]
    inner = envelope.inner_status
    if inner and (response.status_code < 300 or response.status_code >= 500):
        status = inner
        if inner in (401, 403):  # a provider has refused the gateway's key, not the caller's
            code, type_ = "", MAPPED
    return Observation(
        status=status,
        body=envelope.kind,
        code="" if envelope.true_status else code,
        type=type_,
        message=envelope.message,
        param=envelope.param,
        retry_after=_hint(headers, envelope, status),
        challenge=headers.get("cf-mitigated", "").lower() == "challenge",
        edge_retryable=envelope.edge_retryable,
        edge_code=envelope.edge_code,
        location=_host_and_path(headers.get("location", "")),
        should_retry=_SHOULD_RETRY.get(headers.get("x-should-retry", "").lower()),
        operation=operation,
        ids=request_ids(headers, envelope),
    )


def _names(envelope: Envelope, status: int) -> tuple[str, str]:
    """Return the code and the type of an error; a code that only repeats the status is none.

    A class at the head of the message stands in for a code.
    """
    code = "" if envelope.code == str(status) else envelope.code
    type_ = "" if envelope.type == str(status) else envelope.type
    return code or class_in(envelope.message), type_


def _hint(headers: Any, envelope: Envelope, status: int) -> float | None:
    """Return the server's hint, from wherever it stands, in a fixed order."""
    if is_about_calls_at_once(headers, envelope.message):
        return None
    hint = parse_retry_after(headers, time.time())
    if hint is None:
        hint = envelope.retry_after
    if hint is None and (status in _MAY_HINT or status >= _SERVER_ERROR):
        hint = parse_hint_in_message(envelope.message)
    if hint is None and status in _MAY_HINT:
        hint = parse_reset(headers, time.time())
    if hint is None and status in _MAY_HINT and envelope.headers:
        date = {"date": headers.get("date", "")}
        hint = parse_reset({**date, **envelope.headers}, time.time())
    return hint


def observe_event(response: Any, data: bytes, operation: Operation) -> Observation:
    """Return the facts of an error that came as an event of a stream.

    The Responses API has the error below ``response``; its status then tells nothing.
    """
    try:
        parsed = json.loads(data)
    except (ValueError, RecursionError):
        parsed = None
    inner = parsed.get("response") if isinstance(parsed, dict) else None
    if isinstance(inner, dict) and inner.get("error"):
        data = json.dumps({"error": inner["error"]}).encode()
    return observe(response, data, operation)


def observe_fault(
    fault: Fault, error: BaseException, status: int | None, operation: Operation
) -> Observation:
    """Return the facts of an exchange that broke off before or after its headers."""
    return Observation(
        fault=fault,
        status=status,
        message=str(error)[:_TEXT_KEPT],
        operation=operation,
        body=BodyKind.UNREAD,
    )


def request_ids(headers: Any, envelope: Envelope) -> RequestIds:
    """Return the ids of a response; the gateway's header is the authority on the gateway's id."""
    gateway = ""
    for name in _GATEWAY_ID_HEADERS:
        gateway = gateway or headers.get(name, "")[:_ID_KEPT]
    in_message = envelope.request_id if gateway else ""
    named = (headers.get(name, "")[:_ID_KEPT] for name in _PROVIDER_ID_HEADERS)
    others = (*named, envelope.upstream_request_id, in_message)
    return RequestIds(
        gateway=gateway or envelope.request_id,
        provider=next((id_ for id_ in others if id_ and id_ != gateway), ""),
        edge=headers.get("cf-ray", "")[:_ID_KEPT] or envelope.edge_id,
    )


def rebuild(response: Any, body: bytes, ids: RequestIds, extension: tuple[str, object]) -> Any:
    """Return the response as the SDK is to see it: its body read, retries above us stopped.

    ``x-request-id`` becomes the gateway's id, because that is what the SDK shows as
    ``error.request_id``.
    """
    replaced = _DROPPED_HEADERS | ({b"x-request-id"} if ids.gateway else frozenset())
    headers = [(k, v) for k, v in response.headers.raw if k.lower() not in replaced]
    headers.append((b"x-should-retry", b"false"))
    if ids.gateway:
        headers.append((b"x-request-id", ids.gateway.encode("ascii", "ignore")))
    name, value = extension
    rebuilt = family_of(response).Response(
        response.status_code,
        headers=headers,
        content=body,
        extensions={**response.extensions, name: value},
    )
    try:
        _ = rebuilt.text
    except Exception:  # noqa: BLE001 - the head names a charset that it is not, or no text at all
        rebuilt.encoding = "utf-8"
    return rebuilt


def error_body(response: Any) -> object:
    """Return what the SDK would give as ``error.body``."""
    try:
        body = response.json()
    except (ValueError, RecursionError):
        return response.text or None
    return body.get("error") or body if isinstance(body, dict) else body


def reason_phrase(response: Response | ResponseHead) -> str:
    """Return the words behind the status, ``""`` where only a head is left."""
    return str(getattr(response, "reason_phrase", ""))


def body_so_far(response: Any) -> bytes:
    """Return the body of a response as far as it was read."""
    try:
        return bytes(response.content)
    except Exception:  # noqa: BLE001 - ResponseNotRead, of whichever family
        return b""


def with_request(response: Any, request: Request) -> Any:
    """Let a response name its request, as exceptions of the SDK's ask of it; return it."""
    response.request = request
    return response


def note_elapsed(response: Any, seconds: float) -> None:
    """Let a response that was read here say how long it took, as its client would."""
    response.elapsed = timedelta(seconds=seconds)


def received_size(response: Any) -> int | None:
    """Return the size of a body in bytes as far as it came, or else as its head announces it."""
    return response.num_bytes_downloaded or declared_size(response.headers)


def read_rates(response: Any) -> tuple[RateReading, ...]:
    """Return the limits that the headers of an answer tell, mostly none."""
    raw: list[tuple[bytes, bytes]] = response.headers.raw
    if b"ratelimit" not in b" ".join([name for name, _ in raw]).lower():
        return ()  # one search for all names: nearly every answer ends here
    named = {
        lowered.decode("latin-1"): value.decode("latin-1")
        for lowered, value in ((name.lower(), value) for name, value in raw)
        if b"ratelimit" in lowered
    }
    named["date"] = response.headers.get("date", "")
    return parse_rates(named, time.time())


def declared_size(headers: Mapping[str, str]) -> int | None:
    """Return what the head of a message says of its body's size, ``None`` if nothing."""
    length = headers.get("content-length", "")
    return int(length) if len(length) < _MOST_DIGITS and length.isdecimal() else None


def _host_and_path(location: str) -> str:
    """Return a redirect's target without its query, which may carry secrets."""
    return location.partition("?")[0].partition("#")[0][:_TEXT_KEPT]
