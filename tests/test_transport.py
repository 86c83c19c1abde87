"""``ResilientTransport``, in an HTTP client of the caller's own."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any, cast

import openai
import pytest

from comet_resilience import ResilientTransport, diagnose, wrap
from comet_resilience.testing import Gateway
from comet_resilience.wire.family import NAMES

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


FAMILIES = [name for name in NAMES if find_spec(name) is not None]


def over(family: Any, gateway: Gateway, transport: ResilientTransport) -> openai.AsyncOpenAI:
    """A client whose http client is of one family."""
    return openai.AsyncOpenAI(
        base_url=gateway.base_url,
        api_key=gateway.api_key,
        http_client=family.AsyncClient(transport=transport),
    )


@pytest.mark.parametrize("name", FAMILIES)
async def test_a_transport_without_words_sends_as_the_sdk_does(name: str) -> None:
    """By a new transport of the http client's own family, with the connection limits of the SDK."""
    family, transport = import_module(name), ResilientTransport(**FAST)
    if not taken_by_the_sdk(family):
        pytest.skip(f"openai {openai.__version__} takes no http client of {name}")
    async with Gateway() as gateway:
        gateway.fail(503)
        async with over(family, gateway, transport) as client:
            await ask(client)
            [made] = cast("Any", transport._inner)._made.values()
            assert type(made) is family.AsyncHTTPTransport
            assert made._pool._max_connections == openai.DEFAULT_CONNECTION_LIMITS.max_connections
            assert made._pool._connections
        assert not made._pool._connections
        assert len(gateway.requests) == 2


@pytest.mark.skipif(len(FAMILIES) < 2, reason="only one HTTP library is installed")
async def test_one_transport_serves_clients_of_both_families() -> None:
    """Each by a transport that knows it, and both share the limits."""
    transport = ResilientTransport(**FAST)
    requests = [
        import_module(name).Request("GET", "http://127.0.0.1:9/models") for name in FAMILIES
    ]
    for request in requests:
        with pytest.raises(openai.APIConnectionError):
            await transport.handle_async_request(request)
    made = cast("Any", transport._inner)._made
    assert sorted(made) == sorted(FAMILIES)
    await transport.aclose()


@pytest.mark.skipif(len(FAMILIES) < 2, reason="only one HTTP library is installed")
async def test_a_transport_of_the_other_family_is_refused_in_words() -> None:
    """At the first request, which shows what the http client is; nothing is sent."""
    theirs, ours = (import_module(name) for name in FAMILIES)
    transport = ResilientTransport(theirs.AsyncHTTPTransport())
    expected = rf"^inner=.*: expected a transport of {ours.__name__}, .* one of {theirs.__name__}$"
    with pytest.raises(TypeError, match=expected):
        await transport.handle_async_request(ours.Request("GET", "http://127.0.0.1:9/models"))
    await transport.aclose()


def taken_by_the_sdk(family: Any) -> bool:
    """Return True if the installed SDK takes an http client of a family."""
    http_client = family.AsyncClient()
    try:
        openai.AsyncOpenAI(api_key="k", http_client=http_client)
    except TypeError:
        return False
    return True
