"""CometAPI's own client, wrapped; it stands on openai 2 and httpx."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from comet_resilience import diagnose, wrap
from comet_resilience.testing import Gateway, GatewayInThread
from tests.conftest import MESSAGES
from tests.ecosystem.conftest import failure_of, follow_readme, rehearse_both

cometapi = pytest.importorskip("cometapi")

pytestmark = pytest.mark.anyio


async def ask(client: Any) -> Any:
    """One chat completion."""
    return await client.chat.completions.create(model="m", messages=MESSAGES)


def test_the_example_is_answered_where_the_bare_sdk_fails() -> None:
    """A tool call, structured output and a stream, each through failures of its own."""
    assert rehearse_both("cometapi_client.py") == {
        "tool call": (True, 6, "4 degrees."),
        "structured output": (True, 2, "Forecast(city='Oslo', degrees=4)"),
        "streaming": (True, 4, "It| is| 4| degrees."),
    }


async def test_its_max_retries_becomes_ours(
    gateway: Gateway, warnings: Callable[[], list[str]]
) -> None:
    """A number that was given to the client is carried out by us alone."""
    gateway.always("server_error")
    bare = cometapi.AsyncCometAPI(base_url=gateway.base_url, api_key=gateway.api_key, max_retries=3)
    async with wrap(bare, backoff_initial=0.0) as client:
        assert type(client).__name__ == "AsyncCometAPI"
        assert isinstance(client, cometapi.AsyncCometAPI)
        error = await failure_of(lambda: ask(client))
    assert len(gateway.requests) == 4
    assert len(diagnose(error).attempts) == 4
    assert warnings() == []


async def test_key_and_base_url_come_from_its_own_settings(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``wrap(AsyncCometAPI())`` is the whole line."""
    monkeypatch.setenv("COMETAPI_KEY", gateway.api_key)
    monkeypatch.setenv("COMETAPI_BASE_URL", gateway.base_url)
    gateway.script("server_error")
    async with wrap(cometapi.AsyncCometAPI(), backoff_initial=0.0) as client:
        answer = await ask(client)
    assert answer.choices[0].message.content
    assert len(gateway.requests) == 2


async def test_no_prompt_goes_to_another_host(
    gateway: Gateway, elsewhere: GatewayInThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The README's client heeds its own variables alone, and has no sync half."""
    assert str(cometapi.AsyncCometAPI(api_key="k").base_url).startswith("https://api.cometapi.com")
    monkeypatch.setenv("COMETAPI_BASE_URL", gateway.base_url)
    monkeypatch.setenv("COMETAPI_KEY", gateway.api_key)
    gateway.script("server_error", "ok")
    names = follow_readme("CometAPI's own client", cometapi=cometapi, wrap=wrap)
    async with names["client"] as client:
        await ask(client)
    assert len(gateway.requests) == 2
    assert elsewhere.requests == []
    with pytest.raises(TypeError, match="AsyncOpenAI"):
        wrap(cometapi.CometAPI())
