"""``ResilientTransport``, in an HTTP client of the caller's own."""

from __future__ import annotations

import openai
import pytest

from comet_resilience import ResilientTransport, diagnose, wrap
from comet_resilience.testing import Gateway
from comet_resilience.wire.family import family_of_sdk, transport_of

from .conftest import (
    BROKEN,
    FAST,
    Scripted,
    ask,
    bare_client,
)

pytestmark = pytest.mark.anyio


async def test_a_transport_of_ones_own_http_client() -> None:
    """``ResilientTransport(inner)`` works in a client that was not wrapped, without SDK retries."""
    inner = Scripted([BROKEN])
    client = bare_client(ResilientTransport(inner, max_retries=3, **FAST))
    with pytest.raises(openai.InternalServerError) as caught:
        await ask(client, model="gpt-y")
    assert len(inner.sent) == 4
    assert diagnose(caught.value).model == "gpt-y"
    assert diagnose(caught.value).route == "POST /chat/completions"
    assert wrap(client) is client


async def test_a_transport_without_words_is_that_of_the_sdk() -> None:
    """``ResilientTransport()`` sends by a new transport of the family and limits of the SDK's."""
    family = family_of_sdk()
    async with Gateway() as gateway:
        gateway.fail(503)
        transport = ResilientTransport(**FAST)
        theirs = openai.DefaultAsyncHttpxClient()
        assert type(transport._inner) is type(transport_of(theirs))
        assert transport._inner._pool._max_connections == 1_000
        await theirs.aclose()
        async with openai.AsyncOpenAI(
            base_url=gateway.base_url,
            api_key=gateway.api_key,
            http_client=family.AsyncClient(transport=transport),
        ) as client:
            await ask(client)
        assert len(gateway.requests) == 2
