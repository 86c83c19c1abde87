"""Output, told apart from its announcement and its end: chunks, events, whole answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from comet_resilience.verdict.answer import is_answer
from comet_resilience.verdict.output import (
    Opening,
    Part,
    ToolArguments,
    error_of_choice,
    has_error_finish,
    is_plainly_answered,
    reported_failure,
    suspect_fields,
    what_is_missing,
)
from comet_resilience.verdict.vocabulary import Fault

CHAT, RESPONSES, EMBEDDINGS = "POST /chat/completions", "POST /responses", "POST /embeddings"
MESSAGES = "POST /messages"
ROLE = {"choices": [{"delta": {"role": "assistant", "content": ""}}]}
STOP = {"choices": [{"delta": {}, "finish_reason": "stop"}]}
TEXT = {"choices": [{"delta": {"content": "Hi"}}]}


def parts(route: str, *events: object) -> list[Part]:
    """The role of each event of a stream."""
    opening = Opening(route)
    return [opening.take(event) for event in events]


STREAMS: list[tuple[str, list[object], list[Part]]] = [
    (CHAT, [ROLE, TEXT], [Part.OPENING, Part.OUTPUT]),
    (CHAT, [{"choices": [{"text": "Hi"}]}], [Part.OUTPUT]),
    (CHAT, [{"choices": []}], [Part.OPENING]),
    (CHAT, [{"id": "c"}], [Part.OPENING]),
    (CHAT, [{"object": "chunk"}], [Part.OPENING]),
    (CHAT, [{"usage": {"completion_tokens": 0}}], [Part.OPENING]),
    (CHAT, [{"unknown": 1}], [Part.OUTPUT]),
    (CHAT, ["[DONE]"], [Part.OUTPUT]),
    (CHAT, [{"choices": "none"}, {"choices": [1]}], [Part.OPENING, Part.OPENING]),
    # A lone stop is made up; with a role, or tokens that were counted, it is meant.
    (CHAT, [STOP], [Part.OPENING]),
    (CHAT, [ROLE, STOP], [Part.OPENING, Part.OUTPUT]),
    (CHAT, [{"usage": {"completion_tokens": 3}}, STOP], [Part.OPENING, Part.OUTPUT]),
    (CHAT, [{"usage": {"completion_tokens": "3"}}, STOP], [Part.OPENING, Part.OPENING]),
    (CHAT, [{"choices": [{"delta": {}, "finish_reason": "length"}]}], [Part.OUTPUT]),
    (CHAT, [{"choices": [{"delta": {}, "finish_reason": ""}]}], [Part.OPENING]),
    (CHAT, [{"choices": [{"delta": {}, "finish_reason": "error"}]}], [Part.FAILURE]),
    (CHAT, [{"choices": [{"delta": {}, "finish_reason": "network_error"}]}], [Part.FAILURE]),
    (
        CHAT,
        [{"choices": [{"delta": {"content": "H"}, "finish_reason": "network_error"}]}],
        [Part.OUTPUT],
    ),
    (CHAT, [{"choices": [{"delta": {"name": "a", "index": 1}}]}], [Part.OPENING]),
    (CHAT, [{"choices": [{"delta": {"tool_calls": [{}]}}]}], [Part.OUTPUT]),
    (CHAT, [{"choices": [{"message": {"content": "Hi"}}]}], [Part.OUTPUT]),
    (CHAT, [{"choices": [{"logprobs": {"content": "Hi"}}]}], [Part.OPENING]),
    ("POST /audio/speech", [{"id": "c"}], [Part.OUTPUT]),
    (RESPONSES, [{"type": "response.created"}], [Part.OPENING]),
    (RESPONSES, [{"type": "response.content_part.added"}], [Part.OPENING]),
    (RESPONSES, [{"type": "keepalive"}, {"type": "ping"}], [Part.OPENING, Part.OPENING]),
    (RESPONSES, [{"type": "response.output_text.delta", "delta": ""}], [Part.OPENING]),
    (RESPONSES, [{"type": "response.output_text.delta", "delta": "H"}], [Part.OUTPUT]),
    (RESPONSES, [{"type": "response.x.delta", "obfuscation": "a"}], [Part.OUTPUT]),
    (RESPONSES, [{"type": "response.x.partial_image", "delta": ""}], [Part.OUTPUT]),
    (RESPONSES, [{"type": "response.failed"}, {"type": 3}], [Part.OUTPUT, Part.OUTPUT]),
    (RESPONSES, [{"type": "response.completed", "response": {"output": []}}], [Part.FAILURE]),
    (RESPONSES, [{"type": "response.completed"}], [Part.FAILURE]),
    (RESPONSES, [{"type": "response.completed", "response": {"output": [1]}}], [Part.OUTPUT]),
    (
        MESSAGES,
        [{"type": "message_start"}, {"type": "ping"}, {"type": "content_block_start"}],
        [Part.OPENING] * 3,
    ),
    (MESSAGES, [{"type": "content_block_delta", "delta": {"text": "H"}}], [Part.OUTPUT]),
    (MESSAGES, [{"type": "message_delta"}], [Part.OUTPUT]),
]


@pytest.mark.parametrize(("route", "events", "roles"), STREAMS)
def test_role_of_each_event(route: str, events: list[object], roles: list[Part]) -> None:
    """Openings until something is said that only a model can have said."""
    assert parts(route, *events) == roles


def test_lone_stop_is_known_as_such() -> None:
    """A stop, and nothing else so far."""
    opening = Opening(CHAT)
    opening.take({"choices": []})
    assert not opening.is_lone_stop
    opening.take(STOP)
    assert opening.is_lone_stop


def cut(*texts: str, index: int = 0) -> bool:
    """Tell if these pieces of one call's arguments break off."""
    arguments = ToolArguments()
    for text in texts:
        call = {"index": index, "function": {"arguments": text}}
        arguments.take({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]})
    return arguments.are_cut


