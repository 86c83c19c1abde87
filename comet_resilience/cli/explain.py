"""``explain``: what an answer means and what to do, for a person with a log line in hand."""

from __future__ import annotations

import argparse
import ast
import json
import re
import sys
from pathlib import Path
from typing import Any, Final

from ..failure import Failure, diagnose_failure
from ..support.diagnosis import Diagnosis
from ..verdict.rules import classify
from ..verdict.table import consequence
from ..verdict.vocabulary import Fault, Observation, Operation, RequestInfo
from ..wire.response import BODY_CAP, ResponseHead, observe

_DESCRIPTION = """\
Judge an answer by the same table that a wrapped client uses. Give what you have: the status and
the body, the line that the SDK printed, or a fault. A body is read from the argument, from a file,
or, with '-', from standard input.
"""
_EXAMPLES = """\
examples:
  comet-resilience explain --status 503 --body '{"error": {"code": "model_not_found"}}'
  comet-resilience explain "Error code: 500 - {'error': {'code': 'invalid_request'}}"
  comet-resilience explain --status 524 --file answer.html --header 'cf-ray: 9a1b-FRA'
  comet-resilience explain --fault read_timeout --operation media
"""
_SDK_LINE: Final = re.compile(r"Error code: (\d{3})(?:\s*-\s*(.*))?", re.DOTALL)


def add_to(commands: Any) -> None:
    """Add the command to the parser's sub-commands."""
    parser = commands.add_parser(
        "explain",
        help="what an answer means, and what to do about it",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("line", nargs="?", help="a line that the SDK printed, '-' for stdin")
    parser.add_argument("--status", type=int, help="the HTTP status")
    parser.add_argument("--body", help="the response body, '-' for stdin")
    parser.add_argument("--file", type=Path, help="a file that holds the response body")
    parser.add_argument("--header", action="append", default=[], help="a response header 'name: x'")
    parser.add_argument(
        "--fault", choices=[fault.value for fault in Fault], help="no response came"
    )
    parser.add_argument(
        "--operation",
        choices=[operation.value for operation in Operation],
        default=Operation.TEXT.value,
        help="what was asked for (default: text)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Print the verdict.

    Raises:
        ValueError: If neither a status nor a fault is given, or a header is malformed.
        OSError: If the file cannot be read.

    """
    diagnosis, consequences = explain(_observation(given))
    if given.json:
        print(json.dumps({**diagnosis.to_dict(), "done": consequences}, indent=2))
    else:
        print(_text(diagnosis, consequences))
    return 0


def explain(seen: Observation) -> tuple[Diagnosis, str]:
    """The diagnosis of an outcome, and what a wrapped client does about it."""
    verdict = classify(seen)
    failure = Failure(seen=seen, verdict=verdict)
    diagnosis = diagnose_failure(failure, RequestInfo(route=""), None, verdict.reason, (), 0.0)
    return diagnosis, consequence(verdict)


def _observation(given: argparse.Namespace) -> Observation:
    operation = Operation(given.operation)
    if given.fault:
        return Observation(fault=Fault(given.fault), status=given.status, operation=operation)
    status, body = given.status, _body(given)
    if given.line:
        line = sys.stdin.read() if given.line == "-" else given.line
        found = _SDK_LINE.search(line)
        status = status or (int(found.group(1)) if found else None)
        body = body or _as_json((found.group(2) or "") if found else line)
    if status is None:
        raise ValueError("give --status, --fault, or a line with 'Error code: 503'")
    head = ResponseHead(status, dict(_header(text) for text in given.header))
    return observe(head, body[:BODY_CAP], operation)


def _body(given: argparse.Namespace) -> bytes:
    if given.file:
        return bytes(given.file.read_bytes())
    if given.body == "-":
        return sys.stdin.buffer.read()
    return (given.body or "").encode()


def _as_json(text: str) -> bytes:
    """The SDK prints bodies as Python shows them; JSON and plain text stay as they are."""
    try:
        return json.dumps(ast.literal_eval(text.strip())).encode()
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text.encode()


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise ValueError(f"--header {text!r}: expected 'name: value'")
    return name.strip().lower(), value.strip()


def _text(diagnosis: Diagnosis, consequences: str) -> str:
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
    lines.append(f"  guide         {diagnosis.section}")
    return "\n".join(lines)
