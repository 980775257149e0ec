"""From counts to a typed result: every score of `results.json`, each with its interval."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int64

from truemask.errors import UsageError
from truemask.metrics.bootstrap import (
    FEWEST,
    percentile_intervals,
    resampled_margins,
    resampled_sums,
)
from truemask.metrics.confusion import (
    Counts,
    dice,
    f1,
    frequency_weighted_iou,
    headline,
    iou,
    mean_accuracy,
    pixel_accuracy,
    precision,
    recall,
)
from truemask.results import Interval, PartResult


def score(
    matrices: Int64[np.ndarray, "N K K"],
    losses: Float64[np.ndarray, " N"],
    *,
    names: Sequence[str],
    resamples: int,
    seed: int,
) -> PartResult:
    """Every score of some images, with 95 % bootstrap intervals over them; no subgroups.

    Args:
        matrices: a confusion matrix an image.
        losses: the loss of each image alone. If that of one image is not known (NaN), neither is
            the mean.
        names: the K classes.
        resamples: how often the images are drawn again; 0 gives no intervals.
        seed: the same seed gives the same intervals.

    Raises:
        UsageError: there is no image.
    """
    if len(matrices) == 0:
        raise UsageError("no image was evaluated, so there is nothing to score")
    total = matrices.sum(0)
    scalars = {name: _number(value) for name, value in _scalars(total).items()}
    return PartResult(
        images=len(matrices),
        iou=scalars["iou"],
        dice=scalars["dice"],
        pixel_accuracy=scalars["pixel_accuracy"],
        mean_accuracy=scalars["mean_accuracy"],
        frequency_weighted_iou=scalars["frequency_weighted_iou"],
        iou_per_class=_by_class(names, iou(total)),
        dice_per_class=_by_class(names, dice(total)),
        precision_per_class=_by_class(names, precision(total)),
        recall_per_class=_by_class(names, recall(total)),
        f1_per_class=_by_class(names, f1(total)),
        confusion=total.tolist(),
        loss=_number(losses.mean()),
        intervals=_intervals(matrices, losses, names=names, resamples=resamples, seed=seed),
    )


_HEADLINES = ("iou", "dice")
"""Of two classes these are scores of the second alone."""


def _scalars(counts: Counts) -> dict[str, Float64[np.ndarray, "*S"]]:
    """The scores that are one figure, by their names in `PartResult`."""
    return {
        "iou": headline(iou(counts)),
        "dice": headline(dice(counts)),
        "pixel_accuracy": pixel_accuracy(counts),
        "mean_accuracy": mean_accuracy(counts),
        "frequency_weighted_iou": frequency_weighted_iou(counts),
    }


def _intervals(
    matrices: Int64[np.ndarray, "N K K"],
    losses: Float64[np.ndarray, " N"],
    *,
    names: Sequence[str],
    resamples: int,
    seed: int,
) -> dict[str, Interval]:
    """Intervals of all single figures, and of each class's IoU and Dice; few images have none.

    What a class of few images scores is not known better for all the images without it.
    """
    if len(matrices) < FEWEST:
        return {}
    counts = resampled_margins(matrices, resamples=resamples, seed=seed)
    samples = _scalars(counts)
    known = ((matrices.sum(1) + matrices.sum(2)) > 0).sum(0) >= FEWEST
    if len(names) == 2 and not known[1]:
        samples = {name: values for name, values in samples.items() if name not in _HEADLINES}
    if np.isfinite(losses).all():
        sums = resampled_sums(losses[:, None], resamples=resamples, seed=seed)[:, 0]
        samples["loss"] = sums / len(losses)
    for metric, scores in (("iou_per_class", iou(counts)), ("dice_per_class", dice(counts))):
        for name, column, enough in zip(names, scores.T, known, strict=True):
            if enough:
                samples[f"{metric}.{name}"] = column
    return percentile_intervals(samples)


def _by_class(names: Sequence[str], scores: Float64[np.ndarray, " K"]) -> dict[str, float | None]:
    return {name: _number(value) for name, value in zip(names, scores, strict=True)}


def _number(value: np.floating | Float64[np.ndarray, ""]) -> float | None:
    """A plain float, or `None` for what is not defined."""
    return None if math.isnan(value) else float(value)
