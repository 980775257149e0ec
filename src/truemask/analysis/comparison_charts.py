"""The charts of a comparison: scores, classes, images, grid, settings, curves."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from truemask.analysis.charts import Chart, Line, chart, draw_lines, grid_chart
from truemask.analysis.comparison import SAID, Comparison, Group
from truemask.analysis.quantities import column
from truemask.analysis.run_settings import shown
from truemask.report import formats
from truemask.runs import Run

_MOST_GROUPS = 24
"""Groups in the picture of the scores."""
_MOST_COLOURS = 6
"""Groups whose curves have a colour and a name."""
_MOST_PANELS = 4
_MOST_CLASSES = 40
"""Classes in the picture of these."""
_MANY_DOTS = 400
"""Dots from which on they are drawn as pixels, not each as a shape of its own."""
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
        ("Classes", _class_text(comparison), _class_chart(comparison)),
        ("Images", _image_text(comparison), _image_chart(comparison)),
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
    if len(groups) < 2 or not any(group.means[p] is not None for group in groups for p in parts):
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
        + ", ".join(f"{part} {formats.number(group.means[part])}" for part in parts)
        for group in groups
    )
    return chart(draw, said=f"scores: {said}", height=1.1 + 0.42 * len(groups))


def _dots(
    axes: Axes, comparison: Comparison, group: Group, part: str, place: float, color: str
) -> None:
    mean = group.means[part]
    if mean is None:
        return
    runs = [comparison.runs[i] for i in group.runs]
    if len(runs) == 1 and part in runs[0].intervals:
        axes.hlines(place, *runs[0].intervals[part], colors=color, linewidth=1.6)
    elif len(runs) > 1:
        scores = [score for run in runs if (score := run.scores[part]) is not None]
        axes.plot(scores, [place] * len(scores), "|", color=color, markersize=9)
    axes.plot([mean], [place], "o", color=color, markersize=5)


def wrapped(text: str, width: int = 40) -> str:
    """On two lines at most, as Matplotlib takes it: "$" begins a formula, "_" hides a name."""
    lines = textwrap.wrap(text.lstrip("_"), width, max_lines=2, placeholder=" …")
    return "\n".join(lines).replace("$", r"\$")


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


def _class_text(comparison: Comparison) -> str:
    text = (
        "IoU of each class, and how much better it is than the best group's, with its 95 % "
        "interval: right of 0 is better."
    )
    if comparison.detailed and len(_classes(comparison)) > _MOST_CLASSES:
        text += f" The first {_MOST_CLASSES} classes."
    return text


def _classes(comparison: Comparison) -> list[str]:
    details = comparison.groups[0].details
    return [] if details is None else list(details.classes)


def _class_chart(comparison: Comparison) -> Chart | None:
    """Bars of each class's IoU, and beside them the differences to the best with their whiskers."""
    names = _classes(comparison)[:_MOST_CLASSES]
    groups = comparison.detailed
    if len(groups) < 2 or not names:
        return None
    tables = [group.details.classes for group in groups if group.details is not None]
    thickness = 0.8 / len(groups)

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, sharey=True)
        for k, (group, classes) in enumerate(zip(groups, tables, strict=True)):
            places = [i + (k - (len(groups) - 1) / 2) * thickness for i in range(len(names))]
            values = [classes[name].value or 0.0 for name in names]
            left.barh(places, values, thickness * 0.9, color=f"C{k}", label=wrapped(group.name))
            for place, name in zip(places, names, strict=True):
                gap = classes[name].difference
                if gap is None:
                    continue
                right.plot([gap.value], [place], "o", color=f"C{k}", markersize=4)
                if gap.interval is not None:
                    right.hlines(place, *gap.interval, colors=f"C{k}", linewidth=1.6)
        right.axvline(0, color="#8a94a0", linewidth=1, linestyle="-")
        left.set_yticks(range(len(names)), [wrapped(name, 24) for name in names])
        left.set_ylim(len(names) - 0.4, -0.6)
        for axes in (left, right):
            axes.grid(visible=False, axis="y")
        left.set_xlabel("IoU")
        right.set_xlabel("difference to the best")
        figure.legend(loc="outside lower center", ncols=min(3, len(groups)))

    said = "; ".join(
        f"{name}: "
        + ", ".join(
            f"{group.name} {formats.number(classes[name].value)}"
            for group, classes in zip(groups, tables, strict=True)
        )
        for name in names
    )
    height = 1.4 + len(names) * (0.16 + 0.13 * len(groups)) + 0.2 * len(groups) / 3
    return chart(draw, said=f"IoU of the classes: {said}", width=9.2, height=height)


def _image_text(comparison: Comparison) -> str:
    side = "Below" if comparison.metric == "loss" else "Above"
    return (
        f"Left, a dot is an image: its own {SAID[comparison.metric]} with the best and with the "
        f"second; {side.lower()} the line the second is better. Right, how many images differ by "
        "how much."
    )


def _image_chart(comparison: Comparison) -> Chart | None:
    """Each image's score with the best against that with the second, and their differences."""
    images = comparison.images
    if images is None or len(images.scores) < 2 or not images.names:
        return None
    best, second = images.scores[:2]
    ends = [min(min(best), min(second)), max(max(best), max(second))]
    names = [wrapped(group.name, 30) for group in comparison.groups[:2]]
    gaps = [y - x for x, y in zip(best, second, strict=True)]
    said = SAID[comparison.metric]

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        left.plot(ends, ends, color="#8a94a0", linewidth=1, linestyle="-")
        left.plot(
            best, second, "o", color="C0", markersize=4, alpha=0.6, markeredgewidth=0,
            rasterized=len(best) > _MANY_DOTS,
        )  # fmt: skip
        left.set_xlabel(f"{said}, {names[0]}")
        left.set_ylabel(f"{said}, {names[1]}")
        left.set_aspect("equal")
        right.hist(gaps, bins=min(40, max(5, len(gaps) // 5)), color="C0")
        right.axvline(0, color="#8a94a0", linewidth=1, linestyle="-")
        right.set_xlabel(f"difference in {said} (second - best)")
        right.set_ylabel("images")

    higher = sum(gap > 0 for gap in gaps)
    words = f"{len(gaps)} images, {higher} of them score higher with {comparison.groups[1].name}"
    return chart(draw, said=words, width=9.2, height=4.4)
