"""The connected regions of a mask, and which of them a resize loses."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

from truemask.datasets.paired import nearest

Labels = np.ndarray[Any, np.dtype[np.int64]]


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
    regions = connected_regions(mask)
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


def connected_regions(mask: Shaped[np.ndarray, "H W"]) -> Int[np.ndarray, "H W"]:
    """Number the regions of equal values that are connected by sides, from 0 on.

    Runs of equal pixels along rows are joined where they touch the row above. Each run takes the
    least number among those it is joined to, and pointers are followed to the end, until nothing
    changes (Shiloach and Vishkin 1982).
    """
    width = mask.shape[1]
    flat = mask.ravel()
    change = np.empty(flat.size, dtype=bool)
    change[0] = True
    change[1:] = flat[1:] != flat[:-1]
    change[::width] = True
    run = np.cumsum(change) - 1
    runs = run.reshape(mask.shape)
    changes = change.reshape(mask.shape)
    # Where two runs touch, at the first pixel where they do.
    touch = (mask[1:] == mask[:-1]) & (changes[1:] | changes[:-1])
    parent = _join(int(run[-1]) + 1, runs[:-1][touch], runs[1:][touch])
    _, numbers = np.unique(parent, return_inverse=True)
    regions: Int[np.ndarray, "H W"] = numbers[run].reshape(mask.shape)
    return regions


def _join(count: int, above: Labels, below: Labels) -> Labels:
    parent: Labels = np.arange(count)
    while True:
        least = np.minimum(parent[above], parent[below])
        before = parent.copy()
        np.minimum.at(parent, parent[above], least)
        np.minimum.at(parent, parent[below], least)
        parent = parent[parent]
        if np.array_equal(parent, before):
            return parent
