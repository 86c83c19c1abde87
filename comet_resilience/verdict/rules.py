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

from .envelope import MAPPED
from .evidence import NOTHING, Evidence
from .reading import Topic, read
from .rule import Like, Rule
from .vocabulary import Action, BodyKind, Fault, Observation, Operation, Signal, Verdict
from .vocabulary import FailureKind as Kind

RETRY, FAIL = Action.RETRY, Action.FAIL
OVERLOAD, OUTAGE = Signal.OVERLOAD, Signal.OUTAGE
ACCOUNT_FULL, MODEL_FULL = Signal.OVERLOAD_ACCOUNT, Signal.OVERLOAD_MODEL
UNREACHABLE, CUT = Signal.UNREACHABLE, Signal.CUT

_OK = range(200, 300)
_SERVER = range(500, 600)
_ANY_SERVER = frozenset({*_OK, *_SERVER})
_NOT_JSON = (BodyKind.TEXT, BodyKind.BINARY, BodyKind.STREAM)

#: Codes that leave it to the words to say what is wrong with a request.
_SAYS_LITTLE: Final = (
    "", "invalid_request_error", "badrequesterror", "server_error", "internal_server_error",
    "internalservererror", "apierror", "apiconnectionerror", "api_error", "internal_error",
)  # fmt: skip

#: Classes that a gateway gives to every 429.
_CLASSES_OF_429: Final = ("RateLimitError",)

_PROVIDER_KEY_ADVICE = (
    "This is no fault of yours if the base URL is the gateway's: its own key was refused.",
    "If the base URL is the provider's, your key does not belong there: check both.",
    "Report the request id to support.",
)

_SHORTEN_ADVICE = (
    "Shorten the input: fewer or shorter messages, a smaller max_tokens, a summary of the start.",
    "Or use a model with a larger context window.",
    "The same request can never succeed; do not send it again as it is.",
)
_TOO_MUCH_ADVICE = (
    "Make this request smaller: it asks for more than is ever allowed, so waiting cannot help.",
    "Reduce or compress attached content, lower max_tokens, or split the work.",
    "If every request must be so large, ask for a higher limit.",
)
_MONEY_ADVICE = (
    "Top up the account, or raise the budget or limit that the message names: it is used up.",
    "If yours has money left, an account at the provider behind the gateway is empty: report it.",
    "Stop sending until then; retrying cannot help.",
)
_MODEL_ACCESS_ADVICE = (
    "Check that this token may use the model: its allowed models are among its settings.",
    "Check the model id, letter for letter.",
    "Keep the request id before contacting support.",
)
_ADDRESS_ADVICE = (
    "Send from an address that the key's settings allow, or add this one to them.",
    "A proxy or VPN changes the address that the gateway sees.",
)
_EXPIRED_ADVICE = (
    "The key has expired: make a new one, or extend it, and deploy it everywhere.",
    "Make sure no old key is loaded from .env, the shell or a deployed secret store.",
)
_NO_ROUTE_ADVICE = (
    "This gateway does not offer the route: it took the call for one that needs a model.",
    "Use an operation that its documentation lists.",
)
_PROVIDER_PATH_ADVICE = (
    "If your own base URL is right, the gateway's is wrong: the one it has for this provider.",
    "Check that the provider serves this operation at all.",
    "Report the request id to whoever runs the gateway.",
)

#: Advice of rows that know what has worked before.
_AWAY_ADVICE = (
    "The model id is right, since it answered minutes ago: wait, or use another model meanwhile.",
    "If it stays away, check the models page and report the request id.",
)
_IN_FRONT_ADVICE = (
    "Base URL and path are right, since they answered before: send it again in a minute.",
    "If it stays so, check if a proxy has come in between, or if the base URL moved.",
)
_KEY_WORKED_ADVICE = (
    "Send the request once more by hand: a gateway's database can fail for a moment.",
    "If it is refused again, the key was revoked, has expired or is used up: see the console.",
)
_KEY_NEVER_WORKED_ADVICE = (
    "Check the key first: that it is the key of the host in the base URL, whole, and in use.",
    "If it works elsewhere, a provider refused the gateway's own key: report the request id.",
)
_THIS_REQUEST_ADVICE = (
    "Compare this request with one that was answered: its content first, then its fields.",
    "Leave fields out until it passes; a filter may look at the words of the content.",
    "Report the request id to support.",
)
_PROXY_ADVICE: Final = (
    "Check the proxy's address, user and password: HTTPS_PROXY, or proxy= of the http client.",
    "Ask whoever runs the proxy whether it lets connections to the base URL's host pass.",
)

