"""The page of ``saturation --html``: one file, with its data in it and without any network.

Answer and figures are in the page as text; its script draws the charts from the data. Both take
names as text alone, whoever chose them, and the page's policy runs no other script.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import asdict
from html import escape
from importlib.resources import files
from typing import Final

from ...escaping import printable
from ...journal.ceiling import AccountCeiling
from ...journal.level import FirstRefusal
from ...journal.saturation import Saturation, Series
from .words import details, footing, headline, holds, moment, rate_of, since

#: The script draws no more series than these.
SERIES_DRAWN: Final = 40
_PLACEHOLDER: Final = re.compile(r"\{\{(\w+)\}\}")


def page(found: Saturation) -> str:
    """Return the whole page."""
    template = files("comet_resilience.cli.saturation").joinpath("page.html").read_text("utf-8")
    rows = [_row(found, *item) for item in enumerate(found.series, start=1)]
    rows += [_row_of_account(found, each) for each in found.accounts]
    filled = {
        "script_hash": _hash_of_script(template),
        "headline": escape(headline(found)),
        "details": escape(details(found)),
        "hidden": "" if found.series else " hidden",
        "rows": "\n".join(rows),
        "footing": escape(footing(found)),
        "data": _data(found),
    }
    return _PLACEHOLDER.sub(lambda name: filled[name[1]], template)


def _hash_of_script(template: str) -> str:
    """Return the page's script as its policy names it."""
    script = template.partition("<script>")[2].partition("</script>")[0]
    digest = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _data(found: Saturation) -> str:
    """Return what the script draws, as JSON that cannot end the element which holds it."""
    shown: dict[str, object] = {
        "start": found.start,
        "end": found.end,
        "width": found.width,
        "total": len(found.series),
        "series": [
            asdict(series)
            | {
                "route": printable(series.route),
                "model": printable(series.model),
                "rate": None if series.rate is None else rate_of(series.rate),
            }
            for series in found.series[:SERIES_DRAWN]
        ],
    }
    return json.dumps(shown, separators=(",", ":")).replace("<", "\\u003c")


def _row(found: Saturation, place: int, series: Series) -> str:
    first, level = series.first, series.level
    figures = (
        f"{series.attempts:,}",
        f"{series.refused:,}",
        f"{series.share:.1%}",
        f"{series.failed:,}",
        "never" if first is None else since(first.time - found.start),
        "-" if first is None else f"{first.in_flight} of {first.limit}",
        holds(series),
        "-" if level is None else f"{level.share_above:.0%}",
        f"{series.tokens:,}" if series.tokens else "-",
        _whole(series.answered_per_minute),
        _whole(series.tokens_per_minute),
    )
    return _laid_out(str(place), (series.model or "-", series.route), figures, first)


def _row_of_account(found: Saturation, ceiling: AccountCeiling) -> str:
    first, level = ceiling.first, ceiling.level
    figures = (
        f"{ceiling.attempts:,}",
        f"{ceiling.refused:,}",
        f"{ceiling.share:.1%}",
        f"{ceiling.failed:,}",
        since(first.time - found.start),
        f"{first.in_flight} of {first.limit}",
        str(level.holds),
        f"{level.share_above:.0%}",
        *("-", "-", "-"),
    )
    return _laid_out("", (ceiling.account, "all of its models"), figures, first)


def _laid_out(
    place: str, names: Iterable[str], figures: Iterable[str], first: FirstRefusal | None
) -> str:
    title = "" if first is None else f' title="{moment(first.time)}"'
    words = (escape(printable(text)) for text in names)
    cells = "".join(f'<td class="word">{word}</td>' for word in words)
    cells += "".join(f'<td class="figure">{figure}</td>' for figure in figures)
    return f"<tr{title}><td>{place}</td>{cells}</tr>"


def _whole(number: float | None) -> str:
    return "-" if number is None else f"{round(number):,}"
