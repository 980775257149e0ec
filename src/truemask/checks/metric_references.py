"""What a score can be: every usual figure of some predictions, to tell which one a metric is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from truemask.metrics import confusion

Batch = tuple[Int64[Tensor, "B H W"], Int64[Tensor, "B H W"]]
"""Predicted and true class ids."""

Scores = Float64[np.ndarray, "*S K"]

CLASS_SCORES: dict[str, Callable[[confusion.Counts], Scores]] = {
    "iou": confusion.iou,
    "dice": confusion.dice,
    "precision": confusion.precision,
    "recall": confusion.recall,
}


@dataclass(frozen=True)
class Reference:
    """One way to compute a score.

    Attributes:
        score: "iou", "dice", "precision", "recall" or "accuracy".
        over: "all" pixels together, the mean of "images", or the mean of "batches".
        absent: what a class without a pixel counts: left "out", or as "0" or "1".
        classes: "mean" of all, "foreground" mean without class 0, or "pooled" counts.
        value: the figure.
    """

    score: str
    over: str
    absent: str
    classes: str
    value: float


def references(batches: Sequence[Batch], *, num_classes: int, ignore_index: int) -> list[Reference]:
    """All of them, the soundest first: one total, absent classes left out."""
    per_batch = [_matrices(batch, num_classes, ignore_index) for batch in batches]
    images = np.concatenate(per_batch)
    stacks = {
        "all": images.sum(0)[None],
        "images": images,
        "batches": np.stack([matrices.sum(0) for matrices in per_batch]),
    }
    found: list[Reference] = []
    for over, stack in stacks.items():
        found += _of_stack(over, stack)
    return found


def _matrices(batch: Batch, num_classes: int, ignore_index: int) -> Int64[np.ndarray, "B K K"]:
    prediction, truth = batch
    counts = confusion.confusion_matrices(
        truth, prediction, num_classes=num_classes, ignore_index=ignore_index
    )
    matrices: Int64[np.ndarray, "B K K"] = counts.numpy()
    return matrices


def _of_stack(over: str, stack: Int64[np.ndarray, "N K K"]) -> list[Reference]:
    found = [Reference("accuracy", over, "out", "pooled", _mean(confusion.pixel_accuracy(stack)))]
    for score, function in CLASS_SCORES.items():
        values = function(stack)
        for absent in ("out", "0", "1"):
            filled = values if absent == "out" else np.nan_to_num(values, nan=float(absent))
            for classes, part in (("mean", filled), ("foreground", filled[..., 1:])):
                mean = _mean(confusion.mean_over_classes(part))
                found.append(Reference(score, over, absent, classes, mean))
        found.append(Reference(score, over, "out", "pooled", _mean(_pooled(score, stack))))
    return found


def _pooled(score: str, stack: Int64[np.ndarray, "N K K"]) -> Float64[np.ndarray, " N"]:
    """The counts of all classes added up before the division."""
    hits = np.diagonal(stack, axis1=-2, axis2=-1).sum(-1)
    pixels = stack.sum((-2, -1))
    whole = {"iou": 2 * pixels - hits}.get(score, pixels)
    shares: Float64[np.ndarray, " N"] = hits / np.maximum(whole, 1)
    return shares


def _mean(values: Float64[np.ndarray, " N"]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def regions(seed: int, *, batch: int, classes: Sequence[int], size: int = 48) -> Tensor:
    """Random masks of large rectangles of some classes, the first class behind them; (B, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    masks = torch.full((batch, size, size), classes[0])
    for mask in masks:
        for number in classes[1:]:
            top, left = torch.randint(0, size // 2, (2,), generator=generator).tolist()
            height, width = torch.randint(6, size // 2, (2,), generator=generator).tolist()
            mask[top : top + height, left : left + width] = number
    return masks


def with_errors(truth: Tensor, share: float, classes: Sequence[int], seed: int) -> Tensor:
    """The truth with a share of its pixels as another of the classes."""
    generator = torch.Generator().manual_seed(seed)
    wrong = torch.rand(truth.shape, generator=generator) < share
    drawn = torch.randint(0, len(classes), truth.shape, generator=generator)
    return torch.where(wrong, torch.tensor(list(classes))[drawn], truth)
