"""Values as a notebook or IPython displays them: words and tables, not fields."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from comet_resilience import Diagnosis, Progress, Snapshot, SupportReport, diagnose, support_report
from comet_resilience import snapshot as take_snapshot
from tests.bulk.conftest import PROGRESS

from .conftest import BROKEN, OK, ask, scripted


class Printer:
    """The printer that IPython hands to ``_repr_pretty_``."""

    def __init__(self) -> None:
        self.written = ""

    def text(self, words: str) -> None:
        self.written += words


def displayed(value: Any, *, cycle: bool = False) -> str:
    """Return what IPython would show of a value."""
    printer = Printer()
    value._repr_pretty_(printer, cycle)
    return printer.written


async def failure_and_snapshot() -> tuple[openai.APIError, Snapshot]:
    """A request that failed and one that did not, and the limits afterwards."""
    client, _ = scripted(BROKEN, OK, max_retries=0)
    with pytest.raises(openai.APIError) as caught:
        await ask(client)
    await ask(client, model="a|b`<i>")
    return caught.value, take_snapshot(client)


@pytest.mark.anyio
async def test_what_is_displayed_are_words() -> None:
    """Of a diagnosis, a report, a snapshot and a progress: what `print` shows."""
    error, limits = await failure_and_snapshot()
    values: list[Diagnosis | SupportReport | Snapshot | Progress] = [
        diagnose(error), support_report(error), limits, PROGRESS,
    ]  # fmt: skip
    for value in values:
        assert displayed(value) == str(value)
        assert type(value).__name__ not in displayed(value)
        assert displayed(value, cycle=True) == "..."


@pytest.mark.anyio
async def test_a_report_and_a_snapshot_are_markdown_in_a_notebook() -> None:
    """A table, in which a name of the caller's own stays a name."""
    error, limits = await failure_and_snapshot()
    report = support_report(error)
    assert report._repr_markdown_() == report.to_markdown()
    head, rule, *rows = limits._repr_markdown_().splitlines()
    assert head.split(" | ")[:2] == ["| partition", "limit"]
    assert rule == "| --- | --: | --: | --: | --: | --: | --: | --- |"
    assert len(rows) == 2
    assert rows[1].startswith(r"| `POST /chat/completions a\|b'<i>` | ")
    assert rows[1].endswith(" | 0 | 0 | 1 | 0 | 0 | open |")
