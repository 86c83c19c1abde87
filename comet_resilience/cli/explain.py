"""The ``explain`` command: the meaning of an answer, for a person with a log line in hand."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from ..call.diagnosing import diagnose_failure
from ..call.failure import judged
from ..diagnosis.diagnosis import Diagnosis
from ..diagnosis.redaction import Redactor
from ..verdict.rule import Rule
from ..verdict.rules import RULES, rule_for
from ..verdict.table import consequence, failures_table
from ..verdict.vocabulary import BodyKind, Fault, Observation, Operation, RequestInfo
from ..wire.family import family_of_sdk
from ..wire.http import Request
from ..wire.request import read_request
from ..wire.response import BODY_CAP, ResponseHead, observe
from .pasted import Clue, as_body, clues_in, status_in

_DESCRIPTION = """\
Judge an answer by the same table that a wrapped client uses. Give what you have: the status and
the body, a line of a log, what the SDK printed, a traceback, or a fault. Several at once are told
one by one. A text is read from the argument or, with '-', from standard input.
"""
_EXAMPLES = """\
examples:
  comet-resilience explain --status 503 --body '{"error": {"code": "model_not_found"}}'
  comet-resilience explain "Error code: 500 - {'error': {'code': 'invalid_request'}}"
  comet-resilience explain '429 Too Many Requests'
  python job.py 2>&1 | comet-resilience explain -
  comet-resilience explain --status 524 --file answer.html --header 'cf-ray: 9a1b-FRA'
  comet-resilience explain --fault read_timeout --operation media
  comet-resilience explain --rules
"""
#: Statuses under which a body that came without one is read, to see what its words say by
#: themselves.
_TRIED: Final = (400, 401, 403, 404, 413, 429, 500, 503)
_SPEAKING: Final = ("code", "type", "label", "message", "about", "named", "edge_code")
_HOME: Final = "https://api.cometapi.com/v1"
_KEPT: Final = 500
_WIDTH: Final = 100
_QUOTED: Final = 160
#: Statuses below this one do not say that anything failed.
_FIRST_REFUSAL: Final = 300

_GIVE_STATUS: Final = "the status: --status 429, or the line that has it"
_GIVE_BODY: Final = "the body of the answer: --body '{...}', --file answer.json"
_GIVE_CAUSE: Final = "the lines of the traceback above it: they name what broke"
_GIVE_ANY: Final = (
    _GIVE_STATUS,
    _GIVE_BODY,
    'the line that the SDK printed: "Error code: 503 - {...}"',
    "a line of the log of the HTTP library or of ours, or the whole traceback",
    "if no answer came: --fault connect, --fault read_timeout",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """One explained outcome: how it was understood, its diagnosis, and what would help."""

    understood: str
    helps: tuple[str, ...] = ()
    diagnosis: Diagnosis | None = None
    done: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the same as plain data."""
        plain = {} if self.diagnosis is None else self.diagnosis.to_dict()
        return {
            **plain,
            "done": self.done,
            "understood": self.understood,
            "would_help": list(self.helps),
        }


