"""The attempts of a request, as observers and the log hear of them."""

from __future__ import annotations

import logging
import re
from functools import partial
from typing import Any

import anyio
import pytest

from comet_resilience import (
    AttemptFinished,
    Event,
    GaveUp,
    QueueTimeoutError,
    RetryScheduled,
    diagnose,
    override,
    support_report,
)

from ..conftest import (
    BROKEN,
    FAST,
    KEY,
    LIMITED,
    OK,
    Answer,
    ask,
    envelope,
    failure_of,
    in_virtual_time,
    scripted,
)

pytestmark = pytest.mark.anyio


async def test_events_tell_the_story() -> None:
    """Observers hear of each attempt, each retry and the end, and may fail without harm."""
    heard: list[Event] = []

    def raise_always(_event: Event) -> None:
        raise ValueError("observer")

    client, _ = scripted(
        LIMITED, BROKEN, max_retries=1, on_event=[raise_always, heard.append], **FAST
    )
    await failure_of(client)
    story = [type(event) for event in heard if not type(event).__name__.startswith("Limit")]
    assert story == [AttemptFinished, RetryScheduled, AttemptFinished, GaveUp]


async def test_logs_warn_of_a_429_and_hold_no_secret(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log names route, model, status and reason; never the key or a word of the prompt."""
    caplog.set_level(logging.DEBUG, logger="comet_resilience")
    client, _ = scripted(LIMITED, OK, **FAST)
    await client.chat.completions.create(
        model="gpt-x", messages=[{"role": "user", "content": "very private words"}]
    )
    ours = [record for record in caplog.records if record.name == "comet_resilience"]
    warnings = [record for record in ours if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    for record in warnings:
        for part in ("POST /chat/completions", "gpt-x", "429", "rate limiting"):
            assert part in record.getMessage()
    text = "\n".join(record.getMessage() for record in ours)
    assert KEY not in text
    assert "private" not in text


ACCOUNT_FULL: Answer = (429, envelope("", "Too many concurrent requests"), {})
MODEL_FULL: Answer = (529, envelope("overloaded_error", "Overloaded"), {})


@in_virtual_time
@pytest.mark.parametrize(("answer", "account"), [(ACCOUNT_FULL, "account"), (MODEL_FULL, None)])
async def test_whose_limit_refused_a_request_is_told(
    answer: Answer, account: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """The event, the line of the log, the error and the report say so of the account's alone."""
    caplog.set_level(logging.WARNING, logger="comet_resilience")
    heard: list[Event] = []
    client, _ = scripted(answer, max_retries=1, on_event=heard.append)
    error = await failure_of(client)
    told = [one for one in heard if isinstance(one, RetryScheduled | GaveUp)]
    assert [one.account for one in told] == [account, account]
    words = "the account's limit was met, with 1 in flight over all models"
    texts = [one.reason for one in told]
    texts += [record.getMessage() for record in caplog.records if "gave up" in record.getMessage()]
    texts += [" ".join(str(one).split()) for one in (diagnose(error), support_report(error))]
    assert [words in text for text in texts] == [account is not None] * 5


async def _behind_another_model(patience: float, queue_timeout: float | None = None) -> Any:
    """The error of a call whose account has all of its slots held by other models."""
    client, inner = scripted(OK, initial_concurrency=1, max_retries=0)

    async def answer(request: Any) -> Any:
        await anyio.sleep(60)
        return await inner.answer(request)

    inner.behave = answer
    raised: Any = None
    async with anyio.create_task_group() as tasks:
        for number in range(4):  # an account starts with three at most
            tasks.start_soon(partial(ask, client, model=f"m{number}"))
        await anyio.wait_all_tasks_blocked()
        with (
            pytest.raises(TimeoutError) as caught,
            override(queue_timeout=queue_timeout),
            anyio.fail_after(patience),
        ):
            await ask(client, model="another")
        raised = caught.value
        tasks.cancel_scope.cancel()
    return raised


@in_virtual_time
async def test_a_wait_for_the_account_is_told() -> None:
    """The model had room: raising its limit would not have helped."""
    error = await _behind_another_model(9.0, 0.2)
    assert isinstance(error, QueueTimeoutError)
    assert re.search(r": its account had (\d) of \1 in flight over all models$", str(error))
    error = await _behind_another_model(0.2)
    limiter = diagnose(error).limiter
    assert limiter is not None
    assert limiter.in_flight == 0
    assert limiter.account_limit == limiter.account_in_flight
    assert limiter.waits_for_account
    assert str(limiter).endswith(" in flight over all models, which held the request back")
