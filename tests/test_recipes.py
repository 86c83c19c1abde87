"""The recipes of `examples/README.md`: each is run as it stands there, and does what it is for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from comet_resilience import snapshot
from comet_resilience.testing import Gateway, Reply, no_waiting
from tests.conftest import on_asyncio

from .snippets import Block, blocks_of, execute

pytestmark = [pytest.mark.anyio, on_asyncio]
BLOCKS = blocks_of("examples/README.md", "python")


def recipe(words: str) -> tuple[Block, list[Block]]:
    """The block of the page that has some words in it, and those before it."""
    found = [block for block in BLOCKS if words in block.text]
    assert found, words
    return found[0], BLOCKS[: BLOCKS.index(found[0])]


async def run(words: str, gateway: Gateway) -> dict[str, Any]:
    """Run a recipe; the names that there are afterwards."""
    block, earlier = recipe(words)
    return await execute(block, gateway, earlier)


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    """A gateway on a real socket."""
    async with Gateway() as served:
        yield served


async def test_structlog_gets_every_event_with_what_was_bound(gateway: Gateway) -> None:
    """Names, fields, and the context of the caller; never the key."""
    structlog = pytest.importorskip("structlog")
    gateway.script(500, "ok")
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as lines:
        await run("structlog.get_logger", gateway)
    story = [line["event"] for line in lines if line["event"] != "LimitChanged"]
    assert story == ["AttemptFinished", "RetryScheduled", "AttemptFinished"]
    assert all(line["order"] == "A-17" for line in lines)
    assert lines[0]["request"]["route"] == "POST /chat/completions"
    assert gateway.api_key not in str(lines)


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("ok", ["gpt-5.4"]),
        ("model_not_found", ["gpt-5.4", "claude-sonnet-4-6"]),
        ("server_error", ["gpt-5.4"] * 7 + ["claude-sonnet-4-6"]),
    ],
)
async def test_another_model_if_one_fails(name: str, asked: list[str], gateway: Gateway) -> None:
    """The second is asked when the first is given up or not served, and not otherwise."""
    gateway.always(name, model="gpt-5.4")
    names = await run("ask_one_of", gateway)
    assert [request.model for request in gateway.requests] == asked
    assert names["answer"].model == asked[-1]


async def test_no_other_model_for_what_is_the_callers_fault(gateway: Gateway) -> None:
    """A malformed request stays malformed."""
    import openai

    gateway.always(400)
    with pytest.raises(openai.BadRequestError):
        await run("ask_one_of", gateway)
    assert [request.model for request in gateway.requests] == ["gpt-5.4"]


async def test_each_account_has_its_key_and_its_limits(gateway: Gateway) -> None:
    """Retries included; what refuses one account leaves the other's limit alone."""
    asked: list[str] = []

    def refuse_north_once(request: Any) -> Reply | None:
        asked.append(request.headers["authorization"])
        return Reply(status=429) if len(asked) == 1 else None

    gateway.always(refuse_north_once)
    with no_waiting():
        names = await run("key_of_the_account", gateway)
    assert asked == ["Bearer sk-north-1", "Bearer sk-north-1", "Bearer sk-south-2"]
    shown = {p.partition: p for p in snapshot(names["client"]).partitions}
    north, south = (shown[name, "POST /chat/completions", "any"] for name in ("north", "south"))
    assert (north.refused, north.ok, south.refused, south.ok) == (1, 1, 0, 1)
