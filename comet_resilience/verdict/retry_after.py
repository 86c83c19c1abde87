"""The server's wish to be left alone for a while, in seconds.

It may stand in many places, and the first that says something counts: ``retry-after-ms``
(milliseconds, an OpenAI habit), ``Retry-After`` in seconds or as an HTTP date (RFC 9110, section
10.2.3), a copy of the provider's that a proxy keeps under a name of its own, a member of the error,
the words of the message, and last the reset of a budget of which nothing remains. Nonsense is no
wish: it is ignored rather than repaired. What belongs to a limit of calls at once is no time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

_SECONDS_HEADERS: Final = ("retry-after", "llm_provider-retry-after")
_NUMBER = re.compile(r"\d{1,13}(\.\d{1,9})?", re.ASCII)
_UNITS: Final = (("h", 3600.0), ("m", 60.0), ("s", 1.0), ("ms", 0.001))
#: Longer waits than a month are nonsense in a header that names the end of a budget.
LONGEST: Final = 31 * 86_400.0
_EPOCH: Final = 1e9
_EPOCH_MS: Final = 1e11
_DURATION = re.compile(
    r"(?:(?P<h>\d{1,4})h)?(?:(?P<m>\d{1,4})m(?!s))?(?:(?P<s>\d{1,9}(?:\.\d{1,9})?)s)?"
    r"(?:(?P<ms>\d{1,9}(?:\.\d{1,9})?)ms)?",
    re.ASCII,
)
_REMAINING = re.compile(
    r"(?:llm_provider-)?((?:x-)?ratelimit|anthropic-ratelimit)-(?:(\w{1,30}(?:-\w{1,30}){0,2})-)?"
    r"remaining(?:-(\w{1,30}(?:-\w{1,30}){0,2}))?",
    re.ASCII,
)
#: A budget and its reset in one header, as the drafts for a standard have them.
_USED_UP = re.compile(
    r"remaining=0,\s{0,3}reset=(\d{1,7})\b|;\s{0,3}r=0;\s{0,3}t=(\d{1,7})\b", re.ASCII
)
_AT_ONCE = re.compile(r"parallel.requests?|concurren(?:t|cy)|并发", re.IGNORECASE)
_IN_CHINESE = re.compile(
    r"(?P<n>\d{1,6}(?:\.\d{1,3})?)\s?(?P<unit>毫秒|秒|分钟|小时)钟?(?:之|以)?后", re.ASCII
)
_CHINESE_UNITS: Final = {"毫秒": 0.001, "秒": 1.0, "分钟": 60.0, "小时": 3600.0}
_IN_TEXT = re.compile(
    r"(?:(?:try again|retry|wait|resets?|available)[^.\n]{0,20}?\b(?:in|after|for)|wait)[:\s]{1,3}"
    r"(?:(?P<h>\d{1,4})\s?h(?:(?:ou)?rs?|our)?(?![a-z])\s?)?"
    r"(?:(?P<m>\d{1,4})\s?m(?:in(?:ute)?s?)?(?![a-z])\s?)?"
    r"(?:(?P<s>\d{1,6}(?:\.\d{1,9})?)\s?s(?:ec(?:ond)?s?)?(?![a-z]))?"
    r"(?:(?P<ms>\d{1,9}(?:\.\d{1,9})?)\s?(?:ms|milliseconds?)(?![a-z]))?",
    re.IGNORECASE | re.ASCII,
)


def parse_retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Return the hint in seconds, ``None`` if there is none or it is nonsense.

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


def parse_reset(headers: Mapping[str, str], now: float) -> float | None:
    """Return the seconds until a budget that is used up comes back, the longest of several.

    A budget is used up where its header says that 0 remain; the header that names its reset may
    give a duration, seconds, seconds or milliseconds since the epoch, or a date. ``RateLimit``
    says both at once.
    """
    waits = (
        []
        if (used_up := _USED_UP.search(headers.get("ratelimit", ""))) is None
        else [float(used_up[1] or used_up[2])]
    )
    for name, left in headers.items():
        found = _REMAINING.fullmatch(name.lower())
        if found is None or left.strip() != "0":
            continue
        reset = headers.get(name.lower().replace("remaining", "reset"), "")
        wait = parse_moment(reset.strip(), headers.get("date", ""), now)
        if wait is not None and 0 <= wait <= LONGEST:
            waits.append(wait)
    return max(waits, default=None)


def parse_duration(text: str) -> float | None:
    """Return the seconds of ``31s``, ``1m26.4s`` or a plain number; ``None`` on nonsense."""
    if _NUMBER.fullmatch(text):
        return float(text)
    found = _DURATION.fullmatch(text) if 0 < len(text) <= 40 else None
    if found is None:
        return None
    return sum(float(found[unit] or 0) * seconds for unit, seconds in _UNITS)


def is_about_calls_at_once(headers: Mapping[str, str], message: str) -> bool:
    """Return True if a limit of concurrent calls refused: a slot is free as soon as one ends."""
    kind = headers.get("rate_limit_type", "") or headers.get("x-ratelimit-type", "")
    return _AT_ONCE.search(kind) is not None or _AT_ONCE.search(message[:4_000]) is not None


def parse_moment(text: str, date: str, now: float) -> float | None:
    """Return the seconds until a moment given as a duration, a number or a date."""
    number = parse_duration(text)
    if number is None:
        moment = _timestamp(text)
        if moment is None:
            moment = _iso_timestamp(text)
        number = moment if moment is None else max(moment, _EPOCH)
    if number is None or number < _EPOCH:
        return number
    server_now = _timestamp(date)
    return (number / 1000 if number > _EPOCH_MS else number) - (
        now if server_now is None else server_now
    )


def _iso_timestamp(text: str) -> float | None:
    try:
        moment = datetime.fromisoformat(text) if 0 < len(text) <= 40 else None
        return None if moment is None or moment.tzinfo is None else moment.timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def parse_hint_in_message(message: str) -> float | None:
    """Return the seconds of a sentence such as "Please try again in 1m2.5s", or ``None``."""
    for found in _IN_TEXT.finditer(message[:4_000]):
        amounts = found.groupdict()
        if any(amounts.values()):
            return sum(float(amounts[unit] or 0) * seconds for unit, seconds in _UNITS)
    in_chinese = _IN_CHINESE.search(message[:4_000])
    if in_chinese is not None:
        return float(in_chinese["n"]) * _CHINESE_UNITS[in_chinese["unit"]]
    return None


def _parse_number(value: str) -> float | None:
    """Return the number, or the largest where a header came several times."""
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
