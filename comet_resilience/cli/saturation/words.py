"""Saturation in words, and as a table of 80 columns."""

from __future__ import annotations

import textwrap
from datetime import UTC, datetime
from typing import Final

from ...escaping import printable
from ...journal.ceiling import AccountCeiling
from ...journal.explanation import Rate
from ...journal.saturation import Saturation, Series

_WIDTH: Final = 80


def in_words(found: Saturation) -> str:
    """Return the answer as one paragraph."""
    return f"{headline(found)} {details(found)}".rstrip()


def headline(found: Saturation) -> str:
    """Return the answer in one sentence."""
    if not found.series:
        return "These journals contain no attempts."
    series = found.series[0]
    first = series.first
    if first is None:
        return f"Nothing saturated: none of {found.attempts:,} attempts was refused with a 429."
    return (
        f"{name_of(series)} saturates first: its first 429 came at {moment(first.time)},"
        f" {duration(round(first.time - found.start, 1))} after the first attempt, with"
        f" {first.in_flight} in flight (limit {first.limit})."
    )


def details(found: Saturation) -> str:
    """Return the sentences after the first; none where nothing was refused."""
    if not found.refused:
        return ""
    accounts = "".join(f" {_account_in_words(each)}" for each in found.accounts)
    limit = _limit_in_words(found.series[0], is_shared=bool(found.accounts))
    return limit + _next_in_words(found) + accounts


def _account_in_words(ceiling: AccountCeiling) -> str:
    level, first = ceiling.level, ceiling.first
    return (
        f'The ceiling of the account itself ("{printable(ceiling.account)}") was met:'
        f" {ceiling.models} of its routes and models were refused together,"
        f" {level.share_within:.1%} of the attempts with up to {level.holds} in flight over all of"
        f" them, {level.share_above:.1%} of those with more; the first with {first.in_flight}"
        f" (limit {first.limit})."
    )


def _limit_in_words(series: Series, *, is_shared: bool) -> str:
    refused = f"{series.refused:,} of its {series.attempts:,} attempts ({series.share:.1%})"
    level = series.level
    if series.rate is not None:
        return f"{refused} were refused, {_rate_in_words(series, series.rate)}"
    if level is None:
        why = " of its own."
        if not is_shared:
            why = ": by a rate of tokens, perhaps, or by a limit that it shares with other clients."
        return f"{refused} were refused, at no particular concurrency{why}"
    return (
        f"{refused} were refused: {level.share_within:.1%} of those with up to {level.holds} in"
        f" flight, {level.share_above:.1%} of those with more. {per_minute(series)}"
    ).rstrip()


def _rate_in_words(series: Series, rate: Rate) -> str:
    burst = f", some {rate.burst} at once after a pause" if (rate.burst or 0) > 1 else ""
    took = per_minute(series)
    return (
        f"which a rate explains and a number in flight does not: about {rate_of(rate)}{burst}."
        f" {took}If nobody else uses it, set a budget: wrap(client,"
        f" budget=Budget(requests={rate.requests}, per={rate.per:g}))."
    )


def per_minute(series: Series) -> str:
    """Return what was answered in a minute, on average, as a sentence; nothing if unknown."""
    if series.answered_per_minute is None:
        return ""
    tokens = series.tokens_per_minute
    also = "" if tokens is None else f" and {round(tokens):,} tokens"
    return f"It answered {round(series.answered_per_minute):,} requests{also} a minute. "


def rate_of(rate: Rate) -> str:
    """Return a rate in words."""
    per = "a minute" if rate.per == 60 else "a second" if rate.per == 1 else f"in {rate.per:g} s"
    return f"{rate.requests:,} requests {per}"


def holds(series: Series) -> str:
    """Return what a series sustains, in few characters: so many at once, or in so much time."""
    rate, level = series.rate, series.level
    if rate is not None:
        unit = {60.0: "min", 1.0: "s"}.get(rate.per, f"{rate.per:g}s")
        return f"{rate.requests}/{unit}"
    return "-" if level is None else str(level.holds)


def _next_in_words(found: Saturation) -> str:
    """Return the sentence about the next series that was refused."""
    others = [series for series in found.series[1:] if series.first is not None]
    if not others:
        return " No other route or model was refused." if len(found.series) > 1 else ""
    first = others[0].first
    assert first is not None  # noqa: S101 - filtered above
    more = f" (and {len(others) - 1} more)" if len(others) > 1 else ""
    return f" Next is {name_of(others[0])}, {since(first.time - found.start)}{more}."


def name_of(series: Series) -> str:
    """Return the name of a series."""
    route = printable(series.route)
    return f'{route} for "{printable(series.model)}"' if series.model else route


def moment(seconds: float) -> str:
    """Return a time of the Unix clock, in UTC."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def as_text(found: Saturation, words: str) -> str:
    """Return the answer and a table, within 80 columns."""
    rows: list[tuple[str, ...]] = [
        ("", "model", "route", "attempts", "429s", "share", "first 429", "holds")
    ]
    for place, series in enumerate(found.series, start=1):
        rows.append(_row(place, series, found.start))
    rows += [_row_of_account(each, found.start) for each in found.accounts]
    lines = [*textwrap.wrap(words, _WIDTH), ""]
    lines += [_laid_out(row) for row in rows if found.series]
    lines += ["", *textwrap.wrap(footing(found), _WIDTH)]
    return "\n".join(lines)


def _row(place: int, series: Series, start: float) -> tuple[str, ...]:
    first = series.first
    return (
        str(place),
        _cut(printable(series.model), 16) or "-",
        _cut(printable(series.route), 19),
        str(series.attempts),
        str(series.refused),
        f"{series.share:.1%}",
        "never" if first is None else since(first.time - start),
        holds(series),
    )


def _row_of_account(ceiling: AccountCeiling, start: float) -> tuple[str, ...]:
    return (
        "",
        _cut(printable(ceiling.account), 16),
        "all of its models",
        str(ceiling.attempts),
        str(ceiling.refused),
        f"{ceiling.share:.1%}",
        since(ceiling.first.time - start),
        str(ceiling.level.holds),
    )


def since(seconds: float) -> str:
    """Return a time after the first attempt, in a few characters."""
    return f"+{duration(round(seconds, 1))}"


def duration(seconds: float) -> str:
    """Return a duration in the unit that suits it."""
    if seconds < 120:
        return f"{seconds:g} s"
    if seconds < 7_200:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3_600:,.1f} h"


def _cut(text: str, width: int) -> str:
    """Return a text cut in its middle, where names differ least."""
    if len(text) <= width:
        return text
    half = (width - 1) // 2
    return text[: width - 1 - half] + "~" + text[-half:]


def _laid_out(row: tuple[str, ...]) -> str:
    place, model, route, *figures = row
    widths = (8, 6, 6, 9, 8)
    right = " ".join(figure.rjust(width) for figure, width in zip(figures, widths, strict=True))
    return f"{place.rjust(2)} {model.ljust(16)} {route.ljust(19)[:19]}{right}"


def footing(found: Saturation) -> str:
    """Return the span of time and the counts, in one line."""
    span = f"{moment(found.start)} to {moment(found.end)}, " if found.series else ""
    lines = "1 malformed line" if found.malformed == 1 else f"{found.malformed} malformed lines"
    skipped = f"; {lines} skipped" if found.malformed else ""
    return f"{span}{found.attempts} attempts, {found.refused} refused{skipped}."
