"""Charts of runs, drawn by matplotlib in the colours of the pages, once light and once dark."""

import base64
import io
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import matplotlib as mpl
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, MaxNLocator

from truemask.results import Interval

_DOTS_AN_INCH = 100


@dataclass(frozen=True)
class Chart:
    """A drawing of curves or bars, once for light and once for dark pages, as data URIs."""

    kind: ClassVar = "chart"
    light: str
    dark: str
    width: int
    height: int
    said: str


@dataclass(frozen=True)
class _Palette:
    """The colours of `style.css`; the cycle is Okabe and Ito's, which colour-blind readers see."""

    ink: str
    soft: str
    line: str
    cycle: tuple[str, ...]


_LIGHT = _Palette(
    ink="#16202b",
    soft="#56616e",
    line="#dfe4ea",
    cycle=(
        "#0072b2", "#b84f00", "#00855f", "#b0568c", "#8a6d00", "#56616e", "#3f9fd6", "#16202b",
    ),
)  # fmt: skip
_DARK = _Palette(
    ink="#e7ecf2",
    soft="#9dabb9",
    line="#2a3440",
    cycle=(
        "#56b4e9", "#f0902f", "#2cc79a", "#e09cc3", "#e6c84a", "#9dabb9", "#0d8ad1", "#e7ecf2",
    ),
)  # fmt: skip
_DASHES = ("-", "--", "-.", ":", "-", "--", "-.", ":")


def chart(
    draw: Callable[[Figure], None], *, said: str, width: float = 8.4, height: float = 4.2
) -> Chart:
    """Draw in light and in dark colours.

    Args:
        draw: puts axes on an empty figure; it is called twice, and names colours as "C0" to "C7".
        said: what is drawn, for readers who cannot see it.
        width: in inches of 100 dots.
        height: likewise.
    """
    light, dark = (_svg(draw, palette, width, height) for palette in (_LIGHT, _DARK))
    return Chart(light, dark, round(width * _DOTS_AN_INCH), round(height * _DOTS_AN_INCH), said)


def _svg(draw: Callable[[Figure], None], palette: _Palette, width: float, height: float) -> str:
    with mpl.rc_context(_style(palette)):
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure)
        buffer = io.BytesIO()
        # Without a date, so that the same runs give the same page.
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _style(palette: _Palette) -> Any:
    return {
        "font.family": "DejaVu Sans",
        "font.size": 9.5,
        "svg.hashsalt": "truemask",
        "text.color": palette.ink,
        "axes.labelcolor": palette.soft,
        "axes.titlecolor": palette.ink,
        "axes.titlesize": 10.5,
        "axes.edgecolor": palette.soft,
        "axes.facecolor": "none",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": palette.line,
        "xtick.color": palette.soft,
        "ytick.color": palette.soft,
        "legend.frameon": False,
        "lines.linewidth": 1.8,
        "axes.prop_cycle": cycler(color=palette.cycle) + cycler(linestyle=_DASHES),
    }


@dataclass(frozen=True, kw_only=True)
class Line:
    """A curve: its name and its points; of its colour and dashes `None` takes the next."""

    name: str
    points: Sequence[tuple[float, float]]
    color: str | None = None
    dashes: str | None = None


def lines_chart(
    lines: Sequence[Line], *, x: str, y: str, said: str, log: bool = False
) -> Chart | None:
    """Curves in one chart; nothing where none has a point."""
    drawn = [line for line in lines if line.points]
    if not drawn:
        return None

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        draw_lines(axes, drawn, x=x, y=y, log=log)
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))

    return chart(draw, said=f"{said}: {'; '.join(map(_course, drawn))}")


