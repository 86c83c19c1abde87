"""The same exchange for every layer: one request, and its answer out of memory."""

from __future__ import annotations

import json
from typing import Any

import openai
from openai._models import FinalRequestOptions

from comet_resilience.wire.family import family_of_sdk

httpx: Any = family_of_sdk()
MESSAGES: Any = [
    {"role": "system", "content": "Answer in one word."},
    {"role": "user", "content": "Is the sky blue?"},
]
BODY = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": "Yes"},
            }
        ],
        "usage": {"prompt_tokens": 20, "completion_tokens": 1, "total_tokens": 21},
    }
).encode()
_HEADERS = [
    (b"content-type", b"application/json"),
    (b"content-length", str(len(BODY)).encode()),
    (b"x-request-id", b"20260101000000000000000abcdef12"),
]


class _Body(httpx.AsyncByteStream):  # type: ignore[misc]
    async def __aiter__(self) -> Any:
        yield BODY

    async def aclose(self) -> None:
        """Nothing to close."""


class Instant(httpx.AsyncBaseTransport):  # type: ignore[misc]
    """Answers at once."""

    async def handle_async_request(self, _request: Any) -> Any:
        """A fresh response, its body unread, as from a connection."""
        return httpx.Response(200, headers=_HEADERS, stream=_Body())


class Nothing(httpx.AsyncBaseTransport):  # type: ignore[misc]
    """The layer that does nothing: what any layer costs at least."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    async def handle_async_request(self, request: Any) -> Any:
        """Hand on."""
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()


def sdk(transport: Any, base_url: str = "http://x.test/v1") -> openai.AsyncOpenAI:
    """The real SDK over a transport."""
    http_client = httpx.AsyncClient(transport=transport, timeout=60)
    return openai.AsyncOpenAI(api_key="k", base_url=base_url, http_client=http_client)


def ready(client: Any, count: int) -> list[Any]:
    """Requests as this client builds them, ready to be sent."""
    options = FinalRequestOptions.construct(
        method="post",
        url="/chat/completions",
        json_data={"model": "m", "messages": MESSAGES},
        headers={"accept": "application/json"},
    )
    return [client._build_request(options, retries_taken=0) for _ in range(count)]
