"""The command ``saturation``: its options, the reading of journals, and the output."""

from __future__ import annotations

import argparse
import gzip
import io
import json
import sys
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, Final, cast

from ...escaping import printable
from ...journal.saturation import Saturation, analyse
from .page import page
from .words import as_text, in_words

_DESCRIPTION = """\
Read journals, as written by wrap(client, journal="calls.jsonl"), and report which route and model
saturates first, when, and at what concurrency. Files may be large, rotated (give them all, in any
order) and compressed with gzip; '-' is standard input.

"first 429" is the time since the first attempt of all; "holds" is the concurrency, of one client,
up to which refusals are rare and above which they are not, or the rate, such as 300/min or
10/10s, where that explains the refusals better ('-' if neither does).
"""
_EXAMPLES = """\
examples:
  comet-resilience saturation calls.jsonl calls.jsonl.*
  comet-resilience saturation calls.jsonl --html saturation.html
  zstdcat old/*.zst | comet-resilience saturation --json -
"""
#: A longer line is not one of ours.
_LONGEST: Final = 65_536


def add_to(commands: Any) -> None:
    """Add the command to the parser's sub-commands."""
    parser = commands.add_parser(
        "saturation",
        help="which route and model saturates first, from journals",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("journal", nargs="+", help="a journal, plain or .gz; '-' for stdin")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--html", type=Path, metavar="FILE", help="also write a page with charts")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Print the answer; return 1 if the journals hold no attempt at all.

    Raises:
        OSError: If a file cannot be read or written.

    """
    found = analyse(line for journal in given.journal for line in lines_of(journal))
    words = in_words(found)
    if given.html:
        given.html.write_text(page(found), encoding="utf-8")
    print(as_json(found, words) if given.json else as_text(found, words))
    return 0 if found.series else 1


def lines_of(journal: str) -> Iterator[bytes]:
    """Yield the lines of a journal; in place of one that is too long, a malformed one."""
    with ExitStack() as stack:
        raw: IO[bytes] = (
            sys.stdin.buffer if journal == "-" else stack.enter_context(Path(journal).open("rb"))
        )
        file = io.BufferedReader(cast("Any", raw)) if not hasattr(raw, "peek") else raw
        if cast("Any", file).peek(2)[:2] == b"\x1f\x8b":
            file = cast("IO[bytes]", stack.enter_context(gzip.open(file)))
        try:
            yield from _lines(file)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            damage = printable(f"{journal} is damaged: {error}")
            print(f"comet-resilience: {damage}", file=sys.stderr)


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    too_long = False
    for line in iter(lambda: file.readline(_LONGEST), b""):
        ends = line.endswith(b"\n")
        if not too_long:
            yield line if ends or len(line) < _LONGEST else b"too long"
        too_long = not ends


def as_json(found: Saturation, words: str) -> str:
    """Return everything as JSON; times are in seconds of the Unix clock."""
    shown = {"answer": words, "attempts": found.attempts, "refused": found.refused}
    return json.dumps(shown | asdict(found), indent=2)
