"""Advice for the person whose call failed: the steps for each kind of failure, in order.

The steps follow the gateway's own error-handling guide, in its order. A row of the table may
bring narrower steps of its own; the ones here serve every row that does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from .vocabulary import FailureKind as Kind

CORRECT_BASE_URL: Final = "https://api.cometapi.com/v1"
_HOME: Final = "cometapi.com"

#: The guide's heading for each kind; the quick triage table where it has no heading of its own.
SECTIONS: Final[Mapping[Kind, str]] = MappingProxyType(
    {
        Kind.INVALID_REQUEST: "400 Bad Request",
        Kind.AUTHENTICATION: "401 Invalid Token",
        Kind.PERMISSION: "403 Forbidden",
        Kind.QUOTA: "403 Forbidden",
        Kind.CONTENT_BLOCKED: "403 Forbidden",
        Kind.WRONG_PATH: "Wrong base URL or wrong path",
        Kind.NOT_FOUND: "Wrong base URL or wrong path",
        Kind.TOO_LARGE: "413 Request Entity Too Large",
        Kind.MODEL_UNAVAILABLE: "400 Bad Request",
        Kind.UNSUPPORTED: "Wrong base URL or wrong path",
        Kind.NOT_READY: "Quick triage",
        Kind.RATE_LIMITED: "429 Too Many Requests",
        Kind.SERVER_ERROR: "500 Internal Server Error",
        Kind.UNAVAILABLE: "503, 504, and 524",
        Kind.TIMEOUT: "503, 504, and 524",
        Kind.CONNECTION: "503, 504, and 524",
        Kind.PROVIDER: "500 Internal Server Error",
        Kind.EDGE_BLOCKED: "403 Forbidden",
        Kind.INVALID_ANSWER: "Wrong base URL or wrong path",
        Kind.LOCAL: "Quick triage",
    }
)

_KEEP_IDS = "Keep the request id, endpoint, model and timestamp."
_SUPPORT = "If it keeps failing across several retries, contact support with that context."

ADVICE: Final[Mapping[Kind, tuple[str, ...]]] = MappingProxyType(
    {
        Kind.INVALID_REQUEST: (
            "Fix the request body; the message names what is wrong.",
            "Compare the payload with the endpoint's schema: model, messages, JSON shape, types.",
            "Start from a minimal request that works and add optional fields back one by one.",
            "Send it again only after correcting it.",
        ),
        Kind.AUTHENTICATION: (
            "The header must be exactly: Authorization: Bearer <COMETAPI_KEY>.",
            "Make sure no old key is loaded from .env, the shell or a deployed secret store.",
            "If another key works on the same request, the key is at fault, not the endpoint.",
        ),
        Kind.PERMISSION: (
            "Retry with a very simple text request against a model known to work.",
            "Remove advanced and provider-specific fields, then add them back gradually.",
            "Keep the request id before contacting support.",
            "Words such as group or channel in the message are routing details, not the cause.",
        ),
        Kind.QUOTA: (
            "Top up the account, or raise this key's own limit: the two are independent.",
            "Stop sending until then; retrying cannot help.",
        ),
        Kind.CONTENT_BLOCKED: (
            "Rephrase or remove the content that was refused.",
            "Retrying the same content cannot help, and some refusals are charged.",
        ),
        Kind.WRONG_PATH: (
            f"Use this base URL exactly: {CORRECT_BASE_URL}",
            "Confirm that the endpoint path matches the documentation exactly.",
            "Keep automatic redirects off while debugging path problems.",
        ),
        Kind.NOT_FOUND: (
            "Check the ids in the path: they may be of another account, or expired.",
            f"Check the base URL, for CometAPI exactly {CORRECT_BASE_URL}, and the path.",
        ),
        Kind.TOO_LARGE: (
            "Reduce or compress attached content: base64, inline images or audio, big uploads.",
            "Split large jobs into smaller requests.",
            "Do not assume that the length of plain text is the only cause.",
        ),
        Kind.MODEL_UNAVAILABLE: (
            "Check the model id, letter for letter, against the models page.",
            "Words such as group or channel in the message are routing details, not the cause.",
            "If the id is right, try another model and report the request id.",
        ),
        Kind.UNSUPPORTED: (
            "The gateway does not offer this operation; use one that its documentation lists.",
        ),
        Kind.NOT_READY: ("Poll the task at its usual interval until it is completed.",),
        Kind.RATE_LIMITED: (
            "Use exponential backoff with jitter (this client did).",
            "Reduce burst concurrency: lower max_concurrency, or spread the work out.",
            "Watch which route and model saturate first, and move load off them.",
        ),
        Kind.SERVER_ERROR: (
            "Retry with backoff (this client did).",
            _KEEP_IDS,
            _SUPPORT,
        ),
        Kind.UNAVAILABLE: (
            "The route or its provider is temporarily unavailable: retry with backoff.",
            _KEEP_IDS,
            _SUPPORT,
        ),
        Kind.TIMEOUT: (
            "Platform, edge or provider took too long: retry with backoff.",
            "For long generations prefer stream=True, which keeps the connection busy.",
            _KEEP_IDS,
            _SUPPORT,
        ),
        Kind.CONNECTION: (
            "Check DNS, proxy, firewall and TLS between this machine and the base URL.",
            "Retry with backoff.",
            _KEEP_IDS,
        ),
        Kind.PROVIDER: (
            "This is no fault of yours: the gateway's own access to the provider failed.",
            "Try again later or use another model.",
            "Report the request id to support.",
        ),
        Kind.EDGE_BLOCKED: (
            "A rule of the edge (WAF or bot check) blocked the request before the API saw it.",
            "Retry with a very simple text request from another network or without a VPN.",
            "Contact support with the cf-ray id.",
        ),
        Kind.INVALID_ANSWER: (
            "The answer said success but is not what the endpoint returns.",
            f"Check the base URL: {CORRECT_BASE_URL}",
            "Keep the exact response body and the request id for support.",
        ),
        Kind.LOCAL: ("Fix the request on this side: it was never sent.",),
    }
)

#: What the sentences that speak of CometAPI become at another host; ``None`` leaves one away.
_ELSEWHERE: Final[Mapping[str, str | None]] = MappingProxyType(
    {
        "The header must be exactly: Authorization: Bearer <COMETAPI_KEY>.": (
            "Check the Authorization header: Bearer, one space, and a key of this host."
        ),
        f"Use this base URL exactly: {CORRECT_BASE_URL}": (
            "Check the base URL in use, {base_url}: its host, its version, its path."
        ),
        f"Check the base URL, for CometAPI exactly {CORRECT_BASE_URL}, and the path.": (
            "Check the base URL in use, {base_url}, and the path."
        ),
        f"Check the base URL: {CORRECT_BASE_URL}": "Check the base URL in use: {base_url}",
        "Check the model id, letter for letter, against the models page.": (
            "Check the model id, letter for letter, against the models that this host lists."
        ),
        "If it stays away, check the models page and report the request id.": (
            "If it stays away, check the models that this host lists, and report the request id."
        ),
        "Words such as group or channel in the message are routing details, not the cause.": None,
        "This is no fault of yours: the gateway's own access to the provider failed.": (
            "A key or an account behind this host was refused; if the host is the provider's own,"
            " it is yours."
        ),
        "the gateway's account at the provider is out of quota, not yours": (
            "the account at the provider is out of quota: yours, or that of a gateway in between"
        ),
        "a provider refused the gateway's own key, not yours": (
            "a provider refused a key: yours, or that of a gateway in between"
        ),
    }
)
_DONE_HERE: Final = " (this client did)"


def is_home(base_url: str, *, speaks: bool) -> bool:
    """Return True where CometAPI's own words fit: its hosts, and hosts that speak as it does."""
    host = urlsplit(base_url).hostname or ""
    return speaks or not host or is_own_host(host)


def is_own_host(host: str) -> bool:
    """Return True for CometAPI's own hosts."""
    return host == _HOME or host.endswith(f".{_HOME}")


def elsewhere(words: str, base_url: str) -> str | None:
    """Return a sentence as it is true of another host, ``None`` if none of it is."""
    found = _ELSEWHERE.get(words, words)
    return None if found is None else found.replace("{base_url}", base_url)


def without_claims(words: str) -> str:
    """Return a sentence without what it says of retries that never were."""
    return words.replace(_DONE_HERE, "")
