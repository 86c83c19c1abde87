"""The error-handling guide of CometAPI, sentence by sentence: what it says, and what is done.

Source: apidoc.cometapi.com/errors/error-codes-handling. Each case is named after the section and
the sentence that it stands for, and is one whole request through the SDK.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import openai
import pytest

from comet_resilience import FailureKind as Kind
from comet_resilience import RetryScheduled, diagnose, snapshot, support_report
from tests.conftest import (
    COMPLETION,
    FAST,
    KEY,
    OK,
    Answer,
    ask,
    envelope,
    in_virtual_time,
    on_asyncio,
    scripted,
)

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]
ID = "20261102031415926535897Qx7LmZ2p"
HTML = b"<!doctype html><html><title>CometAPI</title><div id=root></div></html>"
WEB: dict[str, str] = {"content-type": "text/html; charset=utf-8"}


@dataclass(frozen=True)
class Says:
    """A sentence of the guide as a case: an answer, and what is to be made of it."""

    name: str
    answer: Answer
    kind: Kind
    retried: bool
    advice: tuple[str, ...] = ()
    request_id: str = ""
    error: type[Exception] = field(default=openai.APIStatusError)


def _body(message: str, code: str = "", *, param: bool = True) -> dict[str, object]:
    body = envelope(code, message)
    if not param:
        del body["error"]["param"]  # type: ignore[attr-defined]
    return body


def _json(status: int, message: str, code: str = "", *, param: bool = True) -> Answer:
    return status, _body(message, code, param=param), {"content-type": "application/json"}


REQUIRED = f"field messages is required (request id: {ID})"
INVALID_TOKEN = f"invalid token (request id: {ID})"
EXACT = "https://api.cometapi.com/v1"

SENTENCES = [
    # Quick triage
    Says("triage_400_not_retried", _json(400, "validation failed"), Kind.INVALID_REQUEST, False,
         ("model, messages, JSON shape, types",), error=openai.BadRequestError),
    Says("triage_401_not_retried", _json(401, "bad key"), Kind.AUTHENTICATION, False,
         ("Authorization: Bearer <COMETAPI_KEY>",), error=openai.AuthenticationError),
    Says("triage_403_not_retried", _json(403, "not allowed"), Kind.PERMISSION, False,
         ("model known to work", "Remove advanced"), error=openai.PermissionDeniedError),
    Says("triage_path_as_301", (301, b"", {"location": "https://www.cometapi.com/"}),
         Kind.WRONG_PATH, False, (EXACT, "redirects off")),
    Says("triage_path_as_html", (200, HTML, WEB), Kind.WRONG_PATH, False, (EXACT,)),
    Says("triage_429_retried", _json(429, "rate limited"), Kind.RATE_LIMITED, True,
         ("backoff with jitter",), error=openai.RateLimitError),
    Says("triage_500_invalid_request_not_retried", _json(500, "bad", "invalid_request"),
         Kind.INVALID_REQUEST, False, ("Fix the request body",)),
    Says("triage_500_retried", _json(500, "failed"), Kind.SERVER_ERROR, True, ("request id",)),
    Says("triage_503_retried", _json(503, "failed"), Kind.UNAVAILABLE, True, ("request id",)),
    Says("triage_504_retried", _json(504, "failed"), Kind.TIMEOUT, True, ("request id",)),
    Says("triage_524_retried", _json(524, "failed"), Kind.TIMEOUT, True, ("request id",)),
    # Error envelope
    Says("envelope_as_printed", _json(500, "...", "invalid_request"), Kind.INVALID_REQUEST, False),
    Says("envelope_code_left_empty_message_decides", _json(500, REQUIRED), Kind.INVALID_REQUEST,
         False, request_id=ID),
    Says("envelope_code_left_empty_message_says_nothing", _json(500, "oops"), Kind.SERVER_ERROR,
         True),
    # 400 Bad Request
    Says("400_missing_required_field", _json(400, "model is required"), Kind.INVALID_REQUEST,
         False, ("minimal request", "back one by one")),
    Says("400_invalid_json_shape", _json(400, "invalid JSON"), Kind.INVALID_REQUEST, False),
    Says("400_wrong_type", _json(400, "messages must be an array"), Kind.INVALID_REQUEST, False,
         ("endpoint's schema",)),
    Says("400_provider_specific_parameter", _json(400, "unknown parameter: top_k"),
         Kind.INVALID_REQUEST, False, ("back one by one", "endpoint's schema")),
    Says("400_not_every_malformed_request_is_one", _json(500, "bad field", "invalid_request"),
         Kind.INVALID_REQUEST, False),
    # 500 Internal Server Error
    Says("500_example_without_messages", _json(500, REQUIRED, "invalid_request"),
         Kind.INVALID_REQUEST, False, ("only after correcting",), ID,
         openai.InternalServerError),
    Says("500_platform_failure_keeps_its_id_and_backs_off",
         _json(500, f"provider failed (request id: {ID})"), Kind.SERVER_ERROR, True,
         ("Keep the request id", "Retry with backoff"), ID, openai.InternalServerError),
    # 401 Invalid Token
    Says("401_example", _json(401, INVALID_TOKEN, param=False), Kind.AUTHENTICATION, False,
         ("Authorization: Bearer <COMETAPI_KEY>", ".env", "another key works"), ID,
         openai.AuthenticationError),
    Says("401_missing", _json(401, "no token was provided"), Kind.AUTHENTICATION, False,
         ("Authorization: Bearer <COMETAPI_KEY>",)),
    Says("401_malformed", _json(401, "malformed Authorization header"), Kind.AUTHENTICATION, False,
         ("Authorization: Bearer <COMETAPI_KEY>",)),
    # 403 Forbidden
    Says("403_model_rejects_an_advanced_parameter", _json(403, "this model refuses logit_bias"),
         Kind.PERMISSION, False, ("Remove advanced", "gradually")),
    Says("403_waf", (403, b"<html><head><title>403 Forbidden</title></head></html>", WEB),
         Kind.EDGE_BLOCKED, False, ("simple text request",), error=openai.PermissionDeniedError),
    Says("403_token_may_not_use_the_model",
         _json(403, f"token has no access to model x (request id: {ID})"), Kind.PERMISSION, False,
         ("Keep the request id",), ID),
    Says("403_group_and_channel_are_routing_details",
         _json(403, "group default: channel disabled"), Kind.PERMISSION, False,
         ("group or channel",)),
    # Wrong base URL or wrong path
    Says("path_redirect", (302, b"", {"location": "/login"}), Kind.WRONG_PATH, False, (EXACT,)),
    Says("path_permanent", (308, b"", {"location": "/x"}), Kind.WRONG_PATH, False, (EXACT,)),
    Says("path_parsing_error_inside_the_sdk", (200, HTML, {"content-type": "application/json"}),
         Kind.WRONG_PATH, False, (EXACT,)),
    Says("path_html_not_json", (404, HTML, WEB), Kind.WRONG_PATH, False,
         (EXACT, "path matches the documentation"), error=openai.NotFoundError),
    # 413 Request Entity Too Large
    Says("413_json", _json(413, "too large"), Kind.TOO_LARGE, False,
         ("base64", "Split large jobs", "plain text is the only cause")),
    Says("413_page", (413, b"<html><h1>413 Request Entity Too Large</h1></html>", WEB),
         Kind.TOO_LARGE, False),
    # 429 Too Many Requests
    Says("429_backs_off_and_reduces_the_burst", _json(429, "too many"), Kind.RATE_LIMITED, True,
         ("backoff with jitter", "burst concurrency", "route and model")),
    Says("429_temporary_saturation", _json(429, "upstream load is saturated, try again later"),
         Kind.RATE_LIMITED, True, ("backoff with jitter",)),
    # 503, 504, and 524
    Says("503_route_or_provider_unavailable", _json(503, f"down (request id: {ID})"),
         Kind.UNAVAILABLE, True, ("temporarily unavailable", "endpoint, model and timestamp",
                                  "contact support"), ID),
    Says("504_between_platform_edge_and_provider", (504, b"<html>504</html>", WEB), Kind.TIMEOUT,
         True, ("Platform, edge or provider", "contact support")),
    Says("524_between_platform_edge_and_provider", (524, b"<html>524</html>", WEB), Kind.TIMEOUT,
         True, ("request id",)),
]  # fmt: skip


@on_asyncio
@pytest.mark.parametrize("says", SENTENCES, ids=lambda says: says.name)
async def test_guide(says: Says) -> None:
    """Retried or not, under the SDK's own class, with the guide's first steps and the id kept."""
    client, inner = scripted(says.answer, max_retries=1, **FAST)
    with pytest.raises(says.error) as caught:
        await ask(client)
    found = diagnose(caught.value)
    assert found.kind is says.kind
    assert len(inner.sent) == 1 + says.retried
    for words in says.advice:
        assert any(words in step for step in found.advice), words
    assert found.ids.gateway == says.request_id
    if says.request_id:
        assert getattr(caught.value, "request_id", None) == says.request_id


@on_asyncio
@pytest.mark.parametrize("says", SENTENCES, ids=lambda says: says.name)
async def test_guide_in_a_stream(says: Says) -> None:
    """The same where an event stream was asked for, whatever the body is then labelled."""
    status, body, headers = says.answer  # type: ignore[misc]
    for labelled in (headers, {**headers, "content-type": "text/event-stream"}):
        client, inner = scripted((status, body, labelled), max_retries=1, **FAST)
        with pytest.raises(says.error) as caught:
            await ask(client, stream=True)
        assert diagnose(caught.value).kind is says.kind
        assert len(inner.sent) == 1 + says.retried


async def test_guide_400_minimal_request_is_sent_as_printed() -> None:
    """The guide's minimal request goes out as it stands there."""
    client, inner = scripted((200, COMPLETION, {}))
    await client.chat.completions.create(
        model="your-model-id", messages=[{"role": "user", "content": "Hello"}]
    )
    assert json.loads(inner.bodies[0]) == {
        "model": "your-model-id",
        "messages": [{"role": "user", "content": "Hello"}],
    }
    assert inner.sent[0][0]["authorization"] == f"Bearer {KEY}"


