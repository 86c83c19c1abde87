"""Fixtures of the gateway's tests: the real SDK in front of a gateway."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

import openai
import pytest

from comet_resilience.testing import (
    Gateway,
)
from comet_resilience.testing.replies import Exchange
from comet_resilience.wire.family import family_of_sdk
from tests.conftest import MESSAGES

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from comet_resilience.testing import Gateway


@pytest.fixture
def family() -> ModuleType:
    """Give the httpx family that the installed SDK stands on."""
    found: ModuleType = family_of_sdk()
    return found


@pytest.fixture
def client_of(family: ModuleType) -> Callable[[Gateway], openai.AsyncOpenAI]:
    """Make SDK clients that reach a gateway in memory."""

    def make(gateway: Gateway) -> openai.AsyncOpenAI:
        client = openai.AsyncOpenAI(
            base_url=gateway.base_url,
            api_key=gateway.api_key,
            max_retries=0,
            http_client=family.AsyncClient(transport=gateway.transport(), follow_redirects=True),
        )
        # A new client asks a thread for the platform, and while a thread runs virtual time jumps.
        client._platform = "Unknown"
        return client

    return make


TEXT = "One two three."


@pytest.fixture
def gateway() -> Gateway:
    """Give a gateway that serves two models."""
    return Gateway(text=TEXT, models=("gpt", "vendor/model"))


@pytest.fixture
def client(
    gateway: Gateway, client_of: Callable[[Gateway], openai.AsyncOpenAI]
) -> openai.AsyncOpenAI:
    """Give an SDK client of that gateway."""
    return client_of(gateway)


class StillGateway(Gateway):
    """A gateway whose clock is set by hand, so that no event loop is needed."""

    time = 0.0

    def now(self) -> float:
        return self.time


def chat(gateway: Gateway, model: str = "m", *, key: str = "k") -> Exchange:
    body = json.dumps({"model": model, "messages": MESSAGES}).encode()
    headers = [("Authorization", f"Bearer {key}")]
    return gateway.begin("POST", "/v1/chat/completions", headers, body)


def statuses(gateway: Gateway, times: int, **kwargs: Any) -> list[int]:
    """Ask one after the other, each answer to its end."""
    statuses = []
    for _ in range(times):
        exchange = chat(gateway, **kwargs)
        exchange.end(delivered=True)
        statuses.append(exchange.reply.status)
    return statuses
