"""The plan of an examination, and its findings so far.

All requests go through the real SDK and a wrapped client, so that they are judged as the
caller's own are.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult

import openai
from openai import AsyncOpenAI

from ...client import wrap
from ...config import Options
from .settings import find_base_url, find_key, parse_base_url
from .triage import StepResult, reconsidered

CHAT: Final = "/chat/completions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A plan of what to examine.

    ``timeout`` is in seconds and holds for each request with its retries.
    """

    environment: Mapping[str, str]
    timeout: float
    retries: int
    dotenv: Mapping[str, str] = field(default_factory=dict)
    base_url: str | None = None
    model: str = ""
    request: Mapping[str, object] | None = None
    path: str = CHAT
    run: bool = False
    alternate_model: str = ""
    alternate_key_env: str = ""
    trust_env: bool = True
    options: Options = field(default_factory=Options)

    @property
    def endpoint(self) -> str:
        """The base URL in use."""
        return find_base_url(self.base_url, self.environment)[1]

    @property
    def address(self) -> SplitResult | None:
        """The parts of the base URL; ``None`` if it is none."""
        return parse_base_url(self.endpoint)

    @property
    def keywords(self) -> Options:
        """The keywords that the clients are wrapped with."""
        limits: Options = {
            "max_retries": self.retries,
            "deadline": self.timeout,
            "stall_timeout": self.timeout,
        }
        return {**limits, **self.options}

    @property
    def minimal(self) -> dict[str, object]:
        """The guide's minimal request."""
        return {"model": self.model, "messages": [{"role": "user", "content": "Hello"}]}


@dataclass(slots=True)
class Examination:
    """The findings so far.

    ``broken`` is the request that failed last, as path and body, and ``error`` its exception.
    All clients share the connections of the ``pool``, and nothing else: no limit, no pause.
    """

    plan: Plan
    results: dict[str, StepResult] = field(default_factory=dict)
    listed: tuple[str, ...] = ()
    list_error: Exception | None = None
    broken: tuple[str, Mapping[str, object]] | None = None
    error: Exception | None = None
    pool: openai.DefaultAsyncHttpxClient | None = None

    @property
    def final(self) -> tuple[StepResult, ...]:
        """All results, reconsidered together."""
        return reconsidered(self.results.values())

    def client(self, variable: str = "") -> AsyncOpenAI:
        """Return a wrapped client with the key, or with the one in another variable."""
        plan = self.plan
        key = plan.environment[variable] if variable else find_key(plan.environment)[1]
        if self.pool is None:
            self.pool = openai.DefaultAsyncHttpxClient(trust_env=plan.trust_env)
        client = AsyncOpenAI(
            api_key=key, base_url=plan.endpoint, timeout=plan.timeout, http_client=self.pool
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # The base URL has a step of its own.
            return wrap(client, **plan.keywords)

    async def close(self) -> None:
        """Close the connections."""
        if self.pool is not None:
            await self.pool.aclose()

    async def ask(
        self, path: str, body: Mapping[str, object], variable: str = ""
    ) -> Exception | None:
        """Send a request and return the exception that it raised, if any."""
        try:
            client, data = self.client(variable), dict(body)
            if body.get("stream") is not True:
                await client.post(path, body=data, cast_to=object)
                return None
            kind = openai.AsyncStream[object]
            stream = await client.post(
                path, body=data, cast_to=object, stream=True, stream_cls=kind
            )
            async with stream:
                async for _ in stream:
                    pass
        except Exception as error:  # noqa: BLE001 - whatever comes out is the finding
            return error
        return None

    async def list_models(self, variable: str = "") -> Exception | None:
        """Request the models list and return the exception that was raised, if any."""
        try:
            page = await self.client(variable).models.list()
            self.listed = self.listed or tuple(model.id for model in page.data)
        except Exception as error:  # noqa: BLE001 - whatever comes out is the finding
            return error
        return None
