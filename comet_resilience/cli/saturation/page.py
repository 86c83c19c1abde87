"""The page of ``saturation --html``: one file without any network, readable in light and dark."""

from __future__ import annotations

from html import escape
from itertools import pairwise
from typing import Final

from ...escaping import printable
from ...journal.saturation import Saturation, Series
from .draw import PANELS_DRAWN, ROWS_DRAWN, STEPS, heat_map, panel
from .words import details, duration, footing, headline, moment, since

_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1b2430; --soft: #55606d; --line: #d5dbe1; --back: #fff;
  --card: #f6f8fa; --share: #c2371f; --flight: #a9c7e6; --limit: #0b4f8a; --level: #55606d;
  --h0: #dde8f1; --h1: #fbe3b2; --h2: #fbc272; --h3: #f5954a; --h4: #dc5f2c; --h5: #ab2f26;
  --h6: #6a0d20; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8edf2; --soft: #a3afbb; --line: #37424d;
  --back: #12181f; --card: #1a222b; --share: #ff8d5c; --flight: #33597f; --limit: #8cc4ff;
  --level: #a3afbb; --h0: #2b3c4b; --h1: #4d3a1f; --h2: #7c4c17; --h3: #b36713; --h4: #e28d20;
  --h5: #f8ba4f; --h6: #fff0b8; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1080px; padding: 28px 24px 60px; background: var(--back);
  color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
h1 { font-size: 15px; letter-spacing: .04em; margin: 0 0 6px; color: var(--soft); }
h2 { font-size: 18px; margin: 36px 0 4px; } h3 { font-size: 15px; margin: 0 0 8px; }
h3 span, p.note, figcaption, footer { color: var(--soft); font-weight: 400; }
p.answer { font-size: 21px; line-height: 1.4; margin: 0; font-weight: 600; }
p.details { font-size: 16px; margin: 8px 0 0; } p.note { margin: 0 0 10px; }
figure { margin: 14px 0 0; padding: 16px; background: var(--card); border: 1px solid var(--line);
  border-radius: 8px; overflow-x: auto; } svg { display: block; width: 100%; min-width: 640px; }
figcaption { font-size: 13px; margin-top: 8px; } .key { display: inline-block; width: 14px;
  height: 11px; margin: 0 5px 0 14px; border-radius: 2px; } .key:first-child { margin-left: 0; }
text { font-size: 12px; fill: var(--soft); } text.name { fill: var(--ink); font-weight: 600; }
text.mark { fill: var(--ink); font-size: 11px;
  paint-order: stroke; stroke: var(--card); stroke-width: 4px; }
.grid, .axis { stroke: var(--line); }
.first { stroke: var(--ink); stroke-width: 1.2; } .level { stroke: var(--level);
  stroke-dasharray: 5 4; } .limit { fill: none; stroke: var(--limit); stroke-width: 2; }
.share { fill: var(--share); background: var(--share); } .flight { fill: var(--flight);
  background: var(--flight); } .key.limit { background: var(--limit); height: 3px;
  vertical-align: middle; } .h0 { fill: var(--h0); background: var(--h0); }
