"""The rate limit that a server tells of itself, in headers or in words. Pure.

OpenAI and Azure write ``x-ratelimit-remaining-requests``, Anthropic
``anthropic-ratelimit-requests-remaining``, the IETF's drafts ``ratelimit-remaining`` or
``RateLimit: "default";r=50;t=30`` with a policy, OpenRouter ``x-ratelimit-reset`` in milliseconds
since the epoch; Azure may tell a ``renewalperiod`` and no reset. Nonsense tells nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

from .retry_after import LONGEST, parse_moment


class Counted(StrEnum):
    """The unit of a rate limit."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    INPUT_TOKENS = "input tokens"
    OUTPUT_TOKENS = "output tokens"


@dataclass(frozen=True, slots=True)
class RateReading:
    """A limit as the headers of one answer tell it.

    ``remaining`` of ``limit`` are left; ``reset`` is the seconds until all, or the next part, of
    it is back, ``None`` where only the ``period`` (seconds) of the limit is told. ``name`` tells
    limits of one unit apart that come together.
    """

    counted: Counted
    limit: float
    remaining: float
    reset: float | None
    period: float | None = None
    name: str = ""


@dataclass(frozen=True, slots=True)
class RateInWords:
    """A limit as a message tells it: so many in ``per`` seconds.

    ``of_account`` says that it is the account's own limit at the gateway, for all models.
    """

    counted: Counted
    limit: int
    per: float
    of_account: bool

    def __str__(self) -> str:
        return f"{self.limit} {self.counted.value} in {self.per:g} s"


_MOST: Final = 1e12
_NUMBER = re.compile(r"\d{1,15}(?:\.\d{1,9})?", re.ASCII)
#: Units as headers write them.
_COUNTED: Final = {counted.value.replace(" ", "-"): counted for counted in Counted}
#: Families of names: prefix, then the quantity before or behind the member.
_NAME = re.compile(
    r"(?P<family>(?:x-)?ratelimit|anthropic-ratelimit)-"
    r"(?:(?P<before>requests|tokens|input-tokens|output-tokens)-)?"
    r"(?P<member>limit|remaining|reset|renewalperiod)"
    r"(?:-(?P<behind>requests|tokens|input-tokens|output-tokens))?",
    re.ASCII,
)
#: One limit of several in one header: its name, if it has one, and its parameters.
_PART = re.compile(r'\s{0,3}(?:"(?P<name>[\w -]{0,40})")?(?P<rest>[^"]{0,120})', re.ASCII)
_ITEM = re.compile(r"(?P<key>[a-z]{1,9})\s{0,3}=\s{0,3}(?P<value>\d{1,15}(?:\.\d{1,9})?)", re.ASCII)
_PARTS_READ: Final = 8
#: More headers than this are no server's; longer ones say nothing.
_HEADERS_READ: Final = 64
_VALUE_READ: Final = 200


def parse_rates(headers: Mapping[str, str], now: float) -> tuple[RateReading, ...]:
    """Return what headers tell of rate limits, at most one reading of each unit and name.

    ``headers`` are those with ``ratelimit`` in their lower-case names, and ``date``; ``now`` is
    the wall clock, where there is no date.
    """
    date = headers.get("date", "")
    found: dict[tuple[str, str], dict[str, float]] = {}
    for name, value in list(headers.items())[:_HEADERS_READ]:
        named = _named(name)
        if named is None or len(value) > _VALUE_READ:
            continue
        family, unit, member = named
        number = _amount(member, value, date, now)
        if number is not None:
            found.setdefault((family, unit), {})[member] = number
    for name, fields in _structured(headers):
        found[name, "requests"] = fields
    readings = (_reading(name, unit, fields) for (name, unit), fields in found.items())
    return tuple(reading for reading in readings if reading is not None)[:_PARTS_READ]


@lru_cache(maxsize=256)
def _named(name: str) -> tuple[str, str, str] | None:
    """Return the family, the unit and the member that a header's name stands for."""
    named = _NAME.fullmatch(name)
    if named is None:
        return None
    return named["family"], named["before"] or named["behind"] or "requests", named["member"]


def _amount(member: str, value: str, date: str, now: float) -> float | None:
    if member == "reset":
        seconds = parse_moment(value.strip(), date, now)
        return None if seconds is None or not 0 <= seconds <= LONGEST else seconds
    return _count(value)


@lru_cache(maxsize=1_024)
def _count(value: str) -> float | None:
    """Return the first number of a header; most were read before."""
    first = value.partition(",")[0].partition(";")[0].strip()
    return float(first) if _NUMBER.fullmatch(first) else None


def _structured(headers: Mapping[str, str]) -> list[tuple[str, dict[str, float]]]:
    """Read the one header that has all three, in the form of either draft of the IETF."""
    value, policy = headers.get("ratelimit", ""), headers.get("ratelimit-policy", "")
    if not value or len(value) > _VALUE_READ:
        return []
    plans = dict(_parts(policy[:_VALUE_READ]))
    found = []
    for name, said in _parts(value):
        plan = plans.get(name, {})
        fields = {
            "limit": said.get("limit", plan.get("q")),
            "remaining": said.get("remaining", said.get("r")),
            "reset": said.get("reset", said.get("t")),
            "renewalperiod": plan.get("w"),
        }
        given = {member: each for member, each in fields.items() if each is not None}
        found.append((f"ratelimit {name}".strip(), given))
    return found


