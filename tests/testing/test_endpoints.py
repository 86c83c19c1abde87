"""The routes, seen through the real SDK."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import openai
import pytest

from comet_resilience.testing import Gateway
from tests.conftest import MESSAGES

if TYPE_CHECKING:
    from types import ModuleType

pytestmark = [
    pytest.mark.anyio,
    # The SDK leaves its generators behind when it has seen "[DONE]", and trio says so.
    pytest.mark.filterwarnings("ignore:Async generator '(openai|httpx):ResourceWarning"),
]


@pytest.mark.parametrize(
    ("body", "status", "code", "message"),
    [
        ({"model": "gpt"}, 500, "invalid_request", "field messages is required"),
        ({"model": "gpt", "messages": []}, 500, "invalid_request", "field messages is required"),
        ({"messages": MESSAGES}, 400, "", "model name is required"),
        ({"model": "nope", "messages": MESSAGES}, 503, "model_not_found", "model nope"),
        ([], 400, "", "invalid JSON body"),
    ],
)
async def test_malformed_chats(
    client: openai.AsyncOpenAI, body: Any, status: int, code: str, message: str
) -> None:
    """A malformed chat fails as the guide says, also under a server status."""
    with pytest.raises(openai.APIStatusError) as caught:
        await client.post("/chat/completions", body=body, cast_to=object)
    assert (caught.value.status_code, caught.value.code) == (status, code)
    assert message in str(caught.value.body)


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/nothing"), ("POST", "/chat/completions"), ("DELETE", "/v1/models")],
)
async def test_wrong_paths_lead_to_the_front_end(
    gateway: Gateway, family: ModuleType, method: str, path: str
) -> None:
    """An unknown path or a wrong method is a redirect to a web page on another host."""
    async with family.AsyncClient(transport=gateway.transport()) as http:
        reply = await http.request(method, gateway.origin + path)
        assert (reply.status_code, reply.content) == (301, b"")
        assert reply.headers["location"] == f"{gateway.front_end}{path}"
        page = await http.get(reply.headers["location"])
        assert '<div id="root">' in page.text


async def test_the_sdk_takes_a_page_for_an_answer(
    gateway: Gateway, client: openai.AsyncOpenAI
) -> None:
    """A base URL without /v1 gives a string instead of a completion: the trap of the guide."""
    wrong = client.with_options(base_url=gateway.origin)
    completion: Any = await wrong.chat.completions.create(model="gpt", messages=MESSAGES)
    assert completion.startswith("<!doctype html>")
    followed = gateway.requests[-1]
    assert (followed.method, followed.path) == ("GET", "/web/chat/completions")
    assert "authorization" not in followed.headers
