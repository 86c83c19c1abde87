"""The diagnosis of a failed request: a value that travels with every exception."""

from __future__ import annotations

import contextlib
import dataclasses
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from ..escaping import printable
from ..verdict.evidence import Evidence
from ..verdict.vocabulary import FailureKind, RequestIds
from .capture import Facts

#: Longer lines of the text are wrapped under their own beginning.
_WIDTH: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A failed attempt.

    ``started`` is in seconds since the request began, ``queued`` the wait for a slot before it,
    ``elapsed`` its duration; ``wait`` is the pause that followed, ``None`` after the last one.
    ``status`` is ``None`` where ``fault`` says why there was no response. ``may_be_billed`` says
    that its work may have been done although no answer came.
    """

    number: int
    started: float
    queued: float
    elapsed: float
    status: int | None
    fault: str
    kind: FailureKind
    code: str
    message: str
    ids: RequestIds
    wait: float | None = None
    may_be_billed: bool = False

    def __str__(self) -> str:
        outcome = str(self.status) if self.status is not None else self.fault
        parts = [f"#{self.number} at {self.started:.2f} s: {outcome}"]
        if self.code:
            parts.append(self.code)
        parts.append(f"in {self.elapsed:.2f} s")
        if self.queued >= 0.005:
            parts.append(f"(queued {self.queued:.2f} s)")
        if self.ids:
            parts.append(f"[{self.ids.gateway or self.ids.edge or self.ids.provider}]")
        if self.wait is not None:
            parts.append(f"then waited {self.wait:.2f} s")
        return " ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimiterState:
    """The state of a partition when a request was given up: permitted, in flight, waiting.

    ``account_limit`` and ``account_in_flight`` are those of its account, over all models; both are
    ``None`` where none stands above it, or where nobody has met that limit yet.
    ``waits_for_account`` says that only the account's limit held the request back.
    """

    limit: int
    in_flight: int
    waiting: int
    account_limit: int | None = None
    account_in_flight: int | None = None
    waits_for_account: bool = False

    def __str__(self) -> str:
        own = f"limit {self.limit}, {self.in_flight} in flight, {self.waiting} waiting"
        if self.account_limit is None:
            return own
        waits = ", which held the request back" if self.waits_for_account else ""
        above = f"limit {self.account_limit}, {self.account_in_flight} in flight over all models"
        return f"{own}; the account: {above}{waits}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """The reason why a request failed, and what to do about it.

    ``meaning`` is what the last failure means, ``reason`` why the request was given up,
    ``retryable`` whether sending the same request later may help, ``advice`` the steps in order,
    ``section`` the heading of the gateway's guide, ``rule`` and ``source`` the row of the table
    and its origin. ``may_be_billed`` says that some attempt's work may have been done although
    no answer came. ``elapsed`` is in seconds, as is ``queued``, the part of it that was spent
    waiting for a slot. ``at`` is the time of the failure with its zone, ``limiter`` the state of
    its partition then. ``evidence`` is what had worked before in this process: the key, the model,
    the path. ``facts`` is what ``support_report`` shows besides, with all secrets removed.
    """

    kind: FailureKind
    meaning: str
    reason: str
    retryable: bool
    advice: tuple[str, ...]
    section: str
    rule: str
    source: str
    route: str
    model: str
    status: int | None
    code: str
    message: str
    ids: RequestIds
    attempts: tuple[Attempt, ...] = ()
    elapsed: float = 0.0
    may_be_billed: bool = False
    queued: float = 0.0
    limiter: LimiterState | None = None
    at: str = ""
    evidence: Evidence | None = None
    facts: Facts | None = field(default=None, repr=False)

    @property
    def summary(self) -> str:
        """The failure in two lines: what it means, and the first thing to do."""
        outcome = f"{self.status} " if self.status is not None else ""
        code = f"{self.code}: " if self.code else ""
        tried = f" after {len(self.attempts)} attempts" if len(self.attempts) > 1 else ""
        reason = "" if self.reason.endswith(self.meaning) else f"; {self.reason}"
        head = f"{outcome}{code}{self.meaning}{tried}{reason}."
        return f"{head}\nFirst: {self.advice[0]}" if self.advice else head

    def __str__(self) -> str:
        rows = [("request", f"{self.route} model={self.model or '-'}")]
        rows += [("answer", f"{self.status or '-'} {self.code}".rstrip())]
        rows += [("message", self.message)] if self.message not in {"", self.reason} else []
        rows += [("ids", _name_ids(self.ids))] if self.ids else []
        rows += [("at", self.at)] if self.at else []
        rows += [("gave up", self.reason)]
        took = f"{self.elapsed:.2f} s"
        if self.elapsed:
            rows += [("took", f"{took}, of which {self.queued:.2f} s in the queue")]
        rows += [("limiter", str(self.limiter))] if self.limiter else []
        rows += [("before", "; ".join(self.evidence.lines()))] if self.evidence else []
        if self.may_be_billed:
            rows += [("billing", "the work may have been done and billed")]
        rows += [("attempt", str(attempt)) for attempt in self.attempts]
        lines = [_wrapped(f"  {name:<10} {text}", 13) for name, text in rows]
        steps = enumerate(self.advice, start=1)
        lines += [_wrapped(f"  {place}. {step}", 5) for place, step in steps]
        guide = self.section or "-"
        lines += [f"  guide      {guide} (rule {self.rule}, source {self.source})"]
        return "\n".join([f"{self.kind}: {self.meaning}", *lines])

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Show the words instead of the fields where IPython or a notebook displays the value."""
        printer.text("..." if cycle else str(self))

    def to_dict(self) -> dict[str, Any]:
        """Return the diagnosis as plain data that JSON can hold; ``facts`` are the report's."""
        plain = dataclasses.asdict(dataclasses.replace(self, facts=None))
        del plain["facts"]
        return plain


def _wrapped(line: str, indent: int) -> str:
    return textwrap.fill(
        line,
        _WIDTH,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _name_ids(ids: RequestIds) -> str:
    named = (("gateway", ids.gateway), ("provider", ids.provider), ("edge", ids.edge))
    return ", ".join(f"{name} {printable(value)}" for name, value in named if value)


def find_diagnosis(error: object, extensions: tuple[str, ...]) -> Diagnosis | None:
    """Return the diagnosis that an exception carries, itself or through what it was raised from.

    ``extensions`` are the names under which a response or request may hold it.
    """
    for candidate in related(error):
        for bearer in (candidate, *_own(candidate, "response", "request")):
            found = getattr(bearer, "diagnosis", None)
            if isinstance(found, Diagnosis):
                return found
            held = getattr(bearer, "extensions", None)
            for found in map(held.get, extensions) if isinstance(held, dict) else ():
                if isinstance(found, Diagnosis):
                    return found
    return None


def _own(candidate: object, *names: str) -> Iterator[object]:
    """Yield attributes of a candidate; some raise when they were never set."""
    for name in names:
        with contextlib.suppress(Exception):
            yield getattr(candidate, name)


def related(error: object) -> Iterator[object]:
    """Yield an exception, the members of a group, and everything that they were raised from."""
    visited: set[int] = set()
    pending = [error]
    while pending:
        candidate = pending.pop(0)
        if candidate is None or id(candidate) in visited:
            continue
        visited.add(id(candidate))
        yield candidate
        if isinstance(candidate, BaseException):
            pending += [candidate.__cause__, candidate.__context__]
        if isinstance(candidate, BaseExceptionGroup):
            pending += candidate.exceptions
