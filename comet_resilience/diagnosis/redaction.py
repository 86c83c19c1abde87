"""Redaction: the one place that knows what in a text is secret, private or huge.

There are two levels. The *log level* is for everything that may end up in a log: diagnosis, notes,
events. It never holds content, not even where a server echoes it. The *report level* is for a
person who asked for it: a body with its structure, its texts replaced by their lengths or, if
wanted, with its texts. Neither level ever shows a secret. Headers and queries are shown by
allowlist; secrets are found by their form and, as they are known, by their value, however they are
written.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ..escaping import printable
from .secrets import KnownSecrets, known_secrets
from .sizes import shown_size

#: No more of a text than this is scanned.
SCANNED: Final = 65_536
SECRET: Final = "[secret]"  # noqa: S105 - the replacement

#: An echo of a request's content is recognised from this length on. The text is probed at every
#: half of it, so that a longer echo cannot be missed.
_ECHO: Final = 12

_ADDRESS = re.compile(
    r"(?<![\w:.])(?:\d{1,3}(?:\.\d{1,3}){3}|(?:[0-9A-F]{0,4}:){2,7}[0-9A-F.]{0,15})(?![\w:])",
    re.IGNORECASE,
)
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,20}://)([^\s\"'<>\\)\]}]+)")
_DATA_URL = re.compile(r"data:([\w.+-]{1,60}/[\w.+-]{1,60})[\w;=.+-]{0,100},([A-Za-z0-9+/=_%-]*)")
_LONG_BASE64 = re.compile(r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{200,}+={0,2}")


def _with_digit(found: re.Match[str]) -> str:
    """Replace a prefixed word if it has a digit; dots and dashes behind it are the sentence's."""
    body = found[1].rstrip(".-")
    if len(body) < 8 or not any(char.isdecimal() for char in body):
        return found[0]
    return SECRET + found[1][len(body) :]


def _with_second_part(found: re.Match[str]) -> str:
    return SECRET if found[1] else found[0]


_FORMS: Final[tuple[tuple[re.Pattern[str], Any], ...]] = tuple(
    (re.compile(pattern, re.IGNORECASE), shown)
    for pattern, shown in (
        (r"\b(bearer|basic)\s+[^\s\"',;)\]}]{3,}", rf"\1 {SECRET}"),
        (r"\bsk-[\w*.\u2026-]{2,}[\w*]", SECRET),
        (r"\b(?:pk|rk|key|org|proj|sess)-([\w*.-]{7,}+)", _with_digit),
        (r"\bAIza[\w-]{10,}", SECRET),
        (r"\beyJ[\w-]{8,}+(\.[\w-]++(?:\.[\w-]*+)?)?", _with_second_part),
        (r"\b\w{1,12}\*{2,}\w{0,12}", SECRET),
        (r"\b(?=[A-Z]*+\d)(?=\d*+[A-Z])[A-Z0-9]{44,}+\b", SECRET),
        (r"\b(key|token|secret|password|sig)(\"?\s?[=:]\s?\"?)(?=\D{0,60}\d)[^\s\"',;&)]{8,}",
         rf"\1\2{SECRET}"),
        (r"(?<![\w.+-])[\w.+-]++@[\w-]{1,63}+(?:\.[\w-]{1,63}+)+", "[e-mail]"),
        (r"[$\u20ac\u00a3\u00a5\uff04\uffe5]\s?-?\d+(?:[.,]\d+)*", "[amount]"),
        (r"(balance|quota|credits?|\u989d\u5ea6|\u4f59\u989d)(\s?(?:is|of|[:=\uff1a])?\s?\[?)-?[\d.]+",
         r"\1\2[amount]"),
    )
)  # fmt: skip
_SECRET_NAME = re.compile(
    r"(?:^|[_-])(?:(?:api)?key|token|sig|auth)$|(?:access|refresh|session|id|auth)[_-]?token$"
    r"|apikey|secret|passw(?:or)?d|passphrase|authori[sz]ation|credential|cookie|signature|\bjwt\b",
    re.IGNORECASE,
)
#: Schemes that stand before the credentials of a header with any name.
_SCHEMES: Final = frozenset({"bearer", "basic", "token", "apikey", "api-key", "digest"})
#: Shorter pieces of a path count as names.
_SHORTEST_IN_PATH: Final = 8
_ENDPOINT = re.compile(
    r"/(?:(?:chat/)?completions|responses|embeddings|models|moderations|videos"
    r"|images/[a-z]{1,20}|audio/[a-z]{1,20})/?\Z"
)
_KEY_START = re.compile(r"(?:sk|pk|rk|ak|pat|gh[opsu]|glpat|xox[a-z])[-_]|AIza|eyJ")
_PIECES = re.compile(r"[\s,;=&\"'{}\[\]()<>]+")
_JOINTS = re.compile(r"[-_./:@+~%|]+")
#: A word of a name: letters of one case, a number, a version; at most five consonants in a row.
_ORDINARY = re.compile(
    r"(?!.{0,12}?[bcdfghjklmnpqrstvwxzBCDFGHJKLMNPQRSTVWXZ]{6})"
    r"(?:[A-Za-z]?[a-z]{0,11}|[A-Z]{1,12})(?:\d{0,3}|\d{8})|\d{1,8}[A-Za-z]{0,2}|v\d{1,2}(?:alpha|beta)\d?"
)
_SHOWN_HEADERS: Final = frozenset(
    {
        "content-type", "content-length", "date", "server", "via", "retry-after",
        "retry-after-ms", "x-should-retry", "x-cometapi-request-id", "x-oneapi-request-id",
        "x-request-id", "cf-ray", "cf-mitigated", "cf-cache-status", "location",
    }
)  # fmt: skip
#: Request headers that never hold anything private.
_HARMLESS_HEADERS: Final = frozenset(
    {"accept", "accept-encoding", "accept-language", "connection", "content-length",
     "content-type", "host", "idempotency-key", "range", "traceparent", "tracestate",
     "transfer-encoding", "user-agent", "x-client-request-id", "x-correlation-id", "x-request-id"}
)  # fmt: skip
_SHOWN_QUERY: Final = frozenset(
    {"after", "api-version", "before", "include", "include[]", "limit", "model", "order", "page",
     "page_size", "purpose", "stream", "variant"}
)  # fmt: skip
_TITLE = re.compile(r"<title[^<>]{0,200}+>([^<]{0,300})", re.IGNORECASE)
_RAY = re.compile(
    r"ray id:?\s{0,9}+(?:<[^<>]{0,200}+>\s{0,9}+){0,3}([0-9a-f]{12,20})", re.IGNORECASE
)


