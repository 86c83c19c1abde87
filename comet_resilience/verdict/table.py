"""The table of rules as people read it: for the README and the command line."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any, Final

from .rule import Rule
from .rules import RULES
from .vocabulary import Action, Fault, Signal, Verdict

#: Statuses that prove nothing about the work: a success that is none, and a server's failure.
_OPEN = (*range(200, 300), 408, 499, *range(500, 600))


def failures_table(rules: Iterable[Rule] = RULES) -> str:
    """Return the rules in their order as a Markdown table."""
    rows = ["| answer | what it means | what is done | source |", "|---|---|---|---|"]
    rows += [
        f"| {condition(rule)} | {rule.reason} | {consequence(rule)} | {rule.source} |"
        for rule in rules
    ]
    return "\n".join(rows)


def condition(rule: Rule) -> str:
    """Return the conditions of a rule in words."""
    parts = [
        _statuses(rule.status),
        _listed("fault ", rule.fault),
        _listed("code ", rule.code, quote="`"),
        _listed("type ", rule.type, quote="`"),
        _listed("code or type ", rule.label, quote="`"),
        _listed("edge code ", rule.edge_code),
        _listed("body ", rule.body),
        _listed("operation ", rule.operation),
        _listed("about ", rule.about),
        _listed("code or type means ", rule.named),
        "" if rule.by_type is None else ("by type only" if rule.by_type else "by code"),
        ""
        if rule.passing is None
        else f"words {'' if rule.passing else 'do not '}ask to try again",
        "route without ids" if rule.has_id is False else "",
        "server says retry" if rule.should_retry else "",
        "a browser challenge" if rule.challenge else "",
        _edge(rule.edge_retryable),
        "task created moments ago" if rule.new_task else "",
        "key worked before" if rule.key_worked else "",
        "model worked before" if rule.model_worked else "",
        "path worked before" if rule.place_worked else "",
        "message says so" if rule.message else "",
    ]
    return ", ".join(filter(None, parts)) or "anything else"


#: The limit that a refusal cuts.
_CUT: Final = {
    Signal.OVERLOAD: "limit",
    Signal.OVERLOAD_ACCOUNT: "account's limit",
    Signal.OVERLOAD_MODEL: "model's limit",
}


def consequence(rule: Rule | Verdict) -> str:
    """Return the consequence of a rule in words."""
    if rule.action is Action.FAIL:
        return "not retried"
    often = {None: "retried", 1: "retried once", 2: "retried twice"}.get(rule.at_most)
    done = often or f"retried {rule.at_most} times"
    if rule.wait:
        done += f", after {rule.wait:g} s or more"
    if _may_have_been_done(rule):
        done += ", paid media only if asked to"
    if rule.signal.is_outage:
        return done + "; counts as an outage"
    return done + (f"; cuts the {_CUT[rule.signal]}" if rule.signal.is_overload else "")


def _may_have_been_done(rule: Rule | Verdict) -> bool:
    """Return True if an answer that the row judges leaves open that the work was done."""
    verdict = rule.verdict() if isinstance(rule, Rule) else rule
    if verdict.ambiguous is not None or not isinstance(rule, Rule):
        return bool(verdict.ambiguous)
    if rule.fault is not None:
        return any(fault in rule.fault and not fault.before_sending for fault in Fault)
    return rule.status is None or any(status in rule.status for status in _OPEN)


def _edge(retryable: bool | None) -> str:
    if retryable is None:
        return ""
    return "edge says " + ("retryable" if retryable else "not retryable")


def _statuses(values: Container[int] | None) -> str:
    """Return statuses in words, whole centuries as such: ``2xx / 400 / 5xx``."""
    if values is None:
        return ""
    names = []
    for first in range(100, 600, 100):
        held = [status for status in range(first, first + 100) if status in values]
        names += [f"{first // 100}xx"] if len(held) == 100 else [str(status) for status in held]
    return " / ".join(names)


def _listed(label: str, values: Iterable[Any] | Container[Any] | None, quote: str = "") -> str:
    if values is None:
        return ""
    listed = values if isinstance(values, Iterable) else ()
    shown = sorted(str(getattr(value, "value", value)) for value in listed)
    names = [f"{quote}{name}{quote}" if name else "no code" for name in shown]
    return label + (" / ".join(names) or "of a set of its own")
