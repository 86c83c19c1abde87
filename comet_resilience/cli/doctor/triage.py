"""The decisions of the guide's triage: outcomes of steps, and what they add up to.

Each step ends in a ``StepResult``. Pure functions decide what a response means for its step, and
which exit status and summary the results add up to.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from ...diagnosis.diagnosis import Diagnosis
from ...diagnosis.redaction import Redactor
from ...escaping import printable
from ...verdict.vocabulary import FailureKind as Kind

#: The steps in their order, with the name that a person reads.
TITLES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "key": "API key",
        "base_url": "Base URL",
        "proxies": "Proxies",
        "reach": "Reachability",
        "tls": "TLS",
        "redirects": "No redirect",
        "models": "Models list",
        "model": "Model id",
        "minimal": "Minimal request",
        "stream": "The same, streamed",
        "request": "Your request",
        "fields": "Without advanced fields",
        "other_model": "With another model",
        "other_key": "With another key",
    }
)
#: Steps that vary a failed request: they explain a failure and never add one.
VARIATIONS: Final = frozenset({"fields", "other_model", "other_key"})

SAME: Final = "fails in the same way"

OK: Final = 0
FAILED: Final = 1
CONFIGURATION: Final = 64
UNREACHABLE: Final = 69
AUTHENTICATION: Final = 77

_BARRING: Final = frozenset({"key", "base_url", "proxies", "reach", "tls", "redirects"})
_NOT_THE_FIELDS: Final = frozenset(
    {
        Kind.AUTHENTICATION, Kind.QUOTA, Kind.WRONG_PATH, Kind.CONNECTION, Kind.RATE_LIMITED,
        Kind.MODEL_UNAVAILABLE, Kind.UNAVAILABLE, Kind.TIMEOUT, Kind.LOCAL,
    }
)  # fmt: skip
_SUGGESTED: Final = 3


class StepOutcome(StrEnum):
    """The outcome of a step."""

    PASS = "pass"  # noqa: S105 - not a password
    WARN = "warn"
    FAIL = "fail"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """The finding of one step: ``reason`` says why, ``action`` is the first thing to do.

    ``notes`` are further sentences, ``diagnosis`` the judgement of the request that failed.
    """

    step: str
    outcome: StepOutcome
    reason: str
    action: str = ""
    notes: tuple[str, ...] = ()
    diagnosis: Diagnosis | None = None

    @property
    def title(self) -> str:
        """The name of the step that a person reads."""
        return TITLES[self.step]

    @property
    def kind(self) -> Kind | None:
        """The kind of failure, if a request failed."""
        return self.diagnosis.kind if self.diagnosis else None

    @property
    def bars(self) -> bool:
        """True if the steps after this one cannot find anything out."""
        if self.outcome is not StepOutcome.FAIL:
            return False
        return self.step in _BARRING or self.kind is Kind.AUTHENTICATION

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain data that JSON can hold."""
        return {
            "step": self.step,
            "title": self.title,
            "outcome": self.outcome.value,
            "reason": self.reason,
            "action": self.action,
            "notes": list(self.notes),
            "diagnosis": self.diagnosis.to_dict() if self.diagnosis else None,
        }


def passed(step: str, reason: str, *notes: str) -> StepResult:
    """Return the result of a step that found nothing wrong."""
    return StepResult(step=step, outcome=StepOutcome.PASS, reason=reason, notes=notes)


def warned(step: str, reason: str, action: str, *notes: str) -> StepResult:
    """Return the result of a step that found something to check."""
    return StepResult(
        step=step, outcome=StepOutcome.WARN, reason=reason, action=action, notes=notes
    )


def failed(step: str, reason: str, action: str, *notes: str) -> StepResult:
    """Return the result of a step that found a fault without sending a request."""
    return StepResult(
        step=step, outcome=StepOutcome.FAIL, reason=reason, action=action, notes=notes
    )


def skipped(step: str, reason: str, action: str = "", *notes: str) -> StepResult:
    """Return the result of a step that was not taken."""
    return StepResult(
        step=step, outcome=StepOutcome.SKIPPED, reason=reason, action=action, notes=notes
    )


def explained(step: str, reason: str, action: str) -> StepResult:
    """Return the result of a variation that worked, and so explains a failure."""
    return StepResult(step=step, outcome=StepOutcome.PASS, reason=reason, action=action)


def judge_variation(step: str, diagnosis: Diagnosis, original: Diagnosis) -> StepResult:
    """Return the result of a variation that failed too, in the same way or in another."""
    if (diagnosis.kind, diagnosis.status) != (original.kind, original.status):
        return judge(step, diagnosis)
    return StepResult(
        step=step,
        outcome=StepOutcome.FAIL,
        reason=f"{SAME} ({diagnosis.status or diagnosis.kind})",
        notes=tuple(_afterthoughts(diagnosis)),
        diagnosis=diagnosis,
    )


def judge(step: str, diagnosis: Diagnosis, *notes: str) -> StepResult:
    """Return the result of a step whose request failed."""
    return StepResult(
        step=step,
        outcome=StepOutcome.FAIL,
        reason=in_words(diagnosis),
        action=diagnosis.advice[0] if diagnosis.advice else "",
        notes=(*notes, *_afterthoughts(diagnosis)),
        diagnosis=diagnosis,
    )


