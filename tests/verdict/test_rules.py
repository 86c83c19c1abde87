"""The table against recorded answers: each is read as on the wire, and judged."""

from __future__ import annotations

import base64
import json
import ssl
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from comet_resilience.verdict.answer import is_answer
from comet_resilience.verdict.evidence import Evidence, Worked
from comet_resilience.verdict.reading import Reading, read
from comet_resilience.verdict.retry import may_be_billed
from comet_resilience.verdict.rule import Rule
from comet_resilience.verdict.rules import RULES, classify, rule_for
from comet_resilience.verdict.vocabulary import (
    Action,
    BodyKind,
    FailureKind,
    Fault,
    Observation,
    Operation,
    Signal,
)
from comet_resilience.wire.family import family_of_sdk, fault_of
from comet_resilience.wire.request import AnswerForm, Outgoing, read_request
from comet_resilience.wire.response import observe, observe_fault, read_bounded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CORPUS = Path(__file__).parent.parent / "corpus"
SOURCES = {"guide", "docs", "observed", "family", "edge", "transport", "peer", "inferred"}

DOCUMENTS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted(CORPUS.glob("*.json"))
}
# Wordings of other gateways and providers, a line each.
WORDINGS = (CORPUS / "wordings.jsonl").read_text(encoding="utf-8").splitlines()
DOCUMENTS |= {document["name"]: document for document in map(json.loads, WORDINGS)}

family: Any = family_of_sdk()


