"""Which of the connected regions of a mask a resize loses."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped

from truemask.datasets.paired import nearest
from truemask.regions import Runs


@dataclass(frozen=True)
class Lost:
    """Objects of one class before and after a resize; `merge` of two is the sum.

    Attributes:
        objects: connected regions.
        gone: those of which no pixel is left.
        pixels: of all of them.
        pixels_gone: of those that are gone.
    """

    objects: int = 0
    gone: int = 0
    pixels: int = 0
    pixels_gone: int = 0

    def merge(self, other: "Lost") -> "Lost":
        """Of both together."""
        return Lost(
            self.objects + other.objects,
            self.gone + other.gone,
            self.pixels + other.pixels,
            self.pixels_gone + other.pixels_gone,
        )


def lost_by_resizing(mask: Shaped[np.ndarray, "H W"], size: tuple[int, int]) -> dict[int, Lost]:
    """Value -> its objects, and those that vanish when the nearest pixel is taken.

    Args:
        mask: ids.
        size: height and width of the smaller mask.
    """
    regions = Runs.of(mask).numbered()
    areas = np.bincount(regions.ravel())
    first = np.zeros(len(areas), dtype=np.int64)
    first[regions.ravel()] = np.arange(regions.size)
    values = mask.ravel()[first]
    left = np.zeros(len(areas), dtype=bool)
    left[nearest(regions, size).ravel()] = True
    found = {}
    for value in np.unique(values).tolist():
        own = values == value
        gone = own & ~left
        found[value] = Lost(
            int(own.sum()), int(gone.sum()), int(areas[own].sum()), int(areas[gone].sum())
        )
    return found
