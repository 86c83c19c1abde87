"""The catalogue of failures: against the guide, and on the wire."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import openai
import pytest

from comet_resilience import diagnose, wrap
from comet_resilience.testing import FAILURES, Gateway, Reply, error_reply, failure, no_waiting
from comet_resilience.testing.failures import choose, shares_of
from tests.conftest import MESSAGES, in_real_time, on_asyncio

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType


#: name: (status, code, what the message says), as the guide has it.
_GUIDE = {
    "bad_request": (400, "", "model name is required"),
    "invalid_token": (401, "", "invalid token"),
    "forbidden": (403, "", "no access to model"),
    "balance_empty": (403, "insufficient_user_quota", "quota"),
    "too_large": (413, "read_request_body_failed", "too large"),
    "rate_limited": (429, "", "too many requests"),
    "insufficient_quota": (429, "insufficient_quota", "quota"),
    "server_error": (500, "do_request_failed", "upstream error"),
    "invalid_request": (500, "invalid_request", "field messages is required (request id: "),
    "invalid_request_uncoded": (500, "", "field messages is required (request id: "),
    "unavailable": (503, "", "unavailable"),
    "model_not_found": (
        503,
        "model_not_found",
        "No available channel for group default and model gpt-5 (distributor) (request id: ",
    ),
    "gateway_timeout": (504, "bad_response_status_code", "timeout"),
}

_PAGES = {
    "wrong_path_html": (200, '<div id="root">'),
    "too_large_html": (413, "413 Request Entity Too Large"),
    "bad_gateway": (502, "<center>nginx</center>"),
    "gateway_timeout_html": (504, "504 Gateway Time-out"),
    "edge_timeout": (524, "524: A timeout occurred"),
    "edge_refused": (521, "521: Web server is down"),
    "challenge": (403, "Just a moment..."),
    "blocked": (403, "Attention Required! | Cloudflare"),
}

#: The exceptions of the SDK by status, for failures that it notices by status.
_EXCEPTIONS: dict[int, type[openai.APIStatusError]] = {
    400: openai.BadRequestError,
    401: openai.AuthenticationError,
    403: openai.PermissionDeniedError,
    404: openai.NotFoundError,
    429: openai.RateLimitError,
}

_WITH_RESPONSE = [
    name for name, reply in FAILURES.items() if not (reply.drop or reply.hang or reply.refuse)
]


async def _ask(gateway: Gateway, family: ModuleType) -> tuple[int, dict[str, str], bytes]:
    """Send one request in memory and return what came of it."""
    async with family.AsyncClient(transport=gateway.transport()) as http:
        return await _ask_with(http, family, gateway.base_url)


async def _ask_with(http: Any, family: ModuleType, url: str) -> tuple[int, dict[str, str], bytes]:
    body = b""
    async with http.stream("POST", url, json={"model": "gpt-5", "messages": []}) as response:
        try:
            async for chunk in response.aiter_raw():
                body += chunk
        except family.RemoteProtocolError:
            body += b"<cut>"
    return response.status_code, dict(response.headers), body


@pytest.mark.anyio
@in_real_time
async def test_every_response_is_the_same_on_both_ways(family: ModuleType) -> None:
    """Status, headers and body are those of the catalogue, over a socket as in memory."""
    memory = Gateway()
    async with (
        Gateway() as gateway,
        family.AsyncClient() as over_socket,
        family.AsyncClient(transport=memory.transport(family)) as in_memory,
    ):
        for name in _WITH_RESPONSE:
            seen = []
            for each, http in ((gateway, over_socket), (memory, in_memory)):
                each.fail(name)
                url = f"{each.base_url}/chat/completions"
                status, headers, body = await _ask_with(http, family, url)
                # Two gateways have two clocks and two addresses, all else is equal.
                text = re.sub(rb"2026\d{10}", b"T", body).replace(each.origin.encode(), b"")
                shown = {key: re.sub(r"2026\d{10}", "T", value) for key, value in headers.items()}
                shown["location"] = "/web/" if "/web/" in headers.get("location", "") else ""
                seen.append((status, shown, text))
            assert seen[0] == seen[1], name
            assert seen[0][0] == FAILURES[name].status
            assert (b"<cut>" in seen[0][2]) is (FAILURES[name].cut_after is not None)
            assert b"{{" not in seen[0][2].replace(b"}}", b"")
    assert gateway.statistics().in_flight == memory.statistics().in_flight == 0


@pytest.mark.anyio
@pytest.mark.parametrize("name", _GUIDE)
async def test_envelopes_are_those_of_the_guide(
    name: str, client_of: Callable[[Gateway], openai.AsyncOpenAI]
) -> None:
    """The SDK sees status, code and message of the guide, and its own class of exception."""
    gateway = Gateway()
    gateway.fail(name)
    status, code, message = _GUIDE[name]
    expected = _EXCEPTIONS.get(status, openai.APIStatusError)
    with pytest.raises(expected) as caught:
        await client_of(gateway).chat.completions.create(model="gpt-5", messages=[])
    assert caught.value.status_code == status
    error = json.loads(caught.value.response.text)["error"]
    assert error["code"] == code
    assert message in error["message"]


@pytest.mark.anyio
@pytest.mark.parametrize("name", _PAGES)
async def test_pages_are_pages(name: str, family: ModuleType) -> None:
    """A web page is labelled as one, and says what servers in front of gateways say."""
    gateway = Gateway()
    gateway.fail(name)
    status, headers, body = await _ask(gateway, family)
    assert (status, headers["content-type"]) == (_PAGES[name][0], "text/html; charset=utf-8")
    assert _PAGES[name][1] in body.decode()


@pytest.mark.anyio
async def test_details_that_decide(family: ModuleType) -> None:
    """The traits by which clients tell failures apart are on the wire."""
    gateway = Gateway()

    async def ask(name: str) -> tuple[int, dict[str, str], bytes]:
        gateway.fail(name)
        return await _ask(gateway, family)

    status, headers, body = await ask("wrong_path")
    assert (status, headers["location"], body) == (301, "http://www.gateway.test/web/", b"")
    status, headers, body = await ask("rate_limited_bare")
    assert (status, headers.get("content-type"), body) == (429, None, b"")
    _, headers, body = await ask("cloudflare_problem")
    problem = json.loads(body)
    assert (problem["retryable"], headers["retry-after"]) == (True, str(problem["retry_after"]))
    assert headers["cf-ray"] == problem["ray_id"]
    _, headers, body = await ask("cloudflare_problem_final")
    assert (json.loads(body)["retryable"], "retry-after" in headers) == (False, False)
    _, headers, _ = await ask("challenge")
    assert headers["cf-mitigated"] == "challenge"
    _, headers, body = await ask("error_as_event_stream")
    assert (headers["content-type"], body[:9]) == ("text/event-stream", b'{"error":')
    assert "error" in json.loads((await ask("error_under_200"))[2])


@pytest.mark.anyio
async def test_ids_are_fresh_and_agree(family: ModuleType) -> None:
    """Header and message carry the same id, and every response has another one."""
    gateway, ids = Gateway(), set[str]()
    gateway.always("server_error")
    for _ in range(5):
        _, headers, body = await _ask(gateway, family)
        request_id = headers["x-cometapi-request-id"]
        assert f"(request id: {request_id})" in json.loads(body)["error"]["message"]
        assert re.fullmatch(r"2026\d{10}\d{1,9}[A-Za-z0-9]{8}", request_id)
        ids.add(request_id)
    assert len(ids) == 5


def test_names_and_statuses() -> None:
    """A status means the first failure that has it, or the plain envelope."""
    assert failure(429) == FAILURES["rate_limited"]
    assert failure(500) == FAILURES["server_error"]
    assert failure(503) == FAILURES["unavailable"]
    assert failure(524) == FAILURES["edge_timeout"]
    assert failure(301) == FAILURES["wrong_path"]
    assert failure(529) == failure(status=529) == error_reply(529, "failure with status 529")


@pytest.mark.parametrize("wrong", ["rate_limit", 200, 302, 600])
def test_unknown_names_list_the_known(wrong: str | int) -> None:
    """The error of a misspelt name shows all names."""
    with pytest.raises(ValueError, match=r"the names are: .*rate_limited, .*wrong_path"):
        failure(wrong)


def test_changes_and_hints_are_applied() -> None:
    """A failure may be changed in any field, without a change to the catalogue."""
    reply = failure("rate_limited", retry_after=2, delay=5.0)
    assert ("Retry-After", "2") in reply.headers
    assert reply.delay == 5.0
    assert FAILURES["rate_limited"].delay == 0.0
    assert isinstance(reply, Reply)
    with pytest.raises(TypeError):
        FAILURES["new"] = reply  # type: ignore[index]


_SHARES = (("rate_limited", 0.25), (503, 0.5))


@pytest.mark.parametrize(
    ("number", "name"),
    [(0.0, "rate_limited"), (0.2499, "rate_limited"), (0.25, 503), (0.7499, 503), (0.75, None)],
)
def test_a_number_falls_into_one_share(number: float, name: str | int | None) -> None:
    """Each share has its own stretch from 0 to 1, in order; the rest is nobody's."""
    assert choose(_SHARES, number) == name


