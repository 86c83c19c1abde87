"""The report for support: every row of the guide's triage over a socket, item by item."""

from __future__ import annotations

import gc
import json
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any

import anyio
import openai
import pytest

from comet_resilience import FixedLimit, QueueFullError, SupportReport, support_report, wrap
from comet_resilience.testing import Gateway, error_reply

from ..conftest import (
    FAST,
    MESSAGES,
    ask,
    failure_of,
    httpx,
    in_real_time,
    scripted,
    stream_from,
)

pytestmark = [pytest.mark.anyio, in_real_time]


@dataclass(frozen=True)
class Row:
    """A row of the guide's table: how to make it happen and what the report must then say."""

    name: str
    status: str
    message: str
    attempts: int
    section: str
    edge: bool = False
    ids: bool = True


ROWS = [
    Row("bad_request", "400 Bad Request", "model name is required", 1, "500 Internal Server Error"),
    Row("invalid_token", "401 Unauthorized", "invalid token", 1, "401 Invalid Token"),
    Row("forbidden", "403 Forbidden", "token has no access", 1, "403 Forbidden"),
    Row("wrong_path", "301 Moved Permanently", "", 1, "Wrong base URL or wrong path", ids=False),
    Row("wrong_path_html", "200 OK", "CometAPI", 1, "Wrong base URL or wrong path", ids=False),
    # Python 3.13 renamed it: Content Too Large.
    Row("too_large", f"413 {HTTPStatus(413).phrase}", "too large", 1,
        "413 Request Entity Too Large"),
    Row("rate_limited", "429 Too Many Requests", "too many requests", 2, "429 Too Many Requests"),
    Row("invalid_request", "500 Internal Server Error", "field messages is required", 1,
        "500 Internal Server Error"),
    Row("server_error", "500 Internal Server Error", "do request failed", 2,
        "503, 504, and 524"),
    Row("unavailable", "503 Service Unavailable", "temporarily unavailable", 2,
        "503, 504, and 524"),
    Row("gateway_timeout", "504 Gateway Timeout", "upstream timeout", 2, "503, 504, and 524"),
    Row("edge_timeout", "524", "524: A timeout occurred", 2, "503, 504, and 524", edge=True),
]  # fmt: skip


async def report_from(gateway: Gateway, **keywords: Any) -> SupportReport:
    """The report of a call that fails, made when client and gateway are gone."""
    client = wrap(
        openai.AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.api_key),
        max_retries=1, max_retry_after=0.0, **FAST,
    )  # fmt: skip
    async with client:
        with pytest.raises(openai.OpenAIError) as caught:
            await client.chat.completions.create(
                model="gpt-test", messages=MESSAGES, temperature=0.5, extra_query={"limit": "3"}
            )
    error = caught.value
    del client
    gc.collect()
    return support_report(error, **keywords)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_each_row_of_the_guide_fills_the_whole_checklist(row: Row) -> None:
    """Method, path, model, body, query, answer, status, message, ids, time and tries are there."""
    before = datetime.now().astimezone().replace(microsecond=0)
    async with Gateway() as gateway:
        gateway.always(row.name)
        report = await report_from(gateway, other_model=True, other_key="no: 401 as well")
        sent = gateway.requests[-1]
        secret, base_url = gateway.api_key, gateway.base_url
    assert report.method == sent.method
    assert report.path == sent.path
    assert report.base_url == base_url
    assert report.model == "gpt-test"
    body = json.loads(report.request_body)
    assert body["messages"] == [{"role": "user", "content": "[5 characters]"}]
    assert (body["model"], body["temperature"]) == ("gpt-test", 0.5)
    assert report.query == (("limit", "3"),)
    assert report.status.startswith(row.status)
    assert row.message in report.error_message
    assert row.message in report.response_body
    assert bool(report.request_ids) is (row.ids or row.edge)
    assert ("edge" in dict(report.request_ids)) is row.edge
    assert before <= datetime.fromisoformat(report.timestamp)
    assert datetime.fromisoformat(report.timestamp).tzinfo is not None
    assert (report.other_model, report.other_key) == ("works", "no: 401 as well")
    assert len(report.diagnosis.attempts) == row.attempts
    assert report.diagnosis.section == (row.section if row.ids and not row.edge else "")
    check_texts(report, row, secret)


