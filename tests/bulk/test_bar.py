"""The bar of a run, in a terminal and in a notebook."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from comet_resilience import (
    run_all,
)
from comet_resilience.bulk.bar import Drawn, NotebookBar, TerminalBar, make_bar
from tests.bulk.conftest import PROGRESS, Service


@pytest.mark.anyio
async def test_the_bar(capsys: pytest.CaptureFixture[str]) -> None:
    """Counts, rate, time left, limit, refusals and failures."""
    service = Service()
    async with run_all(service.ask, range(9), client=service.client, progress=True) as results:
        assert len([pair async for pair in results]) == 9
    shown = capsys.readouterr().out
    for part in ("9/9", "/s", "eta 0:00:00", "limit 8", "refused 0", "failed 0"):
        assert part in shown


@pytest.mark.anyio
async def test_the_bar_names_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra, and the way without."""
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    service = Service()
    with pytest.raises(ImportError, match=r"comet-resilience\[progress\]"):
        run_all(service.ask, [1], client=service.client, progress=True)


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
