"""The configuration: key, base URL, ``.env``, proxies.

Functions of the environment's variables. No sentence ever contains the value of a key: at most it
"differs".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import SplitResult, parse_qsl, urlsplit

from ...diagnosis.hints import SentRequest, hints
from ...diagnosis.redaction import path_secrets, query_secrets
from ...escaping import printable
from ...verdict.advice import CORRECT_BASE_URL, is_own_host
from ...verdict.vocabulary import FailureKind, Observation
from .triage import StepResult, failed, passed, warned

KEY_VARIABLES: Final = ("COMETAPI_KEY", "OPENAI_API_KEY")
#: Names that some frameworks read and that are easily mistaken for the right one.
LOOKALIKES: Final = ("COMETAPI_API_KEY", "COMET_API_KEY")
BASE_URL_VARIABLES: Final = ("COMETAPI_BASE_URL", "OPENAI_BASE_URL")

_GET_A_KEY: Final = "Set the variable: export COMETAPI_KEY=<your key>"
_LINE: Final = re.compile(r"\s*(?:export\s+)?([A-Za-z_]\w*+)\s*+=(.*)")
_ENDPOINT: Final = re.compile(
    r"/(chat/completions|completions|responses|embeddings|models|images/\w+|audio/\w+|videos)$"
)
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def parse_dotenv(text: str) -> dict[str, str]:
    """Return the variables that a ``.env`` file sets."""
    found = {}
    for line in text.splitlines():
        matched = _LINE.match(line)
        if matched:
            name, value = matched[1], matched[2].strip()
            quote = value[:1]
            is_quoted = quote in ("'", '"') and quote in value[1:]
            found[name] = (
                value[1:].partition(quote)[0] if is_quoted else re.sub(r"(?<!\s)\s+#.*", "", value)
            )
    return found


def find_key(environment: Mapping[str, str]) -> tuple[str, str]:
    """Return the variable that holds the key, and the key; two empty strings if there is none."""
    for name in KEY_VARIABLES:
        if environment.get(name, "").strip():
            return name, environment[name]
    return "", ""


def check_key(environment: Mapping[str, str], dotenv: Mapping[str, str]) -> StepResult:
    """Check that there is a key, where it comes from, its form, and what contradicts it."""
    name, key = find_key(environment)
    if not key:
        return _no_key(environment, dotenv)
    sent = SentRequest(authorization=f"Bearer {key}", body=b"")
    wrong = hints(FailureKind.AUTHENTICATION, Observation(), sent)
    notes = tuple(_rivals(name, key, environment, dotenv))
    if wrong:
        action = f"Correct the value of {name} and start the program again."
        return failed("key", f"{name}: {wrong[0]}", action, *wrong[1:], *notes)
    if notes:
        action = "Make sure that your program reads the intended key."
        return warned("key", f"from {name}, well-formed; but {notes[0]}", action, *notes[1:])
    return passed("key", f"from {name}, well-formed")


def _no_key(environment: Mapping[str, str], dotenv: Mapping[str, str]) -> StepResult:
    reason = f"neither {' nor '.join(KEY_VARIABLES)} is set"
    written = [name for name in KEY_VARIABLES if dotenv.get(name, "").strip()]
    alike = [name for name in LOOKALIKES if environment.get(name, "").strip()]
    if written:
        action = "Load the .env file first: set -a; . ./.env; set +a"
        return failed("key", f"{reason}; the .env file in this directory sets {written[0]}", action)
    if alike:
        action = f"If {alike[0]} is your key for CometAPI, set COMETAPI_KEY to it."
        return failed("key", f"{reason}; {alike[0]} is, but that is another variable", action)
    return failed("key", reason, _GET_A_KEY)


def _rivals(
    name: str, key: str, environment: Mapping[str, str], dotenv: Mapping[str, str]
) -> Iterator[str]:
    """Yield the other variables that hold a different key."""
    first = KEY_VARIABLES[0]
    if name != first and first in environment:
        yield f"{first} is set but empty, so {name} is used"
    for other in (*KEY_VARIABLES, *LOOKALIKES):
        value = environment.get(other, "").strip()
        if other != name and value and value != key.strip():
            reader = "AsyncOpenAI() without api_key= reads" if other == "OPENAI_API_KEY" else ""
            yield f"{other} is set too and differs" + (f"; {reader} that one" if reader else "")
    for other in (*KEY_VARIABLES, *LOOKALIKES):
        value = dotenv.get(other, "").strip()
        if value and value != environment.get(other, key).strip():
            yield f"the .env file in this directory sets {other} to a different value"


def find_base_url(option: str | None, environment: Mapping[str, str]) -> tuple[str, str]:
    """Return the source of the base URL, and the base URL."""
    if option:
        return "--base-url", option
    for name in BASE_URL_VARIABLES:
        if environment.get(name, "").strip():
            return name, environment[name].strip()
    return "the default", CORRECT_BASE_URL


def parse_base_url(url: str) -> SplitResult | None:
    """Return the parts of a base URL; ``None`` if it is not one."""
    parts = _parse_url(url)
    return parts if parts is not None and parts.scheme in ("http", "https") else None


def _parse_url(url: str) -> SplitResult | None:
    """Return the parts of a URL that names a host; ``None`` if it does not."""
    try:
        parts = urlsplit(url)
        usable = parts.hostname and parts.port != 0
    except ValueError:
        return None
    return parts if usable else None


def shown_url(parts: SplitResult) -> str:
    """Return a URL without credentials and query."""
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    port = f":{parts.port}" if parts.port else ""
    return printable(f"{parts.scheme}://{host}{port}{parts.path}")


def check_base_url(source: str, url: str, environment: Mapping[str, str]) -> StepResult:
    """Check that the base URL is valid, the right one, and the one that the SDK would use."""
    parts = parse_base_url(url)
    if parts is None:
        action = f"Use this base URL exactly: {CORRECT_BASE_URL}"
        return failed("base_url", f"from {source}: not a URL that begins with https://", action)
    shown = shown_url(parts)
    wrong = list(_doubts(parts))
    read_by_sdk = environment.get(BASE_URL_VARIABLES[1], "").strip()
    if not wrong and read_by_sdk and read_by_sdk.rstrip("/") != url.rstrip("/"):
        action = "Pass the right one in your program: AsyncOpenAI(base_url=...)."
        wrong = [f"but {BASE_URL_VARIABLES[1]}, which AsyncOpenAI() reads, differs"]
        return warned("base_url", f"{shown}, from {source}; {wrong[0]}", action)
    if not wrong:
        notes = (
            () if read_by_sdk else ("pass it to AsyncOpenAI() as base_url=, or it calls OpenAI",)
        )
        return passed("base_url", f"{shown}, from {source}", *notes)
    action = f"Use this base URL exactly: {_normalised(parts)}"
    return warned("base_url", f"{shown}, from {source}: {wrong[0]}", action, *wrong[1:])


def _doubts(parts: SplitResult) -> Iterator[str]:
    host = parts.hostname or ""
    if is_own_host(host) and host != urlsplit(CORRECT_BASE_URL).hostname:
        yield f"{host} is not the API's host"
    if host == "api.openai.com":
        yield "it is OpenAI's, which does not accept a key for CometAPI"
    yield from _doubts_about_path(parts.path)
    if parts.query or parts.fragment:
        yield "it has a query or fragment, which a base URL must not have"
    if parts.username is not None or parts.password is not None:
        yield "it contains credentials (not shown)"
    if parts.scheme == "http" and host not in _LOOPBACK:
        yield "it is not https, so the key is sent unencrypted"


def _doubts_about_path(path: str) -> Iterator[str]:
    if _ENDPOINT.search(path.rstrip("/")):
        yield "it ends with an endpoint's path, which the SDK adds itself"
    elif not re.search(r"/v\d", path):
        yield "it does not include /v1"
    if path.endswith("/"):
        yield "it ends with a slash"


def _normalised(parts: SplitResult) -> str:
    if is_own_host(parts.hostname or ""):
        return CORRECT_BASE_URL
    path = _ENDPOINT.sub("", parts.path.rstrip("/")).rstrip("/")
    path = path if re.search(r"/v\d", path) else f"{path}/v1"
    return shown_url(parts._replace(path=path))


def proxy_for(
    environment: Mapping[str, str], parts: SplitResult
) -> tuple[str, SplitResult | None] | None:
    """Return variable and URL (``None`` if invalid) of the proxy before a base URL, if any."""
    names = {name.lower(): name for name in environment if environment[name].strip()}
    excluded = environment.get(names.get("no_proxy", ""), "").lower().split(",")
    if any(_covers(entry.strip(), parts.hostname or "") for entry in excluded):
        return None
    for wanted in (f"{parts.scheme}_proxy", "all_proxy"):
        if wanted in names:
            value = environment[names[wanted]].strip()
            return names[wanted], _parse_url(value if "://" in value else f"http://{value}")
    return None


def _covers(entry: str, host: str) -> bool:
    """Return True if an entry of ``NO_PROXY`` covers a host."""
    name = entry.partition("://")[2] or entry
    name = re.sub(r":\d+$", "", name).lstrip("*").lstrip(".")
    return entry == "*" or bool(name and (host == name or host.endswith(f".{name}")))


def check_proxies(environment: Mapping[str, str], parts: SplitResult | None) -> StepResult:
    """Check for a proxy between this machine and the gateway."""
    found = proxy_for(environment, parts) if parts else None
    if parts is None or found is None:
        return passed("proxies", "none in front of the base URL")
    name, proxy = found
    if proxy is None:
        return failed("proxies", f"{name} is not a usable URL", f"Correct or unset {name}.")
    reason = f"{name} sends every call through {shown_url(proxy._replace(path=''))}"
    return warned("proxies", reason, f"If calls fail, try without it: NO_PROXY={parts.hostname}")


def secrets_of(environment: Mapping[str, str], *urls: str) -> set[str]:
    """Return everything in the configuration that must not be shown."""
    names = (*KEY_VARIABLES, *LOOKALIKES, "COMETAPI_ACCESS_TOKEN")
    found = {environment.get(name, "") for name in names}
    proxies = [value for name, value in environment.items() if name.lower().endswith("_proxy")]
    for url in (*urls, *proxies):
        userinfo = url.rpartition("@")[0].rpartition("://")[2]
        found |= {userinfo, userinfo.partition(":")[2]}
    for url in urls:
        path, _, query = url.partition("://")[2].partition("?")
        found |= set(path_secrets(path.partition("/")[2]))
        found |= set(query_secrets(parse_qsl(query)))
    return {secret for secret in found if secret.strip()}