@dataclass(frozen=True, slots=True, repr=False)
class Redactor:
    """The secrets and the private texts of one request, taken out of everything that is shown.

    ``Redactor()`` knows no secret and still finds those that have a known form.
    """

    secrets: KnownSecrets = field(default_factory=KnownSecrets)
    content: str = ""
    _runs: list[frozenset[str]] = field(default_factory=list, compare=False)

    def scrub(self, text: str) -> str:
        """Return a text without secrets, addresses, balances and embedded data; content stays."""
        text = self.without_secrets(text[:SCANNED])
        text = _DATA_URL.sub(_data_url, text)
        text = _URL.sub(_url, text)
        text = _LONG_BASE64.sub(lambda run: f"[base64, {shown_size(len(run[0]) * 3 // 4)}]", text)
        for pattern, shown in _FORMS:
            text = pattern.sub(shown, text)
        return _ADDRESS.sub(_address, text)

    def without_content(self, text: str) -> str:
        """Return the scrubbed text, also without what it echoes of the request's content."""
        text = self.without_secrets(text[:SCANNED])
        if self.content and len(text) >= _ECHO:
            text = _without_echo(text, self._content_runs())
        return self.scrub(text)

    def line(self, text: str) -> str:
        """Return a text as one printable line for a log, without secrets and content."""
        return printable(self.without_content(text)) if text else ""

    def without_secrets(self, text: str) -> str:
        """Return a text without the known secrets, or pieces of them; all else stays."""
        return self.secrets.replaced_in(text, SECRET) if self.secrets else text

    def _content_runs(self) -> frozenset[str]:
        """Return every run of a dozen characters of the content, made once.

        To search the whole content for each piece of a text would cost the product of both.
        """
        if not self._runs:
            last = len(self.content) - _ECHO
            runs = (self.content[start : start + _ECHO] for start in range(last + 1))
            self._runs.append(frozenset(runs))
        return self._runs[0]


def redactor(secrets: Iterable[str], content: str) -> Redactor:
    """Return a redactor that knows these secrets, in every form in which they may come back."""
    return Redactor(known_secrets(secrets), content)


