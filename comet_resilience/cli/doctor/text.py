"""The output: plain lines, coloured on a terminal where ``rich`` is installed."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Mapping
from typing import Any, Final

from ...diagnosis.redaction import Redactor
from ...escaping import printable
from ...inquiry import support_report
from .plan import Examination, Plan
from .settings import shown_url
from .triage import (
    SAME,
    StepOutcome,
    StepResult,
    exit_status,
    hide_all,
    summary,
)

_WIDTH: Final = 80
_INDENT: Final = " " * 10
_SHOWN: Final = {
    StepOutcome.PASS: ("pass", "green"),
    StepOutcome.WARN: ("warn", "yellow"),
    StepOutcome.FAIL: ("FAIL", "bold red"),
    StepOutcome.SKIPPED: ("skip", "dim"),
}
_LABELS: Final = {
    StepOutcome.PASS: "Conclusion: ",
    StepOutcome.WARN: "First: ",
    StepOutcome.FAIL: "First: ",
    StepOutcome.SKIPPED: "",
}
_SECTIONS: Final = {
    "key": "Configuration",
    "reach": "The gateway (free of charge)",
    "minimal": "Requests that may cost money",
}


class Printer:
    """A printer of findings as they come in; ``silent``, it prints nothing."""

    def __init__(self, redactor: Redactor, *, silent: bool) -> None:
        self.redactor = redactor
        self._silent = silent
        self._console = None if silent else _console()

    def scenarios(self, meanings: Mapping[str, str]) -> None:
        """List the demonstrations."""
        self._line("Demonstrations (comet-resilience doctor --demo NAME):")
        for name, meaning in meanings.items():
            self._line(f"  {name:<18}{meaning}")
        self._line("")

    def head(self, plan: Plan) -> None:
        """Say what is examined."""
        endpoint = shown_url(plan.address) if plan.address else "no usable base URL"
        self._line(f"Examining {endpoint}", "bold")
        if plan.model:
            self._line(f"with the model {printable(plan.model)}", "bold")

    def begin(self, step: str) -> None:
        """Open the section that a step begins."""
        if step in _SECTIONS:
            self._line("")
            self._line(_SECTIONS[step], "bold")

    def result(self, result: StepResult) -> None:
        """Show one step."""
        word, style = _SHOWN[result.outcome]
        first, *more = self._wrapped(f"{result.title}: {result.reason}")
        self._line(
            f"  [{word}]  {first}", style if result.outcome is StepOutcome.SKIPPED else "", word
        )
        for line in more:
            self._line(_INDENT + line)
        label = _LABELS[result.outcome]
        for text in (*result.notes, label + result.action if result.action else ""):
            for line in self._wrapped(text) if text else ():
                self._line(_INDENT + line)

    def end(self, examination: Examination) -> None:
        """Sum up, and show the report of the failure, if there was one."""
        status = exit_status(examination.final)
        self._line("")
        for line in _lines(self.redactor.without_secrets(summary(examination.final)), _WIDTH):
            self._line(line, "bold green" if status == 0 else "bold red")
        if examination.error is not None:
            self._line("")
            self._line("Report of the last failure, for support", "bold")
            self._line("")
            for line in self.redactor.without_secrets(report_of(examination)).splitlines():
                self._line(line)
        self._line("")
        self._line(f"Exit status {status}")

    def _wrapped(self, text: str) -> list[str]:
        """Wrap a text without its secrets: one that a line's end cuts in two would not be found."""
        return _lines(self.redactor.without_secrets(text), _WIDTH - len(_INDENT))

    def _line(self, text: str, style: str = "", word: str = "") -> None:
        if self._silent:
            return
        shown = self.redactor.without_secrets(text)
        if self._console is None:
            print(shown)
            return
        from rich.text import Text  # noqa: PLC0415 - optional

        line = Text(shown, style=style)
        for name, colour in _SHOWN.values():
            if name == word:
                line.highlight_words([f"[{word}]"], style=colour)
        self._console.print(line, soft_wrap=True)


def document(examination: Examination, redactor: Redactor) -> dict[str, Any]:
    """Return everything that was found, as plain data without secrets."""
    final, plan = examination.final, examination.plan
    found = {
        "status": exit_status(final),
        "summary": summary(final),
        "base_url": shown_url(plan.address) if plan.address else None,
        "model": plan.model or None,
        "steps": [result.to_dict() for result in final],
        "works": {name: _works(examination.results[name]) for name in ("other_model", "other_key")},
        "report": None if examination.error is None else report_of(examination),
    }
    hidden: dict[str, Any] = hide_all(found, redactor)
    return hidden


def report_of(examination: Examination) -> str:
    """Return the support report of the last failure, with what the variations showed."""
    if examination.error is None:
        return ""
    other_model, other_key = (
        _found(examination.results[step]) for step in ("other_model", "other_key")
    )
    report = support_report(examination.error, other_model=other_model, other_key=other_key)
    return report.to_markdown()


def _found(result: StepResult) -> bool | str | None:
    works = _works(result)
    otherwise = works is False and not result.reason.startswith(SAME)
    return f"fails otherwise: {result.reason}" if otherwise else works


def _works(result: StepResult) -> bool | None:
    tried = result.outcome in (StepOutcome.PASS, StepOutcome.FAIL)
    return result.outcome is StepOutcome.PASS if tried else None


def _lines(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_on_hyphens=False) or [""]


def _console() -> Any:
    """Return the console of ``rich``, on a terminal and where it is installed."""
    if not sys.stdout.isatty():
        return None
    try:
        from rich.console import Console  # noqa: PLC0415 - optional
    except ImportError:
        return None
    return Console(highlight=False)
