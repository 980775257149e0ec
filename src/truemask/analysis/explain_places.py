"""Where a prediction is wrong: near borders, in small objects, in which part of the image.

Each function counts one image; counts are integers, and those of images add up. Ignored pixels
count nowhere and are no border.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8
from scipy import ndimage

from truemask.labels import LabelMap

REACHES = (1, 2, 4, 8, 16, 32)
"""Ends of the bins of distances to a border, in pixels; one more bin holds what is farther."""

SIZES = 24
"""Bins of the pixels of a region: [1, 2), [2, 4), [4, 8), ... ; the last has no end."""

GRID = (8, 12)
"""Rows and columns of the map of positions."""

_ALL_AROUND = np.ones((3, 3), dtype=bool)

Mask = UInt8[np.ndarray, "H W"]


def border_distances(truth: Mask, labels: LabelMap) -> Float64[np.ndarray, "H W"]:
    """Distance of each valid pixel to the nearest pixel of another class, in pixels.

    Of pixels that touch along an edge it is 1. Ignored pixels are of no class: an object in a rim
    of them is as far from its background as the rim is wide.

    Returns:
        Distances up to the last of `REACHES`, and infinity beyond; of ignored pixels infinity.
    """
    far = REACHES[-1]
    distances = np.full(truth.shape, np.inf)
    for ids, box in _classes(truth, labels):
        # No pixel outside this frame is near enough to matter; so a class costs its own box only.
        frame = tuple(
            slice(max(0, side.start - far), min(length, side.stop + far))
            for side, length in zip(box, truth.shape, strict=True)
        )
        part = truth[frame]
        inside = part == ids
        others = ~inside & (part != labels.ignore_index)
        if not others.any():
            continue
        found = ndimage.distance_transform_edt(~others)
        distances[frame][inside] = np.where(found[inside] <= far, found[inside], np.inf)
    return distances


def border_counts(
    distances: Float64[np.ndarray, "H W"],
    valid: Bool[np.ndarray, "H W"],
    wrong: Bool[np.ndarray, "H W"],
) -> Int64[np.ndarray, "7 2"]:
    """Valid and wrong pixels by their distance to a border."""
    bins = np.searchsorted(REACHES, distances, side="left")
    size = len(REACHES) + 1
    return np.stack(
        [np.bincount(bins[where], minlength=size) for where in (valid, wrong)], axis=1
    ).astype(np.int64)


def region_counts(
    truth: Mask, correct: Bool[np.ndarray, "H W"], labels: LabelMap
) -> Int64[np.ndarray, "K 24 4"]:
    """The connected regions of each class of the truth, by the power of two of their pixels.

    Pixels that touch at a corner are connected. Of each bin: regions, their pixels, how many of
    these were found, and of how many regions at least half was.
    """
    counts = np.zeros((labels.num_classes, SIZES, 4), dtype=np.int64)
    for ids, box in _classes(truth, labels):
        numbered, regions = ndimage.label(truth[box] == ids, structure=_ALL_AROUND)
        pixels = np.bincount(numbered.ravel(), minlength=regions + 1)[1:]
        hits = np.bincount(numbered[correct[box]], minlength=regions + 1)[1:]
        bins = np.minimum(np.log2(pixels).astype(np.int64), SIZES - 1)
        for column, values in enumerate((np.ones_like(pixels), pixels, hits, 2 * hits >= pixels)):
            np.add.at(counts[ids, :, column], bins, values)
    return counts


def position_counts(
    valid: Bool[np.ndarray, "H W"], wrong: Bool[np.ndarray, "H W"]
) -> Int64[np.ndarray, "8 12 2"]:
    """Valid and wrong pixels in each cell of a grid over the image, whatever its size."""
    height, width = valid.shape
    rows, columns = GRID
    lines = np.arange(height) * rows // height
    places = np.arange(width) * columns // width
    cells = lines[:, None] * columns + places
    size = rows * columns
    counted = [np.bincount(cells[where], minlength=size) for where in (valid, wrong)]
    found: Int64[np.ndarray, "8 12 2"] = np.stack(counted, -1).reshape(rows, columns, 2)
    return found.astype(np.int64)


def _classes(truth: Mask, labels: LabelMap) -> Iterator[tuple[int, tuple[slice, slice]]]:
    """The classes that occur, each with the box that holds all of it."""
    # `find_objects` counts from 1 and skips 0.
    shifted = truth.astype(np.int32) + 1
    shifted[truth == labels.ignore_index] = 0
    for ids, box in enumerate(ndimage.find_objects(shifted, max_label=labels.num_classes)):
        if box is not None:
            yield ids, box
