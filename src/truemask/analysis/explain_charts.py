"""The charts of an explanation."""

import math
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from truemask.analysis.charts import Bar, Chart, bars_chart, chart
from truemask.analysis.explanation import (
    Calibration,
    ConfidenceBin,
    ErrorBin,
    Explanation,
    SizeBin,
)
from truemask.report.formats import percent, quantity

_WIDTH = 5.2
_MOST_CLASSES = 12
"""Classes whose reliability is drawn, those with most pixels."""


def charts(found: Explanation) -> dict[str, Chart | None]:
    """All charts, by name; `None` where there is nothing to draw."""
    return {
        "borders": _borders(found.borders),
        "positions": _positions(found.positions),
        "sizes": _sizes(found.sizes),
        "classes": _classes(found.sizes_per_class),
        "reliability": _reliability(found.calibration, found.calibrated),
        "confidence": _confidence(found.calibration, found.calibrated),
        "class_reliability": _class_reliability(found.calibration, found.calibrated),
    }


def _borders(bins: Sequence[ErrorBin]) -> Chart | None:
    names = ["1 px", *(f"to {item.high:g} px" for item in bins[1:-1]), f"> {bins[-1].low:g} px"]
    bars = [
        Bar(
            name=name,
            values=[_hundredfold(item.rate)],
            intervals=[_ends(item.interval)],
        )
        for name, item in zip(names, bins, strict=True)
    ]
    return bars_chart(
        bars, series=["error rate"], x="error rate in %", said="error rate by distance to a border",
        width=_WIDTH,
    )  # fmt: skip


def _sizes(bins: Sequence[SizeBin]) -> Chart | None:
    bars = [
        Bar(
            name=f"{_size(item)}  ({quantity(item.regions)})",
            values=[_hundredfold(item.recall)],
            intervals=[_ends(item.interval)],
        )
        for item in bins
    ]
    return bars_chart(
        bars, series=["found"], x="found pixels in %", width=_WIDTH,
        said="share of the pixels that was found, by the least pixels of the regions (and how many "
        "there are)",
    )  # fmt: skip


def _size(item: SizeBin) -> str:
    return f"{item.low:,} px"


def _hundredfold(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _ends(interval: tuple[float, float] | None) -> tuple[float, float] | None:
    return None if interval is None else (100 * interval[0], 100 * interval[1])


def _positions(rates: Sequence[Sequence[float | None]]) -> Chart | None:
    if not any(rate is not None for row in rates for rate in row):
        return None
    values = [[math.nan if rate is None else 100 * rate for rate in row] for row in rates]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        drawn = axes.imshow(values, cmap="cividis", vmin=0, aspect="auto")
        axes.set_xticks([-0.5, (len(values[0]) - 1) / 2, len(values[0]) - 0.5])
        axes.set_xticklabels(["left", "", "right"])
        axes.set_yticks([-0.5, len(values) - 0.5], ["top", "bottom"])
        axes.grid(visible=False)
        bar = figure.colorbar(drawn, ax=axes, label="error rate in %")
        bar.outline.set_visible(False)

    rows = "; ".join(", ".join(percent(rate, 0) for rate in row) for row in rates)
    return chart(
        draw, said=f"error rate by position, rows from the top: {rows}", width=_WIDTH, height=3.4
    )


def _classes(classes: dict[str, list[SizeBin]]) -> Chart | None:
    """The recall of each class by size, as a heat map."""
    lows = sorted({item.low for bins in classes.values() for item in bins})
    if not lows:
        return None
    table = {name: {item.low: item for item in bins} for name, bins in classes.items()}

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        shown = [[_value(table[name].get(low)) for low in lows] for name in table]
        axes.imshow(shown, cmap="viridis", vmin=0, vmax=1, aspect="auto")
        for row, values in enumerate(shown):
            for column, value in enumerate(values):
                if not math.isnan(value):
                    color = "white" if value < 0.6 else "black"
                    axes.text(
                        column, row, f"{100 * value:.0f}", ha="center", va="center", color=color,
                        fontsize=8,
                    )  # fmt: skip
        axes.set_xticks(range(len(lows)), [f"{low:,}" for low in lows], fontsize=7.5)
        axes.set_yticks(range(len(table)), [_plain(name) for name in table])
        axes.set_xlabel("found pixels in %, by the least pixels of a region")
        axes.grid(visible=False)

    said = "; ".join(
        f"{name}: " + ", ".join(f"{_size(i)} {percent(i.recall, 0)}" for i in bins if i.regions)
        for name, bins in classes.items()
    )
    return chart(draw, said=f"found by class and size: {said}", height=1.0 + 0.3 * len(classes))


def _value(item: SizeBin | None) -> float:
    return math.nan if item is None or item.recall is None else item.recall


def _plain(name: str) -> str:
    """As Matplotlib takes it: "$" begins a formula."""
    short = name if len(name) <= 28 else f"{name[:27]}…"
    return short.replace("$", r"\$")


def _reliability(before: Calibration, after: Calibration | None) -> Chart:
    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        _reliable(axes, before.bins, after.bins if after else None)
        axes.set_xlabel("confidence in %")
        axes.set_ylabel("right in %")
        axes.legend(loc="upper left")

    said = "; ".join(
        f"{percent(item.confidence, 0)} sure, {percent(item.accuracy, 0)} right"
        for item in before.bins
        if item.pixels
    )
    return chart(draw, said=f"reliability diagram: {said}", width=_WIDTH, height=4.0)


def _reliable(
    axes: Axes, before: Sequence[ConfidenceBin], after: Sequence[ConfidenceBin] | None
) -> None:
    known = [item for item in before if item.accuracy is not None]
    axes.bar(
        [100 * item.low for item in known],
        [100 * (item.accuracy or 0.0) for item in known],
        width=100 / len(before),
        align="edge",
        color="C0",
        alpha=0.55,
        edgecolor="C0",
        label="as trained",
    )
    if after is not None:
        points = [
            (100 * item.confidence, 100 * item.accuracy)
            for item in after
            if item.confidence is not None and item.accuracy is not None
        ]
        if points:
            axes.plot(*zip(*points, strict=True), "o-", color="C1", ms=4, label="calibrated")
    axes.plot([0, 100], [0, 100], color=mpl.rcParams["text.color"], ls=":", lw=1.2, label="ideal")
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 100)


