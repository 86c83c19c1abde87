"""Types: a wrong keyword or value is an error for mypy and pyright, not only at run time.

Nothing of this runs. Both checkers are strict about comments that silence nothing, so each
``ignore`` below proves that they complain there.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from typing import assert_type

from openai import AsyncAzureOpenAI, AsyncOpenAI

from comet_resilience import Diagnosis, FixedLimit, ResilientTransport, Snapshot, diagnose, wrap
from comet_resilience import snapshot as take_snapshot


def check(client: AsyncOpenAI, azure: AsyncAzureOpenAI, inner: object) -> None:
    """What is right, and what is not."""
    assert_type(wrap(client, max_retries=3, deadline=1.5), AsyncOpenAI)
    assert_type(wrap(azure, algorithm=lambda: FixedLimit(5)), AsyncAzureOpenAI)
    assert_type(diagnose(ValueError()), Diagnosis)
    assert_type(take_snapshot(client), Snapshot)
    ResilientTransport(inner, on_event=print)
    wrap(client, max_retrys=3)  # type: ignore[call-arg]
    wrap(client, max_retries="3")  # type: ignore[arg-type]
    wrap(client, incomplete_stream="maybe")  # type: ignore[arg-type]
    wrap("client")  # type: ignore[type-var]