def check_texts(report: SupportReport, row: Row, secret: str) -> None:
    """Markdown and JSON say all of it, and not the key."""
    text, data = report.to_markdown(), json.loads(report.to_json())
    items = ["HTTP method", "Endpoint path", "Model ID", "Request body", "Query parameters"]
    items += ["Response body", "HTTP status", "error.message", "Request ids", "Timestamp"]
    items += ["Works with another model", "Works with another key", "Files", "Attempts"]
    assert [item for item in items if item not in text] == []
    assert str(report) == text
    for value in (report.path, row.status, row.message, report.timestamp, "no: 401 as well"):
        assert value in text
    assert {"Python", "openai", "comet-resilience"} < set(data["versions"])
    assert httpx.__name__ in data["versions"]
    assert data["status"].startswith(row.status)
    assert data["diagnosis"]["attempts"][0]["number"] == 1
    assert secret not in text + report.to_json()


async def test_what_no_server_answered_has_a_report_too() -> None:
    """Faults, refusals of our own and reads without a body."""
    client, _ = scripted(httpx.ConnectError("no route"), max_retries=1, **FAST)
    with pytest.raises(openai.APIConnectionError) as caught:
        await client.models.list()
    report = support_report(caught.value)
    assert (report.method, report.path, report.request_body) == ("GET", "/v1/models", "")
    assert report.status == "none: no response (connect)"
    assert report.error_message == "no route"
    full, inner = scripted((200, b"", {}), max_queue=0, algorithm=lambda: FixedLimit(1))
    inner.hold()
    errors: list[QueueFullError] = []
    async with anyio.create_task_group() as group:
        group.start_soon(ask, full)
        await anyio.sleep(0.05)
        errors.append(await failure_of(full))
        group.cancel_scope.cancel()
    report = support_report(errors[0])
    assert report.status.startswith("none")
    assert report.diagnosis.limiter is not None
    assert json.loads(report.request_body)["model"] == "m"


async def test_a_stream_that_broke_has_a_report() -> None:
    """The head of the answer and the fault that ended it are both in it."""
    first = b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}\n\n'
    answer: Any = (200, [first, httpx.ReadError("gone")], {"cf-ray": "9a1b2c3d4e5f6071-FRA"})
    client, _ = scripted(answer, **FAST)
    with pytest.raises(openai.APIConnectionError) as caught:
        async for _ in await stream_from(client):
            pass
    report = support_report(caught.value)
    assert report.status == "200 OK"
    assert dict(report.request_ids)["edge"] == "9a1b2c3d4e5f6071-FRA"
    assert report.error_message == "gone"
    assert report.diagnosis.may_be_billed


async def test_a_client_that_is_not_wrapped_has_a_report() -> None:
    """Whatever the exception itself knows."""
    async with Gateway() as gateway:
        gateway.always(error_reply(400, f"bad key {gateway.api_key}"))
        client = openai.AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.api_key)
        async with client:
            with pytest.raises(openai.BadRequestError) as caught:
                await client.chat.completions.create(model="m", messages=MESSAGES)
    report = support_report(caught.value)
    assert (report.method, report.model, report.status) == ("POST", "m", "400 Bad Request")
    assert gateway.api_key not in report.to_markdown()
    assert "bad key [secret]" in report.error_message
    assert report.other_key == "not tried"
    assert support_report(ValueError("x")).error_message == "ValueError: x"


async def test_a_body_of_any_depth_has_a_report() -> None:
    """A body that looks like JSON and cannot be parsed is shown as text, bounded."""
    client, _ = scripted((400, b"[" * 100_000, {}))
    with pytest.raises(openai.APIError) as caught:
        await ask(client)
    report = support_report(caught.value)
    assert json.loads(report.to_json())["response_body"].startswith("[[[[")
    assert len(report.to_markdown()) < 40_000
