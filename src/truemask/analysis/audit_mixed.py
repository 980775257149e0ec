"""Masks that are mixed up: a label that fits the prediction for another image.

A mask that lies off fits its own image better than any other; the mask of another image fits that
one. Both are told from small copies of labels and predictions, so that many images can be held
against each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, UInt8

SIDE = 32
"""Of the small copies, in squares."""

UNLIKE = 0.15
"""By how much a label must fit the other image better than its own."""

MOST = 1000
"""Labels that are held against all images, those that are most suspicious."""

VOID = 255
"""In small copies, whatever the ignored id is."""


@dataclass(frozen=True)
class Likeness:
    """How well a label fits the prediction for its own image, and for another one.

    Attributes:
        name: of the other image.
        own: mean over the label's classes of the share that the prediction for its image finds.
        other: likewise of the other image.
    """

    name: str
    own: float
    other: float


@dataclass(frozen=True)
class SmallCopy:
    """Label and prediction of one image, `SIDE` x `SIDE` class ids each, as bytes."""

    label: bytes
    prediction: bytes

    @classmethod
    def of(
        cls,
        mask: UInt8[np.ndarray, "H W"],
        prediction: UInt8[np.ndarray, "H W"],
        valid: Bool[np.ndarray, "H W"],
    ) -> "SmallCopy":
        """The classes in the middle of each square."""
        label = np.where(valid, mask, VOID).astype(np.uint8)
        return cls(_small(label).tobytes(), _small(prediction).tobytes())


def _small(ids: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    rows, columns = (((np.arange(SIDE) + 0.5) * n / SIDE).astype(int) for n in ids.shape)
    return np.ascontiguousarray(ids[np.ix_(rows, columns)]).astype(np.uint8)


def mixed_up(
    copies: Sequence[SmallCopy], names: Sequence[str], suspects: Sequence[int]
) -> dict[int, Likeness]:
    """The suspects whose label fits another image as well as labels mostly fit their own.

    That it fits another better is not enough: what a model cannot see at all fits anything better.

    Args:
        copies: of all N images.
        names: of them.
        suspects: which may be mixed up, the most suspicious first; `MOST` at most are looked at.

    Returns:
        Index of a suspect -> the image that its label fits.
    """
    if len(copies) < 2 or not suspects:
        return {}
    predictions = np.stack([np.frombuffer(copy.prediction, np.uint8) for copy in copies])
    labels = np.stack([np.frombuffer(copy.label, np.uint8) for copy in copies])
    fits = np.array(
        [_fit(one, said[None])[0] for one, said in zip(labels, predictions, strict=True)]
    )
    # Below the median as far as most lie above it, twice: wrong labels lie below.
    median, upper = np.quantile(fits, (0.5, 0.75))
    usual = float(median - 2 * (upper - median))
    found = {}
    for index in suspects[:MOST]:
        others = _fit(labels[index], predictions)
        others[index] = 0
        best = int(others.argmax())
        if others[best] >= max(usual, fits[index] + UNLIKE):
            found[index] = Likeness(names[best], float(fits[index]), float(others[best]))
    return found


def _fit(
    label: UInt8[np.ndarray, " S"], predictions: UInt8[np.ndarray, "N S"]
) -> Float64[np.ndarray, " N"]:
    """How well each prediction fits a label: the mean over its classes of the share that is found.

    Not the share of all squares: any two images have much background in common.
    """
    classes = [one for one in np.unique(label) if one != VOID]
    if not classes:
        return np.zeros(len(predictions))
    shares = [(predictions[:, label == one] == one).mean(1) for one in classes]
    found: Float64[np.ndarray, " N"] = np.mean(shares, axis=0)
    return found
