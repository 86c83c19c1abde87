"""Progress bars for ``run_all(progress=True)``: in a notebook, or in the terminal by rich."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from .progress import Progress


def make_bar() -> Bar:
    """Return a bar for where the program runs; it is drawn once the first figures come.

    Raises:
        ImportError: If rich is not installed, outside of a notebook; the message says how to get
            it.

    """
    if is_notebook():
        return NotebookBar()
    try:
        import rich.progress as rich  # noqa: PLC0415 - an extra
    except ImportError as missing:
        raise ImportError(
            "progress=True draws with rich, which is not installed. Do:"
            " pip install 'comet-resilience[progress]', or give a function to progress="
        ) from missing
    return TerminalBar(rich)


def is_notebook() -> bool:
    """Tell whether output goes to a notebook's page: Jupyter, Colab, an editor's own."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return any(base.__name__ == "ZMQInteractiveShell" for base in type(shell).__mro__)


class NotebookBar:
    """A bar of the browser's own, in the output of the cell; it needs no widgets."""

    def __init__(self) -> None:
        self._handle: Any = None

    def __call__(self, now: Progress) -> None:
        """Draw, in place of what was drawn before."""
        if self._handle is None:
            self._handle = sys.modules["IPython"].display.display(Drawn(now), display_id=True)
        else:
            self._handle.update(Drawn(now))

    def close(self) -> None:
        """Leave the last state in the output."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A ``Progress`` as a notebook shows it: a bar, and the figures beside it."""

    progress: Progress

    def _repr_html_(self) -> str:
        now = self.progress
        value = "" if now.total is None else f' value="{now.over}" max="{now.total}"'
        return f'<progress{value} style="width: 20em"></progress> <code>{now}</code>'

    def __repr__(self) -> str:
        return str(self.progress)


class TerminalBar:
    """A bar of rich's."""

    def __init__(self, rich: Any) -> None:
        self._bar = rich.Progress(
            rich.BarColumn(),
            rich.MofNCompleteColumn(),
            rich.TextColumn("{task.description}"),
            auto_refresh=False,
        )
        self._task: Any = None

    def __call__(self, now: Progress) -> None:
        """Draw."""
        if self._task is None:
            self._bar.start()
            self._task = self._bar.add_task("", total=now.total)
        self._bar.update(self._task, completed=now.over, description=now.figures)
        self._bar.refresh()

    def close(self) -> None:
        """Leave the last state on the screen and give the cursor back."""
        self._bar.stop()


Bar: TypeAlias = TerminalBar | NotebookBar
