"""A progress bar in the terminal, for ``run_all(progress=True)``; needs the extra ``progress``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .progress import Progress


def make_bar() -> Bar:
    """A bar that is drawn once the first figures come.

    Raises:
        ImportError: If rich is not installed; the message says how to get it.

    """
    try:
        import rich.progress as rich  # noqa: PLC0415 - an extra
    except ImportError as missing:
        raise ImportError(
            "progress=True draws with rich, which is not installed. Do:"
            " pip install 'comet-resilience[progress]', or give a function to progress="
        ) from missing
    return Bar(rich)


class Bar:
    """Draws each ``Progress`` that it is called with. It has no thread of its own."""

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
        self._bar.update(self._task, completed=now.over, description=describe(now))
        self._bar.refresh()

    def close(self) -> None:
        """Leave the last state on the screen and give the cursor back."""
        self._bar.stop()


def describe(now: Progress) -> str:
    """The figures beside the bar."""
    parts = [f"{now.rate:.1f}/s"]
    if now.eta is not None:
        parts.append(f"eta {_clock_time(now.eta)}")
    parts += [f"limit {now.limit}", f"refused {now.refused}", f"failed {now.failed}"]
    return ", ".join(parts)


def _clock_time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