RULES: Final[tuple[Rule, ...]] = (
    # -- No response, or one that broke off ------------------------------------------------------
    Rule(name="local-fault", fault={Fault.LOCAL}, kind=Kind.LOCAL, action=FAIL,
         reason="the request could not be put on the wire as it is", source="transport"),
    Rule(name="certificate-changed", fault={Fault.TLS, Fault.CONNECT, Fault.PROXY},
         message=r"certificate.verify.failed|hostname mismatch|self.signed", place_worked=True,
         kind=Kind.CONNECTION, action=FAIL, source="transport",
         reason="the server's TLS certificate is not accepted any more; it was before",
         advice=("Check if the server's certificate expired, or if a proxy has come in between.",
                 "Check the machine's clock.")),
    Rule(name="certificate", fault={Fault.TLS, Fault.CONNECT, Fault.PROXY},
         message=r"certificate.verify.failed|hostname mismatch|self.signed",
         kind=Kind.CONNECTION, action=FAIL, source="transport",
         reason="the server's TLS certificate was not accepted",
         advice=("Check the base URL's host, the proxy, and the machine's certificates and clock.",
                 )),
    Rule(name="pool-timeout", fault={Fault.POOL_TIMEOUT}, kind=Kind.CONNECTION, action=RETRY,
         source="transport",
         reason="no connection of the client's own pool was free in time; nothing was sent"),
    Rule(name="proxy", fault={Fault.PROXY}, kind=Kind.CONNECTION, action=RETRY, source="transport",
         signal=UNREACHABLE, advice=_PROXY_ADVICE,
         reason="the proxy made no connection to the gateway; nothing was sent"),
    Rule(name="connect-fault", kind=Kind.CONNECTION, action=RETRY, source="transport",
         fault={Fault.CONNECT, Fault.CONNECT_TIMEOUT, Fault.TLS}, signal=UNREACHABLE,
         reason="no connection to the gateway could be made; nothing was sent"),
    Rule(name="deadline", fault={Fault.DEADLINE}, kind=Kind.TIMEOUT, action=FAIL,
         reason="the deadline for the whole request passed", source="transport",
         advice=("Give the request more time (deadline=), or ask for less work in one request.",
                 "Look at the attempts: time in the queue means too much load for the limit.")),
    Rule(name="stalled-stream", fault={Fault.STALLED}, kind=Kind.TIMEOUT, action=RETRY,
         signal=OUTAGE, source="transport",
         reason="the stream sent nothing but keep-alives for too long"),
    Rule(name="incomplete-stream", fault={Fault.INCOMPLETE}, kind=Kind.INVALID_ANSWER, action=FAIL,
         source="observed", reason="the stream ended without its terminal sign: half an answer",
         advice=("Treat what came as incomplete; asking again is billed again.",
                 "If it happens with one model only, report its request ids.")),
    Rule(name="no-output", fault={Fault.NO_OUTPUT}, kind=Kind.INVALID_ANSWER, action=RETRY,
         source="observed", reason="the answer says success and holds nothing",
         advice=("The gateway hides what happened at its provider; another model may work.",
                 "If it happens with one model only, report its request ids.")),
    Rule(name="lone-stop", fault={Fault.LONE_STOP}, kind=Kind.INVALID_ANSWER, action=RETRY,
         at_most=1, source="observed",
         reason="the answer is a finish reason and nothing else",
         advice=("Gateways write this under a provider's failure; a provider may mean it, too.",)),
    Rule(name="no-choices", fault={Fault.NO_CHOICES}, kind=Kind.INVALID_ANSWER, action=RETRY,
         at_most=1, source="inferred",
         reason="the answer has no choice, and counts nothing as used",
         advice=("A gateway counts what it has asked a provider for; a stand-in may not.",)),
    Rule(name="not-streamed", fault={Fault.NOT_STREAMED}, kind=Kind.INVALID_ANSWER, action=FAIL,
         source="inferred", reason="a whole answer came where a stream was asked for",
         advice=("Ask without stream=True, or ask a model that streams.",)),
    Rule(name="not-due", fault={Fault.NOT_DUE}, kind=Kind.INVALID_ANSWER, action=RETRY,
         at_most=1, source="inferred",
         reason="the answer says success, lacks what was asked for, and names no error",
         advice=("Check that base URL and path are those of an OpenAI-compatible API.",
                 "If it happens with one model only, report its request ids.")),
    Rule(name="queue", fault={Fault.QUEUE}, kind=Kind.LOCAL, action=FAIL, source="transport",
         reason="no slot, or no place in the queue, was free in time; nothing was sent",
         advice=("Send less at once, or shed load at the door while the queue is full.",
                 "Raise max_queue or queue_timeout if waiting longer is better than failing.")),
    Rule(name="gate", fault={Fault.GATE}, kind=Kind.UNAVAILABLE, action=FAIL, source="transport",
         reason="an outage keeps the gate closed for longer than this request can wait; not sent",
         advice=("Send it again later, or to another model or provider meanwhile.",
                 "Give it more time (deadline=, queue_timeout=): the wait costs no retry.",
                 "See snapshot(client) for what is out, and since when.")),
    Rule(name="timeout-fault", fault={Fault.READ_TIMEOUT, Fault.WRITE_TIMEOUT}, kind=Kind.TIMEOUT,
         action=RETRY, signal=OUTAGE, source="transport",
         reason="the gateway did not answer in time"),
    Rule(name="broken-answer", status=_OK, fault={Fault.READ, Fault.PROTOCOL, Fault.WRITE},
         kind=Kind.CONNECTION, action=RETRY, signal=CUT, source="transport",
         reason="the answer was cut short: the connection broke while it was read"),
    # HTTP/2 promises that neither was begun (RFC 9113, section 8.7); httpcore itself sends again
    # what lies beyond any other last stream of a GOAWAY.
    Rule(name="stream-refused", fault={Fault.PROTOCOL}, kind=Kind.CONNECTION, action=RETRY,
         message=r"streamreset\b.{0,40}\berror_code:(7|\S{0,20}refused_stream)\b.{0,20}remote_reset:true"
                 r"|connectionterminated error_code:\S{1,40} last_stream_id:0\b",
         signal=CUT, ambiguous=False, source="transport",
         reason="the server refused the HTTP/2 stream before it began the request"),
    Rule(name="connection-fault", fault={Fault.READ, Fault.PROTOCOL, Fault.WRITE},
         kind=Kind.CONNECTION, action=RETRY, signal=CUT, source="transport",
         reason="the connection broke before an answer arrived"),
    # -- Answers of something in front of the API ------------------------------------------------
    Rule(name="redirect-for-the-moment", status=range(300, 400), place_worked=True,
         kind=Kind.UNAVAILABLE, action=RETRY, at_most=1, wait=5.0, source="observed",
         reason="the call was redirected; the API answered at this very path before, so something"
                " in front of it is at fault", advice=_IN_FRONT_ADVICE),
    Rule(name="redirect", status=range(300, 400), kind=Kind.WRONG_PATH, action=FAIL, source="guide",
         reason="the path is wrong: the gateway redirected the call to a web page"),
    Rule(name="edge-challenge", challenge=True, kind=Kind.EDGE_BLOCKED, action=FAIL, source="edge",
         reason="the edge asked for a browser challenge, which no API client can solve"),
    Rule(name="edge-final", edge_retryable=False, kind=Kind.EDGE_BLOCKED, action=FAIL,
         reason="the edge refused the request and says that a retry cannot help", source="edge"),
    Rule(name="edge-refused", status={521, 523}, kind=Kind.UNAVAILABLE, action=RETRY,
         signal=OUTAGE, ambiguous=False, source="edge",
         reason="the edge could not connect to the gateway; nothing was sent on"),
    Rule(name="edge-rate-limit", status={429}, edge_code={"1015"}, kind=Kind.RATE_LIMITED,
         action=RETRY, signal=ACCOUNT_FULL, wait=30.0, source="edge",
         reason="the edge's own rate limit refused the request"),
    Rule(name="edge-timeout", edge_retryable=True, status={504, 522, 524}, kind=Kind.TIMEOUT,
         action=RETRY, signal=OUTAGE, wait=5.0, source="edge",
         reason="the edge waited too long for the gateway"),
    Rule(name="edge-transient", edge_retryable=True, kind=Kind.UNAVAILABLE, action=RETRY,
         signal=OUTAGE, source="edge",
         reason="the edge could not reach the gateway and says that a retry may help"),
    Rule(name="edge-block-code", status={403}, edge_code={"1006", "1007", "1008", "1009", "1010",
         "1012", "1020"}, kind=Kind.EDGE_BLOCKED, action=FAIL, source="edge",
         reason="a rule of the edge blocked this client or this request"),
    # -- Codes: the request is at fault ----------------------------------------------------------
    Rule(name="invalid-request", code={"invalid_request"}, kind=Kind.INVALID_REQUEST, action=FAIL,
         source="guide", section="500 Internal Server Error",
         reason="the request is malformed, whatever the status says"),
    Rule(name="upload-unreadable", code={"read_request_body_failed"}, kind=Kind.TOO_LARGE,
         action=FAIL, reason="the body of the request was too big or broke off", source="family"),
    Rule(name="status-413", status={413}, kind=Kind.TOO_LARGE, action=FAIL, source="guide",
         reason="the request is too large"),
    Rule(name="asks-too-much", status={429}, about={Topic.SIZE}, kind=Kind.TOO_LARGE, action=FAIL,
         source="peer", advice=_TOO_MUCH_ADVICE,
         reason="this request asks for more than is ever allowed; waiting will not make it fit"),
    Rule(name="context-exceeded", status={*_OK, 400, 404, 422, 429, *_SERVER},
         about={Topic.CONTEXT}, kind=Kind.INVALID_REQUEST, action=FAIL, source="peer",
         section="400 Bad Request", advice=_SHORTEN_ADVICE,
         reason="the input is longer than the model's context window"),
    Rule(name="too-large", status={*_OK, 400, 422, *_SERVER}, about={Topic.SIZE},
         kind=Kind.TOO_LARGE, action=FAIL, source="peer", advice=_TOO_MUCH_ADVICE,
         reason="the answer says that this request is too large, whatever its status"),
    Rule(name="no-route-left", code={"get_channel_failed", "channel:no_available_key"},
         kind=Kind.UNAVAILABLE, action=RETRY, signal=OUTAGE, at_most=2, wait=5.0,
         ambiguous=False, source="family",
         reason="the gateway has no working provider left for this model at the moment"),
    Rule(name="model-away", status={503}, code={"model_not_found"}, model_worked=True,
         kind=Kind.UNAVAILABLE, action=RETRY, at_most=2, ambiguous=False, wait=5.0, source="family",
         reason="this model answered minutes ago: its providers are away for the moment",
         advice=_AWAY_ADVICE),
    Rule(name="model-not-found", code={"model_not_found"}, kind=Kind.MODEL_UNAVAILABLE, action=FAIL,
         reason="no provider serves this model id; it is most likely misspelt", source="observed"),
    Rule(name="model-not-priced", code={"model_price_error"}, kind=Kind.MODEL_UNAVAILABLE,
         action=FAIL, reason="the model id exists but is not on sale", source="family"),
    Rule(name="convert-request", code={"convert_request_failed"}, kind=Kind.INVALID_REQUEST,
         action=FAIL, reason="the model and the endpoint do not go together", source="observed"),
    Rule(name="content-blocked", code={"sensitive_words_detected", "prompt_blocked",
         "content_filter", "content_policy_violation"}, kind=Kind.CONTENT_BLOCKED, action=FAIL,
         reason="the content was refused by a filter", source="family"),
    Rule(name="violation-fee", code=Like("violation_fee*"), kind=Kind.CONTENT_BLOCKED, action=FAIL,
         reason="the content was refused by a filter, and a fee may be charged for it",
         source="family"),
    Rule(name="content-refused", status={*_OK, 400, 403, 422, 446, 500}, about={Topic.CONTENT},
         kind=Kind.CONTENT_BLOCKED, action=FAIL, source="family",
         reason="the answer says that the content was refused by a filter"),
    Rule(name="guardrail", status={446}, kind=Kind.CONTENT_BLOCKED, action=FAIL, source="peer",
         reason="a guardrail of the gateway refused the content"),
    Rule(name="gateway-refusal", code={"count_token_failed", "gen_relay_info_failed",
         "invalid_api_type", "json_marshal_failed"}, kind=Kind.INVALID_REQUEST, action=FAIL,
         reason="the gateway cannot process this request, now or later", source="family",
         advice=("Change the model or the content of the request.",
                 "Keep the request id, and contact support with it if the request looks right.")),
    Rule(name="not-implemented", code={"api_not_implemented"}, kind=Kind.UNSUPPORTED, action=FAIL,
         reason="the gateway does not offer this operation", source="family"),
    # -- Codes: the key or the account -----------------------------------------------------------
    Rule(name="balance-empty", code={"insufficient_user_quota"}, kind=Kind.QUOTA, action=FAIL,
         reason="the account's balance is used up", source="family"),
    Rule(name="key-quota-empty", code={"pre_consume_token_quota_failed"}, kind=Kind.QUOTA,
         action=FAIL, reason="this key's own quota is used up", source="docs"),
    Rule(name="provider-quota", kind=Kind.PROVIDER, action=RETRY, at_most=1, wait=5.0,
         code={"insufficient_quota", "billing_not_active", "account_deactivated"}, source="peer",
         reason="the gateway's account at the provider is out of quota, not yours"),
    Rule(name="provider-quota-type", type={"insufficient_quota"}, code={"", *_CLASSES_OF_429},
         kind=Kind.PROVIDER, action=RETRY, at_most=1, wait=5.0, source="peer",
         reason="the gateway's account at the provider is out of quota, not yours"),
    Rule(name="out-of-money", status={400, 401, 402, 403, 404, 412, 422}, about={Topic.MONEY},
         kind=Kind.QUOTA, action=FAIL, source="family", advice=_MONEY_ADVICE,
         reason="the answer says that an account's or a key's money or quota is used up"),
    Rule(name="budget-exceeded", label={"budget_exceeded", "BudgetExceededError"},
         kind=Kind.QUOTA, action=FAIL, source="peer", advice=_MONEY_ADVICE,
         reason="the budget that the gateway keeps for this key is used up"),
    Rule(name="out-of-money-perhaps", status={*_OK, 429, *_SERVER}, about={Topic.MONEY},
         kind=Kind.QUOTA, action=RETRY, at_most=1, wait=5.0, source="peer", advice=_MONEY_ADVICE,
         reason="the answer says that an account's money is used up, yours or the gateway's"),
    Rule(name="access-withdrawn", code={"access_denied", "permission_denied"}, model_worked=True,
         kind=Kind.PERMISSION, action=FAIL, source="family",
         reason="this key may not make this call any more; minutes ago it could",
         advice=("Check if the key's allowed models, addresses or group were changed.",
                 "Compare the request with the last one that was answered.")),
    Rule(name="address-denied", status={401, 403}, about={Topic.ADDRESS}, kind=Kind.PERMISSION,
         action=FAIL, source="family", advice=_ADDRESS_ADVICE,
         reason="this key may not be used from this address"),
    Rule(name="address-denied-code", status={403}, code={"access_denied"}, kind=Kind.PERMISSION,
         action=FAIL, source="family", advice=_ADDRESS_ADVICE,
         reason="this key may not be used here: the code of a wrong address"),
    Rule(name="key-expired", status={400, 401, 403}, about={Topic.EXPIRED},
         kind=Kind.AUTHENTICATION, action=FAIL, source="family", advice=_EXPIRED_ADVICE,
         reason="the API key has expired"),
    Rule(name="access-denied", code={"permission_denied"}, kind=Kind.PERMISSION,
         action=FAIL, reason="this key may not make this call", source="family"),
    Rule(name="model-denied-code", label={"key_model_access_denied", "team_model_access_denied",
         "model_access_denied"}, kind=Kind.PERMISSION, action=FAIL, source="peer",
         advice=_MODEL_ACCESS_ADVICE,
         reason="this token may not use this model, or the model id is wrong"),
    Rule(name="model-denied", status={401, 403, 404}, about={Topic.ACCESS},
         message=r"model|模型", kind=Kind.PERMISSION, action=FAIL, source="family",
         advice=_MODEL_ACCESS_ADVICE, reason="this token has no access to this model"),
    Rule(name="mapped-key", status={401, 403}, type={MAPPED}, kind=Kind.PROVIDER, action=FAIL,
         reason="a provider refused the gateway's own key, not yours", source="family"),
    Rule(name="mapped-model-withdrawn", status={404}, type={MAPPED}, model_worked=True,
         kind=Kind.MODEL_UNAVAILABLE, action=FAIL, source="peer",
         reason="a provider does not have this model although it answered minutes ago",
         advice=("The id is right: a provider has withdrawn the model, or one of several lacks it.",
                 "Try another model, and report the request id.")),
    Rule(name="mapped-not-found", status={404}, type={MAPPED}, kind=Kind.MODEL_UNAVAILABLE,
         action=FAIL, reason="the provider has no such model at this endpoint", source="peer",
         advice=("Check that the model id is right and that this endpoint serves the model.",
                 "If both are right, try another model and report the request id.")),
    Rule(name="provider-no-such-path", status={404}, code={"NotFoundError"}, about={Topic.PATH},
         kind=Kind.WRONG_PATH, action=FAIL, source="peer", advice=_PROVIDER_PATH_ADVICE,
         reason="the provider behind the gateway says that it has no such path"),
    Rule(name="provider-not-found", status={404}, code={"NotFoundError"},
         kind=Kind.MODEL_UNAVAILABLE, action=FAIL, source="peer",
         reason="the provider behind the gateway has no such model, or not at this endpoint",
         advice=("Check that the model id is right and that this endpoint serves the model.",
                 "If both are right, try another model and report the request id.")),
    Rule(name="token-refused-now", status={401}, type={"comet_api_error", "new_api_error",
         "one_api_error"}, key_worked=True, kind=Kind.AUTHENTICATION, action=FAIL, source="guide",
         reason="the API key is refused now, and worked minutes ago", advice=_KEY_WORKED_ADVICE),
    Rule(name="invalid-token", status={401}, type={"comet_api_error", "new_api_error",
         "one_api_error"}, kind=Kind.AUTHENTICATION, action=FAIL, source="guide",
         reason="the API key is missing, malformed, disabled, expired or used up"),
    Rule(name="provider-key", status={401, 403}, label={"invalid_api_key", "authentication_error",
         "invalid_authentication"}, key_worked=True, kind=Kind.PROVIDER, action=RETRY,
         at_most=1, wait=2.0, source="family",
         reason="a provider refused the gateway's own key, not yours",
         advice=_PROVIDER_KEY_ADVICE),
    Rule(name="key-in-providers-words", status={401, 403}, label={"invalid_api_key",
         "authentication_error", "invalid_authentication"}, kind=Kind.AUTHENTICATION, action=FAIL,
         reason="the API key was refused in a provider's words, and has not worked here before",
         source="guide", advice=_KEY_NEVER_WORKED_ADVICE),
    # -- Codes: load -----------------------------------------------------------------------------
    Rule(name="rate-limit-of-model", status={429}, kind=Kind.RATE_LIMITED, action=RETRY,
         signal=MODEL_FULL, source="peer",
         message=r"\brate limit type ?= ?model|\blimit exceeded for model_per_",
         reason="a proxy limits this model, and says so"),
    Rule(name="rate-limit-of-account", status={429}, kind=Kind.RATE_LIMITED, action=RETRY,
         signal=ACCOUNT_FULL, source="peer",
         message=r"\brate limit type ?= ?(key|user|team|customer|end_user|organization)\b"
                 r"|\blimit exceeded for (api_key|user|team|end_user|organization)\b",
         reason="a proxy limits this key, user or team over all models, and says so"),
    Rule(name="key-concurrency", status={*_OK, 403, 429, *_SERVER}, about={Topic.CONCURRENCY},
         kind=Kind.RATE_LIMITED, action=RETRY, signal=ACCOUNT_FULL, source="family",
         reason="too many calls run at once; a slot is free as soon as one ends"),
    Rule(name="rate-limit", kind=Kind.RATE_LIMITED, action=RETRY, signal=OVERLOAD,
         named={Topic.RATE},
         reason="the gateway or its provider limits the rate", source="guide"),
    Rule(name="gateway-overloaded", code={"system_cpu_overloaded", "system_memory_overloaded",
         "system_disk_overloaded"}, kind=Kind.UNAVAILABLE, action=RETRY, signal=ACCOUNT_FULL,
         wait=5.0, ambiguous=False,
         reason="the gateway itself is overloaded", source="family"),
    Rule(name="provider-overloaded", named={Topic.LOAD}, kind=Kind.RATE_LIMITED, action=RETRY,
         signal=MODEL_FULL, wait=5.0, reason="the provider is overloaded", source="peer"),
    Rule(name="overload-as-400", status={400, 422}, type={"server_error", "internal_error",
         "internal_server_error", "api_error", "overloaded_error", "engine_overloaded_error",
         "service_unavailable", "InternalServerError"}, about={Topic.LOAD, Topic.SERVER},
         passing=True, kind=Kind.RATE_LIMITED, action=RETRY, signal=MODEL_FULL, wait=5.0,
         reason="the provider is overloaded, and a gateway calls it a bad request", source="peer"),
    # -- Codes: the platform or a provider -------------------------------------------------------
    Rule(name="channel-slow", code={"channel:response_time_exceeded"}, kind=Kind.TIMEOUT,
         action=RETRY, signal=MODEL_FULL, ambiguous=True, source="family",
         reason="the provider was too slow for the gateway"),
    Rule(name="channel-misconfigured", code=Like("channel:*"), kind=Kind.PROVIDER, action=RETRY,
         at_most=1, wait=5.0, ambiguous=False, source="family",
         reason="the gateway's route to the provider is misconfigured"),
    Rule(name="provider-unreachable", code={"do_request_failed"}, kind=Kind.UNAVAILABLE,
         action=RETRY, signal=OUTAGE, ambiguous=False, source="family",
         reason="the gateway could not reach the provider"),
    Rule(name="provider-answer-unusable", code={"read_response_body_failed", "bad_response_body",
         "empty_response", "copy_response_body_failed"}, kind=Kind.SERVER_ERROR, action=RETRY,
         signal=OUTAGE, at_most=1, ambiguous=True, source="family",
         reason="the provider answered, but unusably"),
    Rule(name="provider-timed-out", status={504, 524}, label={MAPPED}, kind=Kind.TIMEOUT,
         action=RETRY, signal=OUTAGE, ambiguous=True, wait=5.0, source="family",
         reason="the provider, or its edge, did not answer the gateway in time"),
    Rule(name="provider-answered-badly", status=_ANY_SERVER, code={MAPPED, "bad_response"},
         kind=Kind.UNAVAILABLE, action=RETRY, signal=OUTAGE, ambiguous=False, source="family",
         reason="the provider answered with an error that the gateway does not name"),
    Rule(name="gateway-storage", code={"rate_limit_check_failed", "query_data_error",
         "update_data_error"}, kind=Kind.SERVER_ERROR, action=RETRY, signal=OUTAGE, ambiguous=False,
         source="family", reason="the gateway lost its storage for the moment"),
    Rule(name="panic", type=Like("*_panic"), kind=Kind.SERVER_ERROR, action=RETRY, at_most=1,
         reason="the gateway crashed on this input", source="family"),
    # -- Tasks -----------------------------------------------------------------------------------
    Rule(name="task-not-visible-yet", code={"task_not_exist"}, new_task=True, kind=Kind.NOT_READY,
         action=RETRY, wait=5.0, source="docs",
         reason="the task was created moments ago and is not visible yet"),
    Rule(name="task-unknown", code={"task_not_exist"}, kind=Kind.INVALID_REQUEST, action=FAIL,
         reason="the gateway does not know this task", source="family",
         advice=("Check the task id, and that the same account created the task.",
                 "A new task may take some seconds to appear: poll it again a little later.")),
    Rule(name="task-moderated", message=r"\bcurrent status: violation\b", kind=Kind.CONTENT_BLOCKED,
         action=FAIL, reason="the task ended because its content was refused", source="observed"),
    Rule(name="task-not-completed", message=r"\btask is not completed yet\b", kind=Kind.NOT_READY,
         action=FAIL, reason="the task has no content yet; it still runs", source="observed"),
    # -- Messages, where no code says it ---------------------------------------------------------
    Rule(name="route-without-model", status={400}, operation={Operation.READ, Operation.OTHER,
         Operation.DOWNLOAD}, message=r"model name (not specified|is required)|model is required"
         r"|未指定模型|模型名称不能为空", kind=Kind.UNSUPPORTED, action=FAIL, source="family",
         advice=_NO_ROUTE_ADVICE,
         reason="the gateway asks for a model where none belongs: it does not have this route"),
    Rule(name="field-required", code=_SAYS_LITTLE, kind=Kind.INVALID_REQUEST,
         status={*_OK, 400, 422, *_SERVER}, source="guide", section="500 Internal Server Error",
         message=r"\bfield [\w.\[\]'\"`-]+ is required\b"
                 r"|\b(model( name)?|messages|prompt|input|image|text) is required"
                 r"(?! (to|by|for)\b)|模型名称不能为空|未指定模型",
         action=FAIL, reason="the message names a field that the request lacks"),
    Rule(name="malformed-message", code=_SAYS_LITTLE, kind=Kind.INVALID_REQUEST,
         status={*_OK, 400, 422, 500}, passing=False, source="family",
         section="500 Internal Server Error",
         message=r"^(?!(?s:.*)(\b(upstream|provider|response|returned|received)\b|上游))"
                 r"(\W?\w[\w.\[\]-]{0,60}\W{1,2}(\w+ )?is required\W{0,3}($|request id)"
                 r"|\W?invalid[ _]request\b(?!.?id\b)|.*\binvalid json\b"
                 r"|.*\bmust be (an? )?(string|array|object|integer|number|boolean)\b"
                 r"|.*cannot unmarshal .{0,120}request"
                 r"|.*\binvalid_request(_error)?\b|.*\binvalid type for\b|validation error\b"
                 r"|.*\b(missing|unknown|unrecognized|unsupported|invalid)\W+((required|request) )?"
                 r"(param|parameter|argument|field|value)s?\b|.*\bfield (is )?required\b"
                 r"|.*\b(malformed|(?<!400 )bad) request\b|.*\b(parse|decode) (the )?request\b"
                 r"|.*\brequired field\b|.*\brequest( body)? is (invalid|malformed|missing|empty)\b"
                 r"|.*\b(messages|prompt|input|model) (is|are|(can|must) ?not be) (empty|missing)\b"
                 r"|.*\b(could not|cannot|unable to) (parse|decode) (the |your )?"
                 r"(image|audio|file|video)\b"
                 r"|.*\b(image|audio|file|video)( url)? is (invalid|malformed|corrupt(ed)?)\b"
                 r"|.*\bmodel does not support\b|.*\b(est|sont) (requis|obligatoire)s?\b"
                 r"|.*\b(es|son) obligatori[oa]s?\b|.*\b(ist|sind) erforderlich\b"
                 r"|.*\b(é|são|è|sono) (obrigat[óo]ri|obbligatori)\w{0,2}\b"
                 r"|.*\b(is|zijn) verplicht\b|.*обязател|.*bắt buộc|.*zorunlu|.*필수"
                 r"|.*(不能[为為]空|[无無]效的[请請]求"
                 r"|([请請]求|[参參][数數])(体|格式)?([错錯][误誤]|[无無]效|不合法)"
                 r"|缺少.{0,20}[参參][数數]|必[须須](是|[为為])|必[填須需]|模型不支持))"
                 r"|^\W{0,3}messages? with role\b",
         action=FAIL, reason="the message names what is malformed in the request"),
    Rule(name="value-refused", code=_SAYS_LITTLE, kind=Kind.INVALID_REQUEST,
         status={*_OK, 400, 422, 500}, passing=False, source="peer",
         section="500 Internal Server Error",
         message=r"^(?!(?s:.*)(\b(upstream|provider|response|returned|received)\b|上游))"
                 r"(\W?[\w.\[\]-]{1,60}\W{1,2}(must|should) (not be|contain|have at|be (at (least"
                 r"|most)|between|one of|less|greater|an? |valid|in |positive|non|unique|[<>=\d]))"
                 r"|(\W?[\w.\[\]-]{1,60}: required|you must provide)\b"
                 r"|.{0,80}\b(field|parameter|property|argument) is (missing|invalid|not allowed)\b"
                 r"|.*\bis (a required|not a valid) (property|parameter|field|argument|value)\b"
                 r"|.*\bvalid json\b|unexpected token .{1,9} in json|.*\bunmarshal (the )?request\b"
                 r"|\W?\w+[.\[][\w.\[\]-]{1,60} is invalid\b|schema is invalid"
                 r"|.*\bextra (field|input)s? (is |are )?not (permitted|allowed)\b"
                 r"|.*\b(unsupported|invalid) ((image|audio|video|media)\b|base64|schema|role)"
                 r"|.*\bcannot both be\b|.*\bmutually exclusive\b"
                 r"|.*\bcan(not|'t) be (used|combined|set) (together|with)\b)"
                 r"|^\W?expected (an? )?(array|string|object|list|number|integer|boolean)\b",
         action=FAIL, reason="the message names a value that the request may not have"),
    Rule(name="no-channel-for-the-moment", status={*_OK, 500, 503}, model_worked=True,
         message=r"no available channels? for|[无無]可用渠道", kind=Kind.UNAVAILABLE, action=RETRY,
         at_most=2, ambiguous=False, wait=5.0, source="family", advice=_AWAY_ADVICE,
         reason="this model answered minutes ago: its providers are away for the moment"),
    Rule(name="no-channel-message", status={*_OK, 400, 404, 500, 503}, source="observed",
         message=r"no available channels? for|has not been priced|[无無]可用渠道"
                 r"|invalid model name",
         kind=Kind.MODEL_UNAVAILABLE, action=FAIL,
         reason="the message says that this model id is not served"),
    Rule(name="model-not-found-message", status={*_OK, 400, 404, 422, 500, 503}, passing=False,
         source="family",
         message=r"\bmodel:? "
                 r"([`'\"][^`'\"]{1,99}[`'\"]|[^\s\d:/.-]{0,60}[\d:/.-]\S{0,99}) "
                 r"(does not exist|not found|(is|was) not (found|supported))"
                 r"|^models?: \S{1,99}\s{0,3}$|\bmodels/\S{1,99} is not found\b"
                 r"|^invalid model:|\bis not a valid model id\b|\bunable to access model\b"
                 r"|\bmodel (not found|not exist|does not exist)\b|\bnot found the model\b"
                 r"|\bmodel or endpoint \S{1,99} does not exist\b|\bno endpoints? found\b"
                 r"|模型不存在",
         kind=Kind.MODEL_UNAVAILABLE, action=FAIL,
         reason="the message says that there is no such model"),
    Rule(name="model-by-code", status={*_OK, 400, 404, 422, *_SERVER}, named={Topic.MODEL},
         by_type=False, kind=Kind.MODEL_UNAVAILABLE, action=FAIL, source="peer",
         reason="the code says that there is no such model, or no longer"),
    Rule(name="key-message", status={*_OK, 400}, about={Topic.KEY}, kind=Kind.AUTHENTICATION,
         action=FAIL, source="peer",
         reason="the message says that the API key is not valid, whatever the status says"),
    Rule(name="provider-key-message", status={401}, message=r"incorrect api key provided",
         key_worked=True, kind=Kind.PROVIDER, action=RETRY, at_most=1, wait=2.0, source="family",
         reason="a provider refused the gateway's own key, not yours",
         advice=_PROVIDER_KEY_ADVICE),
    Rule(name="proxy-key-message", status={400}, message=r"no connected db",
         kind=Kind.AUTHENTICATION, action=FAIL, source="peer",
         reason="a proxy on the way does not accept the API key, and has no database of keys"),
    Rule(name="key-under-success", status=_OK, label={"401"}, kind=Kind.AUTHENTICATION,
         action=FAIL, reason="the answer says success but carries a refusal of the key",
         source="peer"),
    Rule(name="permission-under-success", status=_OK, label={"403"}, kind=Kind.PERMISSION,
         action=FAIL, reason="the answer says success but carries a refusal of access",
         source="peer"),
    Rule(name="invalid-by-code", status={*_OK, 400, 422, *_SERVER}, named={Topic.FIELD},
         by_type=False, kind=Kind.INVALID_REQUEST, action=FAIL, source="peer",
         section="500 Internal Server Error",
         reason="the code names what is wrong in the request, whatever the status says"),
    Rule(name="invalid-by-type", status={*_OK, *_SERVER}, named={Topic.FIELD}, by_type=True,
         passing=False, action=FAIL, kind=Kind.INVALID_REQUEST, source="peer",
         section="500 Internal Server Error",
         reason="the type says that the request is at fault, whatever the status says"),
    Rule(name="refused-inside", status={*_OK, *_SERVER}, label={"400", "404", "405", "413", "415",
         "422"}, kind=Kind.INVALID_REQUEST, action=FAIL, source="peer",
         reason="the code is the status of a refusal, whatever the answer's own says"),
    Rule(name="saturated", status={*_OK, 429, *_SERVER}, kind=Kind.RATE_LIMITED, action=RETRY,
         signal=MODEL_FULL, wait=2.0, source="family",
         message=r"负载已?饱和|\bupstream load\b.{0,40}\bsaturated",
         reason="the providers of this model are saturated; this is no limit of your account"),
    Rule(name="panic-message", status=_SERVER, message=r"\bpanic detected\b",
         kind=Kind.SERVER_ERROR, action=RETRY, at_most=1, source="family",
         reason="the gateway crashed on this input"),
    # -- An answer that says success and is none -------------------------------------------------
    Rule(name="no-such-path", status={*_OK, 400, 404, 405}, about={Topic.PATH},
         kind=Kind.WRONG_PATH, action=FAIL, source="family",
         reason="the server says that it has no such path"),
    Rule(name="error-page-under-success", status=_OK, body={BodyKind.HTML}, source="peer",
         message=r"bad gateway|gateway time-?out|service (temporarily )?unavailable",
         kind=Kind.UNAVAILABLE, action=RETRY, signal=OUTAGE,
         reason="the answer says success but is the error page of a proxy"),
    Rule(name="page-for-the-moment", status=_OK, body={BodyKind.HTML}, place_worked=True,
         kind=Kind.UNAVAILABLE, action=RETRY, at_most=1, wait=5.0, ambiguous=True,
         source="observed", advice=_IN_FRONT_ADVICE,
         reason="a web page came back; the API answered at this very path before, so something in"
                " front of it is at fault"),
    Rule(name="html-success", status=_OK, body={BodyKind.HTML}, kind=Kind.WRONG_PATH, action=FAIL,
         reason="a web page came back instead of an answer of the API", source="guide"),
    Rule(name="unreadable-success", status=_OK, body={BodyKind.EMPTY, *_NOT_JSON},
         operation={Operation.OTHER}, kind=Kind.INVALID_ANSWER, action=FAIL, source="inferred",
         reason="the answer says that it is done, but not in JSON; asking again may do it twice"),
    Rule(name="empty-success", status=_OK, body={BodyKind.EMPTY}, kind=Kind.INVALID_ANSWER,
         action=RETRY, reason="the answer says success and is empty", source="transport"),
    Rule(name="not-json-success", status=_OK, body=_NOT_JSON, kind=Kind.INVALID_ANSWER,
         action=RETRY, at_most=1, source="transport",
         reason="the answer says success but is not the JSON that was due"),
    Rule(name="timeout-under-success", status=_OK, label={"timeout_error", "408", "504", "524"},
         kind=Kind.TIMEOUT, action=RETRY, signal=OUTAGE, source="family",
         reason="the answer says success but carries a timeout"),
    Rule(name="server-error-under-success", status=_OK, label={"server_error", "internal_error",
         "internal_server_error", "api_error", "500", "502", "503", "520", "522", "529"},
         kind=Kind.SERVER_ERROR, action=RETRY, signal=OUTAGE, source="peer",
         reason="the answer says success but carries a server error"),
    Rule(name="transient-under-success", status=_OK, about={Topic.RATE, Topic.LOAD},
         kind=Kind.RATE_LIMITED, action=RETRY, signal=OVERLOAD, source="peer",
         reason="the answer says success but carries a rate limit or an overload"),
    Rule(name="passing-under-success", status=_OK, passing=True, kind=Kind.UNAVAILABLE,
         action=RETRY, signal=OUTAGE, source="peer",
         reason="the answer says success but carries a passing error"),
    Rule(name="error-under-success", status=_OK, kind=Kind.INVALID_ANSWER, action=FAIL,
         reason="the answer says success but carries an error", source="family"),
    # -- Bodies that are not JSON ----------------------------------------------------------------
    Rule(name="edge-block-page", body={BodyKind.HTML}, kind=Kind.EDGE_BLOCKED, action=FAIL,
         message=r"^just a moment|^attention required",
         reason="a rule of the edge blocked the request", source="edge"),
    Rule(name="forbidden-page-for-this-request", status={403}, body={BodyKind.HTML},
         model_worked=True, kind=Kind.EDGE_BLOCKED, action=FAIL, source="guide",
         reason="a rule of the edge blocked this request; this key, model and path work",
         advice=_THIS_REQUEST_ADVICE),
    Rule(name="forbidden-page", status={403}, body={BodyKind.HTML}, kind=Kind.EDGE_BLOCKED,
         action=FAIL, reason="a rule of the edge blocked the request", source="guide"),
    Rule(name="not-found-page-for-the-moment", status={404, 405}, body={BodyKind.HTML},
         place_worked=True, kind=Kind.UNAVAILABLE, action=RETRY, at_most=1, wait=5.0,
         source="observed", advice=_IN_FRONT_ADVICE,
         reason="a web page came back; the API answered at this very path before, so something in"
                " front of it is at fault"),
    Rule(name="not-found-page", status={404, 405}, body={BodyKind.HTML}, kind=Kind.WRONG_PATH,
         action=FAIL, reason="the path is wrong: a web page came back", source="guide"),
    Rule(name="empty-429", status={429}, body={BodyKind.EMPTY}, kind=Kind.RATE_LIMITED,
         action=RETRY, signal=ACCOUNT_FULL, wait=20.0, source="family",
         reason="a limit of the account, or of this address, refused the request; its window is a"
                " minute or more"),
    # -- The status alone ------------------------------------------------------------------------
    Rule(name="status-400", status={400}, kind=Kind.INVALID_REQUEST, action=FAIL, source="guide",
         reason="the request failed validation before it was processed"),
    Rule(name="status-401-now", status={401}, key_worked=True, kind=Kind.AUTHENTICATION,
         action=FAIL, source="guide", reason="the API key is refused now, and worked minutes ago",
         advice=_KEY_WORKED_ADVICE),
    Rule(name="status-401", status={401}, kind=Kind.AUTHENTICATION, action=FAIL, source="guide",
         reason="the API key is missing, malformed or invalid"),
    Rule(name="status-402", status={402}, kind=Kind.QUOTA, action=FAIL, source="inferred",
         reason="payment is required, here or at the provider"),
    Rule(name="status-403-for-this-request", status={403}, model_worked=True,
         kind=Kind.PERMISSION, action=FAIL, source="guide",
         reason="this request was refused; this key, model and path work",
         advice=_THIS_REQUEST_ADVICE),
    Rule(name="status-403", status={403}, kind=Kind.PERMISSION, action=FAIL, source="guide",
         reason="access was blocked, or this request is not allowed"),
    Rule(name="bare-not-found", status={404}, has_id=False, place_worked=False,
         body={BodyKind.JSON, BodyKind.TEXT, BodyKind.EMPTY}, kind=Kind.WRONG_PATH, action=FAIL,
         message=r"^(?![^\n]{0,500}\b(mod[eè]l\w{0,3}|deployment|engine|ids?|file|task|batch|assistant|thread"
                 r"|vector|voice|image|video|object|response|conversation)\b)(?![^\n]{0,500}(模型|モデル|모델|модел))",
         source="peer",
         reason="a 404 that names neither a model nor an id, on a route that has none: the path"
                " is wrong"),
    Rule(name="status-404-of-an-id", status={404}, place_worked=True, kind=Kind.NOT_FOUND,
         action=FAIL, source="docs",
         reason="the path is right, since it answered before: what the request names is not there",
         advice=("Check the ids in path and body: deleted, or of another account.",)),
    Rule(name="status-404", status={404}, kind=Kind.NOT_FOUND, action=FAIL, source="docs",
         reason="there is nothing at this path: check base URL, path and ids"),
    Rule(name="status-405", status={405}, kind=Kind.WRONG_PATH, action=FAIL, source="inferred",
         reason="this path does not take this method"),
    Rule(name="status-407", status={407}, kind=Kind.CONNECTION, action=FAIL, source="edge",
         reason="the proxy does not accept the credentials that it was given",
         advice=_PROXY_ADVICE),
    Rule(name="status-408", status={408, 499}, kind=Kind.TIMEOUT, action=RETRY, ambiguous=True,
         reason="a proxy on the way gave up waiting for the provider", source="family"),
    Rule(name="status-424", status={424}, kind=Kind.PROVIDER, action=FAIL, source="family",
         reason="something that the provider depends on failed"),
    Rule(name="account-rate", status={429}, kind=Kind.RATE_LIMITED, action=RETRY,
         signal=ACCOUNT_FULL, wait=20.0, source="family",
         message=r"request limit: maximum|分钟内最多请求|总请求数限制",
         reason="the account's limit of requests is reached; its window is a minute or more"),
    Rule(name="status-429", status={429}, kind=Kind.RATE_LIMITED, action=RETRY, signal=OVERLOAD,
         reason="rate limiting or temporary saturation", source="guide"),
    Rule(name="server-says-retry", status=range(400, 500), should_retry=True,
         kind=Kind.UNAVAILABLE, action=RETRY, source="peer",
         reason="the server says that the same request may succeed (x-should-retry: true)"),
    Rule(name="conflict-for-the-moment", status={409}, kind=Kind.UNAVAILABLE, action=RETRY,
         message=r"\block(ed)?\b|in (progress|use)\b|concurren|\banother (request|call|process)\b"
                 r"|being (modified|processed|updated|used)|try(ing)? again|\bretry|timed? ?out",
         source="peer",
         reason="something else is using what the request needs, for the moment"),
    Rule(name="status-4xx", status=range(400, 500), kind=Kind.INVALID_REQUEST, action=FAIL,
         reason="the request was refused, and would be again", source="inferred"),
    Rule(name="status-500", status={500}, kind=Kind.SERVER_ERROR, action=RETRY, signal=OUTAGE,
         source="guide", reason="the platform or a provider failed"),
    Rule(name="status-501", status={501, 505}, kind=Kind.UNSUPPORTED, action=FAIL, source="family",
         reason="the server does not offer this operation or version of the protocol"),
    Rule(name="status-502", status={502}, kind=Kind.UNAVAILABLE, action=RETRY, signal=OUTAGE,
         source="peer", reason="a proxy got no usable answer from behind it"),
    Rule(name="busy-503", status={503}, kind=Kind.UNAVAILABLE, action=RETRY, signal=OVERLOAD,
         ambiguous=False, source="peer",
         message=r"overload|\bcapacity\b|\bbusy\b|too many|high (demand|load|traffic)|queue is full"
                 r"|[过過][载載]|繁忙|[负負][载載]",
         reason="the route or its provider says that it takes no more work for the moment"),
    Rule(name="away-503", status={503}, kind=Kind.UNAVAILABLE, action=RETRY, signal=OUTAGE,
         ambiguous=False, source="peer", message=r"temporarily|no (healthy|live) upstream",
         reason="the route or its provider says that it is away for the moment"),
    Rule(name="status-503", status={503}, kind=Kind.UNAVAILABLE, action=RETRY, signal=OUTAGE,
         reason="the route or its provider is temporarily unavailable", source="guide"),
    Rule(name="status-504", status={504, 522, 524}, kind=Kind.TIMEOUT, action=RETRY,
         signal=OUTAGE, wait=5.0, source="guide",
         reason="platform, edge or provider did not answer in time"),
    Rule(name="status-520", status={520}, kind=Kind.UNAVAILABLE, action=RETRY, signal=OUTAGE,
         source="edge", reason="the edge got no usable answer from the gateway"),
    Rule(name="status-525", status={525, 526}, kind=Kind.UNAVAILABLE, action=RETRY, signal=OUTAGE,
         source="edge", reason="TLS between the edge and the gateway is broken"),
    Rule(name="status-530", status={527, 530}, kind=Kind.UNAVAILABLE, action=RETRY, signal=OUTAGE,
         source="edge", reason="the edge could not reach the gateway"),
    Rule(name="status-529", status={529}, kind=Kind.RATE_LIMITED, action=RETRY, signal=MODEL_FULL,
         wait=5.0, reason="the provider is overloaded", source="peer"),
    Rule(name="status-5xx", status=_SERVER, kind=Kind.SERVER_ERROR, action=RETRY,
         signal=OUTAGE, at_most=1, source="inferred",
         reason="the server failed in a way that has no meaning of its own"),
    Rule(name="unknown", kind=Kind.INVALID_ANSWER, action=FAIL, source="inferred",
         reason="the answer has no meaning in HTTP"),
)  # fmt: skip


def classify(
    observation: Observation, extra: Iterable[Rule] = (), evidence: Evidence = NOTHING
) -> Verdict:
    """Return the verdict of the first row that matches, ``extra`` rows first."""
    return rule_for(observation, extra, evidence).verdict()


def rule_for(
    observation: Observation, extra: Iterable[Rule] = (), evidence: Evidence = NOTHING
) -> Rule:
    """Return the first row that matches, ``extra`` rows first; the table's last matches all."""
    reading = read(observation)
    return next(rule for rule in (*extra, *RULES) if rule.matches(observation, evidence, reading))
