"""Behind LiteLLM's proxy: what its errors are taken for, how often they are sent, and bursts.

The proxy is a process of its own and the provider behind it our gateway, so each situation is
named after what the *provider* does; the client sees what LiteLLM makes of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio
import openai
import pytest

from comet_resilience import FailureKind, diagnose, snapshot, wrap
from comet_resilience.testing import ConcurrencyCap, Gateway
from tests.conftest import FAST, MESSAGES

from .litellm_proxy import behind, client_of, find_litellm, litellm_proxy

COMMAND = find_litellm()
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.timeout(300),
    pytest.mark.skipif(COMMAND is None, reason="needs litellm[proxy]"),
]

#: Two retries are allowed. What the provider does: (what it is taken for, how often it is sent).
SITUATIONS = {
    "bad_request": (FailureKind.INVALID_REQUEST, 1),
    "too_large": (FailureKind.TOO_LARGE, 1),
    "invalid_url": (FailureKind.WRONG_PATH, 1),
    "model_not_priced": (FailureKind.MODEL_UNAVAILABLE, 1),
    "model_not_found": (FailureKind.MODEL_UNAVAILABLE, 1),
    "forbidden": (FailureKind.PERMISSION, 1),
    "blocked": (FailureKind.PERMISSION, 1),
    "balance_empty": (FailureKind.QUOTA, 1),
    "not_implemented": (FailureKind.UNSUPPORTED, 1),
    "rate_limited": (FailureKind.RATE_LIMITED, 3),
    "rate_limited_bare": (FailureKind.RATE_LIMITED, 3),
    "saturated": (FailureKind.RATE_LIMITED, 3),
    "server_error": (FailureKind.SERVER_ERROR, 3),
    "bad_gateway": (FailureKind.UNAVAILABLE, 3),
    "unavailable": (FailureKind.UNAVAILABLE, 3),
    "overloaded": (FailureKind.UNAVAILABLE, 3),
    "edge_refused": (FailureKind.UNAVAILABLE, 3),
    "gateway_timeout": (FailureKind.TIMEOUT, 3),
    "edge_timeout": (FailureKind.TIMEOUT, 3),
    "error_under_200": (FailureKind.SERVER_ERROR, 3),
    "empty_200": (FailureKind.SERVER_ERROR, 3),
    "dropped": (FailureKind.SERVER_ERROR, 3),
    "unreachable": (FailureKind.SERVER_ERROR, 3),
}


#: A burst at a ceiling of four: in the proxy's own settings, a deployment's, or the provider's.
ADMISSION = {"max_in_flight_requests_per_worker": 4, "max_queued_requests_per_worker": 2}
CEILINGS = ("admission control", "a deployment in parallel", "the provider's cap")


@dataclass(frozen=True)
class Proxies:
    """Two real proxies: one with admission control, one for all else; the provider behind both."""

    provider: Gateway
    base_url: str
    admitting: str


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """The loop of the whole file: a proxy takes seconds to start."""
    return "asyncio"


@pytest.fixture(scope="module")
async def proxies() -> AsyncIterator[Proxies]:
    """Both proxies, started side by side."""
    base_urls: dict[str, str] = {}
    async with (
        Gateway(latency=0.05) as provider,
        Gateway(latency=0.05, capacity=ConcurrencyCap(4)) as capped,
        AsyncExitStack() as stack,
    ):

        async def start(name: str, models: dict[str, Any], **general: int) -> None:
            proxy = litellm_proxy(models, command=str(COMMAND), general=general)
            base_urls[name] = await stack.enter_async_context(proxy)

        usual = behind(provider)
        models = {
            **dict.fromkeys((*SITUATIONS, "well", "recovering"), usual),
            CEILINGS[1]: behind(provider, max_parallel_requests=4),
            CEILINGS[2]: behind(capped),
        }
        async with anyio.create_task_group() as starting:
            starting.start_soon(partial(start, "every", models))
            starting.start_soon(partial(start, "admitting", {CEILINGS[0]: usual}, **ADMISSION))
        yield Proxies(provider, base_urls["every"], base_urls["admitting"])


async def ask(client: openai.AsyncOpenAI, model: str) -> str | None:
    """Ask for one chat completion."""
    answer = await client.chat.completions.create(model=model, messages=MESSAGES)
    return answer.choices[0].message.content


async def test_each_situation_is_taken_for_what_it_is(proxies: Proxies) -> None:
    """Through LiteLLM's own words: the kind, and how often it was sent; then all is well."""
    for name in SITUATIONS:
        proxies.provider.always(name, model=name)
    found: dict[str, tuple[FailureKind, int]] = {}
    async with wrap(client_of(proxies.base_url), max_retries=2, **FAST) as client:
        for name in SITUATIONS:
            with pytest.raises(openai.APIError) as caught:
                await ask(client, name)
            told = diagnose(caught.value)
            found[name] = (told.kind, len(told.attempts))
        assert await ask(client, "well") == "The gateway has an answer for you."
        assert all(not each.in_flight for each in snapshot(client).partitions)
    assert found == SITUATIONS


async def test_a_failing_provider_that_recovers_is_not_felt(proxies: Proxies) -> None:
    """Every retry goes through the proxy, and nobody but us retries."""
    proxies.provider.script(429, 503, "bad_gateway", "ok", model="recovering")
    async with wrap(client_of(proxies.base_url), **FAST) as client:
        assert await ask(client, "recovering") == "The gateway has an answer for you."
    assert [each.model for each in proxies.provider.requests].count("recovering") == 4


@pytest.mark.parametrize("ceiling", CEILINGS)
async def test_every_call_of_a_burst_is_answered(ceiling: str, proxies: Proxies) -> None:
    """Sixty at once at a ceiling of four, which is felt: all answered, and none answered twice."""
    base_url = proxies.admitting if ceiling == CEILINGS[0] else proxies.base_url
    async with wrap(client_of(base_url)) as client:
        answers = await asyncio.gather(*(ask(client, ceiling) for _ in range(60)))
        shown = snapshot(client).partitions[0]
    assert answers == ["The gateway has an answer for you."] * 60
    assert shown.ok == 60
    assert shown.refused > 0
    assert shown.in_flight == shown.waiting == 0
    if ceiling != CEILINGS[2]:  # There the provider gets what it then refuses.
        assert [each.model for each in proxies.provider.requests].count(ceiling) == 60
