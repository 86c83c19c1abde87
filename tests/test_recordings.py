"""Answers that real gateways gave, replayed to the SDK over real sockets, each with its verdict.

``tests/corpus/recordings`` holds them, a line each: what a new-api gateway and a LiteLLM proxy
answered in front of a scripted provider, refusals, streams and plain answers, and beside it what
is to come of it, how often the same request is to be sent, and what is to be advised first.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import openai
import pytest

from comet_resilience import diagnose, wrap
from comet_resilience.testing import Gateway, Reply, no_waiting
from tests.conftest import KEY, MESSAGES, on_asyncio

RECORDINGS = Path(__file__).parent / "corpus" / "recordings"
LINES: dict[str, list[dict[str, Any]]] = {
    path.stem: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for path in sorted(RECORDINGS.glob("*.jsonl"))
}
RETRIES = 2


async def _call(client: Any, line: dict[str, Any]) -> object:
    route, streamed = line["route"], line["stream"]
    if route == "POST /responses":
        return await client.responses.create(model="m", input="hi", stream=streamed)
    if route == "POST /embeddings":
        return await client.embeddings.create(model="m", input="hi")
    if route == "GET /files":
        return await client.files.list()
    if route == "GET /models":
        return await client.models.list()
    if route == "GET /models/{id}":
        return await client.models.retrieve("nope")
    if route.startswith("GET "):
        return await client.get(route.removeprefix("GET "), cast_to=object)
    return await client.chat.completions.create(model="m", messages=MESSAGES, stream=streamed)


async def _received(answer: Any) -> str:
    """Read an answer to its end and return the text in it."""
    if isinstance(answer, openai.AsyncStream):
        return "".join([_piece(event) async for event in answer])
    if getattr(answer, "object", "") == "chat.completion":
        return str(answer.choices[0].message.content or "")
    return ""


def _piece(event: Any) -> str:
    """Return the text in one event of a stream."""
    if getattr(event, "object", "") == "chat.completion.chunk":
        return "".join(choice.delta.content or "" for choice in event.choices)
    return str(event.delta) if event.type == "response.output_text.delta" else ""


async def _outcome(
    gateway: Gateway, bare: openai.AsyncOpenAI, line: dict[str, Any]
) -> dict[str, Any]:
    headers = tuple(line["headers"].items())
    reply = Reply(status=line["status"], headers=headers, body=line["body"].encode())
    gateway.recover()
    gateway.always(reply)
    before = len(gateway.requests)
    # Each line is the first that its client hears of; connections are nothing that it learns from.
    client = wrap(bare, max_retries=RETRIES, max_retry_after=600)
    try:
        text = await _received(await _call(client, line))
    except openai.OpenAIError as error:
        found = diagnose(error)
        return {
            "outcome": "failure",
            "kind": found.kind.value,
            "attempts": len(gateway.requests) - before,
            "rule": found.rule,
            "advice": found.advice[0].replace(gateway.base_url, "{base_url}"),
        }
    return {"outcome": "success", "attempts": len(gateway.requests) - before, "text": text}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("house", LINES)
@on_asyncio
@pytest.mark.anyio
async def test_each_recorded_answer_has_its_verdict(house: str) -> None:
    """Outcome, number of requests, kind, row and advice are those written beside each line."""
    wrong = []
    async with (
        Gateway() as gateway,
        openai.AsyncOpenAI(api_key=KEY, base_url=gateway.base_url) as bare,
    ):
        with no_waiting():
            for number, line in enumerate(LINES[house], start=1):
                due = {**line["expected"]}
                due.pop("retry_after", None)
                said = await _outcome(gateway, bare, line)
                if said != due:
                    wrong.append((number, line["situation"], said, due))
    assert not wrong


def test_recordings_carry_no_key() -> None:
    """What was recorded shows keys masked, and each line says what is expected."""
    for lines in LINES.values():
        assert len(lines) >= 110
        for line in lines:
            assert not re.search(r"sk-[A-Za-z0-9]{8}", line["body"])
            due = line["expected"]
            judged = {"text"} if due["outcome"] == "success" else {"kind", "rule", "advice"}
            assert {"outcome", "attempts"} | judged <= due.keys()
