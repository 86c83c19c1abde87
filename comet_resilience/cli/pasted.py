"""Clues in a text that a person pasted: log lines, tracebacks, bodies, statuses.

Each line is read by the first reader that finds something in it, and no character is looked at
more than a few times. Nothing is judged here.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final

from ..verdict.vocabulary import FailureKind, Fault
from ..wire.family import FAULTS

#: So much of a text is read, from its end: the last words of a traceback are the ones that count.
MOST_READ: Final = 262_144
#: So many different clues are reported, and the rest is counted.
MOST_CLUES: Final = 20

_SDK: Final = re.compile(r"\bError code: ([1-5]\d\d)\b")
_REQUESTED: Final = re.compile(
    r'\bHTTP Request: ([A-Z]{3,7}) (\S{1,2000}) "HTTP/[\d.]{1,3} ([1-5]\d\d)\b'
)
_ATTEMPT: Final = re.compile(r"\battempt \d{1,6}: (\d{3}|[a-z_]{2,20}) \S{0,128} ?after \d")
_JUDGED: Final = re.compile(r"\b([a-z_]{4,20}) \((?:status (\d{3})|no response)\): ")
_BROKEN: Final = re.compile(r"\b([a-z_]{4,20}): stream broken after \d")
_OUTAGE: Final = re.compile(r"\boutage of [^:\n]{1,200}(?::\d{1,5})?: (\d{3}|[a-z_]{2,20}): ")
_OWN_ROUTE: Final = re.compile(r"\b([A-Z]{3,7}) (/\S{0,300}) model=(\S{1,200})")
_PHRASES: Final = "|".join(
    re.escape(phrase)
    for phrase in sorted(
        {status.phrase for status in HTTPStatus if status >= HTTPStatus.MULTIPLE_CHOICES}
        | {"OK", "Unprocessable Entity", "Payload Too Large", "Unauthorised"}
    )
)
_STATUS: Final = re.compile(
    rf"\b([1-5]\d\d)[ :-]{{1,3}}(?:{_PHRASES})\b"
    r"|\bstatus(?:[ _-]?code)?[\"']?(?: of| is|[:=])? ?([1-5]\d\d)\b"
    r"|\bHTTP(?:/[\d.]{1,3}| error| status)?:? ([1-5]\d\d)\b"
    r"|\b(?:error|got|returned|received|code):? ([45]\d\d)\b"
    r"|\A\s{0,9}([1-5]\d\d)(?=\s{0,9}\Z|[ :,-]{1,3}\{)",
    re.IGNORECASE,
)
_SENTENCES: Final = (
    (re.compile(r"\brequest timed out\b", re.IGNORECASE), Fault.READ_TIMEOUT),
    (re.compile(r"\bconnection error\b", re.IGNORECASE), Fault.READ),
    (re.compile(r"\bcertificate.verify.failed\b", re.IGNORECASE), Fault.TLS),
    (re.compile(r"\ball connection attempts failed\b|\bconnection refused\b"
                r"|\bname or service not known\b|\bnodename nor servname\b"
                r"|\btemporary failure in name resolution\b", re.IGNORECASE), Fault.CONNECT),
    (re.compile(r"\bserver disconnected\b|\bconnection reset\b|\bpeer closed connection\b",
                re.IGNORECASE), Fault.READ),
)  # fmt: skip
_EXCEPTION: Final = re.compile(r"(?<![\w.])(?:[a-z_]\w{0,40}\.){0,6}([A-Z]\w{3,40})(?=:|\s*\Z|\()")
#: Exceptions by name: the HTTP libraries', the SDK's, and ours.
_FAULTS: Final = {
    **FAULTS,
    "SSLCertVerificationError": Fault.TLS, "APITimeoutError": Fault.READ_TIMEOUT,
    "APIConnectionError": Fault.READ, "QueueFullError": Fault.QUEUE,
    "QueueTimeoutError": Fault.QUEUE, "GateClosedError": Fault.GATE,
    "DeadlineExceededError": Fault.DEADLINE, "IncompleteStreamError": Fault.INCOMPLETE,
}  # fmt: skip
_STATUSES: Final = {
    "BadRequestError": 400, "AuthenticationError": 401, "PermissionDeniedError": 403,
    "NotFoundError": 404, "ConflictError": 409, "UnprocessableEntityError": 422,
    "RateLimitError": 429,
}  # fmt: skip
#: What stands for a kind of ours whose line names no status.
_FAULT_OF: Final = {
    FailureKind.TIMEOUT: Fault.READ_TIMEOUT, FailureKind.CONNECTION: Fault.READ,
    FailureKind.LOCAL: Fault.LOCAL, FailureKind.UNAVAILABLE: Fault.GATE,
    FailureKind.RATE_LIMITED: Fault.QUEUE,
}  # fmt: skip
#: What a line of ours says of a refusal that needed no answer.
_REFUSED_BY_US: Final = (
    ("deadline=", Fault.DEADLINE), ("gate", Fault.GATE), ("outage", Fault.GATE),
    ("queue", Fault.QUEUE),
)  # fmt: skip
_COLOUR: Final = re.compile(r"\x1b\[[\d;]{0,9}m")
_PAGE: Final = re.compile(r"\s{0,99}<(?:!doctype|html|head|title)", re.IGNORECASE)
_TITLED: Final = re.compile(rb"<title>[^<\d]{0,80}([45]\d\d)\b", re.IGNORECASE)
_QUOTE: Final = re.compile(r"[\"'{}\[\]\\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Clue:
    """One outcome in a text.

    ``what`` names its form and ``line`` quotes it. ``body`` is ``None`` where the text does not
    show it, which is not an empty one. ``said`` is what followed in a line of our own log.
    ``times`` counts how often the same was found.
    """

    what: str
    line: str
    status: int | None = None
    body: bytes | None = None
    fault: Fault | None = None
    method: str = ""
    url: str = ""
    model: str = ""
    said: str = ""
    times: int = 1


def clues_in(text: str) -> tuple[list[Clue], int]:
    """Return the different clues in a text, in their order, and how many more there are."""
    found: dict[tuple[object, ...], Clue] = {}
    left_off = 0
    for clue in _joined(_read(_COLOUR.sub("", text[-MOST_READ:]))):
        key = (clue.status, clue.body, clue.fault, clue.url, clue.model, clue.said)
        if key in found:
            found[key] = replace(found[key], times=found[key].times + 1)
        elif len(found) < MOST_CLUES:
            found[key] = clue
        else:
            left_off += 1
    return list(found.values()), left_off


def as_body(text: str) -> bytes:
    """Return a body as it came: the SDK prints JSON as Python shows it."""
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text.encode("utf-8", "replace")
    try:
        return json.dumps(value).encode()
    except (ValueError, TypeError, RecursionError):
        return text.encode("utf-8", "replace")


def status_in(body: bytes) -> int | None:
    """Return the status that a body names itself, ``None`` if it names none."""
    titled = _TITLED.search(body)
    if titled is not None:
        return int(titled[1])
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return None
    inner = data.get("error") if isinstance(data, dict) else None
    for fields in (data, inner):
        for name in ("status", "status_code", "statusCode", "code"):
            value = fields.get(name) if isinstance(fields, dict) else None
            if str(value).isdecimal() and 400 <= int(str(value)[:9]) < 600:
                return int(str(value))
    return None


def _joined(clues: Iterator[Clue]) -> Iterator[Clue]:
    """Join clues of one outcome: a status and the body below it, a fault and its wrapper."""
    before: Clue | None = None
    for clue in clues:
        if before is not None and _completes(before, clue):
            before = replace(before, body=clue.body)
        elif before is not None and _wraps(clue, before):
            continue
        else:
            if before is not None:
                yield before
            before = clue
    if before is not None:
        yield before


def _completes(before: Clue, clue: Clue) -> bool:
    lacks_body = before.status is not None and before.body is None
    return lacks_body and clue.status is None and clue.body is not None


def _wraps(clue: Clue, before: Clue) -> bool:
    """Return True if a clue only repeats what the exception before it, its cause, named."""
    if before.fault is None or before.what != "an exception" or clue.line == before.line:
        return False
    if clue.what == "a message" or clue.line.lstrip().startswith("openai.API"):
        return clue.fault is not None
    same = (before.fault, Fault.CONNECT if before.fault is Fault.TLS else before.fault)
    return clue.what == "an exception" and clue.fault in same


def _read(text: str) -> Iterator[Clue]:
    """Yield the clues of each line; a body may go over several lines and takes them with it."""
    place = 0
    while place < len(text):
        end = text.find("\n", place)
        end = len(text) if end < 0 else end
        line = text[place:end]
        if _PAGE.match(line):
            yield Clue(what="a body", line=line, body=text[place:].encode("utf-8", "replace"))
            return
        if line.lstrip().startswith(("{", "[{")):
            stop = _end_of_value(text, place, len(text))
            yield Clue(what="a body", line=line, body=as_body(text[place:stop]))
            end = text.find("\n", stop)
            end = len(text) if end < 0 else end
        elif _SDK.search(line):
            end = yield from _sdk_lines(text, place, end)
        else:
            yield from _line(line)
        place = end + 1


def _sdk_lines(text: str, place: int, end: int) -> Generator[Clue, None, int]:
    """Yield what the SDK's messages in a line say, and return where the last body ends."""
    heads = list(_SDK.finditer(text, place, end))
    for head, after in zip(heads, [*heads[1:], None], strict=True):
        last = _SDK.search(text, end) if after is None else after
        limit = len(text) if last is None else last.start()
        limit = limit if text[head.end() : head.end() + 5].strip(" -")[:1] == "{" else end
        opened = text.find("{", head.end(), min(limit, head.end() + 5))
        stop = end
        body = None
        if opened >= 0:
            stop = _end_of_value(text, opened, limit)
            body = as_body(text[opened:stop])
        elif text[head.end() : head.end() + 3] == " - ":
            stop = end if after is None else after.start()
            body = text[head.end() + 3 : stop].strip().encode("utf-8", "replace") or None
        line = text[place:end]
        yield Clue(what="the SDK's message", line=line, status=int(head[1]), body=body)
        end = max(end, stop) if after is None else end
    return end


