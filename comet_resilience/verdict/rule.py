"""One row of the table: conditions and a verdict.

A row is data only. All the conditions that it names must hold; a condition left out matches
everything. Codes and types are compared whole and without case; ``message`` is a regular
expression searched, without case, in the (shortened) message.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, Final

from .advice import ADVICE, SECTIONS
from .evidence import NOTHING, Evidence
from .reading import MESSAGE_SEARCHED, Reading, Topic, read
from .vocabulary import (
    Action,
    BodyKind,
    FailureKind,
    Fault,
    Observation,
    Operation,
    Signal,
    Verdict,
)

#: Kinds of a request that was refused before anybody worked on it.
_REFUSED: Final = frozenset(
    {
        FailureKind.INVALID_REQUEST, FailureKind.AUTHENTICATION, FailureKind.PERMISSION,
        FailureKind.QUOTA, FailureKind.WRONG_PATH, FailureKind.NOT_FOUND, FailureKind.TOO_LARGE,
        FailureKind.MODEL_UNAVAILABLE, FailureKind.UNSUPPORTED, FailureKind.NOT_READY,
        FailureKind.RATE_LIMITED, FailureKind.EDGE_BLOCKED, FailureKind.LOCAL,
    }
)  # fmt: skip

_WORDS: Final = ("code", "type", "label", "edge_code")
_SETS: Final = (*_WORDS, "status", "fault", "body", "operation", "about", "named")


@dataclass(frozen=True, slots=True)
class Like:
    """A set of words given by a pattern such as ``channel:*``: for codes, types and labels."""

    pattern: str

    def __iter__(self) -> Iterator[str]:
        yield self.pattern

    def __contains__(self, word: object) -> bool:
        return isinstance(word, str) and fnmatchcase(word, self.pattern.lower())


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A row: conditions on an observation, and the verdict if all of them hold.

    ``name`` is unique in the table and appears in diagnoses. ``source`` is one word: guide, docs,
    observed, family (source code of gateways of the same family), edge (the CDN's documentation),
    transport (measured on sockets), peer (other gateways and providers) or inferred. ``status``
    may be a range or a set; ``label`` holds if the code or the type is one of these words.
    ``about`` holds if the answer is about one of these topics, by name or in words, ``named`` if
    its code or type names one of them (``by_type``: only its type does), ``passing`` if its words
    say that the same request may succeed later (``Reading``).
    ``key_worked``, ``model_worked`` and ``place_worked`` ask what this client has seen before
    (``Evidence``). ``wait`` (seconds, 0 or more), ``at_most`` (retries) and ``ambiguous`` are as
    in ``Verdict``; where a row leaves ``ambiguous`` open, kinds that refuse a request before any
    work (a malformed one, a key, a limit) prove that nothing was begun. ``advice`` defaults to the
    steps for the kind.
    """

    name: str
    kind: FailureKind
    action: Action
    reason: str
    source: str
    signal: Signal = Signal.IGNORED
    wait: float = 0.0
    at_most: int | None = None
    ambiguous: bool | None = None
    advice: tuple[str, ...] = ()
    section: str = ""
    status: Container[int] | None = None
    code: Container[str] | None = None
    type: Container[str] | None = None
    label: Container[str] | None = None
    message: str | None = None
    fault: Container[Fault] | None = None
    body: Container[BodyKind] | None = None
    operation: Container[Operation] | None = None
    about: Iterable[Topic] | None = None
    named: Container[Topic] | None = None
    by_type: bool | None = None
    passing: bool | None = None
    has_id: bool | None = None
    should_retry: bool | None = None
    challenge: bool | None = None
    edge_retryable: bool | None = None
    edge_code: Container[str] | None = None
    new_task: bool | None = None
    key_worked: bool | None = None
    model_worked: bool | None = None
    place_worked: bool | None = None

    def __post_init__(self) -> None:
        """Put right or refuse what a user may get wrong, at construction.

        A single status or word is a set of one, words are made lower case, and the names of a
        kind, action or signal do for the values.

        Raises:
            ValueError: If ``message`` is no regular expression, ``wait`` or ``at_most`` is
                negative, or there is no such kind, action or signal.

        """
        for name in _SETS:
            object.__setattr__(self, name, _as_set(getattr(self, name), words=name in _WORDS))
        object.__setattr__(self, "kind", FailureKind(self.kind))
        object.__setattr__(self, "action", Action(self.action))
        object.__setattr__(self, "signal", Signal(self.signal))
        if self.message is not None:
            try:
                _compiled(self.message)
            except re.error as error:
                raise ValueError(f"Rule {self.name!r}: message is no regular expression") from error
        if not self.wait >= 0:
            raise ValueError(f"Rule {self.name!r}: wait must be 0 seconds or more: {self.wait!r}")
        if self.at_most is not None and self.at_most < 0:
            raise ValueError(f"Rule {self.name!r}: at_most must be 0 or more: {self.at_most!r}")

    def matches(
        self, observation: Observation, evidence: Evidence = NOTHING, reading: Reading | None = None
    ) -> bool:
        """Return True if every condition of this row holds, now and by the evidence.

        ``reading`` is that of ``read(observation)``, where many rows are asked.
        """
        return self._fits_facts(observation, evidence) and self._fits(reading or read(observation))

    def _fits(self, reading: Reading) -> bool:
        """Return True if the conditions on the meaning of an answer hold."""
        return (
            _holds(self.named, reading.named)
            and self.by_type in (None, reading.by_type)
            and self.passing in (None, reading.same_again)
            and (self.about is None or any(reading.is_about(topic) for topic in self.about))
        )

    def _fits_facts(self, observation: Observation, evidence: Evidence) -> bool:
        code, type_ = observation.code.lower(), observation.type.lower()
        return (
            _holds(self.status, observation.status)
            and _holds(self.fault, observation.fault)
            and _holds(self.code, code)
            and _holds(self.type, type_)
            and (_holds(self.label, code) or _holds(self.label, type_))
            and _holds(self.body, observation.body)
            and _holds(self.operation, observation.operation)
            and _holds(self.edge_code, observation.edge_code)
            and self.challenge in (None, observation.challenge)
            and self.edge_retryable in (None, observation.edge_retryable)
            and self.new_task in (None, observation.new_task)
            and self.has_id in (None, observation.has_id)
            and self.should_retry in (None, observation.should_retry)
            and self.key_worked in (None, evidence.key_worked)
            and self.model_worked in (None, evidence.model_worked)
            and self.place_worked in (None, evidence.place_worked)
            and (self.message is None or _found(self.message, observation.message))
        )

    def verdict(self) -> Verdict:
        """Return the verdict of this row."""
        return Verdict(
            kind=self.kind,
            action=self.action,
            signal=self.signal,
            reason=self.reason,
            advice=self.advice or ADVICE[self.kind],
            rule=self.name,
            source=self.source,
            section=self.section or SECTIONS[self.kind],
            wait=self.wait,
            at_most=self.at_most,
            ambiguous=self._ambiguous,
            rests_on=self._rests_on,
        )

    @property
    def _rests_on(self) -> str:
        if self.action is Action.FAIL:
            return ""
        return "model" if self.model_worked else "place" if self.place_worked else ""

    @property
    def _ambiguous(self) -> bool | None:
        return False if self.ambiguous is None and self.kind in _REFUSED else self.ambiguous


def _as_set(allowed: object, *, words: bool) -> object:
    """Return a condition as something to look values up in."""
    if isinstance(allowed, (str, int)):
        allowed = frozenset({allowed})
    if words and isinstance(allowed, Iterable) and not isinstance(allowed, Like):
        return frozenset(str(word).lower() for word in allowed)
    return allowed


def _holds(allowed: Container[Any] | None, value: object) -> bool:
    return allowed is None or (value is not None and value in allowed)


def _found(pattern: str, text: str) -> bool:
    return _compiled(pattern).search(text[:MESSAGE_SEARCHED]) is not None


@lru_cache(maxsize=512)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)
