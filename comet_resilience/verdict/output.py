"""Output of an answer, told apart from what only announces it or says that it is over.

Gateways commit to a success before they have an answer: a stream that failed at the provider is a
chunk with a made-up ``usage``, or a lone ``stop``, or begins with events that always come. So until
something is said that only a model can have said, nothing has been answered.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Final, cast

from .answer import PARSED_UP_TO, parsed
from .envelope import has_error
from .vocabulary import Fault

Fields = Mapping[str, object]


class Part(StrEnum):
    """The role of an event of a stream for the caller who waits for an answer."""

    OPENING = "opening"
    OUTPUT = "output"
    FAILURE = "failure"


#: Members of a chat delta that say who speaks, not what.
_NO_OUTPUT: Final = frozenset({"role", "name", "index", "provider_specific_fields"})
#: Members of a choice that hold its output; of others (``logprobs``, filters) nothing is read.
_HOLDERS: Final = ("delta", "message")
#: Events of the Responses API and of Anthropic's that come before there is anything to say.
_OPENINGS: Final = frozenset(
    {
        "response.created",
        "response.in_progress",
        "response.queued",
        "response.output_item.added",
        "response.content_part.added",
        "response.reasoning_summary_part.added",
        "message_start",
        "content_block_start",
    }
)
_RESPONSES: Final = "POST /responses"
_TYPED: Final = (_RESPONSES, "POST /messages")
_CHAT: Final = ("POST /chat/completions", "POST /completions")
_EMBEDDINGS: Final = "POST /embeddings"
#: Routes on which a stream has an opening.
OPENS: Final = frozenset({*_CHAT, *_TYPED})

#: Without one of these a whole answer holds something.
_SUSPECT = re.compile(  # all begin with the quote: such a search takes half the time
    rb'"(?:(?:choices|output|data|embedding)"\s{0,9}:\s{0,9}(?:\[\s{0,9}\]|null)'
    rb'|finish_reason"\s{0,9}:\s{0,9}"error"|(?:content|text)"\s{0,9}:\s{0,9}(?:""|null)'
    rb'|(?:message|delta)"\s{0,9}:\s{0,9}(?:\{\s{0,9}\}|null)'
    rb'|(?:base_resp|error_code|error_msg)"\s{0,9}:)'
)
#: Finish reasons by which a provider says that it failed, where nothing came with them.
_FAILED: Final = ("error", "network_error", "insufficient_system_resource")
#: Arguments of tool calls are put together up to this many characters.
_ARGUMENTS_CAP: Final = 262_144


class Opening:
    """The events of a stream so far, until the first that is output."""

    __slots__ = ("_has_role", "_has_stop", "_route", "_tokens")

    def __init__(self, route: str) -> None:
        self._route = route
        self._has_role = False
        self._has_stop = False
        self._tokens = 0.0

    @property
    def is_lone_stop(self) -> bool:
        """True if a finish reason is all that has come."""
        return self._has_stop

    def take(self, data: object) -> Part:
        """Read the data of the next event, parsed."""
        if self._route not in OPENS or not isinstance(data, dict):
            return Part.OUTPUT
        fields = cast("Fields", data)
        return self._take_typed(fields) if self._route in _TYPED else self._take_chunk(fields)

    def _take_typed(self, fields: Fields) -> Part:
        kind = fields.get("type")
        if kind in _OPENINGS or (isinstance(kind, str) and kind.endswith(("keepalive", "ping"))):
            return Part.OPENING
        if kind == "response.completed":
            response = fields.get("response")
            is_empty = not isinstance(response, dict) or _is_hollow_response(response)
            return Part.FAILURE if is_empty else Part.OUTPUT
        is_empty_delta = isinstance(kind, str) and kind.endswith(".delta") and not any(
            fields.get(name) for name in ("delta", "obfuscation", "partial_image_b64")
        )  # fmt: skip
        return Part.OPENING if is_empty_delta else Part.OUTPUT

    def _take_chunk(self, fields: Fields) -> Part:
        self._tokens = max(self._tokens, _tokens_of(fields))
        if any(name in fields for name in ("choices", "usage", "object", "id")):
            for choice in _choices_of(fields):
                if choice.get("finish_reason") == "error":
                    return Part.FAILURE
                if _has_output(choice):
                    return Part.OUTPUT
                if choice.get("finish_reason") in _FAILED:
                    return Part.FAILURE
                if choice.get("finish_reason") not in (None, "", "stop"):
                    return Part.OUTPUT
                self._has_role = self._has_role or _has_role(choice)
                self._has_stop = self._has_stop or choice.get("finish_reason") == "stop"
            is_meant = self._has_stop and (self._has_role or self._tokens > 0)
            return Part.OUTPUT if is_meant else Part.OPENING
        return Part.OUTPUT  # no chunk of a chat at all: nothing is known of it


class ToolArguments:
    """The arguments of a stream's tool calls, put together as far as their size is reasonable."""

    __slots__ = ("_parts", "_size")

    def __init__(self) -> None:
        self._parts: dict[tuple[object, object], list[str]] = {}
        self._size = 0

    def take(self, data: object) -> None:
        """Read the data of the next chunk, parsed."""
        for choice in _choices_of(cast("Fields", data)) if isinstance(data, dict) else ():
            for held in _held(choice):
                calls = held.get("tool_calls")
                for call in calls if isinstance(calls, list) else ():
                    self._take_call(choice.get("index"), call)

    def _take_call(self, choice: object, call: object) -> None:
        function = call.get("function") if isinstance(call, dict) else None
        text = function.get("arguments") if isinstance(function, dict) else None
        if isinstance(text, str) and isinstance(call, dict) and self._size < _ARGUMENTS_CAP:
            self._size += len(text)
            self._parts.setdefault((str(choice), str(call.get("index"))), []).append(text)

    @property
    def are_cut(self) -> bool:
        """True if the arguments of a call break off; whole nonsense is the model's own."""
        if self._size >= _ARGUMENTS_CAP:
            return False
        return any(_is_cut("".join(parts)) for parts in self._parts.values())


