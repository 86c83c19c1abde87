"""Fixtures of the gateway's tests: the real SDK in front of a gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING

import openai
import pytest

from comet_resilience.wire.family import family_of_sdk

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