@pytest.mark.parametrize(
    ("texts", "is_cut"),
    [
        ((), False), (("",), False), (('{"a"', ": 1}"), False), (('{"a": 1', ""), True),
        (('{"a": "b',), True), (('{"a": tru',), True), (('{"a": -',), True), (('{"a": x}',), False),
        (("{'a': 1}",), False), (('{"a": 1} ',), False), (('{"a": "\\u00',), True),
        (("[" * 200_000,), False), (('{"' + "a" * 262_144,), False),
        (('{"' + "a" * 262_141,), True),
    ],
)  # fmt: skip
def test_arguments_of_a_tool_call_that_break_off(texts: tuple[str, ...], is_cut: bool) -> None:
    """The beginning of JSON and no more is cut; whole nonsense is the model's own."""
    assert cut(*texts) is is_cut


def test_calls_are_put_together_one_by_one() -> None:
    """Pieces of two calls, and of two choices, do not mix."""
    arguments = ToolArguments()

    def take(choice: int, call: int, text: str) -> None:
        calls = [{"index": call, "function": {"arguments": text}}]
        arguments.take({"choices": [{"index": choice, "delta": {"tool_calls": calls}}]})

    take(0, 0, '{"a":')
    take(0, 1, "{}")
    take(1, 0, "{}")
    assert arguments.are_cut
    take(0, 0, "1}")
    assert not arguments.are_cut
    for odd in ("x", {"choices": [{"delta": {"tool_calls": "x"}}]},
                {"choices": [{"delta": {"tool_calls": ["x", {"function": "y"}]}}]}):  # fmt: skip
        arguments.take(odd)
    assert not arguments.are_cut


