"""The layers to compare: ours, one that does nothing, and whichever peers are installed."""

from __future__ import annotations

import os
import warnings
from collections.abc import Awaitable, Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from comet_resilience import ResilientTransport, wrap

from .exchange import MESSAGES, Instant, Nothing, httpx, sdk

NOTHING, WRAPPED = "do-nothing transport", "comet-resilience"

#: What ``--peers`` installs, each group into an environment of its own: litellm wants openai 2.
PEERS = (("httpx-retries", "pydantic-ai-slim[retries,openai]", "backstop-ai"), ("litellm",))


def clients() -> dict[str, Any]:
    """SDK clients over each layer, by the layer's name."""
    found: dict[str, Any] = {
        NOTHING: sdk(Nothing(Instant())),
        WRAPPED: wrap(sdk(Instant())),
        "comet-resilience, transport alone": sdk(ResilientTransport(Instant())),
    }
    makers: tuple[tuple[str, Callable[[], Any]], ...] = (
        ("httpx_retries", _httpx_retries),
        ("pydantic_ai", _pydantic_ai),
        ("backstop", _backstop),
    )
    for module, make in makers:
        if find_spec(module) is not None:
            found[module.replace("_", "-")] = make()
    return found


def calls() -> dict[str, Callable[[], Awaitable[Any]]]:
    """Whole calls through each layer, and through what is no layer of a client."""
    found: dict[str, Callable[[], Awaitable[Any]]] = {
        name: _call_of(client) for name, client in clients().items()
    }
    if find_spec("litellm") is not None:
        found["litellm Router"] = _litellm()
    return found


def _call_of(client: Any) -> Callable[[], Awaitable[Any]]:
    return lambda: client.chat.completions.create(model="m", messages=MESSAGES)


def _httpx_retries() -> Any:
    peer = import_module("httpx_retries")
    retry = peer.Retry(total=6, allowed_methods=["POST"], status_forcelist=[429, 500, 502, 503])
    legacy = import_module("httpx").AsyncBaseTransport  # it takes no other for a transport
    inner = Instant if issubclass(Instant, legacy) else type("Instant", (Instant, legacy), {})
    return sdk(peer.RetryTransport(transport=inner(), retry=retry))


def _pydantic_ai() -> Any:
    peer, tenacity = import_module("pydantic_ai.retries"), import_module("tenacity")

    def validate(response: Any) -> None:
        if response.status_code in (429, 500, 502, 503):
            response.raise_for_status()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated for httpx
        family = "HTTPX2" if httpx.__name__ == "httpx2" else ""
        return sdk(
            getattr(peer, f"Async{family}TenacityTransport")(
                config=peer.RetryConfig(
                    retry=tenacity.retry_if_exception_type(httpx.HTTPStatusError),
                    wait=peer.wait_retry_after(max_wait=60),
                    stop=tenacity.stop_after_attempt(7),
                    reraise=True,
                ),
                wrapped=Instant(),
                validate_response=validate,
            )
        )


def _backstop() -> Any:
    return import_module("backstop").Backstop.wrap(sdk(Instant()), budget=None)


def _litellm() -> Callable[[], Awaitable[Any]]:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "true"  # else it fetches one
    router = import_module("litellm").Router(
        model_list=[
            {"model_name": "m", "litellm_params": {"model": "openai/gpt-4o", "api_key": "k"}}
        ],
        num_retries=6,
    )
    client = sdk(Instant())
    return lambda: router.acompletion(model="m", messages=MESSAGES, client=client)
