"""The catalogue of failures: CometAPI, its edge and its providers as they fail, under names.

Statuses and bodies follow the error-handling guide of CometAPI; what the guide leaves out follows
what has been seen of the gateway and of the servers in front of it. Within one status the first
name is the one that `failure(status)` means. A rate is a share of requests for each name.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from .replies import (
    FRONT_END,
    MODEL,
    RAY,
    REQUEST_ID,
    REQUEST_ID_HEADER,
    Reply,
    changed,
    error_reply,
    html_reply,
    json_reply,
    stream_reply,
    with_retry_after,
)

#: The web front end: a single-page application, which answers every path with the same page.
FRONT_PAGE: Final = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>CometAPI</title></head>'
    '<body><div id="root"></div><script src="/assets/index.js"></script></body></html>'
)


def _nginx(title: str) -> str:
    return (
        f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n"
        f"<center><h1>{title}</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
    )


def _edge_page(title: str, heading: str) -> str:
    return (
        f"<!DOCTYPE html><html><head><title>{title}</title></head><body>"
        f"<h1>{heading}</h1><p>Ray ID: {RAY}</p><p>Cloudflare</p></body></html>"
    )


def _edge(status: int, page: str, *headers: tuple[str, str]) -> Reply:
    own = (("Server", "cloudflare"), ("CF-RAY", RAY))
    return html_reply(status, page, headers=(*own, *headers))


def _problem(status: int, code: int, name: str, *, retryable: bool, retry_after: int) -> Reply:
    document = {
        "type": f"https://developers.cloudflare.com/support/troubleshooting/error-{code}/",
        "title": f"Error {code}: {name.replace('_', ' ')}",
        "status": status,
        "detail": "The origin web server did not answer as it should.",
        "error_code": code,
        "error_name": name,
        "error_category": "origin" if retryable else "ssl",
        "retryable": retryable,
        "retry_after": retry_after,
        "owner_action_required": not retryable,
        "ray_id": RAY,
        "zone": "api.cometapi.com",
    }
    reply = Reply(
        status=status,
        headers=(
            ("Content-Type", "application/problem+json"),
            ("Server", "cloudflare"),
            ("CF-RAY", RAY),
        ),
        body=json.dumps(document).encode(),
    )
    return with_retry_after(reply, retry_after) if retryable else reply


def _chunk(content: str) -> str:
    """Return one event of a chat stream that has not finished."""
    document = {
        "id": f"chatcmpl-{REQUEST_ID}",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": MODEL,
        "choices": [{"index": 0, "delta": {"content": content}, "finish_reason": None}],
    }
    return _event(document)


def _event(document: object) -> str:
    return f"data: {json.dumps(document)}\n\n"


_NO_MESSAGES: Final = "field messages is required"
_NO_CHANNEL: Final = f"No available channel for group default and model {MODEL} (distributor)"
_OVERLOADED: Final = {
    "message": "upstream error",
    "type": "comet_api_error",
    "code": "bad_response",
}


def _as_event_stream(reply: Reply) -> Reply:
    """Label a refusal as the stream that was asked for, as gateways do that set headers early."""
    kept = tuple(pair for pair in reply.headers if pair[0] != "Content-Type")
    return replace(reply, headers=(("Content-Type", "text/event-stream"), *kept))


def _unreadable(status: int) -> Reply:
    """Return a refusal of which the gateway passes on the status alone: it was no JSON object."""
    code = "bad_response_status_code"
    return error_reply(status, "openai_error", code=code, kind=code, param="", request_id=False)


def _code_is_status(status: int, words: str) -> Reply:
    """Return a refusal of a proxy whose code repeats the status; the class heads the message."""
    return error_reply(status, words, code=str(status), kind="None", request_id=False)


#: Names of the failures that never become a response; their status means nothing.
_CONNECTION: Final[Mapping[str, Reply]] = {
    "dropped": Reply(drop=True),
    "hanging": Reply(hang=True),
    "unreachable": Reply(refuse=True),
}

#: The header with which gateways of this family name a request.
FAMILY_ID_HEADER: Final = "X-Oneapi-Request-Id"

_REQUEST: Final[Mapping[str, Reply]] = {
    "bad_request": error_reply(400, "model name is required"),
    "bad_request_as_event_stream": _as_event_stream(
        error_reply(400, "temperature must be at most 2", code="invalid_request_error", param="")
    ),
    "code_is_status_context": _code_is_status(
        400,
        "litellm.ContextWindowExceededError: ContextWindowExceededError: OpenAIException - "
        "This model's maximum context length is 8192 tokens.",
    ),
    "model_not_priced": error_reply(
        400, f"model {MODEL} has not been priced by the administrator yet"
    ),
    "invalid_token": error_reply(401, "invalid token"),
    "provider_key_broken": error_reply(
        401,
        "Incorrect API key provided: sk-ab***yz.",
        code="invalid_api_key",
        kind="invalid_request_error",
        request_id=False,
    ),
    "forbidden": error_reply(403, f"token has no access to model {MODEL}"),
    "balance_empty": error_reply(403, "user quota is not enough", code="insufficient_user_quota"),
    "key_quota_empty": error_reply(
        403, "token quota is not enough", code="pre_consume_token_quota_failed"
    ),
    "content_blocked": error_reply(400, "prompt was blocked", code="prompt_blocked", param=""),
    "wrong_path": Reply(status=301, headers=(("Location", f"{FRONT_END}/"),)),
    "wrong_path_html": html_reply(200, FRONT_PAGE),
    "invalid_url": error_reply(
        404, "Invalid URL (POST /v1/...)", kind="invalid_request_error", param="", request_id=False
    ),
    "too_large": error_reply(413, "request body is too large", code="read_request_body_failed"),
    "too_large_html": html_reply(
        413, _nginx("413 Request Entity Too Large"), headers=(("Server", "nginx"),)
    ),
    "task_not_ready": json_reply(
        400, {"code": "task_not_exist", "message": "task_not_exist", "data": None}
    ),
}

_LOAD: Final[Mapping[str, Reply]] = {
    "rate_limited": error_reply(429, "too many requests, please slow down"),
    "rate_limited_bare": Reply(status=429, headers=((REQUEST_ID_HEADER, REQUEST_ID),)),
    "rate_limited_as_event_stream": _as_event_stream(
        error_reply(
            429,
            "Rate limit reached for requests per min (RPM): Limit 60, Used 60, Requested 1. "
            "Please try again in 1.5s.",
            code="rate_limit_exceeded",
            kind="requests",
            param="",
            request_id=False,
        )
    ),
    # The limit of an account, counted in memory: no body, no type, and the gateway's header.
    "account_rate_limited": Reply(status=429, headers=((FAMILY_ID_HEADER, REQUEST_ID),)),
    "rate_limited_unreadably": _unreadable(429),
    "code_is_status_limited": _code_is_status(
        429,
        "litellm.RateLimitError: RateLimitError: OpenAIException - "
        "Rate limit reached for requests. Please try again in 1.5s.",
    ),
    "saturated": error_reply(
        429, "当前分组上游负载已饱和,请稍后再试", code="rate_limit_exceeded", kind="requests"
    ),
    "insufficient_quota": error_reply(
        429,
        "You exceeded your current quota, please check your plan and billing details.",
        code="insufficient_quota",
        kind="insufficient_quota",
        request_id=False,
    ),
    "mapped_not_found": error_reply(
        429, "bad response status code 404", code="bad_response_status_code", param="404"
    ),
    "edge_rate_limited": _edge(429, _edge_page("Access denied | 1015", "Error 1015")),
}

_SERVER: Final[Mapping[str, Reply]] = {
    "server_error": error_reply(500, "upstream error: do request failed", code="do_request_failed"),
    "invalid_request": error_reply(500, _NO_MESSAGES, code="invalid_request", param=""),
    "invalid_request_uncoded": error_reply(500, _NO_MESSAGES, param=""),
    "not_implemented": error_reply(
        501, "API not implemented", code="api_not_implemented", param="", request_id=False
    ),
    "bad_gateway": html_reply(502, _nginx("502 Bad Gateway"), headers=(("Server", "nginx"),)),
    "unavailable": error_reply(503, "service temporarily unavailable"),
    "overloaded": error_reply(
        503, "system cpu overloaded", code="system_cpu_overloaded", request_id=False
    ),
    "model_not_found": error_reply(503, _NO_CHANNEL, code="model_not_found"),
    "gateway_timeout": error_reply(504, "upstream timeout", code="bad_response_status_code"),
    "gateway_timeout_html": html_reply(
        504, _nginx("504 Gateway Time-out"), headers=(("Server", "nginx"),)
    ),
    "error_as_event_stream": _as_event_stream(error_reply(503, "upstream is unavailable")),
    "provider_broke_unreadably": _unreadable(502),
    "code_is_status_broken": _code_is_status(
        500,
        "litellm.InternalServerError: InternalServerError: OpenAIException - "
        "The server had an error while processing your request.",
    ),
}

_EDGE: Final[Mapping[str, Reply]] = {
    "edge_timeout": _edge(
        524, _edge_page("api.cometapi.com | 524: A timeout occurred", "A timeout occurred")
    ),
    "edge_refused": _edge(
        521, _edge_page("api.cometapi.com | 521: Web server is down", "Web server is down")
    ),
    "cloudflare_problem": _problem(524, 524, "origin_timeout", retryable=True, retry_after=60),
    "cloudflare_problem_final": _problem(
        526, 526, "invalid_ssl_certificate", retryable=False, retry_after=0
    ),
    "challenge": _edge(
        403, _edge_page("Just a moment...", "Just a moment..."), ("cf-mitigated", "challenge")
    ),
    "blocked": _edge(
        403, _edge_page("Attention Required! | Cloudflare", "Sorry, you have been blocked")
    ),
}

_CHUNK: Final[Mapping[str, object]] = {
    "id": f"chatcmpl-{REQUEST_ID}", "object": "chat.completion.chunk", "created": 0, "model": "gpt",
}  # fmt: skip
_USAGE_ONLY: Final[Mapping[str, object]] = {
    **_CHUNK,
    "choices": [],
    "usage": {"prompt_tokens": 9, "completion_tokens": 0, "total_tokens": 9},
}
_LONE_STOP: Final[Mapping[str, object]] = {
    **_CHUNK,
    "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
}
_RESPONSE: Final[Mapping[str, object]] = {
    "id": f"resp_{REQUEST_ID}", "object": "response", "created_at": 0, "status": "in_progress",
    "model": "gpt", "output": [], "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
    "error": None,
}  # fmt: skip

_UNDER_200: Final[Mapping[str, Reply]] = {
    "error_under_200": json_reply(200, {"error": _OVERLOADED}),
    "failure_under_200": json_reply(200, {"success": False, "message": "record not found"}),
    "empty_200": Reply(headers=((REQUEST_ID_HEADER, REQUEST_ID),)),
    "stream_empty": stream_reply("data: [DONE]\n\n"),
    # What gateways make of a provider that ended a stream before its first piece.
    "stream_usage_only": stream_reply(_event(_USAGE_ONLY), "data: [DONE]\n\n"),
    "stream_lone_stop": stream_reply(_event(_LONE_STOP), "data: [DONE]\n\n"),
    "no_choices": json_reply(200, {**_USAGE_ONLY, "object": "chat.completion"}),
    "stream_error": stream_reply(_event({"error": _OVERLOADED})),
    "stream_error_text": stream_reply(_event({"error": "upstream error"})),
    "stream_error_late": stream_reply(_chunk("Half an "), _event({"error": _OVERLOADED})),
    "stream_pings_then_error": stream_reply(
        ": PING\n\n", ": PING\n\n", json.dumps({"error": _OVERLOADED})
    ),
    "stream_no_finish": stream_reply(_chunk("Half an "), _chunk("answer"), "data: [DONE]\n\n"),
    "stream_malformed": stream_reply(_chunk("Half an "), 'data: {"id": "chatcm\n\n'),
    # The cut stands far beyond the two events, so it takes away only the end of the stream.
    "stream_cut": stream_reply(_chunk("Half an "), _chunk("answer"), cut_after=1_000_000),
    "responses_error_after_opening": stream_reply(
        _event({"type": "response.created", "sequence_number": 0, "response": _RESPONSE}),
        _event({"type": "response.in_progress", "sequence_number": 1, "response": _RESPONSE}),
        _event({"type": "error", "sequence_number": 2, "param": None, **_OVERLOADED}),
    ),
    "responses_failed": stream_reply(
        'event: response.failed\ndata: {"type": "response.failed", "sequence_number": 0, '
        f'"response": {{"id": "resp_{REQUEST_ID}", "object": "response", "created_at": 0, '
        '"status": "failed", "model": "gpt", "output": [], "parallel_tool_calls": true, '
        '"tool_choice": "auto", "tools": [], '
        '"error": {"code": "server_error", "message": "upstream error"}}}\n\n'
    ),
}

#: Every failure by its name.
FAILURES: Final[Mapping[str, Reply]] = MappingProxyType(
    {**_REQUEST, **_LOAD, **_SERVER, **_EDGE, **_UNDER_200, **_CONNECTION}
)


#: A share for all failures together, or one for each name or status; 1 in sum at most.
Rate = float | Mapping[str, float] | Mapping[int, float] | Mapping[str | int, float]
Shares = tuple[tuple[str | int, float], ...]

#: Shares that were added up may miss 1 by this much.
_ROUNDING: Final = 1e-9


def failure(
    name: str | int | None = None,
    *,
    status: int | None = None,
    retry_after: float | str | None = None,
    **changes: Any,
) -> Reply:
    """Return a failure by its *name* in `FAILURES`, or by its *status*.

    A status may stand in the place of the name. *retry_after* adds the header, in seconds or as a
    text; *changes* are fields of `Reply`. An error status without a name gets the gateway's
    envelope. Raises `ValueError` for any other name or status, and unless exactly one is given;
    `TypeError` for a change that is no field.
    """
    if (name is None) == (status is None):
        raise ValueError(
            'a failure has a name or a status: "saturated" or status=503, and not both'
        )
    wanted = status if name is None else name
    found = FAILURES.get(wanted) if isinstance(wanted, str) else _by_status(wanted)
    if found is None:
        names = ", ".join(sorted(FAILURES))
        raise ValueError(f"no failure called {wanted!r}; the names are: {names}")
    reply = changed(found, changes)
    return reply if retry_after is None else with_retry_after(reply, retry_after)


def shares_of(
    keyword: str, rate: Rate, *, everyday: Collection[str], others: Collection[str] = ()
) -> Shares:
    """Return the share of each failure. A plain number is spread evenly over *everyday*.

    Raises `ValueError`, naming *keyword*, for shares that cannot be, and for a name that is
    neither in `FAILURES` nor in *others*, nor a status.
    """
    if not isinstance(rate, Mapping):
        rate = {name: rate / len(everyday) for name in everyday}
    shares: Shares = tuple(rate.items())
    sizes = [share for _, share in shares]
    if any(size < 0 for size in sizes) or sum(sizes) > 1 + _ROUNDING:
        raise ValueError(f"{keyword}: shares are 0 or more and 1 in sum at most, not {shares}")
    for name, _ in shares:
        if isinstance(name, str) and name not in FAILURES and name not in others:
            names = ", ".join(sorted({*others, *FAILURES}))
            raise ValueError(f"{keyword}: no failure called {name!r}; the names are: {names}")
        if not isinstance(name, str):
            failure(name)
    return shares


def choose(shares: Shares, number: float) -> str | int | None:
    """Return the failure into whose share *number*, from 0 to below 1, falls; None for the rest."""
    for name, share in shares:
        if number < share:
            return name
        number -= share
    return None


def _by_status(status: object) -> Reply | None:
    if not isinstance(status, int):
        return None
    named = (reply for reply in FAILURES.values() if reply.status == status)
    if status >= 300 and (reply := next(named, None)):
        return reply
    return error_reply(status, f"failure with status {status}") if 400 <= status <= 599 else None
