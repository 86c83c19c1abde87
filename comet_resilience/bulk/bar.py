"""Progress bars for ``run_all(progress=True)``: in a notebook, or by rich in a terminal."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from .progress import Progress


def make_bar() -> Bar:
    """Return a bar for a notebook or a terminal; it is drawn with the first figures.

    Raises:
        ImportError: If rich is not installed, outside of a notebook; the message says what to do.

    """
    if is_notebook():
        return NotebookBar()
    try:
        import rich.progress as rich  # noqa: PLC0415 - an extra
    except ImportError as missing:
        raise ImportError(
            "progress=True needs rich, which is not installed: pip install"
            " 'comet-resilience[progress]', or pass a function as progress="
        ) from missing
    return TerminalBar(rich)


def is_notebook() -> bool:
    """Return whether output goes to a notebook: Jupyter, Colab, or an editor's."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return any(base.__name__ == "ZMQInteractiveShell" for base in type(shell).__mro__)


class NotebookBar:
    """The browser's own bar, in the output of the cell; it needs no widgets."""

    def __init__(self) -> None:
        self._handle: Any = None

    def __call__(self, now: Progress) -> None:
        """Draw it in place of the previous one."""
        if self._handle is None:
            self._handle = sys.modules["IPython"].display.display(Drawn(now), display_id=True)
        else:
            self._handle.update(Drawn(now))

    def close(self) -> None:
        """Leave the last state in the output."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A ``Progress`` as displayed by a notebook: a bar, and the figures beside it."""

    progress: Progress

    def _repr_html_(self) -> str:
        now = self.progress
        value = "" if now.total is None else f' value="{now.over}" max="{now.total}"'
        return f'<progress{value} style="width: 20em"></progress> <code>{now}</code>'

    def __repr__(self) -> str:
        return str(self.progress)


class TerminalBar:
    """A bar of rich."""

    def __init__(self, rich: Any) -> None:
        self._bar = rich.Progress(
            rich.BarColumn(),
            rich.MofNCompleteColumn(),
            rich.TextColumn("{task.description}"),
            auto_refresh=False,
        )
        self._task: Any = None

    def __call__(self, now: Progress) -> None:
        """Draw it."""
        if self._task is None:
            self._bar.start()
            self._task = self._bar.add_task("", total=now.total)
        self._bar.update(self._task, completed=now.over, description=now.figures)
        self._bar.refresh()

    def close(self) -> None:
        """Leave the last state on the screen and show the cursor again."""
        self._bar.stop()


Bar: TypeAlias = TerminalBar | NotebookBar