@pytest.mark.parametrize("rate", [{503: -0.1}, {503: 0.5, 504: 0.6}, 1.5])
def test_impossible_shares_are_refused(rate: Any) -> None:
    """The error names the keyword that they were given to."""
    with pytest.raises(ValueError, match="failure_rate: shares are 0 or more"):
        shares_of("failure_rate", rate, everyday=("unavailable",))


def test_ten_tenths_are_one() -> None:
    """Floats that were added up may miss it by a little."""
    tenths = dict.fromkeys(range(501, 511), 0.1)
    assert shares_of("rate", tenths, everyday=()) == tuple(tenths.items())
    names = ("unavailable", "saturated")
    assert shares_of("rate", 0.5, everyday=names) == tuple((name, 0.25) for name in names)


#: name: (status, kind, requests with two retries)
_SHAPES = {
    "rate_limited_as_event_stream": (429, "rate_limited", 3),
    "bad_request_as_event_stream": (400, "invalid_request", 1),
    "account_rate_limited": (429, "rate_limited", 3),
    "rate_limited_unreadably": (429, "rate_limited", 3),
    "provider_broke_unreadably": (502, "unavailable", 3),
    "code_is_status_limited": (429, "rate_limited", 3),
    "code_is_status_broken": (500, "server_error", 3),
    "code_is_status_context": (400, "invalid_request", 1),
}