def chat(*choices: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A whole chat completion."""
    return {"choices": list(choices), **more}


WHOLE: list[tuple[str, object, Fault | None]] = [
    (CHAT, chat({"message": {"role": "assistant", "content": "Hi"}}), None),
    (CHAT, chat(), Fault.NO_CHOICES),
    (CHAT, chat(usage={"completion_tokens": 1}), Fault.NO_OUTPUT),
    (CHAT, {"choices": None}, Fault.NO_OUTPUT),
    (CHAT, {"output": []}, None),
    (CHAT, chat({"message": {"content": "Hi"}, "finish_reason": "error"}), Fault.NO_OUTPUT),
    (CHAT, chat({"message": {"content": ""}, "finish_reason": "stop"}), Fault.LONE_STOP),
    (CHAT, chat({"message": {}, "finish_reason": "length"}), None),
    (CHAT, chat({"message": {"role": "assistant", "content": ""}, "finish_reason": "stop"}), None),
    (CHAT, chat({"message": {"content": None, "tool_calls": [1]}, "finish_reason": "stop"}), None),
    (CHAT, chat({"message": {"content": ""}, "finish_reason": "stop"},
                usage={"completion_tokens": 1}), None),
    (CHAT, chat({"text": "", "finish_reason": "stop"}), Fault.LONE_STOP),
    (RESPONSES, {"status": "completed", "output": []}, Fault.NO_OUTPUT),
    (RESPONSES, {"output": []}, Fault.NO_OUTPUT),
    (RESPONSES, {"status": "in_progress", "output": []}, None),
    (RESPONSES, {"status": "completed", "output": [], "error": {"code": "x"}}, None),
    (RESPONSES, {"status": "completed", "output": [], "output_text": "Hi"}, None),
    (EMBEDDINGS, {"data": []}, Fault.NO_OUTPUT),
    (EMBEDDINGS, {"data": [{"embedding": []}]}, Fault.NO_OUTPUT),
    (EMBEDDINGS, {"data": [{"embedding": [1.0]}, {"embedding": []}]}, Fault.NO_OUTPUT),
    (EMBEDDINGS, {"data": [1], "embedding": []}, Fault.NO_OUTPUT),
    (EMBEDDINGS, {"output": []}, None),
    ("GET /models", {"data": []}, None),
    (CHAT, [], None),
]  # fmt: skip


def missing(route: str, body: bytes) -> Fault | None:
    """Return what a body lacks, if it is worth a look at all."""
    suspect = suspect_fields(body)
    return None if suspect is None else what_is_missing(route, suspect)


@pytest.mark.parametrize(("route", "answer", "fault"), WHOLE)
def test_what_a_whole_answer_lacks(route: str, answer: object, fault: Fault | None) -> None:
    """A whole answer that holds nothing is no answer; a silence that is meant is one."""
    assert missing(route, json.dumps(answer).encode()) is fault


@pytest.mark.parametrize("pretty", [None, 2])
@pytest.mark.parametrize(("route", "answer", "fault"), WHOLE)
def test_a_plain_answer_lacks_nothing(
    route: str, answer: object, fault: Fault | None, pretty: int | None
) -> None:
    """The short way says so of none that the long one finds fault with."""
    body = json.dumps(answer, indent=pretty).encode()
    if is_plainly_answered(route, body):
        assert fault is None
        suspect = suspect_fields(body)
        assert suspect is None or reported_failure(suspect) is None
        assert is_answer(body, ("choices",))


def test_what_is_plainly_an_answer() -> None:
    """Something said in each choice, no error, whole, of a chat, and of a size to be parsed."""
    said = {"message": {"role": "assistant", "content": "Yes"}, "finish_reason": "stop"}
    plain = json.dumps(chat(said, said)).encode()
    assert is_plainly_answered(CHAT, plain)
    assert not is_plainly_answered(RESPONSES, plain)
    assert not is_plainly_answered(CHAT, plain[:-1])
    assert not is_plainly_answered(CHAT, plain + b" " * 65_536)
    for other in (
        chat(said, {"message": {"content": ""}}),
        chat({**said, "finish_reason": "error"}),
        chat(said, error={"code": 1}),
        {"choices": {"0": said}},
        {"choices": [said, None]},
        [said],
    ):
        assert not is_plainly_answered(CHAT, json.dumps(other).encode())


def test_only_a_suspect_body_of_reasonable_size_is_parsed() -> None:
    """Large bodies and broken ones hold something, as far as anybody can say cheaply."""
    empty = json.dumps({"choices": []}).encode()
    assert missing(CHAT, empty + b" " * (65_536 - len(empty))) is Fault.NO_CHOICES
    assert missing(CHAT, empty + b" " * (65_537 - len(empty))) is None
    assert missing(CHAT, empty[:-1]) is None


@pytest.mark.parametrize(
    ("answer", "code", "message"),
    [
        ({"base_resp": {"status_code": 1002, "status_msg": "slow"}}, "1002", "slow"),
        ({"error_code": 18, "error_msg": "qps"}, "18", "qps"),
        ({"base_resp": {"status_code": 0, "status_msg": ""}}, "", ""),
        ({"error_code": "0", "error_msg": ""}, "", ""),
        ({"error_code": 18}, "", ""),
        ({"base_resp": "x", "error_code": 18, "error_msg": "qps"}, "18", "qps"),
        (chat({"message": {"content": ""}}, error_code=18, error_msg="qps"), "", ""),
    ],
)
def test_failure_in_a_providers_own_members(answer: object, code: str, message: str) -> None:
    """A code beside an answer that is missing becomes an error in the usual form."""
    suspect = suspect_fields(json.dumps(answer).encode())
    found = None if suspect is None else reported_failure(suspect)
    said = {} if found is None else json.loads(found)["error"]
    assert said == ({"code": code, "message": message} if code else {})


def test_error_of_a_choice() -> None:
    """A finish reason of error, and the error that stands beside it."""
    bad = chat({"finish_reason": "error", "error": {"code": 503}})
    assert has_error_finish(bad)
    assert json.loads(error_of_choice(bad) or b"") == {"error": {"code": 503}}
    assert json.loads(reported_failure(bad) or b"") == {"error": {"code": 503}}
    cut = {"finish_reason": "insufficient_system_resource"}
    assert has_error_finish(chat({**cut, "message": {"content": ""}}))
    assert not has_error_finish(chat({**cut, "message": {"content": "Hi"}}))
    good = chat({"finish_reason": "stop"})
    assert not has_error_finish(good)
    assert error_of_choice(good) is None
    assert not has_error_finish([])
    assert error_of_choice([]) is None
