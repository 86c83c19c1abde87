"""The journal of two models, of which one saturates first."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import openai
import pytest

from comet_resilience import wrap
from comet_resilience.testing import ConcurrencyCap, Gateway

from ...conftest import MESSAGES, httpx, run_in_virtual_time
from ...journal.test_saturation import START


@pytest.fixture(scope="module")
def lines() -> list[bytes]:
    """The journal of 300 calls of two models at a gateway that takes 3 and 12 at once."""
    return lines_at({"large": ConcurrencyCap(3), "small": ConcurrencyCap(12)}, apart=1.0)


def lines_at(capacity: Any, apart: float) -> list[bytes]:
    """Return the journal of so many calls, the second model's ``apart`` seconds later."""
    heard: list[bytes] = []

    def note(record: Any) -> None:
        at = datetime.fromtimestamp(START + anyio.current_time() % 1_000, UTC)  # virtual time
        heard.append(json.dumps(record | {"time": at.isoformat()}).encode() + b"\n")

    async def burst() -> None:
        gateway = Gateway(capacity=capacity, latency=0.05, seed=1)
        client = openai.AsyncOpenAI(
            base_url=gateway.base_url, api_key=gateway.api_key,
            http_client=httpx.AsyncClient(transport=gateway.transport()),
        )  # fmt: skip
        client._platform = "Unknown"
        client = wrap(client, journal=note, max_retries=50)

        async def ask(model: str, at: float) -> None:
            await anyio.sleep(at)
            await client.chat.completions.create(model=model, messages=MESSAGES)

        async with anyio.create_task_group() as tasks:
            for number in range(150):
                tasks.start_soon(ask, "large", number / 1_000)
                tasks.start_soon(ask, "small", apart + number / 1_000)

    run_in_virtual_time(burst)
    return heard


@pytest.fixture
def journal(tmp_path: Path, lines: list[bytes]) -> Path:
    """The same as a file."""
    path = tmp_path / "calls.jsonl"
    path.write_bytes(b"".join(lines))
    return path
