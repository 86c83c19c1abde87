"""The tokens that an answer took, as it says itself. Pure.

``usage`` stands near the end of a whole answer and in one of the last events of a stream, so it is
searched from the end, and no more than the object itself is parsed, however large the answer is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

from .token_estimate import BYTES_PER_TOKEN

Fields = Mapping[str, object]

#: A quotation mark inside of a JSON text is escaped: this is never a part of content.
_NAME: Final = b'"usage"'
_BEGINS = re.compile(rb'"usage"\s{0,9}:\s{0,9}(?=\{)')
#: So many places are looked at, and so many bytes of an object.
_PLACES: Final = 8
_OBJECT: Final = 4_096
_MOST: Final = 10**12
_DECODER: Final = json.JSONDecoder()

_PROMPT: Final = ("prompt_tokens", "input_tokens")
_COMPLETION: Final = ("completion_tokens", "output_tokens")
_PROMPT_DETAILS: Final = ("prompt_tokens_details", "input_tokens_details")
_COMPLETION_DETAILS: Final = ("completion_tokens_details", "output_tokens_details")
_CACHED: Final = ("cached_tokens", "cache_read_input_tokens", "prompt_cache_hit_tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """The tokens of one answer.

    ``cached_tokens`` are part of ``prompt_tokens`` and ``reasoning_tokens`` part of
    ``completion_tokens``; ``None`` where the answer does not say. ``is_estimate`` says that the
    answer named no usage at all, and what came of it was counted.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    is_estimate: bool = False

    @property
    def total_tokens(self) -> int:
        """Return prompt and completion together."""
        return self.prompt_tokens + self.completion_tokens

    def __str__(self) -> str:
        about = "some " * self.is_estimate
        return f"{about}{self.prompt_tokens} + {self.completion_tokens} tokens"


def find_usage(text: bytes) -> Usage | None:
    """Return the last usage in the end of an answer, ``None`` if there is none."""
    end = len(text)
    for _ in range(_PLACES):
        at = text.rfind(_NAME, 0, end)
        if at < 0:
            return None
        begins = _BEGINS.match(text, at)
        if begins is not None:
            usage = _parse(text[begins.end() : begins.end() + _OBJECT])
            if usage is not None:
                return usage
        end = at
    return None


def usage_of(fields: object) -> Usage | None:
    """Read a ``usage`` object, ``None`` if it names no tokens."""
    if not isinstance(fields, dict):
        return None
    said = cast("Fields", fields)
    prompt, completion = _first(said, _PROMPT), _first(said, _COMPLETION)
    if prompt is None and completion is None:
        return None
    cached = _first(_first_object(said, _PROMPT_DETAILS), _CACHED)
    return Usage(
        prompt_tokens=prompt or 0,
        completion_tokens=completion or 0,
        cached_tokens=_first(said, _CACHED) if cached is None else cached,
        reasoning_tokens=_first(_first_object(said, _COMPLETION_DETAILS), ("reasoning_tokens",)),
    )


def _parse(text: bytes) -> Usage | None:
    try:
        fields, _ = _DECODER.raw_decode(text.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    return usage_of(fields)


def _first_object(fields: Fields, names: tuple[str, ...]) -> Fields:
    for name in names:
        found = fields.get(name)
        if isinstance(found, dict):
            return cast("Fields", found)
    return {}


def _first(fields: Fields, names: tuple[str, ...]) -> int | None:
    for name in names:
        number = fields.get(name)
        if isinstance(number, int) and not isinstance(number, bool) and 0 <= number <= _MOST:
            return number
    return None


#: Text in the events of a stream; what is escaped in it counts as what it is written with.
_TEXT = re.compile(
    rb'"(?:content|text|delta|arguments|reasoning_content|reasoning|refusal)"\s{0,9}:\s{0,9}'
    rb'"((?:[^"\\]|\\.)*+)'
)


class UsageWatch:
    """The usage of a stream as its bytes pass: as it says itself, or as counted.

    No more than the end of the stream is kept, by the chunks as they are. ``counts_text`` says that
    text is counted, for a stream that names no usage.
    """

    __slots__ = ("_chunks", "_counts_text", "_kept", "_text")

    #: What is kept of the end: the event with the usage and those that may follow.
    KEPT: Final = 16_384

    def __init__(self, *, counts_text: bool = True) -> None:
        self._chunks: list[bytes] = []
        self._counts_text = counts_text
        self._kept = 0
        self._text = 0

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes, decoded."""
        for found in _TEXT.finditer(chunk) if self._counts_text else ():
            self._text += len(found[1])
        self._chunks.append(chunk[-self.KEPT :])
        self._kept += len(self._chunks[-1])
        if self._kept > 2 * self.KEPT:
            end = b"".join(self._chunks)[-self.KEPT :]
            self._chunks, self._kept = [end], len(end)

    def usage(self, prompt_tokens: int) -> Usage | None:
        """Return what the stream took, counted where it does not say and text is counted.

        ``prompt_tokens`` is then what is estimated of the prompt.
        """
        usage = find_usage(b"".join(self._chunks))
        if usage is not None or not self._counts_text:
            return usage
        counted = -(-self._text // BYTES_PER_TOKEN)
        return Usage(prompt_tokens=prompt_tokens, completion_tokens=counted, is_estimate=True)
