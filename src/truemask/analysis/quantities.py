"""The numbers of a table, by name, each read from the files of a run.

running_loss           mean of the training loss over all steps
train_loss             of the last stretch of the history; likewise validation_loss
PART.SCORE             a score of results.json, or of evaluation-PART.json
PART.mean_iou          mean IoU of all classes, also where there are only two
PART.iou_per_class.X   of one class
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from truemask.errors import UsageError
from truemask.files import read_json
from truemask.metrics.bootstrap import FEWEST, percentile_intervals, resampled_margins
from truemask.metrics.confusion import iou, mean_over_classes
from truemask.per_image import Evaluation, load_parts
from truemask.results import Interval, PartResult
from truemask.runs import Run

_RESAMPLES = 2000

_SAID = {
    "running_loss": "mean training loss of all steps",
    "train_loss": "training loss at the end",
    "validation_loss": "validation loss at the end",
    "iou": "IoU",
    "mean_iou": "mean IoU",
    "pixel_accuracy": "pixel accuracy",
    "loss": "loss",
}
_PARTS = {"train": "training", "batch-statistics": "with batch statistics,"}


@dataclass(frozen=True)
class Quantity:
    """A value and, where it is a score over enough images, its 95 % interval."""

    value: float
    interval: Interval | None = None


def describe(name: str) -> str:
    """A quantity in words."""
    if name in _SAID:
        return _SAID[name]
    part, _, metric = name.partition(".")
    if metric.startswith("iou_per_class."):
        said = f"IoU of {metric.partition('.')[2]}"
    else:
        said = _SAID.get(metric, metric.replace("_", " "))
    return f"{_PARTS.get(part, part)} {said}"


def read_quantity(run: Run, name: str) -> Quantity | None:
    """A quantity of a finished run; `None` where the run does not have it.

    Raises:
        UsageError: a file of the run is damaged.
    """
    if name == "running_loss":
        means = running_loss(run)
        return Quantity(means[-1][1]) if means else None
    if name in ("train_loss", "validation_loss"):
        values = [value for _, value in column(run, name)]
        return Quantity(values[-1]) if values else None
    part, _, metric = name.partition(".")
    result = part_result(run, part)
    if result is None:
        return None
    if metric == "mean_iou":
        return _mean_iou(run, part, result)
    value = _score(result, metric)
    return None if value is None else Quantity(value, result.intervals.get(metric))


def part_result(run: Run, part: str) -> PartResult | None:
    """The scores of a part, from the training's end or from a later evaluation."""
    if part in run.results:
        return run.results[part]
    file = run.path / f"evaluation-{part}.json"
    return PartResult.from_json(read_json(file)) if file.is_file() else None


def part_evaluation(run: Run, part: str) -> Evaluation | None:
    """The confusion matrix of each image of a part."""
    if run.per_image_path.is_file():
        parts = load_parts(run.per_image_path)
        if part in parts:
            return parts[part]
    file = run.path / f"evaluation-{part}.npz"
    return Evaluation.load(file) if file.is_file() else None


def column(run: Run, name: str) -> list[tuple[int, float]]:
    """A column of the history: (step, value) where there is a value."""
    return [
        (step, value)
        for step, row in _rows(run)
        if (value := _number(row.get(name, ""), run)) is not None
    ]


def running_loss(run: Run) -> list[tuple[int, float]]:
    """After each row of the history: the step, and the mean training loss of all steps so far."""
    means, total, before = [], 0.0, 0
    for step, loss in column(run, "train_loss"):
        total += loss * (step - before)
        before = step
        means.append((step, total / step))
    return means


def share_of_commonest(result: PartResult) -> float | None:
    """The pixel accuracy of always predicting the class that is commonest in the truth."""
    truth = np.array(result.confusion, dtype=np.float64).sum(1)
    return float(truth.max() / truth.sum()) if truth.sum() > 0 else None


def _mean_iou(run: Run, part: str, result: PartResult) -> Quantity | None:
    known = [value for value in result.iou_per_class.values() if value is not None]
    if not known:
        return None
    evaluation = part_evaluation(run, part)
    intervals: dict[str, Interval] = {}
    if evaluation is not None and len(evaluation.names) >= FEWEST:
        counts = resampled_margins(evaluation.matrices, resamples=_RESAMPLES, seed=0)
        intervals = percentile_intervals({"mean_iou": mean_over_classes(iou(counts))})
    return Quantity(sum(known) / len(known), intervals.get("mean_iou"))


def _score(result: PartResult, metric: str) -> float | None:
    name, _, of_class = metric.partition(".")
    value = getattr(result, name, None)
    if of_class and isinstance(value, Mapping):
        value = value.get(of_class)
    return float(value) if isinstance(value, int | float) else None


def _rows(run: Run) -> Iterator[tuple[int, dict[str, str]]]:
    for row in run.history:
        step = _number(row.get("step", ""), run)
        if step is None or step < 1:
            raise UsageError(f"{run.path / 'history.csv'} is damaged: a row has no step")
        yield int(step), row


def _number(text: str, run: Run) -> float | None:
    try:
        value = float(text) if text else math.nan
    except ValueError as error:
        raise UsageError(f"{run.path / 'history.csv'} is damaged: {text!r}") from error
    return value if math.isfinite(value) else None
