"""Ordinary successes of every endpoint: handed over as they came, and asked for once."""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import openai
import pytest

from comet_resilience import wrap
from comet_resilience.testing import Gateway, Reply
from tests.conftest import KEY, MESSAGES, httpx, on_asyncio

Use = Callable[[Any], Awaitable[Any]]
Case = tuple[str, Use, Reply]

_USAGE = {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9}
_CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
_LOGPROBS = {"content": [{"token": "Hi", "logprob": -0.1, "bytes": None, "top_logprobs": []}]}

#: What a message may hold, and the finish reasons under which it is an answer.
_MESSAGES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "text": ({"content": "Hi"}, ("stop", "length", "content_filter", "end_turn", "eos")),
    "text about errors": (
        {"content": '{"error": {"code": 503, "message": "overloaded, try again later"}}'},
        ("stop", "length", "content_filter"),
    ),
    "text about quota": ({"content": "insufficient_quota: 额度不足"}, ("stop", "length")),
    "page": ({"content": "<!doctype html><title>502 Bad Gateway</title>"}, ("stop",)),
    "events": ({"content": "data: [DONE]\n\nevent: error\n\n"}, ("stop",)),
    "tools": ({"content": None, "tool_calls": [_CALL]}, ("tool_calls", "stop")),
    "tools, empty content": ({"content": "", "tool_calls": [_CALL]}, ("tool_calls", "stop")),
    "function": (
        {"content": None, "function_call": {"name": "f", "arguments": "{}"}}, ("function_call",)
    ),
    "refusal": ({"content": None, "refusal": "I cannot help with that."}, ("stop", "refusal")),
    "reasoning": ({"content": "4", "reasoning_content": "2 + 2"}, ("stop", "length")),
    "reasoning only": ({"content": "", "reasoning_content": "Let me"}, ("length", "stop")),
    "reasoning elsewhere": ({"content": "4", "reasoning": "2 + 2"}, ("stop",)),
    "empty": ({"content": ""}, ("length", "content_filter", "stop")),
    "nothing": ({"content": None}, ("length", "content_filter")),
    "audio": (
        {"content": None, "audio": {"id": "a", "data": "AAAA", "expires_at": 1, "transcript": "x"}},
        ("stop",),
    ),
}  # fmt: skip


def _json(document: Any, **headers: str) -> Reply:
    names = {"content-type": "application/json", **headers}
    return Reply(headers=tuple(names.items()), body=json.dumps(document).encode())


def _stream(*events: Any, done: bool = True) -> Reply:
    lines = [
        (f"event: {event['type']}\n" if "type" in event else "") + f"data: {json.dumps(event)}\n\n"
        for event in events
    ]
    body = "".join([*lines, *(["data: [DONE]\n\n"] if done else [])])
    return Reply(headers=(("content-type", "text/event-stream"),), body=body.encode())


def _chat(choices: list[Any], **more: Any) -> dict[str, Any]:
    document = {"id": "c", "object": "chat.completion", "created": 1, "model": "m"}
    return {**document, "choices": choices, "usage": _USAGE, **more}


def _chunk(choices: list[Any], **more: Any) -> dict[str, Any]:
    return {**_chat(choices), "object": "chat.completion.chunk", "usage": None, **more}


def _deltas(message: dict[str, Any]) -> dict[str, Any]:
    calls = [{"index": 0, **call} for call in message.get("tool_calls", ())]
    return {**message, **({"tool_calls": calls} if calls else {})}


async def _drained(answer: Any) -> Any:
    return [event async for event in answer] if isinstance(answer, openai.AsyncStream) else answer


def _calling(path: str, **arguments: Any) -> Use:
    async def use(client: Any) -> Any:
        call = client
        for name in path.split("."):
            call = getattr(call, name)
        return await _drained(await call(**arguments))

    return use


def _raw(path: str, **arguments: Any) -> Use:
    *groups, name = path.split(".")
    return _calling(".".join([*groups, "with_raw_response", name]), **arguments)


def _streaming(path: str, **arguments: Any) -> Use:
    async def use(client: Any) -> Any:
        group = client
        *groups, name = path.split(".")
        for each in groups:
            group = getattr(group, each)
        async with getattr(group.with_streaming_response, name)(**arguments) as response:
            return await response.read()

    return use


def _in_three_uses(name: str, path: str, reply: Reply, **arguments: Any) -> Iterator[Case]:
    for use, make in (("plain", _calling), ("raw", _raw), ("streaming", _streaming)):
        yield f"{name}, {use}", make(path, **arguments), reply


