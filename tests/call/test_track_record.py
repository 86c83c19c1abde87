"""The successes of one client: what is remembered, for how much memory, and what follows."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from comet_resilience import FailureKind, Rule, diagnose, support_report
from comet_resilience.call.track_record import (
    COMBINATIONS_KEPT,
    NAME_KEPT,
    Circumstance,
    TrackRecord,
)
from comet_resilience.verdict.evidence import NOTHING, Worked
from tests.conftest import FAST, JSON, OK, Answer, ask, envelope, scripted

# The SDK leaves its generators behind when it has seen "[DONE]", and trio says so.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Async generator '(openai|httpx|httpcore):ResourceWarning"
)

HERE = Circumstance(1, "https://g.test/v1", "POST /chat/completions", "m")


def test_nothing_is_known_at_first() -> None:
    assert TrackRecord().evidence(HERE, 0.0) == NOTHING


def test_a_success_is_evidence_for_its_key_model_and_place() -> None:
    record = TrackRecord()
    record.note_success(HERE, 10.0)
    record.note_success(HERE, 12.0)
    evidence = record.evidence(HERE, 15.0)
    assert evidence.key == evidence.model == evidence.place == Worked(times=2, ago=3.0)


@pytest.mark.parametrize(
    ("other", "known"),
    [
        (HERE._replace(model="other"), {"key", "place"}),
        (HERE._replace(credential=2), {"place"}),
        (HERE._replace(route="POST /responses"), {"key"}),
        (HERE._replace(base_url="https://other.test/v1"), {"key"}),
    ],
)
def test_a_success_proves_only_what_was_the_same(other: Circumstance, known: set[str]) -> None:
    record = TrackRecord()
    record.note_success(HERE, 1.0)
    evidence = record.evidence(other, 2.0)
    assert {name for name in ("key", "model", "place") if getattr(evidence, name)} == known


def test_a_public_route_proves_nothing_of_the_key() -> None:
    record = TrackRecord()
    record.note_success(HERE._replace(route="GET /models", model=""), 1.0)
    assert record.evidence(HERE, 2.0).key is None


def test_another_model_that_works_is_named() -> None:
    record = TrackRecord()
    record.note_success(HERE._replace(model="first"), 1.0)
    record.note_success(HERE._replace(model="second"), 2.0)
    record.note_success(HERE._replace(model="third", credential=2), 3.0)
    evidence = record.evidence(HERE, 5.0)
    assert (evidence.other_model, evidence.other) == ("second", Worked(times=1, ago=3.0))


def test_what_was_disproved_is_forgotten() -> None:
    record = TrackRecord()
    other = HERE._replace(model="other")
    for circumstance in (HERE, other):
        record.note_success(circumstance, 1.0)
    record.disprove("model", HERE)
    assert record.evidence(HERE, 2.0).model is None
    assert record.evidence(other, 2.0).model is not None
    record.disprove("place", HERE)
    assert record.evidence(other, 2.0) == NOTHING


@given(st.lists(st.integers(0, 400), max_size=600))
def test_the_latest_are_kept_and_memory_is_bounded(models: list[int]) -> None:
    record = TrackRecord()
    for now, model in enumerate(models):
        record.note_success(HERE._replace(model=f"m{model}"), float(now))
    kept = [m for m in set(models) if record.evidence(HERE._replace(model=f"m{m}"), 0.0).model]
    assert len(kept) <= COMBINATIONS_KEPT
    recent = list(dict.fromkeys(reversed(models)))[: COMBINATIONS_KEPT // 2]
    assert set(recent) <= set(kept)


def test_a_full_record_fits_in_64_kib() -> None:
    record = TrackRecord()
    for number in range(3 * COMBINATIONS_KEPT):
        name = f"{number:0{NAME_KEPT}}"
        record.note_success(HERE._replace(model=name, credential=hash(name)), 1e9 + number)
    assert sum(map(sys.getsizeof, _reachable(record))) <= 64 * 1_024


def test_a_name_of_no_model_is_not_kept() -> None:
    record = TrackRecord()
    record.note_success(HERE._replace(model="m" * (NAME_KEPT + 1)), 1.0)
    assert record.evidence(HERE, 2.0) == NOTHING


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_begins_with_nothing() -> None:
    record = TrackRecord()
    record.note_success(HERE, 1.0)
    child = os.fork()
    if child == 0:
        os._exit(0 if record.evidence(HERE, 2.0) == NOTHING else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert record.evidence(HERE, 2.0) != NOTHING


def _reachable(root: object) -> Iterator[object]:
    """All objects that belong to a record, each once; classes and shared constants are not its."""
    waiting, met = [root], set[int]()
    shared = {id(part) for part in HERE}
    while waiting:
        each = waiting.pop()
        if id(each) in met | shared or isinstance(each, type):
            continue
        met.add(id(each))
        yield each
        waiting += gc.get_referents(each)


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


@pytest.mark.anyio
async def test_a_model_that_never_worked_is_misspelt() -> None:
    client, inner = scripted(AWAY, **FAST)
    with pytest.raises(openai.InternalServerError) as raised:
        await ask(client)
    assert len(inner.sent) == 1
    assert diagnose(raised.value).kind is FailureKind.MODEL_UNAVAILABLE


@pytest.mark.anyio
async def test_a_model_that_worked_minutes_ago_is_away_and_comes_back() -> None:
    client, inner = scripted(OK, AWAY, AWAY, OK, **FAST)
    assert await ask(client) == "Hi"
    assert await ask(client) == "Hi"
    assert len(inner.sent) == 4


@pytest.mark.anyio
async def test_a_model_that_stays_away_is_met_once_and_then_believed() -> None:
    client, inner = scripted(OK, AWAY, **FAST)
    await ask(client)
    for sends, kind in ((3, FailureKind.UNAVAILABLE), (1, FailureKind.MODEL_UNAVAILABLE)):
        before = len(inner.sent)
        with pytest.raises(openai.InternalServerError) as raised:
            await ask(client)
        assert len(inner.sent) - before == sends
        assert diagnose(raised.value).kind is kind


@pytest.mark.anyio
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


@pytest.mark.anyio
async def test_another_client_begins_with_nothing() -> None:
    client, _ = scripted(OK, **FAST)
    await ask(client)
    other, inner = scripted(AWAY, **FAST)
    with pytest.raises(openai.InternalServerError):
        await ask(other)
    assert len(inner.sent) == 1


@pytest.mark.anyio
async def test_a_new_key_that_is_refused_is_the_users() -> None:
    client, inner = scripted(PROVIDERS_KEY, **FAST)
    with pytest.raises(openai.AuthenticationError) as raised:
        await ask(client)
    assert len(inner.sent) == 1
    assert diagnose(raised.value).kind is FailureKind.AUTHENTICATION


@pytest.mark.anyio
async def test_a_key_that_just_worked_is_the_providers_when_it_says_so() -> None:
    client, inner = scripted(OK, PROVIDERS_KEY, OK, **FAST)
    await ask(client)
    assert await ask(client) == "Hi"
    assert len(inner.sent) == 3


@pytest.mark.anyio
async def test_the_success_of_one_key_is_none_of_anothers() -> None:
    client, inner = scripted(OK, PROVIDERS_KEY, **FAST)
    await ask(client)
    with pytest.raises(openai.AuthenticationError):
        await ask(client.with_options(api_key="sk-another"))
    with pytest.raises(openai.AuthenticationError):
        await ask(client.with_options(default_headers={"Authorization": "Bearer sk-third"}))
    assert len(inner.sent) == 3


@pytest.mark.anyio
@pytest.mark.parametrize("worked", [True, False])
async def test_the_gateways_own_401_is_never_retried(worked: bool) -> None:
    client, inner = scripted(*([OK] if worked else []), REVOKED, **FAST)
    if worked:
        await ask(client)
    with pytest.raises(openai.AuthenticationError) as raised:
        await ask(client)
    assert len(inner.sent) == 1 + worked
    assert ("worked minutes ago" in diagnose(raised.value).meaning) is worked


@pytest.mark.anyio
@pytest.mark.parametrize("answer", [PAGE, MOVED], ids=["page", "redirect"])
async def test_what_stands_in_front_of_the_api_passes(answer: Answer) -> None:
    client, inner = scripted(OK, answer, OK, **FAST)
    await ask(client)
    assert await ask(client) == "Hi"
    assert len(inner.sent) == 3


@pytest.mark.anyio
@pytest.mark.parametrize("answer", [PAGE, MOVED], ids=["page", "redirect"])
async def test_a_path_that_never_answered_is_wrong(answer: Answer) -> None:
    client, inner = scripted(answer, **FAST)
    with pytest.raises(openai.OpenAIError) as raised:
        await ask(client)
    assert len(inner.sent) == 1
    assert diagnose(raised.value).kind is FailureKind.WRONG_PATH


@pytest.mark.anyio
async def test_a_refused_shape_that_worked_points_at_the_content() -> None:
    client, inner = scripted(OK, REFUSED, **FAST)
    await ask(client)
    with pytest.raises(openai.PermissionDeniedError) as raised:
        await ask(client)
    assert len(inner.sent) == 2
    assert "its content first" in diagnose(raised.value).advice[0]


@pytest.mark.anyio
async def test_a_stream_counts_once_it_has_begun() -> None:
    choice = b'{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}'
    body = b'data: {"choices": [' + choice + b"]}\n\ndata: [DONE]\n\n"
    stream: Answer = (200, body, {"content-type": "text/event-stream"})
    client, inner = scripted(stream, AWAY, OK, **FAST)
    answer: Any = await client.chat.completions.create(model="m", messages=[], stream=True)
    assert len([part async for part in answer]) == 1
    assert await ask(client) == "Hi"
    assert len(inner.sent) == 3


@pytest.mark.anyio
async def test_rows_of_the_user_may_ask_for_it() -> None:
    blip = Rule(
        name="blip", kind=FailureKind.AUTHENTICATION, action="retry", reason="a blip",  # type: ignore[arg-type]
        source="observed", status={401}, key_worked=True, at_most=1,
    )  # fmt: skip
    client, inner = scripted(OK, REVOKED, OK, rules=[blip], **FAST)
    await ask(client)
    assert await ask(client) == "Hi"
    assert len(inner.sent) == 3


@pytest.mark.anyio
async def test_the_report_says_what_works_without_asking() -> None:
    client, _ = scripted(OK, AWAY, **FAST)
    await ask(client, model="other")
    with pytest.raises(openai.InternalServerError) as raised:
        await ask(client)
    report = support_report(raised.value)
    assert report.other_model.startswith("other: 1 success, the last 0 s ago")
    assert "this model: none yet" in report.to_markdown()
    assert support_report(raised.value, other_model=False).other_model == "fails in the same way"
