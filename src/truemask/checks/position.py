"""The best prediction that never looks at an image: the most frequent class of each place."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Int64, Shaped, UInt8

GRID = 64
"""Cells a side; a place is a share of the height and of the width."""

Mask = Shaped[np.ndarray, "H W"]


def place_counts(
    masks: Iterable[Mask], *, num_classes: int, grid: int = GRID
) -> Int64[np.ndarray, "K G G"]:
    """How often each class stands at each place; the counts of two sets of masks add up.

    Args:
        masks: class ids; ids that are no class are left out.
        num_classes: K.
        grid: G.
    """
    counts = np.zeros(num_classes * grid * grid, np.int64)
    for mask in masks:
        cells = _cells(mask.shape[0], mask.shape[1], grid)
        ids = mask.astype(np.int64)
        known = (ids >= 0) & (ids < num_classes)
        places = (ids * grid * grid + cells)[known]
        counts += np.bincount(places, minlength=len(counts))
    return counts.reshape(num_classes, grid, grid)


def constant_map(counts: Int64[np.ndarray, "K G G"]) -> UInt8[np.ndarray, "G G"]:
    """The best constant map: the most frequent class of each place.

    Of two classes it is class 1 where its share is above the threshold that gives the highest IoU
    on the very masks that were counted.
    """
    if len(counts) != 2:
        most: UInt8[np.ndarray, "G G"] = counts.argmax(0).astype(np.uint8)
        return most
    share = counts[1] / np.maximum(1, counts.sum(0))
    order = np.argsort(-share, axis=None)
    hits, said = np.cumsum(counts[1].flat[order]), np.cumsum(counts.sum(0).flat[order])
    scores = hits / np.maximum(1, said + counts[1].sum() - hits)
    best = share.flat[order[int(scores.argmax())]]
    chosen: UInt8[np.ndarray, "G G"] = ((share >= best) & (share > 0)).astype(np.uint8)
    return chosen


def map_matrices(
    chosen: UInt8[np.ndarray, "G G"], masks: Iterable[Mask], *, num_classes: int
) -> Int64[np.ndarray, "N K K"]:
    """What the map, brought to the size of each mask, counts; rows are the truth."""
    found = []
    for mask in masks:
        predicted = chosen.reshape(-1)[_cells(mask.shape[0], mask.shape[1], len(chosen))]
        ids = mask.astype(np.int64)
        known = (ids >= 0) & (ids < num_classes)
        pairs = (ids * num_classes + predicted)[known]
        found.append(np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, -1))
    return np.array(found, np.int64).reshape(-1, num_classes, num_classes)


def _cells(height: int, width: int, grid: int) -> Int64[np.ndarray, "H W"]:
    rows = np.arange(height) * grid // height
    columns = np.arange(width) * grid // width
    cells: Int64[np.ndarray, "H W"] = rows[:, None] * grid + columns
    return cells
