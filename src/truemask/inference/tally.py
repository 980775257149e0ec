"""What is counted of the pixels of one image, piece by piece."""

import math
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from truemask.bundle import Bundle
from truemask.geometry import Box

_STRIP = 1 << 20
"""Pixels whose probabilities are in memory at once."""


class Tally:
    """Counts over the pixels of one image; those that are no data count nowhere.

    Attributes:
        counts: pixels of each class.
        confidence: sum over pixels of the predicted class's probability.
        entropy: sum over pixels of the entropy of the probabilities, of at most 1 each.
    """

    counts: Int64[Tensor, " K"]

    def __init__(self, num_classes: int) -> None:
        self.counts = torch.zeros(num_classes, dtype=torch.int64)
        self.confidence = 0.0
        self.entropy = 0.0

    @property
    def pixels(self) -> int:
        """How many were counted."""
        return int(self.counts.sum())

    def add(
        self,
        ids: UInt8[Tensor, "H W"],
        probabilities: Float[Tensor, "K H W"],
        valid: Bool[Tensor, "H W"] | None = None,
    ) -> None:
        """Count some pixels.

        Args:
            ids: their classes.
            probabilities: of each class.
            valid: which of them are data; `None` is all.
        """
        confidence = probabilities.amax(0)
        entropy = torch.special.entr(probabilities).sum(0)
        if valid is not None:
            place = ids.device
            valid = valid.to(place)
            ids, confidence, entropy = ids[valid], confidence[valid], entropy[valid]
        counts = torch.bincount(ids.flatten(), minlength=len(self.counts))
        self.counts += counts.cpu()
        self.confidence += float(confidence.sum(dtype=torch.float64))
        self.entropy += float(entropy.sum(dtype=torch.float64)) / math.log(len(self.counts))

    def mean(self, total: float) -> float:
        """A sum, over the number of pixels; 0 where there is none."""
        return total / max(1, self.pixels)


def read_off(
    bundle: Bundle,
    logits: Float[Tensor, "L H W"],
    tally: Tally,
    *,
    valid: Bool[Tensor, "H W"] | None = None,
    keep: Callable[[Box, Float[Tensor, "K h w"]], None] | None = None,
) -> UInt8[Tensor, "H W"]:
    """The classes that logits say, counted.

    Args:
        bundle: the model and its labels.
        logits: of a piece of an image.
        tally: where to count.
        valid: which pixels are data; the others get the ignored id.
        keep: called with the probabilities of a strip, and where that lies in the piece.

    Returns:
        Class ids, on the CPU.
    """
    ids = bundle.labels.decode(logits[None])[0]
    for box in _strips(*ids.shape):
        probabilities = bundle.probabilities(box.crop(logits)[None])[0]
        tally.add(box.crop(ids), probabilities, None if valid is None else box.crop(valid))
        if keep is not None:
            keep(box, probabilities)
    ids = ids.cpu()
    if valid is not None:
        ids[~valid] = bundle.labels.ignore_index
    return ids


def _strips(height: int, width: int) -> Iterator[Box]:
    """The probabilities of a whole piece would double the memory."""
    rows = max(1, _STRIP // width)
    for top in range(0, height, rows):
        yield Box(top, 0, min(rows, height - top), width)
