"""Instructor on a wrapped client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from comet_resilience import diagnose
from comet_resilience.testing import Gateway, GatewayInThread, tool_call
from tests.ecosystem.conftest import ATTEMPTS, failure_of, follow_readme, rehearse_both

instructor = pytest.importorskip("instructor")
tenacity = pytest.importorskip("tenacity")

pytestmark = pytest.mark.anyio
MESSAGES: Any = [{"role": "user", "content": "Which city?"}]


class City(BaseModel):
    """A structured answer."""

    name: str


async def extract(client: openai.AsyncOpenAI, **keywords: Any) -> Any:
    """One extraction."""
    extractor = instructor.from_openai(client)
    return await extractor.create(model="m", messages=MESSAGES, response_model=City, **keywords)


def test_the_example_is_answered_where_the_bare_sdk_fails() -> None:
    """A tool call, structured output and a stream, each through failures of its own."""
    steps = rehearse_both("instructor_extraction.py")
    assert {name: step[:2] for name, step in steps.items()} == {
        "tool call": (True, 6),
        "structured output": (True, 2),
        "streaming": (True, 4),
    }
    whole = "Forecast(city='Oslo', degrees=4)"
    assert all(said.endswith(whole) for _, _, said in steps.values())
    assert "Forecast(city='Oslo', degrees=None)" in steps["streaming"][2]


@pytest.mark.parametrize("keywords", [{}, {"max_retries": 5}])
async def test_a_number_of_retries_repeats_no_failed_request(
    gateway: Gateway,
    client: openai.AsyncOpenAI,
    warnings: Callable[[], list[str]],
    keywords: dict[str, Any],
) -> None:
    """By default and with a number, a failing call is as many requests as ours."""
    gateway.always("server_error")
    error = await failure_of(lambda: extract(client, **keywords))
    assert len(gateway.requests) == ATTEMPTS
    assert len(diagnose(error).attempts) == ATTEMPTS
    assert warnings() == []


async def test_answers_that_do_not_validate_are_asked_for_again(
    gateway: Gateway, client: openai.AsyncOpenAI, warnings: Callable[[], list[str]]
) -> None:
    """These retries are not ours, go through ours one by one, and are no nest."""
    wrong, right = tool_call("City", name=1), tool_call("City", name="Oslo")
    gateway.script("server_error", wrong, "server_error", wrong, "server_error", right)
    assert (await extract(client)).name == "Oslo"
    assert len(gateway.requests) == 6
    assert warnings() == []


async def test_a_tenacity_object_nests_and_is_noticed(
    gateway: Gateway, client: openai.AsyncOpenAI, warnings: Callable[[], list[str]]
) -> None:
    """An ``AsyncRetrying`` repeats any failure; the warning names it."""
    gateway.always("server_error")
    retrying = tenacity.AsyncRetrying(stop=tenacity.stop_after_attempt(4))
    await failure_of(lambda: extract(client, max_retries=retrying))
    assert len(gateway.requests) == 4 * ATTEMPTS
    (warning,) = warnings()
    assert "instructor: give max_retries as a number, not as AsyncRetrying" in warning


async def test_a_stream_that_breaks_in_the_middle_is_not_repeated(
    gateway: Gateway, client: openai.AsyncOpenAI
) -> None:
    """What has come is billed: the failure passes through, with the diagnosis."""
    gateway.always("stream_cut")
    extractor = instructor.from_openai(client)

    async def run() -> None:
        partials = extractor.create_partial(model="m", messages=MESSAGES, response_model=City)
        async for _ in partials:
            pass

    error = await failure_of(run)
    assert len(gateway.requests) == 1
    assert "2 events" in diagnose(error).reason


async def test_no_prompt_goes_to_another_host(
    gateway: Gateway, elsewhere: GatewayInThread, client: openai.AsyncOpenAI
) -> None:
    """The README's extractor has an async half only, which goes through the client."""
    names = follow_readme("Instructor", client=client, instructor=instructor)
    extractor = names["extractor"]
    gateway.script("server_error", tool_call("City", name="Oslo"))
    found = await extractor.create(model="m", messages=MESSAGES, response_model=City)
    assert found.name == "Oslo"
    assert isinstance(extractor, instructor.AsyncInstructor)
    assert extractor.client is client
    assert len(gateway.requests) == 2
    assert elsewhere.requests == []
