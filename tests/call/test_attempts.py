"""What observers and the log are told of attempts."""

from __future__ import annotations

import logging

import pytest

from comet_resilience import (
    AttemptFinished,
    Event,
    GaveUp,
    RetryScheduled,
)

from ..conftest import (
    BROKEN,
    FAST,
    KEY,
    LIMITED,
    OK,
    failure_of,
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
