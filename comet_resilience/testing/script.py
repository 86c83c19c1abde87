"""Scripted replies: rules that come before the gateway's own replies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, Literal

from .failures import failure
from .received import ReceivedRequest
from .replies import Reply

#: A script entry that lets the gateway answer by itself.
OK: Final = "ok"

Scripted = Reply | str | int | Callable[[ReceivedRequest], Reply | None]

_Entry = Reply | Literal["ok"] | Callable[[ReceivedRequest], Reply | None]


@dataclass(slots=True, kw_only=True)
class _Rule:
    entry: _Entry
    left: int | None
    path: str | None
    model: str | None

    def matches(self, request: ReceivedRequest) -> bool:
        if self.left == 0 or (self.model is not None and self.model != request.model):
            return False
        if self.path is None:
            return True
        return any(fnmatchcase(path, self.path) for path in (request.path, _below(request.path)))


class Script:
    """The rules in force. How often each of them still applies is mutable.

    Rules that run out come before those that stay; among equals the older rule comes first.
    """

    __slots__ = ("_rules",)

    def __init__(self) -> None:
        self._rules: list[_Rule] = []

    def add(
        self, entry: Scripted, *, times: int | None, path: str | None, model: str | None
    ) -> None:
        """Add a rule for the next *times* matching requests, or for all of them.

        *path* is a pattern such as "/videos/*", with or without "/v1" in front. Raises
        `ValueError` for an unknown failure and for *times* below 1.
        """
        if times is not None and times < 1:
            raise ValueError(f"times must be 1 or more, not {times}")
        self._rules.append(_Rule(entry=_resolve(entry), left=times, path=path, model=model))

    def clear(self) -> None:
        """Forget all rules."""
        self._rules.clear()

    def reply_to(self, request: ReceivedRequest) -> Reply | None:
        """Return the scripted reply; None when the gateway is to answer by itself."""
        limited = (rule for rule in self._rules if rule.left is not None)
        staying = (rule for rule in self._rules if rule.left is None)
        for rule in (*limited, *staying):
            if rule.matches(request):
                return self._apply(rule, request)
        return None

    def _apply(self, rule: _Rule, request: ReceivedRequest) -> Reply | None:
        if rule.left is not None:
            rule.left -= 1
            self._rules = [other for other in self._rules if other.left != 0]
        if isinstance(rule.entry, str):
            return None
        return rule.entry if isinstance(rule.entry, Reply) else rule.entry(request)

    def __len__(self) -> int:
        return len(self._rules)

    def __repr__(self) -> str:
        return f"<Script of {len(self)} rules>"


def _resolve(entry: Scripted) -> _Entry:
    if entry == OK:
        return "ok"
    return failure(entry) if isinstance(entry, (str, int)) else entry


def _below(path: str) -> str:
    return path.removeprefix("/v1")
