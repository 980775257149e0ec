"""The curves of a training, from the rows of its history.csv; epochs are shown counted from 1."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from truemask.errors import UsageError
from truemask.report.figures import Series, line_chart


@dataclass(frozen=True)
class Chart:
    """A chart with the lines that its legend names."""

    title: str
    series: tuple[Series, ...]
    drawing: Markup


def draw_curves(history: Sequence[Mapping[str, str]], *, best_step: Any) -> list[Chart]:
    """Losses, validation scores and learning rate; a chart without a value is left out.

    Args:
        history: the rows of history.csv, epochs counted from 0.
        best_step: the step to mark; anything else marks none.

    Raises:
        UsageError: the table is damaged.
    """
    epochs = [_cell(row, "epoch") for row in history]
    steps = [_cell(row, "step") for row in history]
    marked = next((i for i, step in enumerate(steps) if step == best_step), None)
    # Several validations in one epoch would stand above each other: their steps tell them apart.
    x_name, x = "epoch", [int(epoch) + 1 for epoch in epochs if epoch is not None]
    if any(a >= b for a, b in zip(x, x[1:], strict=False)):
        x_name, x = "step", [int(step) for step in steps if step is not None]
    if len(x) != len(history):
        raise UsageError("history.csv is damaged: a row has no epoch or step")

    def line(name: str, style: str, column: str) -> Series:
        return Series(name=name, style=style, values=[_cell(row, column) for row in history])

    losses = (
        line("training", "blue", "train_loss"),
        line("validation", "orange", "validation_loss"),
    )
    scores = (line("IoU", "green", "validation_iou"), line("Dice", "pink", "validation_dice"))
    rate = (line("learning rate", "grey", "learning_rate"),)
    charts = []
    for title, lines in (("Loss", losses), ("Validation scores", scores), ("Learning rate", rate)):
        series = tuple(line for line in lines if any(value is not None for value in line.values))
        if series:
            said = f"{title} by {x_name}: {'; '.join(_course(line) for line in series)}"
            drawing = line_chart(title=said, x_name=x_name, x=x, series=series, marked=marked)
            charts.append(Chart(title, series, drawing))
    return charts


def last_epoch(history: Sequence[Mapping[str, str]]) -> int:
    """How many epochs were trained, 0 where it is not known."""
    try:
        return int(history[-1]["epoch"]) + 1
    except (IndexError, KeyError, ValueError):
        return 0


def _course(series: Series) -> str:
    values = [value for value in series.values if value is not None]
    return f"{series.name} from {values[0]:.4g} to {values[-1]:.4g}"


def _cell(row: Mapping[str, str], column: str) -> float | None:
    """A value of history.csv; `None` where there is none."""
    text = row.get(column, "").strip()
    try:
        value = float(text) if text else math.nan
    except ValueError as error:
        raise UsageError(f"history.csv is damaged: {column} is {text!r}, not a number") from error
    return value if math.isfinite(value) else None