def _confidence(before: Calibration, after: Calibration | None) -> Chart:
    """How many pixels have which confidence."""

    def shares(calibration: Calibration) -> list[float]:
        total = max(sum(item.pixels for item in calibration.bins), 1)
        return [100 * item.pixels / total for item in calibration.bins]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        lows = [100 * item.low for item in before.bins]
        how: dict[str, Any] = {"width": 100 / len(lows), "align": "edge"}
        axes.bar(lows, shares(before), color="C0", alpha=0.55, label="as trained", **how)
        if after is not None:
            axes.bar(
                lows, shares(after), fill=False, edgecolor="C1", lw=1.6, label="calibrated", **how
            )
            axes.legend(loc="upper left")
        axes.set_xlim(0, 100)
        axes.set_xlabel("confidence in %")
        axes.set_ylabel("pixels in %")

    said = "; ".join(
        f"up to {percent(item.high, 0)}: {share:.1f} %"
        for item, share in zip(before.bins, shares(before), strict=True)
        if item.pixels
    )
    return chart(draw, said=f"pixels by confidence: {said}", width=_WIDTH, height=4.0)


def _class_reliability(before: Calibration, after: Calibration | None) -> Chart | None:
    """Small reliability diagrams, one a class."""
    places = [place for place, item in enumerate(before.per_class) if item.pixels]
    places.sort(key=lambda place: -before.per_class[place].pixels)
    places = sorted(places[:_MOST_CLASSES])
    if len(places) < 2:
        return None
    columns = min(4, len(places))
    rows = -(-len(places) // columns)

    def draw(figure: Figure) -> None:
        made = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
        for axes, place in zip(made, places, strict=False):
            own = before.per_class[place]
            _reliable(axes, own.bins, after.per_class[place].bins if after else None)
            axes.set_title(_plain(own.name))
        for axes in made[len(places) :]:
            axes.set_visible(False)
        figure.supxlabel("confidence in %", fontsize=9.5)
        figure.supylabel("right in %", fontsize=9.5)

    said = "; ".join(
        f"{item.name}: {percent(item.confidence, 0)} sure, {percent(item.accuracy, 0)} right"
        for item in (before.per_class[place] for place in places)
    )
    return chart(draw, said=f"reliability of each class: {said}", height=0.7 + 2.1 * rows)
