"""The response or exception that a caller gets when the last attempt has failed."""

from __future__ import annotations

import openai
import pytest

from comet_resilience import (
    WrongEndpointError,
    diagnose,
)

from ..conftest import (
    BASE_URL,
    FAST,
    OK,
    envelope,
    failure_of,
    httpx,
    scripted,
)

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("status", [429, 500, 503, 504, 524])
async def test_the_last_response_goes_to_the_sdk(status: int) -> None:
    """When retries are used up the caller gets the SDK's exception for the provider's answer."""
    client, inner = scripted((status, envelope("", "it failed"), {}), max_retries=2, **FAST)
    caught = await failure_of(client)
    assert isinstance(caught, openai.APIStatusError)
    assert caught.status_code == status
    assert caught.body == envelope("", "it failed")["error"]
    assert len(inner.sent) == 3
    assert len(diagnose(caught).attempts) == 3
    assert "all 2 retries" in diagnose(caught).reason
    assert any("First:" in note for note in caught.__notes__)


async def test_a_fault_becomes_the_sdks_own_connection_error() -> None:
    """A broken connection is an APIConnectionError with its cause, a timeout an APITimeoutError."""
    client, inner = scripted(httpx.ConnectError("refused"), max_retries=1, **FAST)
    caught = await failure_of(client)
    assert type(caught) is openai.APIConnectionError
    assert isinstance(caught.__cause__, httpx.ConnectError)
    assert len(inner.sent) == 2
    client, _ = scripted(httpx.ReadTimeout("slow"), max_retries=0, **FAST)
    assert isinstance(await failure_of(client), openai.APITimeoutError)


async def test_a_hostile_should_retry_header_is_overwritten() -> None:
    """``x-should-retry: true`` of a server does not revive the SDK's retries."""
    client, inner = scripted((400, envelope("", "bad"), {"x-should-retry": "true"}), **FAST)
    await failure_of(client)
    assert len(inner.sent) == 1


async def test_redirects_are_named_and_never_followed() -> None:
    """One send; the error names the base URL in use, the path asked for, and the right one."""
    client, inner = scripted((307, b"", {"location": "https://evil.test/v1?key=1"}), OK)
    caught = await failure_of(client)
    assert len(inner.sent) == 1
    for part in (BASE_URL, "/v1/chat/completions", "https://evil.test/v1"):
        assert part in str(caught)
    assert "key=1" not in str(caught)


async def test_a_path_that_the_gateway_does_not_have() -> None:
    """Its JSON 404 is the same clear error, and still the SDK's NotFoundError; others are not."""
    answer = {"error": {"message": "Invalid URL (POST /v1/v1/chat/completions)", "type": "x"}}
    client, _ = scripted((404, answer, {}))
    caught = await failure_of(client)
    assert isinstance(caught, WrongEndpointError)
    assert isinstance(caught, openai.NotFoundError)
    assert BASE_URL in str(caught)
    client, _ = scripted((404, {"error": {"message": "No such file"}}, {}))
    with pytest.raises(openai.NotFoundError) as other:
        await client.files.retrieve("file-1")
    assert not isinstance(other.value, WrongEndpointError)


async def test_the_gateways_request_id_is_the_errors_request_id() -> None:
    """``error.request_id`` is the gateway's; provider's and edge's stay in the diagnosis."""
    headers = {
        "x-cometapi-request-id": "20261102031415926535897Qx7LmZ2p",
        "x-request-id": "req_provider_1",
        "cf-ray": "9a1b2c3d4e5f6071-FRA",
    }
    client, _ = scripted((400, envelope("", "bad"), headers))
    caught = await failure_of(client)
    assert caught.request_id == "20261102031415926535897Qx7LmZ2p"
    ids = diagnose(caught).ids
    assert (ids.provider, ids.edge) == ("req_provider_1", "9a1b2c3d4e5f6071-FRA")
