"""Hints: the first thing to do, made specific by the request that failed.

The table's advice holds for every request of a kind. The request itself often says more: a
malformed header, the largest parts of a body, the fields to remove first, the field that the
message names. No hint ever shows a key or a word of content.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from ..escaping import printable
from ..verdict.vocabulary import FailureKind, Observation
from .sizes import shown_size

#: Fields of a plain request: everything else is advanced or a provider's own.
_PLAIN: Final = frozenset(
    {"model", "messages", "input", "prompt", "stream", "instructions", "n", "size", "voice", "file"}
)
#: Advanced fields of the OpenAI interface; what is not among them is a provider's own.
_ADVANCED: Final = (
    "temperature", "top_p", "max_tokens", "max_completion_tokens", "max_output_tokens", "stop",
    "stream_options", "seed", "user", "presence_penalty", "frequency_penalty", "response_format",
    "text", "tools", "tool_choice", "parallel_tool_calls", "functions", "function_call",
    "reasoning", "reasoning_effort", "verbosity", "logprobs", "top_logprobs", "logit_bias",
    "modalities", "audio", "prediction", "metadata", "store", "service_tier", "include",
    "previous_response_id", "background", "truncation", "safety_identifier", "prompt_cache_key",
    "web_search_options", "quality", "style", "background", "output_format", "dimensions",
    "encoding_format",
)  # fmt: skip
_PLACEHOLDER = re.compile(
    r"^\$|^<.*>$|your.{0,3}(api)?.{0,3}key|^sk-\.\.\.|^COMETAPI_KEY", re.IGNORECASE
)
_NAMED_FIELD = re.compile(
    r"(?:field|parameter|param|property)\s+[`'\"]?([\w.\[\]]{1,60})[`'\"]?"
    r"|[`'\"]([\w.\[\]]{1,60})[`'\"]\s+(?:is|must|should|was)\b"
    r"|\b([a-z_][\w.\[\]]{1,60}) is required",
    re.IGNORECASE,
)
#: Locations in a validation report outside the body, and messages about a header.
_NO_FIELD = re.compile(r"(?:header|query|path|cookie)\b", re.IGNORECASE)
_ABOUT_A_HEADER = re.compile(r"\bheaders?\b", re.IGNORECASE)
_UNWANTED = re.compile(
    r"unsupported|not supported|unknown|unrecognized|unexpected|not (?:allowed|permitted|accepted)"
    r"|extra (?:inputs|fields)|不支持",
    re.IGNORECASE,
)
_LACKING = re.compile(
    r"required|missing|must (?:be (?:set|given)|not be empty)|必需|缺少|不能为空", re.IGNORECASE
)
_LARGEST_SHOWN: Final = 3
_LARGE: Final = 1_024
_DEPTH: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class SentRequest:
    """The parts of a request that hints look at: the header with the key, and what was sent.

    ``parts`` are the sizes in bytes of a multipart body's fields, by name.
    """

    authorization: str | None = field(repr=False)
    body: bytes = field(repr=False)
    parts: Mapping[str, int] = field(default_factory=dict)


def hints(kind: FailureKind, observation: Observation, sent: SentRequest) -> tuple[str, ...]:
    """Return the steps that this very request suggests, before the general ones."""
    if kind is FailureKind.AUTHENTICATION:
        return tuple(_about_the_key(sent.authorization))
    if kind is FailureKind.TOO_LARGE:
        return tuple(_about_the_size(sent))
    if kind is FailureKind.PERMISSION:
        return tuple(_about_advanced_fields(_json(sent.body)))
    if kind is FailureKind.INVALID_REQUEST:
        return tuple(_about_the_named_field(observation, _json(sent.body)))
    return ()


def _about_the_key(header: str | None) -> Iterator[str]:
    """Yield what is wrong with the form of the header; its value is never shown."""
    if not header:
        yield "No Authorization header was sent: is the key's variable (COMETAPI_KEY) set?"
    elif not header.startswith("Bearer "):
        yield "The Authorization header does not begin with 'Bearer ' (one capital, one space)."
    else:
        key = header.removeprefix("Bearer ")
        yield from (words for wrong, words in _KEY_FORMS if wrong(key))


#: Mistakes in a key that its form gives away.
_KEY_FORMS: Final[tuple[tuple[Callable[[str], object], str], ...]] = (
    (
        lambda key: not key.strip(),
        "The key is empty: is the right variable (COMETAPI_KEY) read?",
    ),
    (
        lambda key: key.lower().startswith("bearer "),
        "The key itself begins with 'Bearer ': give the key alone.",
    ),
    (lambda key: key.strip() and key != key.strip(), "There are stray spaces around the key."),
    (
        lambda key: '"' in key or "'" in key,
        "There are quotes inside the key: they belong to the shell or .env syntax.",
    ),
    (lambda key: "\n" in key or "\\n" in key, "There is a line break inside the key."),
    (
        lambda key: _PLACEHOLDER.search(key.strip()),
        "The key looks like a placeholder or a variable that was not filled in.",
    ),
    (
        lambda key: not key.isascii(),
        "The key contains characters that no key has: was it copied from a formatted page?",
    ),
)


def _about_the_size(sent: SentRequest) -> Iterator[str]:
    data = _json(sent.body)
    sizes = dict(sent.parts) or dict(_leaves(data, "", 0))
    largest = sorted(sizes.items(), key=lambda item: -item[1])[:_LARGEST_SHOWN]
    shown = [f"{printable(path)} ({shown_size(size)})" for path, size in largest if size >= _LARGE]
    if shown:
        yield f"The largest parts of this request: {', '.join(shown)}."


def removal_order(body: Mapping[str, object]) -> tuple[str, ...]:
    """Return the advanced fields of a body in the order to remove them, a provider's own first."""
    own = [name for name in body if name not in _PLAIN and name not in _ADVANCED]
    advanced = [name for name in reversed(_ADVANCED) if name in body]
    return tuple(dict.fromkeys([*own, *advanced]))


def _about_advanced_fields(data: object) -> Iterator[str]:
    names = [printable(name)[:60] for name in removal_order(data)] if isinstance(data, dict) else []
    if names:
        yield f"Remove these fields, in this order, one by one: {', '.join(names[:20])}."


def _about_the_named_field(observation: Observation, data: object) -> Iterator[str]:
    found = _NAMED_FIELD.search(observation.message[:2_000])
    name = observation.param or (next(filter(None, found.groups()), "") if found else "")
    if not name or _NO_FIELD.match(name) or _ABOUT_A_HEADER.search(observation.message[:2_000]):
        return
    name = printable(name)[:80]
    is_sent = not isinstance(data, Mapping) or name in data or not re.fullmatch(r"\w+", name)
    if _UNWANTED.search(observation.message[:2_000]):
        yield f"The message says that the field {name!r} is not accepted: remove it."
    elif not is_sent and _LACKING.search(observation.message[:2_000]):
        yield f"The message names the field {name!r}, which the request lacks: add it."
    else:
        yield f"The message names the field {name!r}: check its value and type first."


def _json(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _leaves(value: object, path: str, depth: int) -> Iterator[tuple[str, int]]:
    """Yield the path and size of each string in a JSON value."""
    if isinstance(value, str):
        yield path or "body", len(value.encode("utf-8", "replace"))
    elif depth < _DEPTH and isinstance(value, Mapping):
        for name, item in value.items():
            yield from _leaves(item, f"{path}.{name}" if path else str(name), depth + 1)
    elif depth < _DEPTH and isinstance(value, list):
        for place, item in enumerate(value):
            yield from _leaves(item, f"{path}[{place}]", depth + 1)
