"""The charts of a comparison: scores, classes, images, grid, settings, curves."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from truemask.analysis.charts import Chart, Line, chart, draw_lines, grid_chart, wrapped
from truemask.analysis.comparison import SAID, Comparison, Group
from truemask.analysis.comparison_details import (
    class_chart,
    class_text,
    image_chart,
    image_text,
)
from truemask.analysis.quantities import column
from truemask.analysis.run_settings import shown
from truemask.report import formats
from truemask.runs import Run

_MOST_GROUPS = 24
"""Groups in the picture of the scores."""
_MOST_COLOURS = 6
"""Groups whose curves have a colour and a name."""
_MOST_PANELS = 4
_FEWEST_VALUES = 4
"""Different numbers of a setting before its scores are drawn against it."""
_DASHES = ("-", "--", "-.", ":", "-", "--")
_FILLED = 0.5
"""Share of a grid of which more must be trained before it is drawn."""


def comparison_charts(comparison: Comparison) -> list[tuple[str, str, Chart]]:
    """(title, what it means, chart) of all that there is something to draw of.

    Raises:
        UsageError: a run is damaged.
    """
    drawn = (
        ("Scores", _scores_text(comparison), _scores(comparison)),
        ("Classes", class_text(comparison), class_chart(comparison)),
        ("Images", image_text(comparison), image_chart(comparison)),
        ("Grid", "Mean validation score of each combination.", _grid(comparison)),
        (
            "Settings",
            "Validation score against each setting; the best in another colour.",
            _against(comparison),
        ),
        ("Training", _curves_text(comparison), _curves(comparison)),
    )
    return [(title, text, made) for title, text, made in drawn if made is not None]


def _scores_text(comparison: Comparison) -> str:
    text = "Each with its 95 % interval over images, the best on validation first."
    if any(len(group.runs) > 1 for group in comparison.groups):
        text = "The best on validation first. A dash is a run, a dot the mean of several."
    if len(comparison.groups) > _MOST_GROUPS:
        text += f" The first {_MOST_GROUPS} of {len(comparison.groups)}."
    return text


def _scores(comparison: Comparison) -> Chart | None:
    """A dot a part, with the whisker of its interval; of several runs the dots of all."""
    groups = comparison.groups[:_MOST_GROUPS]
    parts = [part for part in ("validation", "test") if part in groups[0].means]
    if len(groups) < 2 or not any(
        group.means.get(p) is not None for group in groups for p in parts
    ):
        return None

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for k, part in enumerate(parts):
            for row, group in enumerate(groups):
                place = row + (k - (len(parts) - 1) / 2) * 0.3
                _dots(axes, comparison, group, part, place, f"C{k}")
            axes.plot([], [], "o", color=f"C{k}", label=part)
        axes.set_yticks(range(len(groups)), [wrapped(group.name) for group in groups])
        axes.set_ylim(len(groups) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(SAID[comparison.metric])
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))

    said = "; ".join(
        f"{group.name}: "
        + ", ".join(f"{part} {formats.number(group.means.get(part))}" for part in parts)
        for group in groups
    )
    return chart(draw, said=f"scores: {said}", height=1.1 + 0.42 * len(groups))


def _dots(
    axes: Axes, comparison: Comparison, group: Group, part: str, place: float, color: str
) -> None:
    mean = group.means.get(part)
    if mean is None:
        return
    runs = [comparison.runs[i] for i in group.runs]
    if len(runs) == 1 and part in runs[0].intervals:
        axes.hlines(place, *runs[0].intervals[part], colors=color, linewidth=1.6)
    elif len(runs) > 1:
        scores = [score for run in runs if (score := run.scores[part]) is not None]
        axes.plot(scores, [place] * len(scores), "|", color=color, markersize=9)
    axes.plot([mean], [place], "o", color=color, markersize=5)


def _curves_text(comparison: Comparison) -> str:
    text = f"Validation {SAID[comparison.metric]} after each epoch."
    if len(comparison.groups) > _MOST_COLOURS:
        text += f" In colour the {_MOST_COLOURS} best on validation."
    return text


def _curves(comparison: Comparison) -> Chart | None:
    """The course of all runs; those of the best groups in colours, the others grey."""
    courses = [[_course(comparison, place) for place in g.runs] for g in comparison.groups]
    front = [
        Line(
            # Runs of one group share colour and dashes, and are named once.
            name=wrapped(group.name) if number == 0 else "_",
            points=points,
            color=f"C{place}",
            dashes=_DASHES[place],
        )
        for place, group in enumerate(comparison.groups[:_MOST_COLOURS])
        for number, points in enumerate(courses[place])
        if points
    ]
    back = [points for group in courses[_MOST_COLOURS:] for points in group if points]
    if not front:
        return None
    label = f"validation {SAID[comparison.metric]}"

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for points in back:
            # A grey for the light and for the dark.
            axes.plot(*zip(*points, strict=True), color="#8a94a0", linewidth=0.8, alpha=0.5, ls="-")
        draw_lines(axes, front, x="epoch", y=label)
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))

    said = "; ".join(f"{line.name} ends at {line.points[-1][1]:.3g}" for line in front)
    return chart(draw, said=f"{label} over the training: {said}", width=9.2)


def _course(comparison: Comparison, place: int) -> list[tuple[float, float]]:
    run = Run(Path(comparison.runs[place].run))
    epochs = dict(column(run, "epoch"))
    return [
        (epochs[step] + 1, number)
        for step, number in column(run, f"validation_{comparison.metric}")
        if step in epochs
    ]


def varied(comparison: Comparison) -> list[str]:
    """The settings that make groups."""
    return [key for key in comparison.keys if key not in comparison.repeats]


def _grid(comparison: Comparison) -> Chart | None:
    """Exactly two settings, in all or most of their combinations."""
    keys = varied(comparison)
    if len(keys) != 2:
        return None
    groups = [group for group in comparison.groups if all(key in group.settings for key in keys)]
    values = [_ordered(key, [group.settings[key] for group in groups]) for key in keys]
    rows, columns = values
    if min(len(rows), len(columns)) < 2 or len(groups) <= _FILLED * len(rows) * len(columns):
        return None
    found = {tuple(shown(key, group.settings[key]) for key in keys): group for group in groups}

    def mean(row: str, name: str) -> float | None:
        group = found.get((row, name))
        return None if group is None else group.means["validation"]

    return grid_chart(
        [[mean(row, name) for name in columns] for row in rows],
        rows=[wrapped(row) for row in rows],
        columns=[wrapped(name, 16) for name in columns],
        x=keys[1],
        y=keys[0],
        said=f"validation {SAID[comparison.metric]} by {keys[0]} and {keys[1]}",
    )


def _ordered(key: str, values: Sequence[Any]) -> list[str]:
    """Different values as text: numbers by size, others as they come."""
    if all(formats.is_number(item) for item in values):
        values = sorted(values)
    return list(dict.fromkeys(shown(key, item) for item in values))


def _against(comparison: Comparison) -> Chart | None:
    """The score of each group against each setting that has many numbers."""
    scored = [group for group in comparison.groups if group.means["validation"] is not None]
    panels = {key: _pairs(scored, key) for key in varied(comparison)}
    chosen = {
        key: pairs
        for key, pairs in panels.items()
        if len({number for number, _ in pairs}) >= _FEWEST_VALUES
    }
    drawn = dict(list(chosen.items())[:_MOST_PANELS])
    if not drawn or _grid(comparison) is not None:
        return None

    def draw(figure: Figure) -> None:
        made = figure.subplots(1, len(drawn), squeeze=False, sharey=True)[0]
        for axes, (key, pairs) in zip(made, drawn.items(), strict=True):
            numbers, scores = zip(*pairs, strict=True)
            axes.plot(numbers, scores, "o", color="C0", markersize=5)
            axes.plot(*pairs[0], "o", color="C1", markersize=7)
            axes.set_xlabel(key)
            if min(numbers) > 0 and max(numbers) / min(numbers) > 30:
                axes.set_xscale("log")
        made[0].set_ylabel(f"validation {SAID[comparison.metric]}")

    said = "; ".join(f"{key}: best at {pairs[0][0]:.4g}" for key, pairs in drawn.items())
    return chart(draw, said=f"score against settings: {said}", width=9.2, height=3.4)


def _pairs(groups: Sequence[Group], key: str) -> list[tuple[float, float]]:
    """(the setting, the score) of each group that has both as numbers, the best first."""
    pairs = []
    for group in groups:
        number, score = group.settings.get(key), group.means["validation"]
        if isinstance(number, int | float) and formats.is_number(number) and score is not None:
            pairs.append((float(number), score))
    return pairs
