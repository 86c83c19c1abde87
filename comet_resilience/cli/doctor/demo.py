"""The demonstration of ``doctor``: every failure of the guide, on a built-in gateway, offline.

A scenario is a row of ``SCENARIOS``: a user's mistake or a state of the gateway, expressed as a
plan and as a preparation of the gateway.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ...config import Options
from .plan import Plan

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ...testing import Gateway, ReceivedRequest, Reply

_KEY: Final = "comet-demo-key-that-works"
_OLD_KEY: Final = "comet-demo-key-of-last-year"
_MODELS: Final = ("gpt-5-mini", "claude-haiku-4-5", "gemini-2.5-flash")
_MODEL: Final = _MODELS[0]
_MESSAGES: Final = [{"role": "user", "content": "Write a haiku about comets."}]
_CHAT: Final = "/chat/*"


def _request(**fields: object) -> dict[str, object]:
    return {"model": _MODEL, "messages": _MESSAGES, **fields}


def _nothing(_gateway: Gateway) -> None:
    """Leave the gateway as it is."""


def _failing(name: str) -> Callable[[Gateway], None]:
    return lambda gateway: gateway.always(name, path=_CHAT)


def _refusing(
    status: int, message: str, refused: Callable[[Mapping[str, Any]], object]
) -> Callable[[Gateway], None]:
    """Let the gateway refuse the bodies for which ``refused`` is true."""

    def prepare(gateway: Gateway) -> None:
        from ...testing import error_reply  # noqa: PLC0415 - needs h11

        def answer(request: ReceivedRequest) -> Reply | None:
            return error_reply(status, message) if refused(request.fields()) else None

        gateway.always(answer, path=_CHAT)

    return prepare


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One failure: ``meaning`` in words, ``prepare`` for the gateway, the rest for the plan.

    ``below`` is the path of the base URL; a ``closed`` gateway has stopped when it is examined;
    ``timeout`` is in seconds.
    """

    meaning: str
    prepare: Callable[[Gateway], None] = _nothing
    key: str = _KEY
    model: str = _MODEL
    request: Mapping[str, object] = field(default_factory=lambda: _request(temperature=0.2))
    below: str = "/v1"
    closed: bool = False
    timeout: float = 4.0


SCENARIOS: Final[Mapping[str, Scenario]] = {
    "healthy": Scenario(meaning="everything is as it should be"),
    "no_key": Scenario(meaning="no variable holds a key", key=""),
    "malformed_key": Scenario(meaning="quotes of a .env file in the key", key=f'"{_KEY}"'),
    "bad_key": Scenario(meaning="401: an old key is loaded", key=_OLD_KEY),
    "wrong_base_url": Scenario(meaning="redirect: the base URL has no /v1", below=""),
    "web_page": Scenario(
        meaning="200 with a web page instead of JSON",
        prepare=lambda gateway: gateway.always("wrong_path_html"),
    ),
    "unreachable": Scenario(meaning="nothing listens at the base URL", closed=True),
    "model_misspelt": Scenario(
        meaning="503 model_not_found: gpt-5-mni", model="gpt-5-mni", request=_request(
            model="gpt-5-mni"
        ),
    ),
    "missing_messages": Scenario(
        meaning="500 invalid_request: the request has no messages", request={"model": _MODEL}
    ),
    "bad_request": Scenario(
        meaning="400: a field has the wrong type",
        request=_request(temperature="warm", max_tokens=50),
        prepare=_refusing(
            400, "field temperature must be a number",
            lambda body: isinstance(body.get("temperature"), str),
        ),
    ),
    "refused_field": Scenario(
        meaning="403: the model rejects an advanced field",
        request=_request(thinking_budget=1_000, top_k=5, seed=7, temperature=0.2),
        prepare=_refusing(403, "the request is not allowed", lambda body: "top_k" in body),
    ),
    "forbidden": Scenario(
        meaning="403: the key has no access to the model",
        prepare=lambda gateway: gateway.always("forbidden", path=_CHAT, model=_MODEL),
    ),
    "balance_empty": Scenario(meaning="403: no balance left", prepare=_failing("balance_empty")),
    "blocked": Scenario(meaning="403: the edge blocks the call", prepare=_failing("blocked")),
    "too_large": Scenario(
        meaning="413: an inline picture is too large",
        request=_request(image="data:image/png;base64," + "A" * 40_000),
        prepare=_refusing(413, "request body is too large", lambda body: "image" in body),
    ),
    "rate_limited": Scenario(meaning="429: too many calls", prepare=_failing("rate_limited")),
    "server_error": Scenario(meaning="500: the provider fails", prepare=_failing("server_error")),
    "unavailable": Scenario(meaning="503: no route now", prepare=_failing("unavailable")),
    "gateway_timeout": Scenario(
        meaning="504: the provider is too slow", prepare=_failing("gateway_timeout")
    ),
    "edge_timeout": Scenario(
        meaning="524: the edge waited too long", prepare=_failing("edge_timeout")
    ),
    "timeout": Scenario(meaning="no answer at all", prepare=_failing("hanging"), timeout=1.0),
    "broken_stream": Scenario(
        meaning="a stream ends without its terminal event",
        prepare=lambda gateway: gateway.always(
            lambda request: _cut() if request.fields().get("stream") else None, path=_CHAT
        ),
    ),
}  # fmt: skip


def _cut() -> Reply:
    from ...testing import failure  # noqa: PLC0415 - needs h11

    return failure("stream_no_finish")


def scenario_called(name: str) -> Scenario:
    """Return the scenario of a name.

    Raises:
        ValueError: If there is none.

    """
    if name not in SCENARIOS:
        raise ValueError(f"no scenario {name!r}; there are: {', '.join(SCENARIOS)}")
    return SCENARIOS[name]


@asynccontextmanager
async def demonstration(scenario: Scenario) -> AsyncIterator[tuple[Plan, Gateway]]:
    """Provide the plan of a scenario, and its gateway.

    Raises:
        ValueError: If the gateway's own requirement is not installed.

    """
    try:
        from ...testing import Gateway  # noqa: PLC0415 - needs h11
    except ImportError as error:
        raise ValueError(
            "the demo's gateway needs h11: pip install 'comet-resilience[examples]'"
        ) from error
    gateway = Gateway(keys=[_KEY], models=_MODELS)
    scenario.prepare(gateway)
    if scenario.closed:
        async with gateway:
            plan = _plan(scenario, gateway)
        yield plan, gateway
        return
    async with gateway:
        yield _plan(scenario, gateway), gateway


def _plan(scenario: Scenario, gateway: Gateway) -> Plan:
    environment = {"COMETAPI_KEY": scenario.key, "SPARE_KEY": _KEY}
    return Plan(
        environment=environment,
        timeout=scenario.timeout,
        retries=1,
        base_url=gateway.origin + scenario.below,
        model=scenario.model,
        request=scenario.request,
        run=True,
        alternate_model=_MODELS[1],
        alternate_key_env="SPARE_KEY",
        trust_env=False,
        options=Options(backoff_initial=0.05),
    )
