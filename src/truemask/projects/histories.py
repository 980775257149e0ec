"""Curves from the histories of runs."""

from collections.abc import Mapping

from matplotlib.figure import Figure as Canvas

from truemask.analysis.charts import Chart, Line, chart, draw_lines
from truemask.analysis.quantities import column
from truemask.runs import Run

_DASHES = ("-", "--")
"""Of the columns of one run, which share its colour."""

LOSSES = {"train_loss": "training loss", "validation_loss": "validation loss"}
SCORES = {"train_iou": "training IoU", "validation_iou": "validation IoU"}


def curves(
    runs: Mapping[str, Run],
    panels: Mapping[str, Mapping[str, str]],
    *,
    said: str,
    by: str = "epoch",
) -> Chart | None:
    """Columns of the histories, one small chart beside the other; nothing where all are empty.

    Args:
        runs: title -> run.
        panels: name of the vertical axis -> column of the history -> its name; the name is left out
            of the legend where a panel has one column only.
        said: what is drawn, for readers who cannot see it.
        by: "epoch" or "step".
    """
    lines = {
        name: [
            Line(
                name=_legend(title, text, runs, columns),
                points=_points(run, key, by),
                color=f"C{place if len(runs) > 1 else dash}",
                dashes=_DASHES[dash],
            )
            for place, (title, run) in enumerate(runs.items())
            for dash, (key, text) in enumerate(columns.items())
        ]
        for name, columns in panels.items()
    }
    drawn = {
        name: [line for line in found if line.points]
        for name, found in lines.items()
        if any(line.points for line in found)
    }
    if not drawn:
        return None

    def draw(figure: Canvas) -> None:
        made = figure.subplots(1, len(drawn), squeeze=False)[0]
        for axes, (name, found) in zip(made, drawn.items(), strict=True):
            draw_lines(axes, found, x=by, y=name)
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), fontsize=8)

    words = "; ".join(
        f"{line.name} ends at {line.points[-1][1]:.3g}"
        for found in drawn.values()
        for line in found
    )
    legend = max(len(found) for found in drawn.values())
    return chart(draw, said=f"{said}: {words}", width=9.2, height=3.4 + 0.17 * legend)


def _legend(title: str, text: str, runs: Mapping[str, Run], columns: Mapping[str, str]) -> str:
    if len(runs) == 1:
        return text
    return title if len(columns) == 1 else f"{title}, {text}"


def _points(run: Run, key: str, by: str) -> list[tuple[float, float]]:
    if by == "step":
        return [(float(step), value) for step, value in column(run, key)]
    epochs = dict(column(run, "epoch"))
    return [(epochs[step] + 1, value) for step, value in column(run, key) if step in epochs]