def add_to(commands: Any) -> None:
    """Add the command to the parser's sub-commands."""
    parser = commands.add_parser(
        "explain",
        help="what an answer means, and what to do about it",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("line", nargs="?", help="any text with it, '-' for stdin")
    parser.add_argument("--status", type=int, help="the HTTP status")
    parser.add_argument("--body", help="the response body, '-' for stdin")
    parser.add_argument("--file", type=Path, help="a file that holds the response body")
    parser.add_argument(
        "--header", action="append", default=[], help="a response header, 'name: value'"
    )
    parser.add_argument(
        "--fault",
        choices=[fault.value for fault in Fault],
        help="what went wrong where no response came",
    )
    parser.add_argument(
        "--operation",
        choices=[operation.value for operation in Operation],
        default=Operation.TEXT.value,
        help="the kind of request (default: text)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print JSON: a list if there are several"
    )
    parser.add_argument("--rules", action="store_true", help="print the whole table")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Print what was understood, what it means, and what would help to know more.

    Raises:
        ValueError: If nothing is given that can be judged, or a header is malformed.
        OSError: If the file cannot be read.

    """
    if given.rules:
        print(failures_table())
        return 0
    explained, left_off = _outcomes(given)
    if given.json:
        plain = [each.to_dict() for each in explained]
        print(json.dumps(plain[0] if len(plain) == 1 else plain, indent=2))
    else:
        print("\n\n".join(map(_text, explained)))
        if left_off:
            print(f"\nand {left_off} more outcomes, which are not shown")
    if all(each.helps == _GIVE_ANY for each in explained):
        raise ValueError("not enough to judge by: see what would help")
    return 0


def _outcomes(given: argparse.Namespace) -> tuple[list[Explained], int]:
    """Return each outcome that was given, and how many are left off."""
    operation = Operation(given.operation)
    headers = dict(_header(text) for text in given.header)
    body, left_off = _body(given), 0
    if given.fault:
        observation = Observation(
            fault=Fault(given.fault), status=given.status, operation=operation
        )
        return [_explained(f"the fault {given.fault}", observation)], left_off
    clues: list[Clue] = []
    if given.line:
        from_stdin = given.line == "-"
        text = sys.stdin.buffer.read().decode("utf-8", "replace") if from_stdin else given.line
        clues, left_off = clues_in(text)
        clues = clues or [Clue(what="a text", line=text.strip(), body=as_body(text.strip()))]
    if not clues and (given.status is not None or body is not None):
        clues = [Clue(what="what was given", line="")]
    alone = len(clues) == 1
    clues = [
        replace(
            clue,
            status=clue.status
            if given.status is None
            else (not alone and clue.status) or given.status,
            body=clue.body if body is None or not alone else body,
        )
        for clue in clues
    ]
    if not clues:
        return [Explained(understood="nothing was given", helps=_GIVE_ANY)], left_off
    return [_explain_clue(clue, headers, operation) for clue in clues], left_off


def _explain_clue(clue: Clue, headers: dict[str, str], operation: Operation) -> Explained:
    """Judge a clue as far as it can be judged."""
    request, info = _request_in(clue)
    operation = info.operation if request is not None else operation
    words = _understood(clue)
    if clue.fault is not None:
        observation = Observation(
            fault=clue.fault, message=(clue.said or clue.line).strip()[:_KEPT], operation=operation,
            body=BodyKind.UNREAD,
        )  # fmt: skip
        vague = (
            clue.fault in (Fault.READ, Fault.READ_TIMEOUT) and clue.what != "a line of our own log"
        )
        return _explained(words, observation, clue, (_GIVE_CAUSE,) if vague else ())
    status = clue.status or status_in(clue.body or b"")
    if status is None:
        return _by_words(clue, headers, operation, words)
    body = None if clue.body is None else clue.body[:BODY_CAP]
    observation = observe(ResponseHead(status, headers), body or b"", operation)
    if body is not None:
        return _explained(words, observation, clue)
    if status < _FIRST_REFUSAL:
        words += "; by its status alone it is no failure"
        return Explained(understood=words, helps=(_GIVE_BODY, *_GIVE_ANY[2:]))
    return _explained(words, replace(observation, body=BodyKind.UNREAD), clue, (_GIVE_BODY,))


def _by_words(clue: Clue, headers: dict[str, str], operation: Operation, words: str) -> Explained:
    """Judge a body without its status, where its code or words say enough."""
    for status in _TRIED if clue.body else ():
        observation = observe(
            ResponseHead(status, headers), (clue.body or b"")[:BODY_CAP], operation
        )
        rule = rule_for(observation)
        if any(getattr(rule, name) is not None for name in _SPEAKING):
            words += f"; judged by its words, as under a status {status}"
            return _explained(words, replace(observation, status=None), None, (_GIVE_STATUS,), rule)
    return Explained(understood=words, helps=_GIVE_ANY)


def _explained(
    words: str,
    observation: Observation,
    clue: Clue | None = None,
    helps: tuple[str, ...] = (),
    rule: Rule | None = None,
) -> Explained:
    rule = rule or (_rule_in_words(clue) if clue is not None and clue.said else None)
    request, info = (None, RequestInfo(route="")) if clue is None else _request_in(clue)
    is_whole = bool(info.route) and _has_host(clue)
    failure = judged(observation, rule=rule)
    diagnosis = diagnose_failure(
        failure, info, request if is_whole else None, failure.verdict.reason
    )
    done = consequence(failure.verdict)
    return Explained(understood=words, helps=helps, diagnosis=diagnosis, done=done)


def _rule_in_words(clue: Clue) -> Rule | None:
    """Return the row whose reason a line of our own log tells."""
    status = -1 if clue.status is None else clue.status
    named = (rule for rule in RULES if rule.reason in clue.said[:_KEPT])
    fitting = (rule for rule in named if rule.status is None or status in rule.status)
    return max(fitting, key=lambda rule: len(rule.reason), default=None)


def _has_host(clue: Clue | None) -> bool:
    return clue is not None and "://" in clue.url


def _request_in(clue: Clue) -> tuple[Request | None, RequestInfo]:
    """Return the request that a log line names, ``None`` if it names none that can be read."""
    if not clue.url:
        return None, RequestInfo(route="", model=clue.model)
    url = clue.url if _has_host(clue) else _HOME + clue.url
    try:
        request: Request = family_of_sdk().Request(clue.method, url)
        return request, replace(read_request(request, None).info, model=clue.model)
    except Exception:  # noqa: BLE001 - whatever a URL in a foreign text does to the parser
        return None, RequestInfo(route="", model=clue.model)


def _understood(clue: Clue) -> str:
    """Return in words how a clue is understood."""
    if clue.status is not None:
        words = f"an answer with status {clue.status}"
        words += ", its body unknown" if clue.body is None else ""
        words += ", its body empty" if clue.body == b"" else ""
    elif clue.fault is not None:
        words = f"no whole answer came ({clue.fault})"
    else:
        words = "a body without its status" if clue.what == "a body" else "words without a status"
    quote = Redactor().line(clue.line.strip()[:_QUOTED])
    often = f" ({clue.times} times)" if clue.times > 1 else ""
    return f"{words}{often}" + (f"; from {clue.what}: {quote}" if quote else "")


def _body(given: argparse.Namespace) -> bytes | None:
    """Return the body that was given, ``None`` if none was: an unknown one is not empty."""
    if given.file:
        return bytes(given.file.read_bytes())
    if given.body == "-":
        return sys.stdin.buffer.read()
    return None if given.body is None else as_body(given.body)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise ValueError(f"--header {text!r}: expected 'name: value'")
    return name.strip().lower(), value.strip()


def _text(explained: Explained) -> str:
    lines = textwrap.wrap(
        f"understood: {explained.understood}", _WIDTH, subsequent_indent="  ",
        break_on_hyphens=False,
    )  # fmt: skip
    if explained.diagnosis is None:
        lines.append("That is not enough to judge by.")
    else:
        lines += _judgement(explained.diagnosis, explained.done)
    if explained.helps:
        lines.append("  what would help to know more")
        lines += [f"    - {help_}" for help_ in explained.helps]
    return "\n".join(lines)


def _judgement(diagnosis: Diagnosis, consequences: str) -> list[str]:
    lines = [
        f"{diagnosis.kind}: {diagnosis.meaning}",
        f"  what is done  {consequences}",
        f"  rule          {diagnosis.rule} (source: {diagnosis.source})",
    ]
    if diagnosis.message:
        lines.append(f"  message       {diagnosis.message}")
    if diagnosis.ids:
        lines.append(f"  request id    {diagnosis.ids.gateway or diagnosis.ids.edge}")
    if diagnosis.may_be_billed:
        lines.append("  billing       the work may have been done and billed")
    lines.append("  what to do")
    lines += [f"    {place}. {step}" for place, step in enumerate(diagnosis.advice, start=1)]
    return lines + ([f"  guide         {diagnosis.section}"] if diagnosis.section else [])