def _end_of_value(text: str, start: int, limit: int) -> int:
    """Return where the braces that open at a place are closed, ``limit`` if they never are."""
    depth, quote, place = 0, "", start
    while (found := _QUOTE.search(text, place, limit)) is not None:
        sign, place = found[0], found.end()
        if sign == "\\":
            place += 1
        elif quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'":
            quote = sign
        else:
            depth += 1 if sign in "{[" else -1
            if depth <= 0:
                return place
    return limit


def _line(line: str) -> Iterator[Clue]:
    """Yield the clues of the first reader that finds any."""
    for reader in (_requested, _own, _statuses, _exceptions, _sentences):
        found = list(reader(line))
        if found:
            yield from found
            return


def _requested(line: str) -> Iterator[Clue]:
    for found in _REQUESTED.finditer(line):
        method, url, status = found.groups()
        what = "a log line of the HTTP library"
        yield Clue(what=what, line=line, status=int(status), method=method, url=url)


def _own(line: str) -> Iterator[Clue]:
    for pattern in (_ATTEMPT, _OUTAGE, _JUDGED, _BROKEN):
        found = pattern.search(line)
        outcome = "" if found is None else found[found.lastindex or 1]
        if found is None or (pattern is _BROKEN and found[1] not in list(FailureKind)):
            continue
        status, fault = _outcome(outcome if pattern is not _BROKEN else "incomplete")
        if pattern is _JUDGED and fault is None and status is None:
            fault = _fault_in_words(found[1], line[found.end() :])
        route = _OWN_ROUTE.search(line)
        yield Clue(
            what="a line of our own log", line=line, status=status, fault=fault,
            method=route[1] if route else "", url=route[2] if route else "",
            model=route[3].strip("-") if route else "", said=line[found.end() :],
        )  # fmt: skip
        return


