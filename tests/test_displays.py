"""Values as a notebook or IPython displays them: words and tables, not fields."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import openai
import pytest

from comet_resilience import Diagnosis, Progress, Snapshot, SupportReport, diagnose, support_report
from comet_resilience import snapshot as take_snapshot
from comet_resilience.bulk.bar import Drawn, NotebookBar, TerminalBar, make_bar

from .conftest import BROKEN, OK, ask, scripted

PROGRESS = Progress(
    total=2_000, skipped=100, answered=1_100, failed=3, running=9, elapsed=40.0, rate=25.0,
    eta=31.9, limit=25, refused=4,
)  # fmt: skip


class Printer:
    """What IPython hands to ``_repr_pretty_``."""

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
    assert rows[1].startswith(r"| `POST /chat/completions a\|b'<i>` | 8 | 0 | 0 | 1 |")


def test_progress_in_one_line() -> None:
    """What is over, of how much, and the figures."""
    assert str(PROGRESS) == "1,203 of 2,000, 25.0/s, eta 0:00:32, limit 25, refused 4, failed 3"


class Page:
    """IPython in a notebook, which shows values and shows others in their place."""

    def __init__(self, shell: str) -> None:
        self.shown: list[Any] = []
        self.display = self
        base = type(shell, (), {})
        self._shell = type("Shell", (base,), {})()

    def get_ipython(self) -> object:
        return self._shell

    def __call__(self, value: object, *, display_id: bool) -> Page:
        assert display_id
        self.shown.append(value)
        return self

    def update(self, value: object) -> None:
        self.shown[-1] = value


def test_in_a_notebook_the_bar_is_one_output_that_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without widgets, without rich, without a warning."""
    page = Page("ZMQInteractiveShell")
    page.display = SimpleNamespace(display=page)  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, "IPython", page)
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    bar = make_bar()
    assert isinstance(bar, NotebookBar)
    bar(PROGRESS)
    bar(PROGRESS)
    bar.close()
    assert page.shown == [Drawn(PROGRESS)]
    assert '<progress value="1203" max="2000"' in page.shown[0]._repr_html_()
    assert repr(page.shown[0]) == str(PROGRESS)


@pytest.mark.parametrize("shell", ["TerminalInteractiveShell", ""])
def test_elsewhere_it_is_drawn_in_the_terminal(shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In IPython's terminal and without IPython."""
    pytest.importorskip("rich")
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    if shell:
        monkeypatch.setitem(sys.modules, "IPython", Page(shell))
    assert isinstance(make_bar(), TerminalBar)
