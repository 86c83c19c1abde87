"""The server's wish to be left alone for a while, in seconds.

Three headers may carry it: ``retry-after-ms`` (milliseconds, an OpenAI habit), ``Retry-After`` in
seconds or as an HTTP date (RFC 9110, section 10.2.3), and a copy of the provider's that a proxy
keeps under a name of its own. Some providers only say it in the message. Nonsense is no wish: it
is ignored rather than repaired.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

_SECONDS_HEADERS: Final = ("retry-after", "llm_provider-retry-after")
_NUMBER = re.compile(r"\d{1,12}(\.\d{1,9})?", re.ASCII)
_UNITS: Final = (("h", 3600.0), ("m", 60.0), ("s", 1.0), ("ms", 0.001))
_IN_TEXT = re.compile(
    r"(?:(?:try again|retry|wait)[^.\n]{0,20}?\b(?:in|after|for)|wait)\s{1,3}"
    r"(?:(?P<h>\d{1,4})\s?h(?:(?:ou)?rs?|our)?(?![a-z])\s?)?"
    r"(?:(?P<m>\d{1,4})\s?m(?:in(?:ute)?s?)?(?![a-z])\s?)?"
    r"(?:(?P<s>\d{1,6}(?:\.\d{1,9})?)\s?s(?:ec(?:ond)?s?)?(?![a-z]))?"
    r"(?:(?P<ms>\d{1,9}(?:\.\d{1,9})?)\s?(?:ms|milliseconds?)(?![a-z]))?",
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
    for name in _SECONDS_HEADERS:
        value = headers.get(name, "").strip()
        seconds = _parse_number(value)
        if seconds is None:
            seconds = _parse_date(value, headers.get("date", ""), now)
        if seconds is not None:
            return seconds
    return None


def parse_hint_in_message(message: str) -> float | None:
    """Seconds from a sentence such as "Please try again in 1m2.5s"; ``None`` if there is none."""
    for found in _IN_TEXT.finditer(message[:4_000]):
        amounts = found.groupdict()
        if any(amounts.values()):
            return sum(float(amounts[unit] or 0) * seconds for unit, seconds in _UNITS)
    return None


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
        moment = parsedate_to_datetime(value)
        if moment.tzinfo is None:  # the oldest of the three forms names no zone: it is UTC
            moment = moment.replace(tzinfo=UTC)
        return moment.timestamp()
    except (ValueError, TypeError, IndexError, OverflowError, OSError):
        return None