def in_words(diagnosis: Diagnosis) -> str:
    """Return a failure in one sentence: status, code, meaning, and the server's own message."""
    parts = (str(diagnosis.status or ""), diagnosis.code, diagnosis.meaning)
    said = " ".join(part for part in parts if part)
    return f"{said}: {diagnosis.message}" if diagnosis.message else said


def _afterthoughts(diagnosis: Diagnosis) -> Iterable[str]:
    found = diagnosis.ids.gateway or diagnosis.ids.edge
    if found and found not in diagnosis.message:
        yield f"request id {printable(found)}"
    if len(diagnosis.attempts) > 1:
        yield f"{len(diagnosis.attempts)} attempts were made; the last one failed too"
    if diagnosis.may_be_billed and not diagnosis.route.startswith("GET "):
        yield "the work may have been done and billed"


def judge_redirects(diagnosis: Diagnosis | None) -> StepResult:
    """Judge by the response to the models list whether the base URL leads to an API."""
    if diagnosis is None:
        return passed("redirects", "the base URL does not redirect")
    if diagnosis.status is None:
        return skipped("redirects", "no response to judge by")
    if diagnosis.kind is Kind.WRONG_PATH:
        safe = "it was not followed, so the key went nowhere else"
        return judge("redirects", diagnosis, *((safe,) if 300 <= diagnosis.status < 400 else ()))
    return passed("redirects", "the base URL answers as an API does")


def judge_models(diagnosis: Diagnosis | None, listed: Sequence[str]) -> StepResult:
    """Judge by the response to the models list whether the key was accepted."""
    if diagnosis is None:
        return passed("models", f"the key is accepted; {len(listed)} models are offered")
    if diagnosis.kind in (Kind.NOT_FOUND, Kind.UNSUPPORTED):
        return warned(
            "models",
            "this gateway has no models list, so the key is not verified yet",
            "Verify it with a request: --run --model ID",
        )
    return judge("models", diagnosis)


def judge_model(model: str, listed: Sequence[str]) -> StepResult:
    """Judge whether the model is offered; suggest the nearest names if it is not."""
    if not listed:
        return skipped("model", "there is no models list to look it up in")
    near = difflib.get_close_matches(model, listed, n=_SUGGESTED) if model else ()
    if not model:
        some = ", ".join(map(printable, listed[:_SUGGESTED]))
        return skipped("model", "no model was named", f"Name one: --model ID (offered: {some})")
    if model in listed:
        return passed("model", f"{printable(model)} is offered")
    hint = f"Did you mean {' or '.join(map(printable, near))}?" if near else ""
    return failed(
        "model",
        f"{printable(model)} is not in the models list",
        hint or "Check the model id, letter for letter, against the models page.",
    )


def reconsidered(results: Iterable[StepResult]) -> tuple[StepResult, ...]:
    """Reconsider the results together: an unlisted model that answers is no failure."""
    found = {result.step: result for result in results}
    model, minimal = found.get("model"), found.get("minimal")
    answers = minimal is not None and minimal.outcome is StepOutcome.PASS
    if model is not None and model.outcome is StepOutcome.FAIL and answers:
        found["model"] = warned("model", f"{model.reason}, yet it answers", model.action)
    return tuple(found.values())


def exit_status(results: Iterable[StepResult]) -> int:
    """Return the exit status: the cause to look at first decides."""
    failures = _failures(results)
    steps, kinds = {result.step for result in failures}, {result.kind for result in failures}
    if steps & {"key", "base_url", "proxies"}:
        return CONFIGURATION
    if steps & {"reach", "tls"} or Kind.CONNECTION in kinds:
        return UNREACHABLE
    if Kind.AUTHENTICATION in kinds:
        return AUTHENTICATION
    return FAILED if failures else OK


def summary(results: Iterable[StepResult]) -> str:
    """Return the outcome in a sentence, with the first thing to do."""
    taken = [result for result in results if result.outcome is not StepOutcome.SKIPPED]
    failures = _failures(taken)
    if not failures:
        return f"Nothing failed in {len(taken)} steps."
    worked = [
        result
        for result in taken
        if result.step in VARIATIONS and result.outcome is StepOutcome.PASS
    ]
    found = "".join(f" {result.title}: {result.reason}." for result in worked)
    decisive = [result.action for result in worked if result.step != "other_model"]
    action = decisive[0] if decisive else failures[0].action
    what = f"Failed first: {failures[0].title}.{found}"
    return f"{what} Do this first: {action}" if action else what


def _failures(results: Iterable[StepResult]) -> list[StepResult]:
    """Return the steps that failed, except the variations, which explain a failure."""
    return [
        result
        for result in results
        if result.outcome is StepOutcome.FAIL and result.step not in VARIATIONS
    ]


def may_be_the_fields(kind: Kind) -> bool:
    """Return True if removing fields can help against a failure of this kind."""
    return kind not in _NOT_THE_FIELDS


def hide_all(value: Any, redactor: Redactor) -> Any:
    """Return plain data without the known secrets."""
    if isinstance(value, str):
        return redactor.without_secrets(value)
    if isinstance(value, Mapping):
        return {name: hide_all(item, redactor) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [hide_all(item, redactor) for item in value]
    return value