def _fault_in_words(kind: str, said: str) -> Fault | None:
    """Return the fault that a line of ours without a status stands for."""
    ours = (fault for word, fault in _REFUSED_BY_US if word in said)
    by_kind = next((fault for each, fault in _FAULT_OF.items() if each == kind), None)
    return next(ours, by_kind)


def _outcome(text: str) -> tuple[int | None, Fault | None]:
    if text.isdecimal():
        return int(text), None
    return None, next((fault for fault in Fault if fault == text), None)


def _statuses(line: str) -> Iterator[Clue]:
    finds = list(_STATUS.finditer(line))
    for found, after in zip(finds, [*finds[1:], None], strict=False):
        status = next(int(group) for group in found.groups() if group)
        limit = len(line) if after is None else after.start()
        opened = line.find("{", found.end(), limit)
        body = (
            as_body(line[opened : _end_of_value(line, opened, len(line))]) if opened >= 0 else None
        )
        yield Clue(what="a status", line=line, status=status, body=body)
        if body is not None:
            return


def _exceptions(line: str) -> Iterator[Clue]:
    for found in _EXCEPTION.finditer(line):
        fault, status = _FAULTS.get(found[1]), _STATUSES.get(found[1])
        if fault is not None or status is not None:
            yield Clue(what="an exception", line=line, fault=fault, status=status)
            return


def _sentences(line: str) -> Iterator[Clue]:
    for pattern, fault in _SENTENCES:
        if pattern.search(line):
            yield Clue(what="a message", line=line, fault=fault)
            return