def _chats() -> Iterator[Case]:
    path, ask = "chat.completions.create", {"model": "m", "messages": MESSAGES}
    for name, (message, reasons) in _MESSAGES.items():
        for reason in reasons:
            title = f"chat {name} {reason}"
            said = {"role": "assistant", **message}
            choice = {"index": 0, "finish_reason": reason, "message": said}
            yield from _in_three_uses(title, path, _json(_chat([choice])), **ask)
            first = {"index": 0, "delta": _deltas(said), "finish_reason": None}
            last = {"index": 0, "delta": {}, "finish_reason": reason}
            events = (_chunk([first]), _chunk([last]), _chunk([], usage=_USAGE))
            yield f"{title}, streamed", _calling(path, **ask, stream=True), _stream(*events)
    two = [
        {"index": n, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}}
        for n in range(2)
    ]
    yield from _in_three_uses("chat n=2", path, _json(_chat(two)), **ask, n=2)
    choice = {**two[0], "logprobs": _LOGPROBS}
    yield from _in_three_uses("chat logprobs", path, _json(_chat([choice])), **ask, logprobs=True)
    whole = _json(_chat([two[0]], error=None, success=True, code=0, message="ok"))
    yield from _in_three_uses("chat with null errors", path, whole, **ask)


def _response(output: list[Any], status: str = "completed", **more: Any) -> dict[str, Any]:
    return {
        "id": "resp_1", "object": "response", "created_at": 1, "model": "m", "status": status,
        "error": None, "incomplete_details": None, "parallel_tool_calls": True, "tools": [],
        "tool_choice": "auto", "output": output, **more,
    }  # fmt: skip


def _responses() -> Iterator[Case]:
    path, ask = "responses.create", {"model": "m", "input": "hi"}
    text = {"type": "output_text", "text": "Hi", "annotations": []}
    refused = {"type": "refusal", "refusal": "No."}
    said = {"type": "message", "id": "m", "role": "assistant", "status": "completed"}
    call = {"type": "function_call", "id": "f", "call_id": "c", "name": "f", "arguments": "{}"}
    limit = {"incomplete_details": {"reason": "max_output_tokens"}}
    for name, document in {
        "text": _response([{**said, "content": [text]}]),
        "refusal": _response([{**said, "content": [refused]}]),
        "call": _response([call]),
        "reasoning": _response([{"type": "reasoning", "id": "r", "summary": []}]),
        "incomplete": _response([{**said, "content": [text]}], "incomplete", **limit),
        "queued": _response([], "queued", background=True),
        "in progress": _response([], "in_progress", background=True),
        "cancelled": _response([], "cancelled", background=True),
    }.items():
        yield from _in_three_uses(f"response {name}", path, _json(document), **ask)
        retrieved = {"response_id": "resp_1"}
        yield from _in_three_uses(
            f"{name} response again", "responses.retrieve", _json(document), **retrieved
        )
    opening = {"type": "response.created", "sequence_number": 0, "response": _response([])}
    delta = {
        "type": "response.output_text.delta", "sequence_number": 1, "item_id": "m",
        "output_index": 0, "content_index": 0, "delta": "Hi", "logprobs": [],
    }  # fmt: skip
    for end in ("completed", "incomplete"):
        last = {"type": f"response.{end}", "sequence_number": 2, "response": _response([], end)}
        events = _stream(opening, delta, last, done=False)
        yield f"response {end}, streamed", _calling(path, **ask, stream=True), events


