"""The server's wish to be left alone for a while, in seconds.

Three headers may carry it: ``retry-after-ms`` (milliseconds, an OpenAI habit), ``Retry-After`` in
seconds, and ``Retry-After`` as an HTTP date (RFC 9110, section 10.2.3). Some providers only say it
in the message. Nonsense is no wish: it is ignored rather than repaired.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

_NUMBER = re.compile(r"\d{1,12}(\.\d{1,9})?", re.ASCII)
_IN_TEXT = re.compile(
    r"(?:try again|retry|wait)[^.\n]{0,20}?\b(?:in|after|for)\s+"
    r"(?:(\d{1,4})\s*m(?!s|illi)(?:in(?:ute)?s?)?\s*)?(?:(\d{1,6}(?:\.\d{1,6})?)\s*(ms|milliseconds?|s\b|sec))?",
    re.IGNORECASE | re.ASCII,
)


def parse_retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """The hint in seconds, ``None`` if there is none or it is nonsense.

    ``headers`` looks names up without case, as the HTTP libraries' do. ``now`` is the wall clock
    in seconds since the epoch; a date is read against the response's own ``Date`` header if it
    has one, so that a wrong local clock does no harm.
    """
    in_ms = _parse_number(headers.get("retry-after-ms", ""))
    if in_ms is not None:
        return in_ms / 1000
    value = headers.get("retry-after", "").strip()
    seconds = _parse_number(value)
    return seconds if seconds is not None else _parse_date(value, headers.get("date", ""), now)


def parse_hint_in_message(message: str) -> float | None:
    """Seconds from a sentence such as "Please try again in 1m2.5s"; ``None`` if there is none."""
    found = _IN_TEXT.search(message[:4_000])
    if not found or not (found.group(1) or found.group(2)):
        return None
    minutes, amount, unit = found.groups()
    seconds = float(amount or 0) / (1000 if (unit or "").lower().startswith("m") else 1)
    return float(minutes or 0) * 60 + seconds


def _parse_number(value: str) -> float | None:
    """One number, or the largest where a header came several times."""
    if len(value) > 200:
        return None
    parts = [part.strip() for part in value.split(",")]
    if not all(_NUMBER.fullmatch(part) for part in parts):
        return None
    return max(float(part) for part in parts)


def _parse_date(value: str, date: str, now: float) -> float | None:
    until = _timestamp(value)
    if until is None:
        return None
    server_now = _timestamp(date)
    wait = until - (now if server_now is None else server_now)
    return wait if wait >= 0 else None


def _timestamp(value: str) -> float | None:
    if not value or len(value) > 60:
        return None
    try:
        return parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError, OSError):
        return None
