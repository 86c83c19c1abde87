"""A search for known secrets, in whatever form a text shows them.

Secret and text are *folded* alike before they are compared: full-width letters become plain ones;
case, white space, line breaks and invisible characters are dropped; percent-encoding, backslash
escapes and HTML entities are resolved. Any eight consecutive characters of a secret count as it,
because servers echo keys cut or masked; so do the same in base64. Every window of a text is looked
up in a set: the work is linear in the text, whatever it says and however many secrets there are.
"""

from __future__ import annotations

import base64
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from html import unescape
from typing import Final
from urllib.parse import unquote

#: This many consecutive characters of a secret give it away.
WINDOW: Final = 8
#: Shorter secrets occur in ordinary words and are not searched for; from here up to ``WINDOW`` a
#: secret is found only as a whole.
SHORTEST: Final = 6
#: No more of a longer secret is searched for, and its base64 is not.
_LOOKED_FOR: Final = 8_192
_ENCODED: Final = 512

#: Escapes of a character; a run of backslashes counts as nothing, since each level of quoting
#: doubles it.
_ESCAPES = re.compile(
    r"(?:%(?:25)*[0-9A-Fa-f]{2})+"
    r"|\\+(?:u[0-9A-Fa-f]{4}|x[0-9A-Fa-f]{2}|[nrtbfv])?"
    r"|&(?:#\d{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z]{2,8});"
)
#: Categories of invisible characters: controls, spaces, marks, lone surrogates.
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Zs", "Zl", "Zp", "Mn", "Me"})
#: A space, as forms write it, and letters that are none.
_DROPPED: Final = frozenset("+\\\u115f\u1160\u3164\uffa0\u2800")
#: The most characters that one folds into: a ligature of a whole sentence must not blow a text up.
_MOST_FOLDED: Final = 4
_FOLDS_KEPT: Final = 4_096

#: Prefixes that keys have in common; a window of nothing else gives nothing away.
_PREFIX = re.compile(
    r"(?:bearer|basic)?(?:(?:sk|pk|rk|ak)-(?:(?:proj|svcacct|admin|live|test|or|ant|lf)-)?"
    r"(?:v\d-|api\d\d-)?|(?:sess|org|proj|key|user|pat|token|glpat)-|github_pat_)?"
)
#: Words that reports and error messages use, also where a key or a tenant's name holds one.
_WORDS: Final = (
    "accounts", "anthropic", "application", "assistant", "authentication", "authorization",
    "balances", "business", "channels", "cloudflare", "cometapi", "completions", "connection",
    "customer", "database", "deployments", "development", "distributor", "embeddings",
    "enterprise", "environment", "european", "exceeded", "experiment", "external", "function",
    "generation", "generations", "internal", "langchain", "localhost", "messages", "moderations",
    "openrouter", "organization", "overloaded", "password", "personal", "platform", "portkeyai",
    "production", "projects", "providers", "requests", "resource", "response", "responses",
    "security", "services", "standard", "streaming", "temporary", "together", "transcription",
    "undefined", "username", "workspace",
)  # fmt: skip


@dataclass(frozen=True, slots=True, repr=False)
class KnownSecrets:
    """The secrets of one request, prepared for a search; without any it finds nothing.

    ``windows`` are their folded windows; ``heads`` the public prefix before the first window of
    each, which is replaced with it; ``wholes`` the folded secrets too short for a window, by their
    length; ``starts`` the first characters of each; ``literals`` the secrets of which folding
    leaves too little.
    """

    windows: frozenset[str] = frozenset()
    wholes: tuple[tuple[int, frozenset[str]], ...] = ()
    starts: frozenset[str] = frozenset()
    literals: tuple[str, ...] = ()
    heads: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.windows or self.wholes or self.literals)

    def replaced_in(self, text: str, by: str) -> str:
        """Return a text with something else in the place of each secret, or piece of one."""
        for literal in self.literals:
            text = text.replace(literal, by)
        plain = folded(text)
        if not self._is_in(plain):
            return text
        plain, places = _folded_with_places(text)
        parts, done = [], 0
        for start, end in _joined(self._found(plain), places):
            parts += [text[done:start], by]
            done = end
        return "".join([*parts, text[done:]])

    def _is_in(self, plain: str) -> bool:
        sets = ((WINDOW, self.windows), *self.wholes)
        return self._torn_at(plain) < len(plain) or not all(
            wanted.isdisjoint(plain[at : at + size] for at in range(len(plain) - size + 1))
            for size, wanted in sets
            if wanted
        )

    def _torn_at(self, plain: str) -> int:
        """Return where the end of the text cuts a secret off; the end itself if it does not."""
        torn = plain[-SHORTEST:] in self.starts or plain[-SHORTEST - 1 : -1] in self.starts
        if not torn:
            return len(plain)
        return len(plain) - SHORTEST - (plain[-SHORTEST:] not in self.starts)

    def _found(self, plain: str) -> Iterator[tuple[int, int]]:
        """Yield the places of windows and whole secrets in a folded text, in order."""
        sets = [pair for pair in ((WINDOW, self.windows), *self.wholes) if pair[1]]
        for at in range(len(plain)):
            for size, wanted in sets:
                window = plain[at : at + size]
                if window in wanted:
                    head = self.heads.get(window, "")
                    yield at - len(head) * plain.endswith(head, 0, at), at + size
        if self._torn_at(plain) < len(plain):
            yield self._torn_at(plain), len(plain)