def _others() -> Iterator[Case]:
    page: dict[str, Any] = {"object": "list", "data": [], "has_more": False}
    file = {"id": "f", "object": "file", "bytes": 1, "created_at": 1, "filename": "x",
            "purpose": "batch", "status": "processed"}  # fmt: skip
    batch = {"id": "b", "object": "batch", "endpoint": "/v1/chat/completions", "created_at": 1,
             "completion_window": "24h", "input_file_id": "f"}  # fmt: skip
    errors = {"object": "list", "data": [{"code": "invalid", "message": "a line is no JSON"}]}
    embedded = {"object": "embedding", "index": 0, "embedding": [0.1]}
    picture = base64.b64encode(b"\x89PNG").decode()
    completion = {"id": "c", "object": "text_completion", "created": 1, "model": "m"}
    texts = [{"index": 0, "text": "Hi", "finish_reason": "stop", "logprobs": None}]
    moderated = {"flagged": True, "categories": {"hate": True}, "category_scores": {"hate": 0.9}}
    sound = Reply(headers=(("content-type", "audio/mpeg"),), body=b"ID3\x00\xff" * 9)
    lines = Reply(headers=(("content-type", "application/octet-stream"),), body=b'{"error": 1}\n')
    embed = {"model": "m", "input": "hi", "encoding_format": "float"}
    speak = {"model": "m", "voice": "alloy", "input": "hi"}
    hear = {"model": "m", "file": ("a.mp3", b"ID3")}
    draw = {"model": "m", "prompt": "a cat"}
    plain: list[tuple[str, Any, dict[str, Any]]] = [
        ("completions.create", {**completion, "choices": texts}, {"model": "m", "prompt": "hi"}),
        ("embeddings.create", {"object": "list", "model": "m", "data": [embedded]}, embed),
        ("moderations.create", {"id": "m", "model": "m", "results": [moderated]}, {"input": "x"}),
        ("images.generate", {"created": 1, "data": [{"url": "https://x.test/a.png"}]}, draw),
        ("images.generate", {"created": 1, "data": [{"b64_json": picture}]}, draw),
        ("audio.transcriptions.create", {"text": "Hello"}, hear),
        ("audio.transcriptions.create", {"text": ""}, hear),
        ("audio.translations.create", {"text": "Hello"}, hear),
        ("models.list", {"object": "list", "data": [{"id": "m", "object": "model"}]}, {}),
        ("models.list", {"object": "list", "data": []}, {}),
        ("models.retrieve", {"id": "m", "object": "model", "created": 1}, {"model": "m"}),
        ("files.list", page, {}),
        ("files.list", {**page, "data": [file]}, {}),
        ("files.retrieve", file, {"file_id": "f"}),
        ("files.retrieve", {**file, "status": "error", "status_details": "x"}, {"file_id": "f"}),
        ("files.delete", {"id": "f", "object": "file", "deleted": True}, {"file_id": "f"}),
        ("files.create", file, {"file": ("x", b"{}"), "purpose": "batch"}),
        ("batches.list", page, {}),
        ("batches.retrieve", {**batch, "status": "failed", "errors": errors}, {"batch_id": "b"}),
        ("batches.retrieve", {**batch, "status": "expired"}, {"batch_id": "b"}),
        ("batches.cancel", {**batch, "status": "cancelling"}, {"batch_id": "b"}),
    ]
    for number, (path, document, ask) in enumerate(plain):
        yield from _in_three_uses(f"{path} {number}", path, _json(document), **ask)
    yield from _in_three_uses("speech", "audio.speech.create", sound, **speak)
    yield from _in_three_uses("file content", "files.content", lines, file_id="f")


CASES = [*_chats(), *_responses(), *_others()]


async def _met(reply: Reply, use: Use, *, wrapped: bool) -> tuple[Any, int]:
    """Use a client, wrapped or bare, and return what it got and how often it asked."""
    gateway = Gateway()
    gateway.always(reply)
    async with httpx.AsyncClient(transport=gateway.transport()) as http:
        client = openai.AsyncOpenAI(api_key=KEY, base_url=gateway.base_url, http_client=http)
        got = await use(wrap(client) if wrapped else client)
    content = getattr(got, "content", None)
    return (content if isinstance(content, bytes) else got), len(gateway.requests)


def _shown(got: Any) -> Any:
    if isinstance(got, list):
        return [event.model_dump(warnings=False) for event in got]
    return got.model_dump(warnings=False) if hasattr(got, "model_dump") else got


@pytest.mark.anyio
@on_asyncio
@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
@pytest.mark.parametrize("tenth", range(10))
async def test_ordinary_successes_are_untouched(
    tenth: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Each is what the bare client gets, sent once, and nothing is said about it."""
    for name, use, reply in CASES[tenth::10]:
        bare, _ = await _met(reply, use, wrapped=False)
        got, requests = await _met(reply, use, wrapped=True)
        assert (_shown(got), requests) == (_shown(bare), 1), name
        assert not [line for line in caplog.records if line.levelname == "WARNING"], name


def test_there_are_enough_of_them() -> None:
    """No case is there twice, and there are some hundred."""
    assert len({name for name, _, _ in CASES}) == len(CASES) >= 200
    assert {"plain", "raw", "streaming", "streamed"} <= {name.split(", ")[-1] for name, *_ in CASES}
