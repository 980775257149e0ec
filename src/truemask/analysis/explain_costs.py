"""Which confusions cost most: how much the score would rise if they were right."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from truemask.metrics.confusion import headline, iou


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The pixels of one class that were taken for another.

    Attributes:
        truth: the class.
        prediction: what it was taken for.
        pixels: how many.
        gain: by how much the IoU (the mean, or for two classes the foreground's) would rise if
            these were right and all else as it is.
    """

    truth: int
    prediction: int
    pixels: int
    gain: float


def confusion_costs(confusion: Int64[np.ndarray, "K K"]) -> list[Cost]:
    """All confusions that happened, the one that costs most first.

    Putting n pixels of class c right moves them from the cell (c, d) of the matrix to (c, c). That
    adds n to the hits of c, whose union stays, and takes n from the union of d:

        IoU of c = (hits + n) / union        IoU of d = hits / (union - n)

    A class d that is then neither in the truth nor predicted is left out of the mean, as ever.
    """
    hits = np.diagonal(confusion)
    union = confusion.sum(0) + confusion.sum(1) - hits
    before = iou(confusion)
    score = float(headline(before))
    found = []
    for truth, prediction in zip(*np.nonzero(confusion), strict=True):
        if truth == prediction:
            continue
        pixels = int(confusion[truth, prediction])
        after = before.copy()
        after[truth] = (hits[truth] + pixels) / union[truth]
        left = union[prediction] - pixels
        after[prediction] = hits[prediction] / left if left > 0 else np.nan
        gain = float(headline(after)) - score
        found.append(Cost(truth=int(truth), prediction=int(prediction), pixels=pixels, gain=gain))
    return sorted(found, key=lambda cost: (-cost.gain, cost.truth, cost.prediction))


def heaviest(
    matrices: Int64[np.ndarray, "N K K"], cost: Cost, *, most: int
) -> list[tuple[int, int]]:
    """(the image, its pixels) of those that hold most of a confusion, the first most."""
    pixels = matrices[:, cost.truth, cost.prediction]
    order = np.argsort(-pixels, kind="stable")[:most]
    return [(int(place), int(pixels[place])) for place in order if pixels[place] > 0]
