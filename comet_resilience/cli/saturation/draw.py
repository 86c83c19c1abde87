"""Pictures of saturation as inline SVG. Colours are classes; the page's style sheet has them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import Final

from ...escaping import printable
from ...journal.saturation import Saturation, Series, Slot
from .words import cut, duration, since

#: The upper ends of the heat map's steps; a share of 0 has a step of its own.
STEPS: Final = (0.0, 0.05, 0.15, 0.3, 0.5, 0.75, 1.0)
ROWS_DRAWN: Final = 40
PANELS_DRAWN: Final = 8
_WIDTH: Final = 960
_GUTTER: Final = 216
_RIGHT: Final = 16
_ROW: Final = 36
_SHARE_HEIGHT: Final = 44
_FLIGHT_HEIGHT: Final = 84
_GAP: Final = 14
_TICKS: Final = (
    0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600,
    43200, 86400, 172800, 604800, 2592000, 31536000, 315360000,
)  # fmt: skip
_MINUTES: Final = 600


@dataclass(frozen=True, slots=True)
class Axis:
    """Time from left to right."""

    start: float
    end: float
    width: float

    @classmethod
    def of(cls, found: Saturation) -> Axis:
        """The time that all slots together take."""
        width = found.width
        return cls(found.start // width * width, (found.end // width + 1) * width, width)

    def x(self, time: float) -> float:
        """Where a time stands."""
        room = _WIDTH - _GUTTER - _RIGHT
        return _GUTTER + (time - self.start) / (self.end - self.start) * room

    def ticks(self) -> Iterator[tuple[float, str]]:
        """Round times with their names: since the start, or of the clock if it takes long."""
        span = self.end - self.start
        step = next(step for step in _TICKS if span / step <= 9 or step == _TICKS[-1])
        origin = self.start if span < _MINUTES else self.start // step * step
        for count in range(12):
            time = origin + count * step
            if self.start <= time <= self.end:
                yield self.x(time), _tick(time, count * step, span)


def _tick(time: float, since: float, span: float) -> str:
    if span < _MINUTES:
        return f"+{since:g} s"
    at = datetime.fromtimestamp(time, UTC)
    return f"{at:%H:%M}" if span < 172_800 else f"{at:%d %b %H:%M}"


def heat_map(found: Saturation) -> str:
    """Time against route and model; the colour is the share of 429s."""
    axis, shown = Axis.of(found), found.series[:ROWS_DRAWN]
    height = len(shown) * _ROW
    parts = [_time_axis(axis, 0, height)]
    for row, series in enumerate(shown):
        top = row * _ROW
        parts.append(_name(series, top + 15))
        parts += [_heat_cell(axis, slot, top, series) for slot in series.slots]
    label = "Heat map: share of 429s by time, for each route and model. The table has the figures."
    return _svg(parts, height + 26, label)


def _heat_cell(axis: Axis, slot: Slot, top: float, series: Series) -> str:
    step = next(place for place, upper in enumerate(STEPS) if slot.share <= upper)
    return _rect(f"h{step}", axis, slot, top + 3, _ROW - 6, _slot_title(axis, slot, series))


def panel(found: Saturation, series: Series) -> str:
    """One route and model: the share of 429s above, limit and requests in flight below."""
    axis = Axis.of(found)
    bottom = _SHARE_HEIGHT + _GAP + _FLIGHT_HEIGHT
    parts = [
        _time_axis(axis, 0, bottom),
        _scale("429s", 0, _SHARE_HEIGHT, "100%"),
        *_share_bars(axis, series),
        *_flight(axis, series),
    ]
    if series.first is not None:
        x = axis.x(series.first.time)
        side, shift = ("end", -5) if x > _WIDTH * 0.85 else ("start", 5)
        parts.append(f'<line class="first" x1="{x:.1f}" x2="{x:.1f}" y1="-4" y2="{bottom}"/>')
        parts.append(_text("mark", x + shift, 7, f"first 429: {series.first.in_flight} in flight",
                           side))  # fmt: skip
    label = f"{series.route} {series.model}: share of 429s, limit and requests in flight over time"
    return _svg(parts, bottom + 26, label)


def _share_bars(axis: Axis, series: Series) -> Iterator[str]:
    for slot in series.slots:
        height = slot.share * _SHARE_HEIGHT
        if height:
            title = _slot_title(axis, slot, series)
            yield _rect("share", axis, slot, _SHARE_HEIGHT - height, height, title)


def _flight(axis: Axis, series: Series) -> Iterator[str]:
    """Requests in flight as bars, the limit as a line above them, the level as a dashed one."""
    top = _SHARE_HEIGHT + _GAP
    highest = max(max(slot.in_flight, slot.limit) for slot in series.slots)
    most = _round_up(highest)
    yield _scale("requests", top, _FLIGHT_HEIGHT, f"{most:g}")

    def y(count: float) -> float:
        return top + _FLIGHT_HEIGHT * (1 - count / most)

    path: list[str] = []
    for slot in series.slots:
        bar = y(slot.in_flight)
        title = _slot_title(axis, slot, series)
        yield _rect("flight", axis, slot, bar, top + _FLIGHT_HEIGHT - bar, title)
        left, right = axis.x(slot.start), axis.x(slot.start + axis.width)
        joined = path and path[-1].endswith(f"H{left:.1f}")
        path.append(f"{'L' if joined else 'M'}{left:.1f} {y(slot.limit):.1f}H{right:.1f}")
    yield f'<path class="limit" d="{"".join(path)}"/>'
    if series.level is not None:
        at = y(series.level.holds)
        yield _level_line("level", at)
        yield _text("mark", _WIDTH - _RIGHT, at - 4, f"holds {series.level.holds}", "end")


def _round_up(count: float) -> float:
    """The next number that looks well at the end of a scale."""
    size = 1.0
    while size * 10 < count:
        size *= 10
    return next(size * step for step in (1, 2, 3, 4, 5, 6, 8, 10) if size * step >= count)


def _scale(name: str, top: float, height: float, most: str) -> str:
    base = top + height
    return (
        _level_line("axis", base)
        + _text("name", 0, top + height / 2 + 4, name, "start")
        + _text("tick", _GUTTER - 6, top + 9, most, "end")
        + _text("tick", _GUTTER - 6, base, "0", "end")
    )


def _level_line(name: str, y: float) -> str:
    right = _WIDTH - _RIGHT
    return f'<line class="{name}" x1="{_GUTTER}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'


def _time_axis(axis: Axis, top: float, bottom: float) -> str:
    return "".join(
        f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom + 4}"/>'
        + _text("tick", x, bottom + 18, label, "middle" if x < _WIDTH - 40 else "end")
        for x, label in axis.ticks()
    )


def _name(series: Series, y: float) -> str:
    model, route = printable(series.model) or "-", printable(series.route)
    return _text("name", 0, y, cut(model, 27, "\u2026"), "start") + _text(
        "tick", 0, y + 14, cut(route, 34, "\u2026"), "start"
    )


def _slot_title(axis: Axis, slot: Slot, series: Series) -> str:
    after = max(0.0, slot.start - axis.start)
    return (
        f"{series.model or series.route}, {since(after)} for {duration(axis.width)}:"
        f" {slot.refused} of {slot.attempts} refused ({slot.share:.0%}),"
        f" up to {slot.in_flight} in flight,"
        f" limit {slot.limit:.1f}"
    )


def _rect(name: str, axis: Axis, slot: Slot, top: float, height: float, title: str) -> str:
    x = axis.x(slot.start)
    width = max(0.8, axis.x(slot.start + axis.width) - x - 0.6)
    return (
        f'<rect class="{name}" x="{x:.1f}" y="{top:.1f}" width="{width:.1f}"'
        f' height="{height:.1f}"><title>{escape(printable(title))}</title></rect>'
    )


def _text(name: str, x: float, y: float, text: str, anchor: str) -> str:
    return (
        f'<text class="{name}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
    )


def _svg(parts: list[str], height: float, label: str) -> str:
    return (
        f'<svg viewBox="0 -6 {_WIDTH} {height + 6:.0f}" role="img"'
        f' aria-label="{escape(printable(label))}">{"".join(parts)}</svg>'
    )
