"""What tells what may be done to the images of a dataset: edges, symmetry, colours of classes.

Counted of single images as integers, which add up exactly in any order; the figures are made of
the sums. Nothing here grows with the number of images.
"""

import math
from collections import Counter
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Int64, Shaped, UInt8

from truemask.datasets.measuring import spots_of
from truemask.regions import Runs

CELLS = 16
"""Cells a side of the map of where classes are: coarse against single objects, and even."""

WHOLE = 1 << 16
"""What a cell's share of a class is counted in."""

LEVELS = 32
"""Levels of each channel that mean colours are told apart by; 8 of 256 are one."""

Tables = np.ndarray[Any, np.dtype[np.int64]]
Colour = tuple[int, ...]
"""A class, and the level of each channel."""


def edge_sides(runs: Runs, classes: int) -> Int64[np.ndarray, "2 K"]:
    """Sides of pixels between each class and what is not it: upright ones, and level ones.

    The border of the image is no edge; ignored pixels make some, as there are datasets that outline
    all objects with them.
    """
    return np.stack(
        [np.bincount(values, minlength=classes)[:classes] for values in runs.sides()]
    ).astype(np.int64)


def shares_in_cells(
    heat: Int64[np.ndarray, "K1 G G"],
) -> tuple[Int64[np.ndarray, "K S S"], Int64[np.ndarray, "2 K S S"]]:
    """Of one image: where its classes are, and how much that changes when it is flipped.

    Args:
        heat: its pixels of each class, and ignored ones last, in each cell of a finer grid.

    Returns:
        The share of each class in each cell among the labelled pixels, in parts of `WHOLE`; and the
        squares of the changes of these, when it is turned upside down and when it is mirrored.
    """
    used = np.flatnonzero(heat[:-1].any((1, 2)))
    pool = _pool(heat.shape[-1])
    # Sums of pixels are exact in floats.
    pixels = (pool.T @ (heat[used].astype(np.float64) @ pool)).astype(np.int64)
    shares = pixels * WHOLE // np.maximum(pixels.sum(0), 1)
    found = np.zeros((len(heat) - 1, CELLS, CELLS), np.int64)
    found[used] = shares
    changes = np.zeros((2, len(heat) - 1, CELLS, CELLS), np.int64)
    changes[0, used] = (shares - shares[:, ::-1]) ** 2
    changes[1, used] = (shares - shares[:, :, ::-1]) ** 2
    return found, changes


@cache
def _pool(cells: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """What adds up cells of a finer grid: (cells, `CELLS`)."""
    return np.repeat(np.eye(CELLS), cells // CELLS, axis=0)


def mean_colours(
    ids: UInt8[np.ndarray, "H W"], spots: Shaped[np.ndarray, "h w C"] | None, classes: int
) -> Counter[Colour]:
    """Of one image: the mean colour of each class that lies at a spot, in `LEVELS`.

    Args:
        ids: its mask.
        spots: the values of the image there; `None` of images that are not of bytes.
        classes: how many there are.
    """
    if spots is None:
        return Counter()
    owners = np.minimum(spots_of(ids), classes).reshape(-1)
    count = np.bincount(owners, minlength=classes + 1)[:classes]
    here = np.flatnonzero(count)
    # Sums of bytes are exact in floats.
    sums = [
        np.bincount(owners, weights=spots[..., channel].reshape(-1), minlength=classes + 1)[here]
        for channel in range(spots.shape[2])
    ]
    levels = np.stack(sums, 1).astype(np.int64) * LEVELS // (count[here, None] * 256)
    return Counter(
        {(k, *colour): 1 for k, colour in zip(here.tolist(), levels.tolist(), strict=True)}
    )


def asymmetry(
    shares: Int64[np.ndarray, "K S S"],
    changes: Int64[np.ndarray, "K S S"],
    *,
    axis: int,
    images: int,
) -> float:
    """How much the mean map of the classes changes when it is flipped, beyond chance.

    The mean over cells of the total variation between a cell's classes and its mirror image's. Of a
    dataset whose images were each flipped by the toss of a coin nothing but chance would be left: a
    sum of the images' changes with signs at random, whose mean size is taken off. It is that of a
    normal distribution, sqrt(2 / pi) of the root of the sum of squares.

    Args:
        shares: sums over images of the share of each class in each cell, in parts of `WHOLE`.
        changes: sums over images of the squares of how much that changes by the flip.
        axis: 1 flips upside down, 2 flips left and right.
        images: how many there are.

    Returns:
        0 (symmetric) to 1.
    """
    if images == 0:
        return 0.0
    moved = np.abs(shares - np.flip(shares, axis)).sum() / 2
    chance = math.sqrt(2 / math.pi) * np.sqrt(changes.astype(np.float64)).sum() / 2
    return max(0.0, float(moved - chance) / (images * WHOLE * CELLS * CELLS))


def told_by_colour(regions: Mapping[Colour, int], classes: int) -> list[float | None]:
    """How often the mean colour of a class in an image tells which class it is.

    The class is that whose mean colour over all images is nearest, in units of each channel's
    deviation, its own taken without the image in question. By chance it is one in the number of
    classes that are told apart.

    Args:
        regions: class and colour -> images.
        classes: how many there are.

    Returns:
        Of each class, 0 to 1; `None` of one that is in fewer than two images, and of all where only
        one is in more.
    """
    told: list[float | None] = [None] * classes
    items = sorted(regions.items())
    if not items:
        return told
    table = np.array([colour for colour, _ in items], np.float64)
    owners, colours = table[:, 0].astype(np.int64), table[:, 1:]
    count = np.array([images for _, images in items], np.float64)
    held = np.bincount(owners, weights=count, minlength=classes)
    usable = np.flatnonzero(held >= 2)
    if len(usable) < 2:
        return told
    middle = count @ colours / count.sum()
    deviation = np.sqrt(count @ (colours - middle) ** 2 / count.sum())
    scaled = (colours - middle) / np.maximum(deviation, 1e-9)
    sums = np.stack(
        [np.bincount(owners, weights=count * channel, minlength=classes) for channel in scaled.T], 1
    )
    means = sums[usable] / held[usable, None]
    for place, k in enumerate(usable.tolist()):
        mine, images = scaled[owners == k], count[owners == k]
        distances = ((mine[:, None] - means[None]) ** 2).sum(2)
        without = (sums[k] - mine) / (held[k] - 1)
        own = ((mine - without) ** 2).sum(1)
        distances[:, place] = np.inf
        # Of two classes of one colour neither is told.
        nearest = own + 1e-9 < distances.min(1)
        told[k] = float(images[nearest].sum() / images.sum())
    return told
