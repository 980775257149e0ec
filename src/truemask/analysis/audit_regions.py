"""Where a label and a model disagree: connected regions, with the evidence against the label."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from scipy import ndimage

CERTAIN = 4.0
"""Nats of surprise that are no evidence yet: a label fifty times less likely than expected.

Models and people differ by a pixel or two along every border, and there a model is not sure.
"""

SMALLEST = 0.0005
"""Share of an image's pixels; smaller regions are not listed."""

MOST = 20
"""Regions of an image that are kept, those with most evidence."""

_CAP = 12.0
"""Of the surprise of one pixel, so that a few that are held impossible do not outweigh a region."""


@dataclass(frozen=True)
class Region:
    """A connected region whose label and prediction are one class each.

    Attributes:
        label: the class that the label gives.
        prediction: the class that the model gives.
        evidence: the surprise of its pixels beyond `CERTAIN`, summed.
        top: first row of the box around it.
        left: first column.
        inside: within that box, which pixels belong to it.
    """

    label: int
    prediction: int
    evidence: float
    top: int
    left: int
    inside: Bool[np.ndarray, "h w"]

    @property
    def pixels(self) -> int:
        """How many it has."""
        return int(self.inside.sum())


def surprise(
    log_probabilities: Float32[np.ndarray, "K H W"],
    mask: UInt8[np.ndarray, "H W"],
    valid: Bool[np.ndarray, "H W"],
) -> Float32[np.ndarray, "H W"]:
    """How much less likely each label is than a label drawn as the model says, in nats.

    -log p(label) less the entropy: its mean is 0 where the model is calibrated, so that no image
    is surprising just because it is hard. At most `_CAP`; 0 where there is no label.
    """
    own = np.take_along_axis(log_probabilities, np.where(valid, mask, 0)[None].astype(np.int64), 0)[
        0
    ]
    entropy = -(np.exp(log_probabilities) * log_probabilities).sum(0)
    found: Float32[np.ndarray, "H W"] = np.where(valid, np.minimum(-own - entropy, _CAP), 0)
    return found.astype(np.float32)


def regions(
    mask: UInt8[np.ndarray, "H W"],
    prediction: UInt8[np.ndarray, "H W"],
    surprises: Float32[np.ndarray, "H W"],
    valid: Bool[np.ndarray, "H W"],
) -> tuple[list[Region], float]:
    """The regions of one image, the one with most evidence first; and the evidence of all.

    Void is never part of one. What is too small to be listed counts in the sum.
    """
    different = valid & (mask != prediction)
    weighted = np.where(different, np.maximum(surprises - CERTAIN, 0), 0)
    pairs = np.where(different, mask.astype(np.int32) * 256 + prediction + 1, 0)
    least = max(4, SMALLEST * mask.size)
    counts = np.bincount(pairs.ravel())
    counts[0] = 0
    found: list[Region] = []
    for pair in np.flatnonzero(counts >= least):
        labelled, count = ndimage.label(pairs == pair, structure=np.ones((3, 3)))
        sizes = np.bincount(labelled.ravel(), minlength=count + 1)
        boxes: list[Any] = ndimage.find_objects(labelled)
        for index, box in enumerate(boxes, start=1):
            if sizes[index] < least:
                continue
            inside = labelled[box] == index
            found.append(
                Region(
                    label=int(pair - 1) // 256,
                    prediction=int(pair - 1) % 256,
                    evidence=float(weighted[box][inside].sum()),
                    top=box[0].start,
                    left=box[1].start,
                    inside=inside,
                )
            )
    found.sort(key=lambda region: (-region.evidence, region.top, region.left))
    return found[:MOST], float(weighted.sum())