.h1 { fill: var(--h1); background: var(--h1); } .h2 { fill: var(--h2); background: var(--h2); }
.h3 { fill: var(--h3); background: var(--h3); } .h4 { fill: var(--h4); background: var(--h4); }
.h5 { fill: var(--h5); background: var(--h5); } .h6 { fill: var(--h6); background: var(--h6); }
rect:hover { stroke: var(--ink); stroke-width: 1.5; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { padding: 7px 10px; text-align: right; border-bottom: 1px solid var(--line);
  font-variant-numeric: tabular-nums; } th { color: var(--soft); font-weight: 600; }
td.word, th.word { text-align: left; min-width: 9em; overflow-wrap: anywhere; }
.scroll + p.note { margin-top: 10px; } td.word + td.word { min-width: 13em; }
footer { margin-top: 28px; }
output { position: fixed; bottom: 0; left: 0; right: 0; padding: 8px 24px; font-size: 14px;
  background: var(--card); border-top: 1px solid var(--line); } output:empty { display: none; }
"""
#: Shows what a mark means while the pointer is on it.
_SCRIPT: Final = """
const shown = document.body.appendChild(document.createElement("output"));
document.addEventListener("pointerover", (event) => {
  const title = event.target.closest("rect")?.querySelector("title");
  shown.textContent = title ? title.textContent : "";
});
"""


def page(found: Saturation) -> str:
    """The whole page."""
    pictures = _pictures(found) if found.series else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Which route and model saturates first</title>\n<style>{_STYLE}</style>\n</head>\n"
        "<body>\n<h1>Which route and model saturates first?</h1>\n"
        f'<p class="answer">{escape(headline(found))}</p>\n'
        f'<p class="details">{escape(details(found))}</p>\n{pictures}'
        f"<footer>{escape(footing(found))}</footer>\n<script>{_SCRIPT}</script>\n</body>\n</html>\n"
    )


def _pictures(found: Saturation) -> str:
    panels = "\n".join(_figure(found, *item) for item in enumerate(found.series[:PANELS_DRAWN]))
    return (
        "<h2>Where and when attempts were refused</h2>\n"
        '<p class="note">Each cell is the share of attempts that got a 429'
        f" within {duration(found.width)}. In order of the first 429"
        f"{_only(len(found.series), ROWS_DRAWN)}.</p>\n"
        f"<figure>{heat_map(found)}<figcaption>{_heat_key()}</figcaption></figure>\n"
        "<h2>Refusals, limit and requests in flight</h2>\n"
        '<p class="note">The same time from left to right'
        f"{_only(len(found.series), PANELS_DRAWN)}.</p>\n"
        f"{panels}\n<h2>Figures</h2>\n{_table(found)}\n"
    )


def _only(count: int, drawn: int) -> str:
    return f"; the first {drawn} of {count} are drawn" if count > drawn else ""


def _heat_key() -> str:
    keys = ['<span class="key h0"></span>none']
    for place, (lower, upper) in enumerate(pairwise(STEPS), start=1):
        keys.append(f'<span class="key h{place}"></span>{lower:.0%}\u2013{upper:.0%}')
    return "".join(keys) + " \u00a0 (blank: no attempts)"


def _figure(found: Saturation, place: int, series: Series) -> str:
    return (
        f"<figure><h3>{place + 1}. {_escaped(series.model or '-')}"
        f" <span>{_escaped(series.route)}</span></h3>{panel(found, series)}"
        '<figcaption><span class="key share"></span>share of 429s'
        '<span class="key flight"></span>most in flight'
        '<span class="key limit"></span>limit, on average</figcaption></figure>'
    )


def _table(found: Saturation) -> str:
    head = "".join(
        f'<th scope="col"{kind}>{name}</th>'
        for name, kind in (
            ("", ""), ("model", ' class="word"'), ("route", ' class="word"'), ("attempts", ""),
            ("429s", ""), ("share", ""), ("other failures", ""), ("first 429", ""),
            ("in flight then", ""), ("holds", ""), ("429s above that", ""),
        )
    )  # fmt: skip
    rows = "\n".join(_row(found, *item) for item in enumerate(found.series, start=1))
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody></table>'
        '</div>\n<p class="note">Holds: up to so many in flight, counted by one client, refusals'
        " are rare, and above it they are not; a dash where there is no such number.</p>"
    )


def _row(found: Saturation, place: int, series: Series) -> str:
    first, level = series.first, series.level
    figures = (
        f"{series.attempts:,}",
        f"{series.refused:,}",
        f"{series.share:.1%}",
        f"{series.failed:,}",
        "never" if first is None else since(first.time - found.start),
        "-" if first is None else f"{first.in_flight} of {first.limit}",
        "-" if level is None else str(level.holds),
        "-" if level is None else f"{level.share_above:.0%}",
    )
    title = "" if first is None else f' title="{moment(first.time)}"'
    cells = "".join(f"<td>{figure}</td>" for figure in figures)
    return (
        f'<tr{title}><td>{place}</td><td class="word">{_escaped(series.model or "-")}</td>'
        f'<td class="word">{_escaped(series.route)}</td>{cells}</tr>'
    )


def _escaped(text: str) -> str:
    return escape(printable(text))
