"""Answers of a model, for a script: a text, or a call of a tool.

    gateway.script("rate_limited", tool_call("weather", city="Oslo"), "dropped", answer("Mild."))

Both take the shape that each request asks for: chat completion or response, whole or streamed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final

from .received import ReceivedRequest
from .replies import MODEL, REQUEST_ID, Reply, json_reply
from .text_answers import RESPONSE_DEFAULTS, Document, Setting, chat, named_sse, responses, sse

#: The tokens of a call; it is enough that they are plausible.
_CHAT_USAGE: Final = {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}
_RESPONSE_USAGE: Final = {
    "input_tokens": 20,
    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "output_tokens": 10,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 30,
}

Speaker = Callable[[ReceivedRequest], Reply]


def answer(text: str) -> Speaker:
    """Make a script entry with which the model says *text*, which may be JSON."""
    setting = Setting(text=text, models=None, created=0)

    def speak(request: ReceivedRequest) -> Reply:
        say = responses if _wants_response(request) else chat
        return say(request, setting)

    return speak


def tool_call(tool: str, /, **arguments: object) -> Speaker:
    """Make a script entry with which the model calls *tool* with *arguments*."""
    said = json.dumps(arguments)

    def speak(request: ReceivedRequest) -> Reply:
        streamed = bool(request.fields().get("stream"))
        if _wants_response(request):
            events = _response_events(tool, said)
            return named_sse(events) if streamed else json_reply(200, events[-1]["response"])
        if streamed:
            return sse([*_chunks(tool, said), "[DONE]"])
        return json_reply(200, _completion(tool, said))

    return speak


def _wants_response(request: ReceivedRequest) -> bool:
    return request.path.endswith("/responses")


def _head(kind: str) -> dict[str, object]:
    return {"id": f"chatcmpl-{REQUEST_ID}", "object": kind, "created": 0, "model": MODEL}


def _call(tool: str, said: str) -> dict[str, object]:
    function = {"name": tool, "arguments": said}
    return {"id": f"call_{REQUEST_ID}", "type": "function", "function": function}


def _completion(tool: str, said: str) -> dict[str, object]:
    message = {"role": "assistant", "content": None, "tool_calls": [_call(tool, said)]}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "tool_calls"}
    return {**_head("chat.completion"), "choices": [choice], "usage": _CHAT_USAGE}


def _chunks(tool: str, said: str) -> list[dict[str, object]]:
    """Return the call's name, its arguments in two pieces, then the end."""
    half = len(said) // 2
    pieces = [
        {"index": 0, "function": {"arguments": piece}} for piece in (said[:half], said[half:])
    ]
    deltas: list[Document] = [
        {"role": "assistant", "content": None, "tool_calls": [{"index": 0, **_call(tool, "")}]},
        *({"tool_calls": [piece]} for piece in pieces),
        {},
    ]
    head = _head("chat.completion.chunk")
    ends = [None] * (len(deltas) - 1) + ["tool_calls"]
    return [
        {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": end}]}
        for delta, end in zip(deltas, ends, strict=True)
    ]


def _response_events(tool: str, said: str) -> list[dict[str, object]]:
    """Every event of a streamed response; the last one holds the whole response."""
    item = {
        "id": f"fc_{REQUEST_ID}",
        "type": "function_call",
        "call_id": f"call_{REQUEST_ID}",
        "name": tool,
        "arguments": said,
        "status": "completed",
    }
    begun_item = {**item, "arguments": "", "status": "in_progress"}
    place = {"output_index": 0, "item_id": item["id"]}
    done = {
        "id": f"resp_{REQUEST_ID}",
        "object": "response",
        "created_at": 0,
        "status": "completed",
        "model": MODEL,
        "output": [item],
        "usage": _RESPONSE_USAGE,
        **RESPONSE_DEFAULTS,
    }
    begun = {**done, "status": "in_progress", "output": [], "usage": None}
    arguments = "response.function_call_arguments"
    events: list[Document] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
        {"type": "response.output_item.added", "output_index": 0, "item": begun_item},
        {**place, "type": f"{arguments}.delta", "delta": said},
        {**place, "type": f"{arguments}.done", "name": tool, "arguments": said},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": done},
    ]
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]
