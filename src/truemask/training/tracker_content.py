"""What experiment trackers are told of a run: names, numbers, settings, pictures."""

import io
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from truemask.labels import LabelMap
from truemask.results import PartResult
from truemask.run_samples import RunSample

PICTURES = 12
"""The most pictures of a run that are sent."""

_HEIGHT = 240
"""Of a picture, in pixels."""

_SCALARS = (
    "images", "iou", "dice", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou", "loss",
)  # fmt: skip
_PER_CLASS = tuple(f"{metric}_per_class" for metric in ("iou", "dice", "precision", "recall", "f1"))
_GROUPS = ("train", "validation")
_LONGEST = 200
"""Letters of a name: MLflow takes 250, of which the part and the score need some."""


def row_values(row: Mapping[str, Any]) -> dict[str, float]:
    """A row of the history as trackers name it: `train_loss` is `train/loss`.

    Cells that are empty or no number are left out; the step is the axis and no value. A loss that
    is not finite stays, as it says what went wrong.

    Args:
        row: as it was made (numbers), or as read from `history.csv` (text).
    """
    values = {}
    for column, cell in row.items():
        number = _number(cell)
        if number is None or column == "step":
            continue
        group, _, rest = column.partition("_")
        values[f"{group}/{rest}" if group in _GROUPS and rest else column] = number
    return values


def result_values(results: Mapping[str, PartResult]) -> dict[str, float]:
    """The scores of each part: `test/iou`, `test/iou_low`, `test/iou_per_class/road`.

    `_low` and `_high` are the ends of the 95 % interval. Those of the validation part are called
    `validation_best/...`, as `validation/...` is the curve over the training. A class that does not
    occur has no score and is left out, and so are subgroups, which `results.json` has.
    """
    values = {}
    for part, result in results.items():
        group = f"{part}_best" if part in _GROUPS else part
        classes = plain_names(result.iou_per_class, endings=("", "_low", "_high"))
        for metric, score in _scores(result).items():
            if score is None:
                continue
            kind, dot, name = metric.partition(".")
            shown = f"{group}/{kind}/{classes[name]}" if dot else f"{group}/{kind}"
            values[shown] = float(score)
            if metric in result.intervals:
                low, high = result.intervals[metric]
                values |= {f"{shown}_low": float(low), f"{shown}_high": float(high)}
    return values


def plain_names(names: Iterable[str], *, endings: Sequence[str] = ("",)) -> dict[str, str]:
    """Each name in letters that every tracker takes, no two of them alike.

    Letters and digits of any script, `_`, `-`, `.` and spaces stay; the others become `_`.

    Args:
        names: any text.
        endings: what will be appended; the names with them differ too.
    """
    plain: dict[str, str] = {}
    used: set[str] = set()
    for name in dict.fromkeys(names):
        stem = re.sub(r"[^\w. -]", "_", name).strip(" .")[:_LONGEST] or "_"
        numbered = (f"{stem}_{number}" for number in itertools.count(2))
        for plain[name] in itertools.chain([stem], numbered):
            taken = {plain[name] + ending for ending in endings}
            if not taken & used:
                break
        used |= taken
    return plain


def parameters(
    config: Mapping[str, Any], environment: Mapping[str, Any]
) -> dict[str, str | int | float | bool]:
    """Configuration and environment as one flat mapping, such as `optimizer.lr`.

    Lists, `None`, and what lies deep in the environment are written as JSON.
    """
    flat = dict(_flatten(config, depth=8))
    flat |= {f"environment.{key}": value for key, value in _flatten(environment, depth=2)}
    plain = plain_names(flat)
    return {plain[key]: value for key, value in flat.items()}


def pictures(
    samples: Sequence[RunSample], labels: LabelMap, *, most: int = PICTURES
) -> Iterator[tuple[str, bytes]]:
    """Name and PNG of some samples: image, truth and prediction side by side.

    Those of the test part come first, and of each part and kind equally many.
    """
    predicted = [sample for sample in samples if sample.prediction is not None]
    turns: Counter[tuple[str, str]] = Counter()
    ranks = []
    for sample in predicted:
        ranks.append((sample.part != "test", turns[sample.part, sample.kind]))
        turns[sample.part, sample.kind] += 1
    chosen = sorted(range(len(predicted)), key=lambda i: (*ranks[i], i))[:most]
    names = plain_names([predicted[i].name for i in chosen] + [s.part for s in predicted])
    for i in sorted(chosen):
        sample = predicted[i]
        name = f"{names[sample.part]}/{sample.kind}/{names[sample.name]}"
        yield name, _png(sample, labels)


def side_by_side(sample: RunSample, labels: LabelMap) -> UInt8[np.ndarray, "H _ 3"]:
    """Image, truth and prediction in the colours of the classes, with white gaps between."""
    assert sample.prediction is not None
    cells = [sample.image, labels.colorize(sample.truth), labels.colorize(sample.prediction)]
    gap = np.full((len(sample.image), max(2, sample.image.shape[1] // 64), 3), 255, np.uint8)
    return np.concatenate([cells[0], gap, cells[1], gap, cells[2]], axis=1)


def _png(sample: RunSample, labels: LabelMap) -> bytes:
    picture = Image.fromarray(side_by_side(sample, labels))
    if picture.height > _HEIGHT:
        width = max(1, round(picture.width * _HEIGHT / picture.height))
        picture = picture.resize((width, _HEIGHT), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    picture.save(content, format="PNG", optimize=True)
    return content.getvalue()


def _scores(result: PartResult) -> dict[str, float | None]:
    """Metric -> score, by the names that `PartResult.intervals` has."""
    scores: dict[str, float | None] = {name: getattr(result, name) for name in _SCALARS}
    for kind in _PER_CLASS:
        for name, score in getattr(result, kind).items():
            scores[f"{kind}.{name}"] = score
    return scores


def _flatten(value: Mapping[str, Any], *, depth: int) -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        if isinstance(item, Mapping) and item and depth > 1:
            for inner, leaf in _flatten(item, depth=depth - 1):
                yield f"{key}.{inner}", leaf
        elif isinstance(item, str | bool | int | float):
            yield str(key), item
        else:
            yield str(key), json.dumps(item, ensure_ascii=False, default=str)


def _number(cell: Any) -> float | None:
    if isinstance(cell, bool) or cell is None or cell == "":
        return None
    try:
        return float(cell)
    except (TypeError, ValueError):
        return None