def header_secrets(headers: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield the values in a request's headers that are, or may be, secret.

    A header whose name says so holds one. Of any other that is not known to be harmless, whatever
    does not read as words may be one: a routing header's ``openai`` is not.
    """
    for name, value in headers:
        lowered = name.lower()
        if lowered in _HARMLESS_HEADERS or lowered.startswith("x-stainless-"):
            continue
        scheme, _, credentials = value.strip().partition(" ")
        if credentials and scheme.lower() in _SCHEMES:
            yield credentials
        elif is_secret_name(lowered):
            yield value
            yield credentials
        else:
            yield from unusual(value)
        if scheme.lower() == "basic":
            yield from _basic(credentials)
        if lowered == "cookie":
            yield from (part.partition("=")[2] for part in value.split(";"))


def query_secrets(pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield the values of a query that are secret by their name, or do not read as words."""
    for name, value in pairs:
        if name.lower() not in _SHOWN_QUERY:
            own = _ENDPOINT.sub("", value)  # the SDK appends its paths to a base URL's query
            yield from (own,) if is_secret_name(name) else unusual(own)


def path_secrets(path: str) -> Iterator[str]:
    """Yield the parts of a base URL's path that do not read as words: a key may stand there."""
    for segment in path.split("/"):
        yield from (piece for piece in unusual(segment) if len(piece) >= _SHORTEST_IN_PATH)


def unusual(value: str) -> Iterator[str]:
    """Yield the pieces of a value that do not read as words, versions or numbers."""
    for piece in _PIECES.split(value[:SCANNED]):
        words = _JOINTS.split(piece)
        if _KEY_START.match(piece) or not all(map(_ORDINARY.fullmatch, words)):
            yield piece


def shown_query(
    pairs: Iterable[tuple[str, str]], redactor: Redactor
) -> tuple[tuple[str, str], ...]:
    """Return a query for a report: each name, and the values that are known to be harmless."""
    return tuple(
        (redactor.line(name), _shown_value(name, value, redactor)) for name, value in pairs
    )


def shown_headers(
    headers: Iterable[tuple[str, str]], redactor: Redactor
) -> tuple[tuple[str, str], ...]:
    """Return the headers of a response that may be shown."""
    return tuple(
        (name.lower(), redactor.line(value)) for name, value in headers
        if name.lower() in _SHOWN_HEADERS
    )  # fmt: skip


def is_secret_name(name: str) -> bool:
    """Return True if a field's name says that it holds a secret."""
    return _SECRET_NAME.search(name) is not None


def shown_page(page: str, redactor: Redactor) -> str:
    """Return what may be shown of a web page: pages of the edge name their visitor's address."""
    title, ray = _TITLE.search(page), _RAY.search(page)
    parts = [f"web page of {shown_size(len(page))}"]
    parts += [f"title {redactor.line(title[1].strip())!r}"] if title else []
    parts += [f"ray id {ray[1]}"] if ray else []
    return f"[{', '.join(parts)}]"


def _basic(credentials: str) -> Iterator[str]:
    try:
        user_and_key = base64.b64decode(credentials).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return
    user, _, key = user_and_key.partition(":")
    yield user_and_key
    yield key
    yield from unusual(user) if key else (user,)


def _without_echo(text: str, runs: frozenset[str]) -> str:
    """Replace what a text repeats of the content, from a dozen or two of characters on."""
    parts, done, place = [], 0, 0
    while place + _ECHO <= len(text):
        if text[place : place + _ECHO] not in runs:
            place += _ECHO // 2
            continue
        start, end = place, place + _ECHO
        while start > done and text[start - 1 : start - 1 + _ECHO] in runs:
            start -= 1
        while text[end + 1 - _ECHO : end + 1] in runs:
            end += 1
        parts += [text[done:start], f"[{end - start} characters of the request]"]
        done = place = end
    return "".join([*parts, text[done:]])


def _url(found: re.Match[str]) -> str:
    """Return a URL without credentials and query: either may let somebody in."""
    authority, slash, path = found[2].partition("/")
    path, question, _ = path.partition("?")
    authority, early, _ = authority.partition("?")
    query = "?[query]" if question or early else ""
    host = authority.rpartition("@")[2]
    return f"{found[1]}{host}{slash}{path.partition('#')[0]}{query}"


def _data_url(found: re.Match[str]) -> str:
    return f"[data:{found[1]}, {shown_size(len(found[2]) * 3 // 4)}]"


def _address(found: re.Match[str]) -> str:
    try:
        ipaddress.ip_address(found[0].rstrip("."))
    except ValueError:
        return found[0]
    return "[address]"


def _shown_value(name: str, value: str, redactor: Redactor) -> str:
    if name.lower() in _SHOWN_QUERY:
        return redactor.line(value)
    return value if re.fullmatch(r"\d{1,5}|true|false|", value) else f"[{len(value)} characters]"


def header_pairs(headers: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return the headers of a request or response of either HTTP library, as texts."""
    return [(str(name), str(value)) for name, value in headers.items()]
