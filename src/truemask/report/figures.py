"""Charts as inline SVG.

They are drawn by hand because a page then stays one small file, is crisp at any size, takes its
colours from the page's CSS (so that dark mode and print work), and shows its numbers on hover
without JavaScript.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from truemask.report.formats import is_number, number

_WIDTH, _HEIGHT = 360, 226
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 350, 24, 190
_MOST_POINTS = 240


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line of a chart.

    Attributes:
        name: as the legend and the value shown on hover call it.
        style: the CSS class that gives its colour and dashes.
        values: one a position of the horizontal axis; `None` leaves a gap.
    """

    name: str
    style: str
    values: Sequence[float | None]


@dataclass(frozen=True)
class _Axis:
    """Maps values to pixels, with the values that deserve a label."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def line_chart(
    *,
    title: str,
    x_name: str,
    x: Sequence[int],
    series: Sequence[Series],
    marked: int | None = None,
) -> Markup:
    """A line chart whose values appear on hover.

    Args:
        title: what is drawn, for readers who cannot see it.
        x_name: what the horizontal axis counts.
        x: increasing positions, one a value of every series.
        series: the lines.
        marked: the index of a position to mark as the best one.
    """
    values = [v for line in series for v in line.values if v is not None]
    if not values:
        return Markup("")
    keep = _thin(len(x), marked)
    across = _axis(x[0], x[-1], _LEFT, _RIGHT, count=6, whole=True)
    up = _axis(*_range(values), _BOTTOM, _TOP + 8, count=5)
    parts = [_grid(across, up, x_name)]
    if marked is not None:
        place = across(x[marked])
        parts.append(_line(place, _TOP, place, _BOTTOM, "mark"))
    parts += [_curve(line, x, keep, across, up) for line in series]
    if marked is not None:
        parts.append(_dots(series, marked, across(x[marked]), up))
    parts += [_probe(i, x_name, x, series, keep, across, up) for i in keep]
    return Markup(
        '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
    ).format(_WIDTH, _HEIGHT, title, Markup("").join(parts))


def interval_bar(value: Any, interval: tuple[float, float] | None) -> Markup:
    """A value between 0 and 1 as a stroke on a scale, and its interval as a band around it."""
    if not is_number(value):
        return Markup("")
    place = _Axis(0, 1, 2, 198, ())
    parts = [_line(place(0), 8, place(1), 8, "track")]
    said = number(value)
    if interval is not None:
        parts.append(_line(place(interval[0]), 8, place(interval[1]), 8, "span"))
        said += f", 95 % interval {number(interval[0])} to {number(interval[1])}"
    parts.append(_line(place(value), 1, place(value), 15, "value"))
    return Markup(
        '<svg class="whisker" viewBox="0 0 200 16" role="img"><title>{}</title>{}</svg>'
    ).format(said, Markup("").join(parts))


def _range(values: Sequence[float]) -> tuple[float, float]:
    """The values to draw between: from 0 where that wastes little of the chart."""
    low, high = min(values), max(values)
    if 0 <= low < 0.6 * high:
        return 0.0, high
    margin = 0.1 * (high - low) if high > low else 0.5 * abs(high) if high != 0 else 1.0
    return (max(0.0, low - margin) if low >= 0 else low - margin), high + margin


def _axis(
    low: float, high: float, start: float, end: float, *, count: int, whole: bool = False
) -> _Axis:
    """An axis with ticks at round values (1, 2 or 5 times a power of ten)."""
    if not high > low:
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    if whole:
        step = max(step, 1.0)
    ticks = (
        n * step for n in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    )
    return _Axis(low, high, start, end, tuple(ticks))


def _grid(across: _Axis, up: _Axis, x_name: str) -> Markup:
    parts = [_line(_LEFT, _BOTTOM, _RIGHT, _BOTTOM, "axis")]
    for value in up.ticks:
        parts.append(_line(_LEFT, up(value), _RIGHT, up(value), "grid"))
        parts.append(_text(_LEFT - 8, up(value) + 4, f"{value:.6g}", "end"))
    for value in across.ticks:
        parts.append(_text(across(value), _BOTTOM + 17, f"{value:,.0f}", "middle"))
    parts.append(_text((_LEFT + _RIGHT) / 2, _HEIGHT - 3, x_name, "middle"))
    return Markup("").join(parts)


def _curve(line: Series, x: Sequence[int], keep: Sequence[int], across: _Axis, up: _Axis) -> Markup:
    """The path of one line; a value without neighbours becomes a dot, so that it is seen too."""
    path: list[str] = []
    alone: list[Markup] = []
    run: list[tuple[float, float]] = []
    for i in [*keep, None]:
        value = line.values[i] if i is not None else None
        if i is not None and value is not None:
            run.append((across(x[i]), up(value)))
            continue
        if len(run) == 1:
            alone.append(_dot(*run[0], line.style))
        elif run:
            path.append("M" + " ".join(f"{a:.1f},{b:.1f}" for a, b in run))
        run = []
    return Markup('<path class="curve {}" d="{}"/>{}').format(
        line.style, "".join(path), Markup("").join(alone)
    )


def _probe(
    i: int,
    x_name: str,
    x: Sequence[int],
    series: Sequence[Series],
    keep: Sequence[int],
    across: _Axis,
    up: _Axis,
) -> Markup:
    """The values of one position: invisible until the pointer is over it (see style.css)."""
    place, at = across(x[i]), keep.index(i)
    left = (across(x[keep[at - 1]]) + place) / 2 if at > 0 else _LEFT
    right = (across(x[keep[at + 1]]) + place) / 2 if at + 1 < len(keep) else _RIGHT
    words = [f"{x_name} {x[i]:,}"]
    words += [f"{line.name} {v:.4g}" for line in series if (v := line.values[i]) is not None]
    return Markup(
        '<g class="probe"><rect x="{:.1f}" y="0" width="{:.1f}" height="{}"/>{}{}{}</g>'
    ).format(
        left, max(right - left, 0.1), _BOTTOM, _line(place, _TOP, place, _BOTTOM, "cursor"),
        _dots(series, i, place, up), _text(_RIGHT, 13, " · ".join(words), "end"),
    )  # fmt: skip


def _dots(series: Sequence[Series], i: int, place: float, up: _Axis) -> Markup:
    return Markup("").join(
        _dot(place, up(value), line.style)
        for line in series
        if (value := line.values[i]) is not None
    )


def _thin(length: int, marked: int | None) -> list[int]:
    """At most some hundred indices, the last and the marked one among them."""
    step = math.ceil(length / _MOST_POINTS)
    return sorted(
        {*range(0, length, step), length - 1} | ({marked} if marked is not None else set())
    )


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> Markup:
    return Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(
        style, x1, y1, x2, y2
    )


def _dot(x: float, y: float, style: str) -> Markup:
    return Markup('<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="4"/>').format(style, x, y)


def _text(x: float, y: float, text: str, anchor: str) -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
        x, y, anchor, text
    )