@pytest.mark.anyio
@on_asyncio
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("name", _SHAPES)
async def test_each_shape_is_judged(
    name: str, streamed: bool, client_of: Callable[[Gateway], openai.AsyncOpenAI]
) -> None:
    """Status, kind and number of requests are those that a person would expect."""
    gateway = Gateway()
    gateway.always(name)
    client = wrap(client_of(gateway), max_retries=2)
    with no_waiting(), pytest.raises(openai.APIStatusError) as caught:
        await client.chat.completions.create(model="m", messages=MESSAGES, stream=streamed)
    kind = diagnose(caught.value).kind.value
    assert (caught.value.status_code, kind, len(gateway.requests)) == _SHAPES[name]


def test_shapes_are_as_recorded() -> None:
    """Labels, codes and bodies have the traits that their names promise."""
    for name, reply in FAILURES.items():
        assert isinstance(reply.body, bytes) or reply.status == 200
        label = dict(reply.headers).get("Content-Type")
        if name.endswith("_as_event_stream"):
            assert label == "text/event-stream"
            assert isinstance(reply.body, bytes)
            assert "error" in json.loads(reply.body)
        if name.startswith("code_is_status") and isinstance(reply.body, bytes):
            assert json.loads(reply.body)["error"]["code"] == str(reply.status)
        if name.endswith("_unreadably") and isinstance(reply.body, bytes):
            error = json.loads(reply.body)["error"]
            assert (error["message"], error["code"]) == ("openai_error", "bad_response_status_code")
    bare = FAILURES["account_rate_limited"]
    assert (bare.body, [name for name, _ in bare.headers]) == (b"", ["X-Oneapi-Request-Id"])
