"""THE table: every judgement about an answer of the gateway stands here, and nowhere else.

Two rules for whoever edits it:

1. Every judgement lives in this file. If a status, code or message is treated specially
   anywhere else in the package, that is a bug.
2. This file knows nothing of time, attempts or limits. It says what an outcome *is*; the retry
   policy and the limiter decide what follows.

The first row that matches wins, so narrow rows stand above wide ones: outcomes without a
response, then the edge's own answers, then codes and messages (which beat the status: the
gateway reports a malformed request as a 500), then bodies that are not JSON, then the status
alone. The last row matches everything. To add a row: one row here, one recorded answer in
``tests/corpus``, one line in the changelog.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from .rule import Rule
from .vocabulary import Action, BodyKind, Fault, Observation, Signal, Verdict
from .vocabulary import FailureKind as Kind

RETRY, FAIL = Action.RETRY, Action.FAIL
OVERLOAD = Signal.OVERLOAD

_OK = range(200, 300)
_SERVER = range(500, 600)
_NOT_JSON = (BodyKind.TEXT, BodyKind.BINARY, BodyKind.STREAM)
_TRANSIENT = (
    r"overload|too many requests|rate.?limit|temporar|timed? ?out|unavailable|try again"
    r"|currently busy|负载|稍后"
)

RULES: Final[tuple[Rule, ...]] = (
    # -- No response, or one that broke off ------------------------------------------------------
    Rule(name="local-fault", fault={Fault.LOCAL}, kind=Kind.LOCAL, action=FAIL,
         reason="the request could not be put on the wire as it is", source="transport"),
    Rule(name="certificate", fault={Fault.TLS, Fault.CONNECT, Fault.PROXY},
         message=r"certificate.verify.failed|hostname mismatch|self.signed",
         kind=Kind.CONNECTION, action=FAIL, source="transport",
         reason="the server's TLS certificate was not accepted",
         advice=("Check the base URL's host, the proxy and the machine's certificates and clock.",)),
    Rule(name="connect-fault", kind=Kind.CONNECTION, action=RETRY, source="transport",
         fault={Fault.CONNECT, Fault.CONNECT_TIMEOUT, Fault.POOL_TIMEOUT, Fault.PROXY, Fault.TLS},
         reason="no connection to the gateway could be made; nothing was sent"),
    Rule(name="deadline", fault={Fault.DEADLINE}, kind=Kind.TIMEOUT, action=FAIL, source="transport",
         reason="the deadline for the whole request passed",
         advice=("Give the request more time (deadline=), or ask for less work in one request.",
                 "Look at the attempts: time in the queue means too much load for the limit.")),
    Rule(name="queue", fault={Fault.QUEUE}, kind=Kind.LOCAL, action=FAIL, source="transport",
         reason="too many requests wait for the limit; this one was not sent",
         advice=("Send less at once, or shed load at the door while the queue is full.",
                 "Raise max_queue or queue_timeout if waiting longer is better than failing.")),
    Rule(name="timeout-fault", fault={Fault.READ_TIMEOUT, Fault.WRITE_TIMEOUT}, kind=Kind.TIMEOUT,
         action=RETRY, reason="the gateway did not answer in time", source="transport"),
    Rule(name="broken-answer", status=_OK, fault={Fault.READ, Fault.PROTOCOL, Fault.WRITE},
         kind=Kind.CONNECTION, action=RETRY, source="transport",
         reason="the answer was cut short: the connection broke while it was read"),
    Rule(name="connection-fault", fault={Fault.READ, Fault.PROTOCOL, Fault.WRITE},
         kind=Kind.CONNECTION, action=RETRY, source="transport",
         reason="the connection broke before an answer arrived"),
    # -- Answers of something in front of the API ------------------------------------------------
    Rule(name="redirect", status=range(300, 400), kind=Kind.WRONG_PATH, action=FAIL, source="guide",
         reason="the path is wrong: the gateway redirected the call to a web page"),
    Rule(name="edge-challenge", challenge=True, kind=Kind.EDGE_BLOCKED, action=FAIL, source="edge",
         reason="the edge asked for a browser challenge, which no API client can solve"),
    Rule(name="edge-rate-limit", edge_code={"1015"}, kind=Kind.RATE_LIMITED, action=RETRY,
         signal=OVERLOAD, wait=10.0, source="edge",
         reason="the edge's own rate limit refused the request"),
    Rule(name="edge-final", edge_retryable=False, kind=Kind.EDGE_BLOCKED, action=FAIL,
         reason="the edge refused the request and says that a retry cannot help", source="edge"),
    Rule(name="edge-timeout", edge_retryable=True, status={504, 522, 524}, kind=Kind.TIMEOUT,
         action=RETRY, reason="the edge waited too long for the gateway", source="edge"),
    Rule(name="edge-transient", edge_retryable=True, kind=Kind.UNAVAILABLE, action=RETRY,
         reason="the edge could not reach the gateway and says that a retry may help",
         source="edge"),
    # -- Codes and messages: the request is at fault ---------------------------------------------
    Rule(name="invalid-request", code={"invalid_request"}, kind=Kind.INVALID_REQUEST, action=FAIL,
         source="guide", section="500 Internal Server Error",
         reason="the request is malformed, whatever the status says"),
    Rule(name="invalid-request-message", code={"", "invalid_request_error"},
         status={200, 400, 422, 500, 502, 503}, kind=Kind.INVALID_REQUEST, action=FAIL,
         message=r"invalid[_ ]request\b|\bfield \S+ is required|\bis required\b|\binvalid json\b"
                 r"|\bmust be (an? )?(string|array|object|integer|number|boolean)"
                 r"|cannot unmarshal|unexpected end of json|invalid character .* looking for",
         source="family", section="500 Internal Server Error",
         reason="the message names what is malformed in the request, whatever the status says"),
    Rule(name="no-route-left", code={"get_channel_failed", "channel:no_available_key"},
         kind=Kind.UNAVAILABLE, action=RETRY, at_most=2, wait=5.0, source="family",
         reason="the gateway has no working provider left for this model at the moment"),
    Rule(name="model-not-found", code={"model_not_found"}, kind=Kind.MODEL_UNAVAILABLE, action=FAIL,
         reason="no provider serves this model id; it is most likely misspelt", source="observed"),
    Rule(name="model-not-found-message", status={200, 400, 404, 500, 503}, source="observed",
         message=r"no available channel for|has not been priced|无可用渠道"
                 r"|\bmodel\b.{0,120}\b(does not exist|not found|is not supported|not available)",
         kind=Kind.MODEL_UNAVAILABLE, action=FAIL,
         reason="the message says that this model id is not served"),
    Rule(name="model-not-priced", code={"model_price_error"}, kind=Kind.MODEL_UNAVAILABLE,
         action=FAIL, reason="the model id exists but is not on sale", source="family"),
    Rule(name="convert-request", code={"convert_request_failed"}, kind=Kind.INVALID_REQUEST,
         action=FAIL, reason="the model and the endpoint do not go together", source="observed"),
    Rule(name="content-blocked", code={"sensitive_words_detected", "prompt_blocked",
         "content_filter", "content_policy_violation", "violation_fee", "violation_fee.grok.csam"},
         kind=Kind.CONTENT_BLOCKED, action=FAIL, source="family",
         reason="the content was refused by a filter"),
    Rule(name="content-blocked-message", status={400, 403, 500}, source="family",
         message=r"sensitive words detected|violation_fee|content (management )?policy"
                 r"|safety system|current status: violation",
         kind=Kind.CONTENT_BLOCKED, action=FAIL,
         reason="the message says that the content was refused by a filter"),
    Rule(name="gateway-refusal", code={"count_token_failed", "gen_relay_info_failed",
         "invalid_api_type", "json_marshal_failed"}, kind=Kind.INVALID_REQUEST, action=FAIL,
         reason="the gateway cannot process this request, now or later", source="family"),
    Rule(name="upload-unreadable", code={"read_request_body_failed"}, kind=Kind.TOO_LARGE,
         action=FAIL, reason="the body of the request was too big or broke off", source="family"),
    Rule(name="not-implemented", code={"api_not_implemented"}, kind=Kind.UNSUPPORTED, action=FAIL,
         reason="the gateway does not offer this operation", source="family"),
    # -- Codes and messages: the key or the account ----------------------------------------------
    Rule(name="balance-empty", code={"insufficient_user_quota"}, kind=Kind.QUOTA, action=FAIL,
         reason="the account's balance is used up", source="family"),
    Rule(name="key-quota-empty", code={"pre_consume_token_quota_failed"}, kind=Kind.QUOTA,
         action=FAIL, reason="this key's own quota is used up", source="docs"),
    Rule(name="quota-message", status={402, 403}, kind=Kind.QUOTA, action=FAIL, source="family",
         message=r"quota (is )?(not enough|insufficient|exceeded|exhausted)|insufficient.{0,20}"
                 r"(quota|balance|credit)|额度不足|余额不足",
         reason="the message says that the account's or the key's quota is used up"),
    Rule(name="access-denied", code={"access_denied", "permission_denied"}, kind=Kind.PERMISSION,
         action=FAIL, reason="this key may not make this call", source="family"),
    Rule(name="invalid-token", status={401}, type={"comet_api_error", "new_api_error",
         "one_api_error"}, kind=Kind.AUTHENTICATION, action=FAIL, source="guide",
         reason="the API key is missing, malformed, disabled, expired or used up"),
    Rule(name="provider-key", status={401, 403}, code={"invalid_api_key", "authentication_error",
         "invalid_authentication"}, kind=Kind.PROVIDER, action=RETRY, at_most=1, wait=2.0,
         reason="a provider refused the gateway's own key, not yours", source="family"),
    Rule(name="provider-key-message", status={401}, message=r"incorrect api key provided",
         kind=Kind.PROVIDER, action=RETRY, at_most=1, wait=2.0, source="family",
         reason="a provider refused the gateway's own key, not yours"),
    Rule(name="provider-quota", kind=Kind.PROVIDER, action=RETRY, at_most=1, wait=5.0,
         code={"insufficient_quota", "billing_not_active", "account_deactivated"}, source="peer",
         reason="the gateway's account at the provider is out of quota, not yours"),
    Rule(name="provider-quota-type", type={"insufficient_quota"}, kind=Kind.PROVIDER,
         action=RETRY, at_most=1, wait=5.0, source="peer",
         reason="the gateway's account at the provider is out of quota, not yours"),
    # -- Codes and messages: load ----------------------------------------------------------------
    Rule(name="key-concurrency", code={"token_concurrency_limit_reached"}, kind=Kind.RATE_LIMITED,
         action=RETRY, signal=OVERLOAD, source="family",
         reason="too many calls of this key run at once"),
    Rule(name="rate-limit-code", code={"rate_limit_exceeded", "rate_limit_error",
         "too_many_requests"}, kind=Kind.RATE_LIMITED, action=RETRY, signal=OVERLOAD,
         reason="the gateway or its provider limits the rate", source="guide"),
    Rule(name="gateway-overloaded", code={"system_cpu_overloaded", "system_memory_overloaded",
         "system_disk_overloaded"}, kind=Kind.UNAVAILABLE, action=RETRY, signal=OVERLOAD, wait=5.0,
         reason="the gateway itself is overloaded", source="family"),
    Rule(name="provider-overloaded", type={"overloaded_error"}, kind=Kind.RATE_LIMITED,
         action=RETRY, signal=OVERLOAD, wait=5.0, reason="the provider is overloaded",
         source="peer"),
    Rule(name="provider-overloaded-code", code={"overloaded", "overloaded_error",
         "server_overloaded", "engine_overloaded"}, kind=Kind.RATE_LIMITED,
         action=RETRY, signal=OVERLOAD, wait=5.0, reason="the provider is overloaded",
         source="peer"),
    # -- Codes and messages: the platform or a provider ------------------------------------------
    Rule(name="channel-misconfigured", code={"channel:invalid_key", "channel:model_mapped_error",
         "channel:param_override_invalid", "channel:header_override_invalid"}, kind=Kind.PROVIDER,
         action=RETRY, at_most=1, wait=5.0, source="family",
         reason="the gateway's route to the provider is misconfigured"),
    Rule(name="channel-slow", code={"channel:response_time_exceeded"}, kind=Kind.TIMEOUT,
         action=RETRY, reason="the provider was too slow for the gateway", source="family"),
    Rule(name="provider-unreachable", code={"do_request_failed"}, kind=Kind.UNAVAILABLE,
         action=RETRY, reason="the gateway could not reach the provider", source="family"),
    Rule(name="provider-answer-unusable", code={"read_response_body_failed", "bad_response_body",
         "empty_response", "copy_response_body_failed"}, kind=Kind.SERVER_ERROR, action=RETRY,
         at_most=1, reason="the provider answered, but unusably", source="family"),
    Rule(name="provider-answered-badly", code={"bad_response_status_code", "bad_response"},
         kind=Kind.UNAVAILABLE, action=RETRY, source="family",
         reason="the provider answered with an error that the gateway does not name"),
    Rule(name="limiter-storage", code={"rate_limit_check_failed"}, kind=Kind.SERVER_ERROR,
         action=RETRY, reason="the gateway's limiter lost its storage", source="family"),
    Rule(name="database", code={"query_data_error", "update_data_error"}, kind=Kind.SERVER_ERROR,
         action=RETRY, reason="the gateway's database failed", source="family"),
    Rule(name="panic", type={"new_api_panic", "one_api_panic", "comet_api_panic"},
         kind=Kind.SERVER_ERROR, action=RETRY, at_most=1, source="family",
         reason="the gateway crashed on this input"),
    Rule(name="panic-message", status=_SERVER, message=r"panic detected", kind=Kind.SERVER_ERROR,
         action=RETRY, at_most=1, reason="the gateway crashed on this input", source="family"),
    # -- Tasks -----------------------------------------------------------------------------------
    Rule(name="task-not-visible-yet", code={"task_not_exist"}, new_task=True, kind=Kind.NOT_READY,
         action=RETRY, wait=5.0, source="docs",
         reason="the task was created moments ago and is not visible yet"),
    Rule(name="task-unknown", code={"task_not_exist"}, kind=Kind.NOT_READY, action=FAIL,
         reason="the gateway does not know this task", source="family"),
    Rule(name="task-not-completed", message=r"task is not completed yet", kind=Kind.NOT_READY,
         action=FAIL, reason="the task has no content yet; it still runs", source="observed"),
    # -- An answer that says success and is none -------------------------------------------------
    Rule(name="html-success", status=_OK, body={BodyKind.HTML}, kind=Kind.WRONG_PATH, action=FAIL,
         reason="a web page came back instead of an answer of the API", source="guide"),
    Rule(name="html-inside-json", status=_OK, body={BodyKind.JSON}, message=r"^\s*<(!doctype|html)",
         kind=Kind.WRONG_PATH, action=FAIL, source="peer",
         reason="a web page came back, wrapped in JSON"),
    Rule(name="empty-success", status=_OK, body={BodyKind.EMPTY}, kind=Kind.INVALID_ANSWER,
         action=RETRY, reason="the answer says success and is empty", source="transport"),
    Rule(name="transient-under-success", status=_OK, message=_TRANSIENT, kind=Kind.UNAVAILABLE,
         action=RETRY, reason="the answer says success but carries a passing error", source="peer"),
    Rule(name="server-error-under-success", status=_OK, code={"server_error", "internal_error",
         "internal_server_error", "500", "502", "503", "504"}, kind=Kind.SERVER_ERROR,
         action=RETRY, reason="the answer says success but carries a server error", source="peer"),
    Rule(name="not-json-success", status=_OK, body=_NOT_JSON, kind=Kind.INVALID_ANSWER,
         action=RETRY, at_most=1, source="transport",
         reason="the answer says success but is not the JSON that was due"),
    Rule(name="error-under-success", status=_OK, kind=Kind.INVALID_ANSWER, action=FAIL,
         reason="the answer says success but carries an error", source="family"),
    # -- Bodies that are not JSON ----------------------------------------------------------------
    Rule(name="edge-rate-limit-page", status={429}, body={BodyKind.HTML}, message=r"\b1015\b",
         kind=Kind.RATE_LIMITED, action=RETRY, signal=OVERLOAD, wait=30.0, source="edge",
         reason="the edge's own rate limit refused the request"),
    Rule(name="edge-block-page", body={BodyKind.HTML}, kind=Kind.EDGE_BLOCKED, action=FAIL,
         message=r"just a moment|attention required|\b10(10|20)\b|access denied",
         reason="a rule of the edge blocked the request", source="edge"),
    Rule(name="forbidden-page", status={403}, body={BodyKind.HTML}, kind=Kind.EDGE_BLOCKED,
         action=FAIL, reason="a rule of the edge blocked the request", source="guide"),
    Rule(name="not-found-page", status={404, 405}, body={BodyKind.HTML}, kind=Kind.WRONG_PATH,
         action=FAIL, reason="the path is wrong: a web page came back", source="guide"),
    Rule(name="empty-429", status={429}, body={BodyKind.EMPTY}, kind=Kind.RATE_LIMITED,
         action=RETRY, signal=OVERLOAD, wait=20.0, source="family",
         reason="a limit per client address refused the request; its window is minutes long"),
    # -- The status alone ------------------------------------------------------------------------
    Rule(name="invalid-url", status={404}, message=r"invalid url", kind=Kind.WRONG_PATH,
         action=FAIL, reason="the gateway has no such path", source="family"),
    Rule(name="status-400", status={400}, kind=Kind.INVALID_REQUEST, action=FAIL, source="guide",
         reason="the request failed validation before it was processed"),
    Rule(name="status-401", status={401}, kind=Kind.AUTHENTICATION, action=FAIL, source="guide",
         reason="the API key is missing, malformed or invalid"),
    Rule(name="status-402", status={402}, kind=Kind.QUOTA, action=FAIL, source="inferred",
         reason="payment is required, here or at the provider"),
    Rule(name="status-403", status={403}, kind=Kind.PERMISSION, action=FAIL, source="guide",
         reason="access was blocked, or this request is not allowed"),
    Rule(name="status-404", status={404}, kind=Kind.WRONG_PATH, action=FAIL, source="docs",
         reason="there is nothing at this path: check base URL, path and ids"),
    Rule(name="status-405", status={405}, kind=Kind.WRONG_PATH, action=FAIL, source="inferred",
         reason="this path does not take this method"),
    Rule(name="status-408", status={408}, kind=Kind.TIMEOUT, action=RETRY, source="family",
         reason="the provider gave up waiting"),
    Rule(name="status-413", status={413}, kind=Kind.TOO_LARGE, action=FAIL, source="guide",
         reason="the request is too large"),
    Rule(name="status-424", status={424}, kind=Kind.PROVIDER, action=FAIL, source="family",
         reason="something that the provider depends on failed"),
    Rule(name="status-429", status={429}, kind=Kind.RATE_LIMITED, action=RETRY, signal=OVERLOAD,
         reason="rate limiting or temporary saturation", source="guide"),
    Rule(name="status-4xx", status=range(400, 500), kind=Kind.INVALID_REQUEST, action=FAIL,
         reason="the request was refused, and would be again", source="inferred"),
    Rule(name="status-500", status={500}, kind=Kind.SERVER_ERROR, action=RETRY, source="guide",
         reason="the platform or a provider failed"),
    Rule(name="status-501", status={501}, kind=Kind.UNSUPPORTED, action=FAIL, source="family",
         reason="the gateway does not offer this operation"),
    Rule(name="status-502", status={502}, kind=Kind.UNAVAILABLE, action=RETRY, source="peer",
         reason="a proxy got no usable answer from behind it"),
    Rule(name="status-503", status={503}, kind=Kind.UNAVAILABLE, action=RETRY, signal=OVERLOAD,
         reason="the route or its provider is temporarily unavailable", source="guide"),
    Rule(name="status-504", status={504, 522, 524}, kind=Kind.TIMEOUT, action=RETRY, wait=5.0,
         source="guide", reason="platform, edge or provider did not answer in time"),
    Rule(name="status-520", status={520, 521, 523}, kind=Kind.UNAVAILABLE, action=RETRY,
         source="edge", reason="the edge got no usable answer from the gateway"),
    Rule(name="status-525", status={525, 526}, kind=Kind.EDGE_BLOCKED, action=FAIL, source="edge",
         reason="TLS between the edge and the gateway is broken"),
    Rule(name="status-529", status={529}, kind=Kind.RATE_LIMITED, action=RETRY, signal=OVERLOAD,
         wait=5.0, reason="the provider is overloaded", source="peer"),
    Rule(name="status-5xx", status=_SERVER, kind=Kind.SERVER_ERROR, action=RETRY, at_most=1,
         source="inferred", reason="the server failed in a way that has no meaning of its own"),
    Rule(name="unknown", kind=Kind.INVALID_ANSWER, action=FAIL, source="inferred",
         reason="the answer has no meaning in HTTP"),
)  # fmt: skip


def classify(seen: Observation, extra: Iterable[Rule] = ()) -> Verdict:
    """Judge an outcome: the verdict of the first row that matches, ``extra`` rows first."""
    return rule_for(seen, extra).verdict()


def rule_for(seen: Observation, extra: Iterable[Rule] = ()) -> Rule:
    """The first row that matches, ``extra`` rows first. The table's last row matches all."""
    for rule in (*extra, *RULES):
        if rule.matches(seen):
            return rule
    raise AssertionError("the last row of the table matches everything")