def _is_cut(text: str) -> bool:
    """Return True if a text is the beginning of JSON and no more."""
    text = text.rstrip()
    try:
        json.loads(text or "{}")
    except json.JSONDecodeError as error:
        rest = text[error.pos :]
        is_begun = any(word.startswith(rest) for word in ("true", "false", "null", "-"))
        return is_begun or error.msg.startswith(("Unterminated string", "Invalid \\u"))
    except (ValueError, RecursionError):
        return False
    return False


def is_plainly_answered(route: str, body: bytes) -> bool:
    """Return True if a whole body is an answer in each of whose choices the model says something.

    Nearly every one is, and needs no further look; of any other nothing is known yet.
    """
    if route not in _CHAT or len(body) > PARSED_UP_TO:
        return False
    data = parsed(body)
    if not isinstance(data, dict):
        return False
    fields = cast("Fields", data)
    choices = fields.get("choices")
    if not isinstance(choices, list) or not choices or has_error(fields):
        return False
    return all(map(_says_something, choices))


def _says_something(choice: object) -> bool:
    message = choice.get("message") if isinstance(choice, dict) else None
    return (
        isinstance(message, dict)
        and bool(message.get("content"))
        and cast("Fields", choice).get("finish_reason") != "error"
    )


def suspect_fields(body: bytes) -> Fields | None:
    """Return the members of a body that may hold nothing, or a failure; ``None`` for all others."""
    if len(body) > PARSED_UP_TO or not _SUSPECT.search(body):
        return None
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return cast("Fields", data) if isinstance(data, dict) else None


def what_is_missing(route: str, fields: Fields) -> Fault | None:
    """Return what a whole answer lacks, ``None`` if it holds something or may rightly be so."""
    if route in _CHAT:
        return _missing_in_chat(fields)
    if route == _RESPONSES:
        return Fault.NO_OUTPUT if _is_hollow_response(fields) else None
    if route == _EMBEDDINGS and "data" in fields:
        rows = fields["data"]
        is_list = isinstance(rows, list) and all(isinstance(row, dict) for row in rows)
        is_full = (
            is_list and rows and all(row.get("embedding") for row in cast("list[Fields]", rows))
        )
        return None if is_full else Fault.NO_OUTPUT
    return None


def reported_failure(fields: Fields) -> bytes | None:
    """Return a failure that a whole answer reports in a provider's own members, in the usual form.

    Some providers answer with success whatever happens and put a code of theirs beside an answer
    that is missing.
    """
    if _choices_of(fields):
        return error_of_choice(fields) if has_error_finish(fields) else None
    report = fields.get("base_resp")
    report = cast("Fields", report) if isinstance(report, dict) else fields
    for code, message in (("status_code", "status_msg"), ("error_code", "error_msg")):
        if report.get(code) not in (None, 0, "0", "") and message in report:
            error = {"code": str(report[code]), "message": str(report[message])}
            return json.dumps({"error": error}).encode()
    return None


def has_error_finish(data: object) -> bool:
    """Return True if a choice ended with an error for a finish reason, or failed with nothing."""
    return isinstance(data, dict) and any(
        choice.get("finish_reason") == "error"
        or (choice.get("finish_reason") in _FAILED and not _has_output(choice))
        for choice in _choices_of(data)
    )


def error_of_choice(data: object) -> bytes | None:
    """Return the error that stands in a choice which ended with one, in the usual form."""
    for choice in _choices_of(cast("Fields", data)) if isinstance(data, dict) else ():
        if choice.get("error"):
            return json.dumps({"error": choice["error"]}).encode()
    return None


def _missing_in_chat(fields: Fields) -> Fault | None:
    if "choices" not in fields:
        return None
    if fields["choices"] == [] and not fields.get("usage"):
        return Fault.NO_CHOICES
    choices = list(_choices_of(fields))
    if not choices or has_error_finish(fields):
        return Fault.NO_OUTPUT
    is_lone = _tokens_of(fields) == 0 and all(
        choice.get("finish_reason") == "stop" and not _has_output(choice) and not _has_role(choice)
        for choice in choices
    )
    return Fault.LONE_STOP if is_lone else None


def _is_hollow_response(fields: Fields) -> bool:
    """Return True if a response is completed and holds nothing."""
    is_over = fields.get("status", "completed") == "completed" and not fields.get("error")
    return is_over and not fields.get("output") and not fields.get("output_text")


def _choices_of(fields: Fields) -> list[Fields]:
    choices = fields.get("choices")
    if not isinstance(choices, list):
        return []
    return [cast("Fields", choice) for choice in choices if isinstance(choice, dict)]


def _held(choice: Fields) -> Iterator[Fields]:
    for name in _HOLDERS:
        held = choice.get(name)
        if isinstance(held, dict):
            yield cast("Fields", held)


def _has_output(choice: Fields) -> bool:
    if choice.get("text"):
        return True
    return any(
        value and name not in _NO_OUTPUT for held in _held(choice) for name, value in held.items()
    )


def _has_role(choice: Fields) -> bool:
    return any(held.get("role") for held in _held(choice))


def _tokens_of(fields: Fields) -> float:
    usage = fields.get("usage")
    tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
    return float(tokens) if isinstance(tokens, (int, float)) else 0.0