def known_secrets(secrets: Iterable[str]) -> KnownSecrets:
    """Prepare a search for secrets in every form in which they may come back."""
    windows, wholes, starts = set[str](), dict[int, set[str]](), set[str]()
    literals, heads = set[str](), dict[str, str]()
    for secret in {secret.strip()[:_LOOKED_FOR] for secret in secrets}:
        plain = folded(secret)
        if len(secret) < SHORTEST:
            continue
        found = set(_windows_of(plain))
        if found:
            windows |= found | set(_encoded_windows(secret))
            first = max(0, _prefix_of(plain) - WINDOW + 1)
            heads[plain[first : first + WINDOW]] = plain[:first]
        elif len(plain) >= SHORTEST:
            wholes.setdefault(len(plain), set()).add(plain)
        else:
            literals.add(secret)
        if len(plain) > SHORTEST and _prefix_of(plain) < SHORTEST:
            starts.add(plain[:SHORTEST])
    return KnownSecrets(
        frozenset(windows),
        tuple((size, frozenset(folds)) for size, folds in sorted(wholes.items())),
        frozenset(starts),
        tuple(sorted(literals, key=lambda literal: (-len(literal), literal))),
        heads,
    )


def folded(text: str) -> str:
    """Return a text as it is compared."""
    return _ESCAPES.sub(_resolved, text).translate(_FOLDS)


def _folded_with_places(text: str) -> tuple[str, list[tuple[int, int]]]:
    """Return a folded text, and for each of its characters which part of the text it stands for."""
    plain: list[str] = []
    places: list[tuple[int, int]] = []

    def take(char: str, start: int, end: int) -> None:
        for fold in char.translate(_FOLDS):
            plain.append(fold)
            places.append((start, end))

    at = 0
    for escape in _ESCAPES.finditer(text):
        for place in range(at, escape.start()):
            take(text[place], place, place + 1)
        take(_resolved(escape), *escape.span())
        at = escape.end()
    for place in range(at, len(text)):
        take(text[place], place, place + 1)
    return "".join(plain), places


def _joined(
    found: Iterable[tuple[int, int]], places: list[tuple[int, int]]
) -> Iterator[tuple[int, int]]:
    """Yield the parts of the text that folded places stand for, overlapping ones as one."""
    begin = end = -1
    for first, after in found:
        start, stop = places[first][0], places[after - 1][1]
        if start > end:
            if end >= 0:
                yield begin, end
            begin, end = start, stop
        end = max(end, stop)
    if end >= 0:
        yield begin, end


def _windows_of(plain: str) -> Iterator[str]:
    """Yield the windows of a folded secret that give it away: no prefix, no ordinary word."""
    public = [(0, _prefix_of(plain))]
    for word in _WORDS:
        at = plain.find(word)
        if at >= 0:
            public.append((at, at + len(word)))
    for at in range(len(plain) - WINDOW + 1):
        if not any(start <= at and at + WINDOW <= end for start, end in public):
            yield plain[at : at + WINDOW]


def _prefix_of(plain: str) -> int:
    found = _PREFIX.match(plain)
    return found.end() if found else 0


def _encoded_windows(secret: str) -> Iterator[str]:
    """Yield the windows of a secret in base64, wherever in the encoded bytes it begins."""
    data = secret.encode("utf-8", "replace")
    if not WINDOW <= len(data) <= _ENCODED:
        return
    for shift, mixed in enumerate((0, 2, 3)):
        coded = base64.b64encode(b"\0" * shift + data)
        end = len(coded.rstrip(b"=")) - (coded[-1:] == b"=")
        for text in (coded.decode(), coded.decode().replace("+", "-").replace("/", "_")):
            plain = folded(text[mixed:end])
            yield from (plain[at : at + WINDOW] for at in range(len(plain) - WINDOW + 1))


def _resolved(escape: re.Match[str]) -> str:
    text = escape[0]
    if text[0] == "%":
        return unquote(re.sub(r"%(?:25)+(?=[0-9A-Fa-f]{2})", "%", text))
    if text[0] == "&":
        return unescape(text)
    code = text.lstrip("\\")
    return chr(int(code[1:], 16)) if code[:1] in ("u", "x") else ""


class _Folds(dict[int, str]):
    """A bounded cache of the fold of each character."""

    def __missing__(self, code: int) -> str:
        plain = unicodedata.normalize("NFKC", chr(code)).casefold()
        fold = "".join(char for char in plain if _is_seen(char))[:_MOST_FOLDED]
        if len(self) >= _FOLDS_KEPT:
            self.clear()
        self[code] = fold
        return fold


def _is_seen(char: str) -> bool:
    return (
        char not in _DROPPED and ord(char) < 0x10000 and unicodedata.category(char) not in _UNSEEN
    )


_FOLDS: Final = _Folds()