def draw_lines(axes: Axes, lines: Sequence[Line], *, x: str, y: str, log: bool = False) -> None:
    """Curves on given axes."""
    for line in lines:
        places, values = zip(*line.points, strict=True)
        marker = "o" if len(places) == 1 else None
        chosen = {"color": line.color, "linestyle": line.dashes}
        given: dict[str, Any] = {key: value for key, value in chosen.items() if value is not None}
        axes.plot(places, values, label=line.name, marker=marker, markersize=4, **given)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if x in ("step", "epoch") or x.startswith("classes"):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    if log:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(LogFormatter())
        axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))


def _course(line: Line) -> str:
    return f"{line.name} from {line.points[0][1]:.4g} to {line.points[-1][1]:.4g}"


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A value with its interval, one for each series."""

    name: str
    values: Sequence[float | None]
    intervals: Sequence[Interval | None]


def bars_chart(
    bars: Sequence[Bar], *, series: Sequence[str], x: str, said: str, width: float = 8.4
) -> Chart | None:
    """Groups of lying bars, each with the whisker of its interval; nothing without a bar."""
    if not any(value is not None for bar in bars for value in bar.values):
        return None
    thickness = 0.8 / len(series)

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for k, name in enumerate(series):
            places = [i + (k - (len(series) - 1) / 2) * thickness for i in range(len(bars))]
            values = [bar.values[k] or 0.0 for bar in bars]
            axes.barh(places, values, thickness * 0.9, label=name, color=f"C{k}")
            for place, bar in zip(places, bars, strict=True):
                _whisker(axes, place, bar.values[k], bar.intervals[k])
        axes.set_yticks(range(len(bars)), [bar.name for bar in bars])
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(x)
        if len(series) > 1:
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.9 / height), ncols=len(series))

    height = 1.5 + len(bars) * (0.16 + 0.2 * len(series))
    words = "; ".join(
        f"{bar.name}: "
        + ", ".join(
            f"{name} {'missing' if value is None else format(value, '.3g')}"
            for name, value in zip(series, bar.values, strict=True)
        )
        for bar in bars
    )
    return chart(draw, said=f"{said}: {words}", width=width, height=height)


def _whisker(axes: Axes, place: float, value: float | None, interval: Interval | None) -> None:
    if value is None:
        return
    end = value
    if interval is not None:
        axes.hlines(place, *interval, colors=mpl.rcParams["text.color"], linewidth=1.4)
        end = max(value, interval[1])
    axes.annotate(
        f"{value:.3g}", (end, place), (4, 0), textcoords="offset points", va="center", fontsize=8
    )


def grid_chart(
    values: Sequence[Sequence[float | None]],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    x: str,
    y: str,
    said: str,
) -> Chart | None:
    """A heat map with its values written in; nothing where every value is missing."""
    known = [value for row in values for value in row if value is not None]
    if not known:
        return None
    low, high = min(known), max(known)

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        shown = [[low if value is None else value for value in row] for row in values]
        axes.imshow(shown, cmap="viridis", vmin=low, vmax=max(high, low + 1e-9), aspect="auto")
        for i, row in enumerate(values):
            for j, value in enumerate(row):
                dark = value is None or value < (low + high) / 2
                axes.text(
                    j, i, "not trained" if value is None else f"{value:.3f}",
                    ha="center", va="center", color="white" if dark else "black",
                )  # fmt: skip
        axes.set_xticks(range(len(columns)), columns)
        axes.set_yticks(range(len(rows)), rows)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.grid(visible=False)

    words = "; ".join(
        f"{name}: {', '.join('missing' if v is None else format(v, '.3g') for v in row)}"
        for name, row in zip(rows, values, strict=True)
    )
    return chart(draw, said=f"{said}: {words}", height=1.2 + 0.75 * len(rows))


def wrapped(text: str, width: int = 40) -> str:
    """On two lines at most, as Matplotlib takes it: "$" begins a formula, "_" hides a name."""
    lines = textwrap.wrap(text.lstrip("_"), width, max_lines=2, placeholder=" …")
    return "\n".join(lines).replace("$", r"\$")