@in_virtual_time
async def test_guide_429_exponential_backoff_with_jitter() -> None:
    """The waits lie below doubling ceilings and are not the same for everybody."""
    rows: list[tuple[float, ...]] = []
    for _ in range(6):
        waits: list[float] = []
        client, _inner = scripted(
            _json(429, "too many"),
            on_event=lambda event, waits=waits: (
                waits.append(event.delay) if isinstance(event, RetryScheduled) else None
            ),
        )
        with pytest.raises(openai.RateLimitError):
            await ask(client)
        assert all(wait <= 0.5 * 2**place for place, wait in enumerate(waits))
        rows.append(tuple(waits))
    assert len(set(rows)) == len(rows)


@in_virtual_time
async def test_guide_429_reduces_burst_concurrency_and_says_where(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A 429 moves the limit of its route and model; the log names both."""
    client, _ = scripted(_json(429, "too many"), max_retries=0)
    for _ in range(4):
        with pytest.raises(openai.RateLimitError):
            await ask(client, model="busy-model")
    (shown,) = snapshot(client).partitions
    assert shown.partition == ("POST /chat/completions", "busy-model")
    assert shown.limit < 8
    warned = [record.getMessage() for record in caplog.records if "429" in record.getMessage()]
    assert warned
    assert all("POST /chat/completions model=busy-model" in line for line in warned)


async def test_guide_before_you_contact_support() -> None:
    """Every detail of the guide's list is in the report, the body sanitised."""
    client, _ = scripted(_json(500, f"failed (request id: {ID})"), OK, max_retries=0)
    with pytest.raises(openai.InternalServerError) as caught:
        await ask(client, model="some-model", extra_query={"trace": "on"})
    report = support_report(caught.value, other_model="works with another", other_key=False)
    text = report.to_markdown()
    for detail in ("POST", "/chat/completions", "some-model", "trace", "500", "failed", ID,
                   "works with another", '"messages"'):  # fmt: skip
        assert detail in text, detail
    assert "Hello" not in text
    assert KEY not in text