class _Body(family.AsyncByteStream):  # type: ignore[misc]
    """A body that has not been read yet, as a transport hands it on."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._content


@dataclass(frozen=True)
class Recorded:
    """One recorded answer, what was seen of it, and what is to be said of it."""

    name: str
    document: dict[str, Any]
    outgoing: Outgoing
    body: bytes
    observation: Observation
    evidence: Evidence
    reading: Reading

    @property
    def expected(self) -> dict[str, Any]:
        expected: dict[str, Any] = self.document["expected"]
        return expected


async def _load(name: str, document: dict[str, Any]) -> Recorded:
    outgoing = _outgoing(document["request"])
    if "fault" in document:
        body, observation = b"", _fault(document, outgoing)
    else:
        response = family.Response(
            document["status"], headers=document["headers"], stream=_Body(_body(document))
        )
        body = await read_bounded(response)
        observation = observe(response, body, outgoing.info.operation)
    has_id = None if "fault" in document else outgoing.info.has_id
    observation = replace(observation, new_task=document.get("new_task", False), has_id=has_id)
    worked: dict[str, Any] = dict.fromkeys(document.get("worked", ()), Worked(times=3, ago=4.0))
    evidence, reading = Evidence(**worked), read(observation)
    return Recorded(name, document, outgoing, body, observation, evidence, reading)


async def _load_all() -> list[Recorded]:
    return [await _load(name, document) for name, document in DOCUMENTS.items()]


def _outgoing(asked: dict[str, Any]) -> Outgoing:
    data = {"model": asked.get("model", "gpt-5"), "stream": asked.get("stream", False)}
    url = "https://api.cometapi.com" + asked["path"]
    body = {} if asked["method"] == "GET" else {"json": data}
    headers = {"accept": "application/json"}
    return read_request(family.Request(asked["method"], url, headers=headers, **body), None)


def _body(document: dict[str, Any]) -> bytes:
    if "body_base64" in document:
        return base64.b64decode(document["body_base64"])
    body = document.get("body", "")
    return (body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)).encode()


def _fault(document: dict[str, Any], outgoing: Outgoing) -> Observation:
    name, message = document["fault"]["type"], document["fault"]["message"]
    if name in set(Fault):  # what this library itself refuses or finds out
        return Observation(fault=Fault(name), message=message)
    error = ssl.SSLError(message) if name == "ssl.SSLError" else getattr(family, name)(message)
    fault = fault_of(error)
    assert fault is not None
    return observe_fault(
        fault, error, document["fault"].get("after_status"), outgoing.info.operation
    )


RECORDED = anyio.run(_load_all)

each = pytest.mark.parametrize("recorded", RECORDED, ids=lambda recorded: recorded.name)


def _judge(one: Recorded, rules: tuple[Rule, ...]) -> tuple[str, str, str, str, int | None]:
    rule = next(rule for rule in rules if rule.matches(one.observation, one.evidence, one.reading))
    return rule.name, rule.kind.value, rule.action.value, rule.signal.value, rule.at_most


@each
def test_verdict_of_recorded_answer(recorded: Recorded) -> None:
    """Kind, action, signal, row, bounds, hint and ids are those that the sources ask for."""
    verdict, expected = classify(recorded.observation, (), recorded.evidence), recorded.expected
    said: dict[str, Any] = {
        "kind": verdict.kind.value,
        "action": verdict.action.value,
        "signal": verdict.signal.value,
        "rule": verdict.rule,
        "at_most": verdict.at_most,
        "wait": verdict.wait,
    }
    due = {
        **{name: expected[name] for name in ("kind", "action", "signal", "rule")},
        "at_most": expected.get("at_most"),
        "wait": expected.get("wait", 0),
    }
    assert said == due
    if "may_be_billed" in expected:
        assert may_be_billed(recorded.observation, verdict) == expected["may_be_billed"]
    observation, ids = recorded.observation, expected.get("ids", {})
    assert observation.retry_after == expected.get("retry_after")
    assert (observation.ids.gateway, observation.ids.edge, observation.ids.provider) == (
        ids.get("gateway", ""),
        ids.get("edge", ""),
        ids.get("provider", ""),
    )


def test_recorded_failures_under_success_are_no_answers() -> None:
    """What the corpus calls a failure under status 200 is found out in the first place."""
    for one in RECORDED:
        if one.document.get("status") == 200 and one.outgoing.form is AnswerForm.JSON:
            assert not is_answer(one.body, one.outgoing.expected), one.name


def test_corpus_is_large_and_says_where_it_comes_from() -> None:
    """At least 160 answers, each with its source and a request."""
    assert len(RECORDED) >= 160
    for recorded in RECORDED:
        assert recorded.document["source"], recorded.name
        assert {"method", "path", "stream"} <= recorded.document["request"].keys()


def test_every_row_is_hit() -> None:
    """Every row decides at least one recorded answer."""
    hit = {recorded.expected["rule"] for recorded in RECORDED}
    assert not {rule.name for rule in RULES} - hit


@pytest.mark.parametrize("place", range(len(RULES) - 1), ids=[rule.name for rule in RULES[:-1]])
def test_swapping_a_row_with_the_last_is_noticed(place: int) -> None:
    """A row moved to the end, the last one in its place, changes some recorded verdict."""
    swapped = list(RULES)
    swapped[place], swapped[-1] = swapped[-1], swapped[place]
    rows = tuple(swapped)
    assert any(_judge(one, rows) != _judge(one, RULES) for one in RECORDED)


@pytest.mark.parametrize("place", range(len(RULES) - 1), ids=[rule.name for rule in RULES[:-1]])
def test_leaving_out_a_row_is_noticed(place: int) -> None:
    """Without a row, the answers that it decides are judged by another one."""
    rows = RULES[:place] + RULES[place + 1 :]
    hit = [one for one in RECORDED if one.expected["rule"] == RULES[place].name]
    assert any(_judge(one, rows) != _judge(one, RULES) for one in hit)


def test_names_of_rows_are_unique() -> None:
    """No two rows have the same name."""
    names = [rule.name for rule in RULES]
    assert len(set(names)) == len(names)


def test_rows_are_whole() -> None:
    """Each row has a reason, advice, a section of the guide, and a source in one word."""
    for rule in RULES:
        verdict = rule.verdict()
        assert verdict.reason, rule.name
        assert verdict.advice, rule.name
        assert verdict.section, rule.name
        assert verdict.source in SOURCES, rule.name


def test_only_retried_rows_teach_the_limiter_and_wait() -> None:
    """A row that stops neither cuts the limit nor names a wait or a number of retries."""
    for rule in RULES:
        if rule.action is Action.FAIL:
            assert (rule.signal, rule.wait, rule.at_most) == (Signal.IGNORED, 0, None), rule.name


def test_last_row_matches_everything() -> None:
    """Whatever was seen, there is a verdict."""
    assert RULES[-1].matches(Observation())
    assert classify(Observation()).rule == "unknown"
    assert classify(Observation(status=299, body=BodyKind.UNREAD)).action is Action.FAIL


def test_rows_of_the_user_come_first() -> None:
    """An extra row beats the table, and the first extra row beats the next."""
    stop = Rule(
        name="mine",
        kind=FailureKind.UNAVAILABLE,
        action=Action.FAIL,
        reason="mine",
        source="inferred",
        status=range(400, 600),
    )
    observation = Observation(status=429, body=BodyKind.JSON)
    assert classify(observation).action is Action.RETRY
    assert classify(observation, (stop, replace(stop, name="second"))).rule == "mine"
    empty = Observation(status=200, operation=Operation.TEXT)
    assert rule_for(empty, (stop,)).name == "empty-success"


# -- The guide's quick triage, row by row ----------------------------------------------------


def _json(status: int, code: str = "", message: str = "oops") -> Observation:
    return Observation(status=status, body=BodyKind.JSON, code=code, message=message)


def test_triage_400_is_not_retried() -> None:
    """400: validation failed; no."""
    assert classify(_json(400)).kind is FailureKind.INVALID_REQUEST
    assert not classify(_json(400)).retryable


def test_triage_401_is_not_retried() -> None:
    """401: the key is missing, malformed or invalid; no."""
    verdict = classify(replace(_json(401, message="invalid token"), type="comet_api_error"))
    assert (verdict.kind, verdict.retryable) == (FailureKind.AUTHENTICATION, False)
    assert verdict.section == "401 Invalid Token"


def test_triage_403_is_not_retried() -> None:
    """403: blocked or not allowed; usually no."""
    assert classify(_json(403)).kind is FailureKind.PERMISSION
    assert not classify(_json(403)).retryable


@pytest.mark.parametrize(
    "observation",
    [
        Observation(status=301, location="https://www.cometapi.com/"),
        Observation(status=200, body=BodyKind.HTML, message="CometAPI"),
        Observation(status=404, body=BodyKind.HTML, message="Not Found"),
    ],
)
def test_triage_path_mistake_is_not_retried(observation: Observation) -> None:
    """A redirect or a web page: the path is wrong; no."""
    verdict = classify(observation)
    assert (verdict.kind, verdict.retryable) == (FailureKind.WRONG_PATH, False)
    assert "https://api.cometapi.com/v1" in verdict.advice[0]


def test_triage_413_is_not_retried() -> None:
    """413: the request is too large; make it smaller first."""
    assert classify(_json(413)).kind is FailureKind.TOO_LARGE
    assert not classify(_json(413)).retryable


def test_triage_429_is_retried_and_cuts_the_limit() -> None:
    """429: yes, with backoff, and less at once."""
    verdict = classify(_json(429))
    assert verdict.retryable
    assert verdict.signal is Signal.OVERLOAD


def test_triage_500_invalid_request_is_not_retried() -> None:
    """500 with invalid_request: a malformed request; no."""
    verdict = classify(_json(500, "invalid_request", "field messages is required"))
    assert (verdict.kind, verdict.retryable) == (FailureKind.INVALID_REQUEST, False)
    assert verdict.section == "500 Internal Server Error"


@pytest.mark.parametrize("status", [500, 503, 504, 524])
def test_triage_server_side_failures_are_retried(status: int) -> None:
    """500, 503, 504, 524: yes, with backoff, and the request id kept."""
    verdict = classify(_json(status))
    assert verdict.retryable
    assert verdict.at_most is None
    assert any("request id" in step for step in verdict.advice)


@pytest.mark.parametrize(
    "message",
    [
        "upstream is required to reload, try again",
        "the image is required by a service that is down",
        "the connection to the provider must be reset",
        "the model is busy",
        "Model gpt-5 is temporarily not supported, try again later",
    ],
)
@pytest.mark.parametrize("status", [500, 502, 503])
def test_passing_failures_are_not_taken_for_refusals(status: int, message: str) -> None:
    """Words that also stand in refusals do not stop the retry of a passing failure."""
    assert classify(_json(status, message=message)).retryable