def _parts(value: str) -> list[tuple[str, dict[str, float]]]:
    """Return the limits of a header by name; one without a name is all of it."""
    texts = value.split(",")[:_PARTS_READ] if '"' in value else [value]
    found = []
    for text in texts:
        part = _PART.fullmatch(text)
        if part is not None:
            items = _ITEM.finditer(part["rest"])
            found.append((part["name"] or "", {one["key"]: float(one["value"]) for one in items}))
    return found


def _reading(name: str, unit: str, fields: Mapping[str, float]) -> RateReading | None:
    limit, remaining = fields.get("limit"), fields.get("remaining")
    reset, period = fields.get("reset"), fields.get("renewalperiod")
    if period is not None and not 0 < period <= LONGEST:
        period = None
    if limit is None or remaining is None or (reset is None and period is None):
        return None
    if not (0 < limit <= _MOST and 0 <= remaining <= limit):
        return None
    return RateReading(_COUNTED[unit], limit, remaining, reset, period, name)


_UNITS: Final = {
    "s": 1.0, "sec": 1.0, "second": 1.0, "m": 60.0, "min": 60.0, "minute": 60.0,
    "h": 3600.0, "hour": 3600.0, "d": 86_400.0, "day": 86_400.0,
    "秒": 1.0, "分钟": 60.0, "小时": 3600.0, "天": 86_400.0,
}  # fmt: skip
_COUNT: Final = r"(?P<n>\d{1,3}(?:,\d{3}){1,4}|\d{1,12})"
#: The account's own limit at a gateway of the new-api family.
_OF_ACCOUNT: Final = (
    re.compile(
        r"(?P<m>\d{1,6})\s?(?P<unit>秒|分钟|小时|天)内最多请求\s?(?P<n>\d{1,9})\s?次", re.ASCII
    ),
    re.compile(
        r"\bmaximum (?P<n>\d{1,9}) requests? in (?P<m>\d{1,6})"
        r" (?P<unit>second|minute|hour|day)s?\b",
        re.IGNORECASE | re.ASCII,
    ),
)
_KIND: Final = r"(?P<kind>requests?|(?:API )?calls?|(?:input |output )?tokens?)"
_UNIT: Final = r"(?P<unit>second|sec|minute|min|hour|day)\b"
_OF_MODEL: Final = (
    re.compile(
        rf"\b{_KIND} per {_UNIT}[^.\n]{{0,40}}?: ?limit:? {_COUNT}\b", re.IGNORECASE | re.ASCII
    ),
    re.compile(rf"\b{_COUNT} {_KIND} ?(?:per|every|a|/) ?{_UNIT}", re.IGNORECASE | re.ASCII),
)
#: So many in so many seconds, without a word of what: requests.
_IN_SECONDS = re.compile(
    rf"\brate limit of {_COUNT} per (?P<m>\d{{1,6}}) ?s\b", re.IGNORECASE | re.ASCII
)
_SHORT = re.compile(
    rf"\b(?:limit:?|RPM:|TPM:) {{1,2}}{_COUNT}\b"
    rf"|\b{_COUNT.replace('?P<n>', '?P<k>')} ?(?:RPM|TPM)\b",
    re.IGNORECASE | re.ASCII,
)
_RPM = re.compile(r"\b(?P<what>RPM|TPM)\b")
_WORDS_READ: Final = 2_000


def parse_rate_in_words(message: str) -> RateInWords | None:
    """Return the limit that a refusal names in its message, ``None`` if it names none."""
    text = message[:_WORDS_READ]
    for pattern in _OF_ACCOUNT:
        if found := pattern.search(text):
            return _in_words("requests", found["n"], float(found["m"]), found["unit"], True)
    for pattern in _OF_MODEL:
        if found := pattern.search(text):
            return _in_words(found["kind"], found["n"], 1.0, found["unit"], False)
    if found := _IN_SECONDS.search(text):
        return _in_words("requests", found["n"], float(found["m"]), "s", False)
    unit, count = _RPM.search(text), _SHORT.search(text)
    if unit is None or count is None:
        return None
    kind = "requests" if unit["what"] == "RPM" else "tokens"
    return _in_words(kind, count["n"] or count["k"], 1.0, "min", False)


def _in_words(
    kind: str, count: str, times: float, unit: str, of_account: bool
) -> RateInWords | None:
    kind = kind.lower()
    counted = Counted.REQUESTS
    if "token" in kind:
        counted = Counted(kind if kind.endswith("s") else kind + "s")
    limit, per = int(count.replace(",", "")), times * _UNITS[unit.lower()]
    if limit < 1 or not 0 < per <= LONGEST:
        return None
    return RateInWords(counted, limit, per, of_account)
