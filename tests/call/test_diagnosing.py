"""The diagnosis of a failed attempt: what it cost, what stood in the way, and whose host it was."""

from __future__ import annotations

import pickle
from datetime import datetime
from typing import Any

import anyio
import openai
import pytest

from comet_resilience import (
    Diagnosis,
    FixedLimit,
    LimiterState,
    QueueTimeoutError,
    diagnose,
    override,
)
from comet_resilience.call.diagnosing import diagnose_failure
from comet_resilience.call.failure import judged
from comet_resilience.verdict.vocabulary import BodyKind, Observation
from comet_resilience.wire.request import read_request

from ..conftest import (
    BASE_URL,
    KEY,
    MESSAGES,
    OK,
    ask,
    envelope,
    failure_of,
    httpx,
    in_virtual_time,
    scripted,
)


def diagnosed(base_url: str, reason: str = "", **facts: Any) -> Diagnosis:
    """Return the diagnosis of a chat completion at a base URL that was answered so."""
    request = httpx.Request(
        "POST",
        f"{base_url}/chat/completions",
        json={"model": "m", "messages": MESSAGES},
        headers={"authorization": f"Bearer {KEY}"},
    )
    failure = judged(Observation(body=BodyKind.JSON, **facts))
    return diagnose_failure(failure, read_request(request, None).info, request, reason)


@pytest.mark.parametrize(
    ("base_url", "kind", "is_home"),
    [
        (BASE_URL, "", True),
        ("https://mirror.test/v1", "comet_api_error", True),
        ("https://other.test/v1", "", False),
    ],
)
def test_advice_speaks_of_the_host_in_use(base_url: str, kind: str, is_home: bool) -> None:
    """CometAPI's own words at its hosts, and at those that answer as it does."""
    diagnosis = diagnosed(base_url, status=401, type=kind)
    assert (diagnosis.route, diagnosis.model) == ("POST /chat/completions", "m")
    assert any("COMETAPI_KEY" in step for step in diagnosis.advice) is is_home
    assert diagnosis.section == ("401 Invalid Token" if is_home else "")


def test_the_time_to_come_back_is_named_where_it_alone_stood_in_the_way() -> None:
    """Not where the retries were used up: then the hint was waited for."""
    too_long = "the server asked for 90 s, more than max_retry_after=60"
    hinted = diagnosed(BASE_URL, too_long, status=429, retry_after=90.0)
    assert hinted.advice[0].startswith("Come back in 90 s, or raise max_retry_after")
    used_up = diagnosed(BASE_URL, "all 6 retries are used up", status=429, retry_after=90.0)
    assert not any("Come back" in step for step in used_up.advice)


def test_texts_of_the_server_are_redacted() -> None:
    """Code, message and ids, whatever was written into them."""
    diagnosis = diagnosed(BASE_URL, status=400, code=KEY, message=f"no {KEY}\nat all")
    assert KEY not in str(diagnosis) + repr(diagnosis)
    assert "at all" in diagnosis.message
    assert "\n" not in diagnosis.message


@pytest.mark.anyio
@in_virtual_time
async def test_the_time_in_the_queue_counts_also_without_an_attempt() -> None:
    """Who never got a slot waited all the time, and is told how full it was."""
    client, inner = scripted(OK, queue_timeout=5.0, algorithm=lambda: FixedLimit(1))
    inner.hold()
    errors: list[QueueTimeoutError] = []
    async with anyio.create_task_group() as group:
        group.start_soon(ask, client)
        await anyio.wait_all_tasks_blocked()
        errors.append(await failure_of(client))
        group.cancel_scope.cancel()
    error = errors[0]
    diagnosis = diagnose(error)
    assert diagnosis.queued == diagnosis.elapsed == pytest.approx(5.0)
    assert diagnosis.limiter == LimiterState(limit=1, in_flight=1, waiting=0)
    assert datetime.fromisoformat(diagnosis.at).tzinfo is not None
    assert str(diagnose(pickle.loads(pickle.dumps(error)))) == str(diagnosis)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("first", "told"), [(httpx.ReadTimeout("slow"), True), (httpx.ConnectError("no"), False)]
)
async def test_what_an_earlier_attempt_may_have_cost_is_told(first: Exception, told: bool) -> None:
    """The last failure may be free, and one before it not."""
    client, _ = scripted(first, (400, envelope("", "no"), {}), backoff_initial=0.0)
    with pytest.raises(openai.BadRequestError) as caught:
        await ask(client)
    diagnosis = diagnose(caught.value)
    assert diagnosis.may_be_billed is told
    assert [attempt.may_be_billed for attempt in diagnosis.attempts] == [told, False]


@pytest.mark.anyio
async def test_a_deadline_that_passes_in_the_queue_cost_nothing() -> None:
    """Of two calls for one slot the one that was sent may be billed, the other not."""
    client, inner = scripted(OK, deadline=0.2, algorithm=lambda: FixedLimit(1))
    inner.hold()
    told: list[tuple[bool, list[str]]] = []

    async def call() -> None:
        with pytest.raises(openai.APITimeoutError) as caught:
            await ask(client)
        diagnosis = diagnose(caught.value)
        told.append((diagnosis.may_be_billed, [each.fault for each in diagnosis.attempts]))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await anyio.wait_all_tasks_blocked()
        with override(deadline=0.05):
            await call()
    assert told == [(False, []), (True, ["deadline"])]
