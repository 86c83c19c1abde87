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
from .text_answers import (
    Document,
    Setting,
    chat,
    counts,
    response_of,
    response_stream,
    responses,
    sse,
)  # fmt: skip

#: The tokens of a call; it is enough that they are plausible.
_USAGE: Final = counts(20, 10)

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
            item = _item(tool, said)
            done = response_of(MODEL, 0, item, _USAGE)
            return response_stream(done, _item_events(item)) if streamed else json_reply(200, done)
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
    return {**_head("chat.completion"), "choices": [choice], "usage": _USAGE}


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


def _item(tool: str, said: str) -> dict[str, object]:
    return {
        "id": f"fc_{REQUEST_ID}",
        "type": "function_call",
        "call_id": f"call_{REQUEST_ID}",
        "name": tool,
        "arguments": said,
        "status": "completed",
    }


def _item_events(item: Document) -> list[Document]:
    place = {"output_index": 0, "item_id": item["id"]}
    said = {"arguments": item["arguments"], "name": item["name"]}
    begun, kind = (
        {**item, "arguments": "", "status": "in_progress"},
        "response.function_call_arguments",
    )
    return [
        {"type": "response.output_item.added", "output_index": 0, "item": begun},
        {**place, "type": f"{kind}.delta", "delta": item["arguments"]},
        {**place, "type": f"{kind}.done", **said},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
    ]
