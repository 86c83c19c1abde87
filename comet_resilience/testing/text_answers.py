"""Answers of the routes that return text: chat, completions, responses, embeddings, models."""

from __future__ import annotations

import base64
import json
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import unquote

from .replies import REQUEST_ID, Reply, json_reply, stream_reply

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from .received import ReceivedRequest

#: A JSON object that is read or written, and not changed.
Document: TypeAlias = "Mapping[str, object]"

#: The models that GET /models lists when the gateway serves any model.
SOME_MODELS: Final = ("gpt-5.4", "claude-sonnet-4-6", "text-embedding-3-small")

_EMBEDDING_SIZE: Final = 8

#: The fields that are the same in every response.
_RESPONSE_DEFAULTS: Final[Mapping[str, object]] = {
    "error": None,
    "incomplete_details": None,
    "instructions": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "temperature": 1.0,
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """The settings of an answer. *created* is in seconds since 1970."""

    text: str
    models: tuple[str, ...] | None
    created: int

    def words(self) -> list[str]:
        """Return the text in the pieces in which it is streamed."""
        first, *others = self.text.split(" ")
        return [first, *(f" {word}" for word in others)]


def chat(request: ReceivedRequest, setting: Setting) -> Reply:
    """Answer POST /chat/completions."""
    asked = request.fields()
    if asked.get("stream"):
        return sse([*_chat_chunks(asked, setting), "[DONE]"])
    message = {"role": "assistant", "content": setting.text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    head = _head(asked, setting, "chat.completion")
    return json_reply(200, {**head, "choices": [choice], "usage": _usage(request, setting)})


def completions(request: ReceivedRequest, setting: Setting) -> Reply:
    """Answer POST /completions."""
    asked = request.fields()
    head = _head(asked, setting, "text_completion")
    if not asked.get("stream"):
        choice = _text_choice(setting.text, "stop")
        return json_reply(200, {**head, "choices": [choice], "usage": _usage(request, setting)})
    choices = [_text_choice(word, None) for word in setting.words()]
    choices.append(_text_choice("", "stop"))
    return sse([*({**head, "choices": [choice]} for choice in choices), "[DONE]"])


def embeddings(request: ReceivedRequest, setting: Setting) -> Reply:
    """Answer POST /embeddings, as numbers or in base64, which is what the SDK asks for."""
    asked = request.fields()
    given = asked["input"]
    size = int(asked.get("dimensions") or _EMBEDDING_SIZE)
    several = isinstance(given, list) and not all(isinstance(item, int) for item in given)
    numbers = [(place + 1) / size for place in range(size)]
    vector: object = numbers
    if asked.get("encoding_format") == "base64":
        vector = base64.b64encode(struct.pack(f"<{size}f", *numbers)).decode()
    items = [
        {"object": "embedding", "index": index, "embedding": vector}
        for index in range(len(given) if several else 1)
    ]
    usage = {"prompt_tokens": len(items), "total_tokens": len(items)}
    document = {"object": "list", "data": items, "model": asked["model"], "usage": usage}
    return json_reply(200, document)


def responses(request: ReceivedRequest, setting: Setting) -> Reply:
    """Answer POST /responses."""
    asked = request.fields()
    done = response_of(
        asked["model"], setting.created, _message(setting, "completed"), _usage(request, setting)
    )
    if not asked.get("stream"):
        return json_reply(200, done)
    return response_stream(done, _output_events(setting))


def models(request: ReceivedRequest, setting: Setting) -> Reply:
    """Answer GET /models."""
    listed = [_model(name, setting) for name in setting.models or SOME_MODELS]
    return json_reply(200, {"object": "list", "data": listed, "success": True})


def model(request: ReceivedRequest, setting: Setting) -> Reply:
    """Answer GET /models/{id}; a model that is not there is an error under status 200."""
    name = unquote(request.path.rpartition("/models/")[2])
    if setting.models is None or name in setting.models:
        return json_reply(200, _model(name, setting))
    error = {
        "message": f"The model '{name}' does not exist",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }
    return json_reply(200, {"error": error})


def _model(name: str, setting: Setting) -> dict[str, object]:
    return {"id": name, "object": "model", "created": setting.created, "owned_by": "comet"}


def _head(asked: Document, setting: Setting, kind: str) -> dict[str, object]:
    return {
        "id": f"chatcmpl-{REQUEST_ID}",
        "object": kind,
        "created": setting.created,
        "model": asked["model"],
    }


def _chat_chunks(asked: Document, setting: Setting) -> Iterator[dict[str, object]]:
    head = _head(asked, setting, "chat.completion.chunk")
    deltas: list[dict[str, str]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": word} for word in setting.words()]
    for delta in deltas:
        yield {**head, "choices": [_delta_choice(delta, None)]}
    yield {**head, "choices": [_delta_choice({}, "stop")]}
    options = asked.get("stream_options")
    if isinstance(options, dict) and options.get("include_usage"):
        yield {**head, "choices": [], "usage": counts(1, len(setting.words()))}


def _delta_choice(delta: dict[str, str], finish_reason: str | None) -> dict[str, object]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def _text_choice(text: str, finish_reason: str | None) -> dict[str, object]:
    return {"index": 0, "text": text, "logprobs": None, "finish_reason": finish_reason}


def _usage(request: ReceivedRequest, setting: Setting) -> dict[str, int]:
    # Four bytes a token is the usual rule of thumb; nothing but its being plausible matters.
    return counts(max(1, len(request.body) // 4), len(setting.words()))


def counts(prompt: int, completion: int) -> dict[str, int]:
    """Return the usage of a chat completion."""
    total = prompt + completion
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total}


def response_of(
    model: object, created: int, item: Document, usage: Mapping[str, int]
) -> dict[str, object]:
    """Return a whole response with one item of output; ``usage`` is that of a chat completion."""
    return {
        "id": f"resp_{REQUEST_ID}",
        "object": "response",
        "created_at": created,
        "status": "completed",
        "model": model,
        "output": [item],
        "usage": {
            "input_tokens": usage["prompt_tokens"],
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": usage["completion_tokens"],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage["total_tokens"],
        },
        **_RESPONSE_DEFAULTS,
    }


def _message(setting: Setting, status: str) -> dict[str, object]:
    content = [_text_part(setting.text)] if status == "completed" else []
    return {
        "id": f"msg_{REQUEST_ID}",
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": content,
    }


def _text_part(text: str) -> dict[str, object]:
    return {"type": "output_text", "text": text, "annotations": []}


def _output_events(setting: Setting) -> Iterator[dict[str, object]]:
    place = {"output_index": 0, "content_index": 0, "item_id": f"msg_{REQUEST_ID}"}
    begun, done = _message(setting, "in_progress"), _message(setting, "completed")
    yield {"type": "response.output_item.added", "output_index": 0, "item": begun}
    yield {**place, "type": "response.content_part.added", "part": _text_part("")}
    for word in setting.words():
        yield {**place, "type": "response.output_text.delta", "delta": word, "logprobs": []}
    yield {**place, "type": "response.output_text.done", "text": setting.text, "logprobs": []}
    yield {**place, "type": "response.content_part.done", "part": _text_part(setting.text)}
    yield {"type": "response.output_item.done", "output_index": 0, "item": done}


def response_stream(done: Document, output: Iterable[Document]) -> Reply:
    """Stream a response: the events of its output between those that begin and end it."""
    begun = {**done, "status": "in_progress", "output": [], "usage": None}
    events: list[Document] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
        *output,
        {"type": "response.completed", "response": done},
    ]
    numbered = ({**event, "sequence_number": number} for number, event in enumerate(events))
    return stream_reply(*(f"event: {event['type']}\n{_event(event)}" for event in numbered))


def sse(events: Iterable[Document | str]) -> Reply:
    """Stream events: documents, or texts as they are."""
    return stream_reply(*map(_event, events))


def _event(event: Document | str) -> str:
    return f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n"
