"""Counts first, then scores: one confusion matrix an image, and every score a pure function of it.

Matrices of images, of batches and of processes add up to that of the whole dataset, so a score of
the sum does not depend on how the dataset was cut. In the formulas below, for class k: `hits` are
the pixels that are k in truth and prediction, `truth` those that are k in the truth, `predicted`
those predicted as k.

A class that occurs in neither truth nor prediction has the score NaN, and is left out of means. A
class that occurs in one of them only has the score 0, never NaN: all of it was missed, or all of it
was invented.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int, Int64, Shaped, UInt8
from torch import Tensor

from truemask.errors import UsageError
from truemask.labels import IGNORE_INDEX

Ids = UInt8[Tensor, "B H W"] | Int[Tensor, "B H W"]


def confusion_matrices(
    truth: Ids, prediction: Ids, *, num_classes: int, ignore_index: int = IGNORE_INDEX
) -> Int64[Tensor, "B K K"]:
    """Count the pixels of each image by true class (rows) and predicted class (columns).

    Pixels whose truth is `ignore_index` are skipped, whatever was predicted there. On CUDA nothing
    waits for the device.

    Args:
        truth: class ids, 0 to K - 1, or `ignore_index`.
        prediction: class ids, 0 to K - 1, on the same device.
        num_classes: K.
        ignore_index: the id of pixels that do not count.

    Raises:
        UsageError: the shapes differ, a dtype is no integer, or a pixel that counts has an id that
            is no class. On CUDA the last is an assertion of the device instead, which its next
            synchronisation raises.
    """
    if truth.shape != prediction.shape or truth.ndim != 3:
        raise UsageError(
            "truth and prediction must both be (B, H, W), got "
            f"{tuple(truth.shape)} and {tuple(prediction.shape)}"
        )
    for name, ids in (("truth", truth), ("prediction", prediction)):
        if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
            raise UsageError(f"{name} must hold integer class ids, got {ids.dtype}")
    # Small dtypes compare wrongly with numbers that they cannot hold: an int8 of -1 equals 255.
    truth, prediction = truth.long(), prediction.long()
    counted = truth != ignore_index
    _check_ids("truth", truth, counted, num_classes)
    _check_ids("prediction", prediction, counted, num_classes)

    batch, bins = len(truth), num_classes * num_classes
    offsets = torch.arange(batch, device=truth.device).view(-1, 1, 1) * bins
    cells = (truth * num_classes).add_(prediction).add_(offsets)
    # Ignored pixels fall into one more bin, which is dropped: selecting the others would wait for
    # CUDA to say how many there are. So would `bincount`, which asks for the largest value.
    cells = cells.masked_fill_(~counted, batch * bins).flatten()
    counts = torch.zeros(batch * bins + 1, dtype=torch.int64, device=truth.device)
    counts.scatter_add_(0, cells, cells.new_ones(1).expand_as(cells))
    return counts[:-1].view(batch, num_classes, num_classes)


def _check_ids(
    name: str,
    ids: Int64[Tensor, "B H W"],
    counted: Bool[Tensor, "B H W"],
    num_classes: int,
) -> None:
    wrong = ((ids < 0) | (ids >= num_classes)) & counted
    if wrong.is_cuda:
        torch._assert_async(~wrong.any(), f"{name} holds an id outside 0 to {num_classes - 1}")
    elif wrong.any():
        raise UsageError(
            f"{name} holds the id {int(ids[wrong][0])}, which is neither a class "
            f"(0 to {num_classes - 1}) nor the ignored id: map the ids to classes first"
        )


class Margins(NamedTuple):
    """All that the scores need of confusion matrices: 3 K numbers in place of K x K.

    Attributes:
        hits: [..., K] pixels of class k that were predicted as k.
        truth: [..., K] pixels of class k.
        predicted: [..., K] pixels predicted as k.
    """

    hits: Shaped[np.ndarray, "*S K"]
    truth: Shaped[np.ndarray, "*S K"]
    predicted: Shaped[np.ndarray, "*S K"]


Counts = Shaped[np.ndarray, "*S K K"] | Margins
"""What every score takes: confusion matrices, or their margins where the matrices are too many."""


def margins(counts: Counts) -> Margins:
    """The margins of confusion matrices; margins stay as they are."""
    if isinstance(counts, Margins):
        return counts
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    return Margins(hits=hits, truth=counts.sum(-1), predicted=counts.sum(-2))


def iou(counts: Counts) -> Float64[np.ndarray, "*S K"]:
    """Intersection over union (Jaccard index): hits / (truth + predicted - hits)."""
    hits, truth, predicted = margins(counts)
    return _share(hits, truth + predicted - hits, occurs=truth + predicted > 0)


def dice(counts: Counts) -> Float64[np.ndarray, "*S K"]:
    """Dice coefficient: 2 hits / (truth + predicted), which is also 2 IoU / (1 + IoU)."""
    hits, truth, predicted = margins(counts)
    return _share(2 * hits, truth + predicted, occurs=truth + predicted > 0)


def precision(counts: Counts) -> Float64[np.ndarray, "*S K"]:
    """Share of the pixels predicted as k that are k: hits / predicted, 0 where none was."""
    hits, truth, predicted = margins(counts)
    return _share(hits, predicted, occurs=truth + predicted > 0)


def recall(counts: Counts) -> Float64[np.ndarray, "*S K"]:
    """Share of the pixels of k that were found: hits / truth, 0 where k was only invented."""
    hits, truth, predicted = margins(counts)
    return _share(hits, truth, occurs=truth + predicted > 0)


def f1(counts: Counts) -> Float64[np.ndarray, "*S K"]:
    """Harmonic mean of precision and recall; over pixels, that is the Dice coefficient."""
    return dice(counts)


def pixel_accuracy(counts: Counts) -> Float64[np.ndarray, "*S"]:
    """Share of the counted pixels whose class was found; NaN without a counted pixel."""
    hits, truth, _ = margins(counts)
    pixels = truth.sum(-1)
    return _share(hits.sum(-1), pixels, occurs=pixels > 0)


def mean_accuracy(counts: Counts) -> Float64[np.ndarray, "*S"]:
    """Mean recall of the classes that occur in the truth; NaN without a counted pixel."""
    hits, truth, _ = margins(counts)
    return mean_over_classes(_share(hits, truth, occurs=truth > 0))


def frequency_weighted_iou(counts: Counts) -> Float64[np.ndarray, "*S"]:
    """IoU of each class, weighted by its share of the true pixels; NaN without a counted pixel."""
    truth = margins(counts).truth
    weighted = np.where(truth > 0, truth * iou(counts), 0.0)
    pixels = truth.sum(-1)
    return _share(weighted.sum(-1), pixels, occurs=pixels > 0)


def mean_over_classes(scores: Float64[np.ndarray, "*S K"]) -> Float64[np.ndarray, "*S"]:
    """Mean of the scores that are not NaN; NaN where all are."""
    known = ~np.isnan(scores)
    total = np.where(known, scores, 0.0).sum(-1)
    return _share(total, known.sum(-1), occurs=known.any(-1))


def headline(scores: Float64[np.ndarray, "*S K"]) -> Float64[np.ndarray, "*S"]:
    """One figure for the scores of the classes: of two classes the foreground's, else the mean.

    The foreground is class 1. A background that fills the image scores high by itself, so that a
    mean of the two would hide what was missed.
    """
    foreground: Float64[np.ndarray, "*S"] = scores[..., 1]
    return foreground if scores.shape[-1] == 2 else mean_over_classes(scores)


def _share(part: Any, whole: Any, *, occurs: Any) -> Float64[np.ndarray, "*S"]:
    """`part / whole`, 0 where `whole` is 0, NaN where the class does not occur."""
    shares: Float64[np.ndarray, "*S"] = np.divide(
        part, whole, out=np.where(occurs, 0.0, np.nan), where=whole > 0
    )
    return shares
