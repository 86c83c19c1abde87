"""What one answer alone does not tell: a client remembers what has worked, and judges by it."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from comet_resilience import FailureKind, Rule, diagnose, support_report
from comet_resilience.verdict.evidence import Worked
from tests.conftest import FAST, OK, Answer, ask, envelope, scripted

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:Async generator '(openai|httpx|httpcore):ResourceWarning"),
]

JSON = {"content-type": "application/json"}
NO_CHANNEL = envelope("model_not_found", "no available channel for model m under group default")
AWAY: Answer = (503, NO_CHANNEL, JSON)
PAGE: Answer = (
    200,
    b"<!doctype html><html><title>Hi</title></html>",
    {"content-type": "text/html"},
)
MOVED: Answer = (301, b"", {"location": "https://www.cometapi.com/"})
PROVIDERS_KEY: Answer = (
    401,
    {"error": {"message": "Incorrect API key provided: sk-ab***yz", "code": "invalid_api_key"}},
    JSON,
)
REVOKED: Answer = (401, envelope("", "invalid token"), JSON)
REFUSED: Answer = (403, envelope("", "not allowed"), JSON)


async def test_a_model_that_never_worked_is_misspelt() -> None:
    client, inner = scripted(AWAY, **FAST)
    with pytest.raises(openai.InternalServerError) as raised:
        await ask(client)
    assert len(inner.sent) == 1
    assert diagnose(raised.value).kind is FailureKind.MODEL_UNAVAILABLE


async def test_a_model_that_worked_minutes_ago_is_away_and_comes_back() -> None:
    client, inner = scripted(OK, AWAY, AWAY, OK, **FAST)
    assert await ask(client) == "Hi"
    assert await ask(client) == "Hi"
    assert len(inner.sent) == 4


async def test_a_model_that_stays_away_is_met_once_and_then_believed() -> None:
    client, inner = scripted(OK, AWAY, **FAST)
    await ask(client)
    for sends, kind in ((3, FailureKind.UNAVAILABLE), (1, FailureKind.MODEL_UNAVAILABLE)):
        before = len(inner.sent)
        with pytest.raises(openai.InternalServerError) as raised:
            await ask(client)
        assert len(inner.sent) - before == sends
        assert diagnose(raised.value).kind is kind


async def test_another_models_success_says_nothing_of_this_one() -> None:
    client, inner = scripted(OK, AWAY, **FAST)
    await ask(client, model="other")
    with pytest.raises(openai.InternalServerError) as raised:
        await ask(client)
    assert len(inner.sent) == 2
    evidence = diagnose(raised.value).evidence
    assert evidence is not None
    assert evidence.model is None
    assert evidence.key == evidence.place == Worked(times=1, ago=evidence.key.ago)  # type: ignore[union-attr]
    assert "this key: 1 success, the last 0 s ago" in str(diagnose(raised.value))


async def test_another_client_begins_with_nothing() -> None:
    client, _ = scripted(OK, **FAST)
    await ask(client)
    other, inner = scripted(AWAY, **FAST)
    with pytest.raises(openai.InternalServerError):
        await ask(other)
    assert len(inner.sent) == 1


async def test_a_new_key_that_is_refused_is_the_users() -> None:
    client, inner = scripted(PROVIDERS_KEY, **FAST)
    with pytest.raises(openai.AuthenticationError) as raised:
        await ask(client)
    assert len(inner.sent) == 1
    assert diagnose(raised.value).kind is FailureKind.AUTHENTICATION


async def test_a_key_that_just_worked_is_the_providers_when_it_says_so() -> None:
    client, inner = scripted(OK, PROVIDERS_KEY, OK, **FAST)
    await ask(client)
    assert await ask(client) == "Hi"
    assert len(inner.sent) == 3


async def test_the_success_of_one_key_is_none_of_anothers() -> None:
    client, inner = scripted(OK, PROVIDERS_KEY, **FAST)
    await ask(client)
    with pytest.raises(openai.AuthenticationError):
        await ask(client.with_options(api_key="sk-another"))
    with pytest.raises(openai.AuthenticationError):
        await ask(client.with_options(default_headers={"Authorization": "Bearer sk-third"}))
    assert len(inner.sent) == 3


@pytest.mark.parametrize("worked", [True, False])
async def test_the_gateways_own_401_is_never_retried(worked: bool) -> None:
    client, inner = scripted(*([OK] if worked else []), REVOKED, **FAST)
    if worked:
        await ask(client)
    with pytest.raises(openai.AuthenticationError) as raised:
        await ask(client)
    assert len(inner.sent) == 1 + worked
    assert ("worked minutes ago" in diagnose(raised.value).meaning) is worked


@pytest.mark.parametrize("answer", [PAGE, MOVED], ids=["page", "redirect"])
async def test_what_stands_in_front_of_the_api_passes(answer: Answer) -> None:
    client, inner = scripted(OK, answer, OK, **FAST)
    await ask(client)
    assert await ask(client) == "Hi"
    assert len(inner.sent) == 3


@pytest.mark.parametrize("answer", [PAGE, MOVED], ids=["page", "redirect"])
async def test_a_path_that_never_answered_is_wrong(answer: Answer) -> None:
    client, inner = scripted(answer, **FAST)
    with pytest.raises(openai.OpenAIError) as raised:
        await ask(client)
    assert len(inner.sent) == 1
    assert diagnose(raised.value).kind is FailureKind.WRONG_PATH


async def test_a_refused_shape_that_worked_points_at_the_content() -> None:
    client, inner = scripted(OK, REFUSED, **FAST)
    await ask(client)
    with pytest.raises(openai.PermissionDeniedError) as raised:
        await ask(client)
    assert len(inner.sent) == 2
    assert "its content first" in diagnose(raised.value).advice[0]


async def test_a_stream_counts_once_it_has_begun() -> None:
    choice = b'{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}'
    body = b'data: {"choices": [' + choice + b"]}\n\ndata: [DONE]\n\n"
    stream: Answer = (200, body, {"content-type": "text/event-stream"})
    client, inner = scripted(stream, AWAY, OK, **FAST)
    answer: Any = await client.chat.completions.create(model="m", messages=[], stream=True)
    assert len([part async for part in answer]) == 1
    assert await ask(client) == "Hi"
    assert len(inner.sent) == 3


async def test_rows_of_the_user_may_ask_for_it() -> None:
    blip = Rule(
        name="blip", kind=FailureKind.AUTHENTICATION, action="retry", reason="a blip",  # type: ignore[arg-type]
        source="observed", status={401}, key_worked=True, at_most=1,
    )  # fmt: skip
    client, inner = scripted(OK, REVOKED, OK, rules=[blip], **FAST)
    await ask(client)
    assert await ask(client) == "Hi"
    assert len(inner.sent) == 3


async def test_the_report_says_what_works_without_asking() -> None:
    client, _ = scripted(OK, AWAY, **FAST)
    await ask(client, model="other")
    with pytest.raises(openai.InternalServerError) as raised:
        await ask(client)
    report = support_report(raised.value)
    assert report.other_model.startswith("other: 1 success, the last 0 s ago")
    assert "this model: none yet" in report.to_markdown()
    assert support_report(raised.value, other_model=False).other_model == "fails in the same way"
