"""What is counted of images and masks: integers only, so that `merge` is exact in any order.

Of one image, of a part, of the whole: the same object. One pass over the pixels counts everything;
memory does not grow with the number of images.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Int64, Shaped, UInt8

from truemask.analysis.survey_traits import (
    CELLS,
    Colour,
    edge_sides,
    mean_colours,
    shares_in_cells,
)
from truemask.channels import ChannelSums
from truemask.labels import LabelMap
from truemask.regions import Runs

GRID = 64
"""Cells of a heatmap from left to right, and from top to bottom."""

SIDES = (512, 256, 128, 64)
"""Lengths of the longer side at which it is asked what falls below one pixel."""

BINS = 32
"""Sizes of regions: from 1, 2, 4, 8, ... pixels on."""

NAMED = 24
"""Images without a class that are named at most: those whose names have the least hash."""

TABLES = (
    "boundary", "together", "regions", "below", "pixels_below", "heat", "edges", "shares",
    "changes",
)  # fmt: skip
"""Counts that are arrays, of which two are added cell by cell."""

Tables = np.ndarray[Any, np.dtype[np.int64]]


@dataclass
class Tally:
    """Pixels of the classes in some images, and what a test over images needs of them.

    Attributes:
        images: how many there are.
        pixels: (K + 1,) of each class; ignored pixels last.
        holding: (K,) images that hold the class.
        labelled_squares: sum over images of the square of their labelled pixels.
        squares: (K,) sums over images of the square of their pixels of the class.
        products: (K,) sums over images of pixels of the class times labelled pixels.
    """

    images: int
    pixels: Int64[np.ndarray, " K1"]
    holding: Int64[np.ndarray, " K"]
    labelled_squares: int
    squares: list[int]
    products: list[int]

    @classmethod
    def empty(cls, classes: int) -> "Tally":
        """Of no image."""
        return cls(
            0,
            np.zeros(classes + 1, np.int64),
            np.zeros(classes, np.int64),
            0,
            [0] * classes,
            [0] * classes,
        )

    @classmethod
    def of(cls, pixels: Int64[np.ndarray, " K1"]) -> "Tally":
        """Of one image, whose pixels of each class are given, ignored ones last."""
        own: list[int] = pixels[:-1].tolist()
        labelled = sum(own)
        return cls(
            1,
            pixels.copy(),
            (pixels[:-1] > 0).astype(np.int64),
            labelled**2,
            [count**2 for count in own],
            [count * labelled for count in own],
        )

    def add(self, other: "Tally") -> None:
        """Take in those of another."""
        self.images += other.images
        self.pixels += other.pixels
        self.holding += other.holding
        self.labelled_squares += other.labelled_squares
        self.squares = [a + b for a, b in zip(self.squares, other.squares, strict=True)]
        self.products = [a + b for a, b in zip(self.products, other.products, strict=True)]

    @property
    def labelled(self) -> int:
        """Pixels of any class."""
        return int(self.pixels[:-1].sum())


@dataclass
class Counts:
    """Everything that is counted of some images.

    Attributes:
        tally: pixels of the classes.
        channels: sums of the values of the images.
        sizes: (height, width) -> images.
        modes: how the pixels of a file lie, such as "RGB" -> images.
        boundary: (K + 1,) pixels that share a side with a pixel of another id.
        together: (K, K) images that hold both classes.
        regions: (K, `BINS`) connected regions of 2^b to 2^(b + 1) - 1 pixels.
        below: (S, K) regions smaller than one pixel at each of `SIDES`.
        pixels_below: (S, K) pixels of those.
        heat: (K + 1, `GRID`, `GRID`) pixels of each class in each cell of the images.
        edges: (2, K) sides of pixels between each class and what is not it: upright, level.
        shares: (K, S, S) sums of its shares in the cells of a coarser grid, in parts of `WHOLE`.
        changes: (2, K, S, S) sums of the squares of the changes of these by a flip.
        colours: class and levels of its mean colour in an image -> images.
        groups: (attribute, value) -> the images of that value.
        lacking: of each class, up to `NAMED` images without it: (hash, name), sorted.
        failed: files that cannot be used, and why: (name, reason), sorted; up to `NAMED`.
        failures: how many cannot be used.
    """

    tally: Tally
    channels: ChannelSums
    boundary: Int64[np.ndarray, " K1"]
    together: Int64[np.ndarray, "K K"]
    regions: Int64[np.ndarray, "K 32"]
    below: Int64[np.ndarray, "S K"]
    pixels_below: Int64[np.ndarray, "S K"]
    heat: Int64[np.ndarray, "K1 64 64"]
    edges: Int64[np.ndarray, "2 K"]
    shares: Int64[np.ndarray, "K S S"]
    changes: Int64[np.ndarray, "2 K S S"]
    lacking: list[list[tuple[bytes, str]]]
    colours: Counter[Colour] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    groups: dict[tuple[str, str], Tally] = field(default_factory=dict)
    failed: list[tuple[str, str]] = field(default_factory=list)
    failures: int = 0

    @classmethod
    def empty(cls, classes: int, channels: int) -> "Counts":
        """Of no image."""
        return cls(
            tally=Tally.empty(classes),
            channels=ChannelSums.empty(channels),
            boundary=np.zeros(classes + 1, np.int64),
            together=np.zeros((classes, classes), np.int64),
            regions=np.zeros((classes, BINS), np.int64),
            below=np.zeros((len(SIDES), classes), np.int64),
            pixels_below=np.zeros((len(SIDES), classes), np.int64),
            heat=np.zeros((classes + 1, GRID, GRID), np.int64),
            edges=np.zeros((2, classes), np.int64),
            shares=np.zeros((classes, CELLS, CELLS), np.int64),
            changes=np.zeros((2, classes, CELLS, CELLS), np.int64),
            lacking=[[] for _ in range(classes)],
        )

    @classmethod
    def of(
        cls,
        ids: UInt8[np.ndarray, "H W"],
        channels: ChannelSums,
        *,
        name: str,
        labels: LabelMap,
        mode: str = "",
        spots: Shaped[np.ndarray, "h w C"] | None = None,
    ) -> "Counts":
        """Of one image.

        Args:
            ids: its mask.
            channels: the sums of its values.
            name: of the sample.
            labels: the classes.
            mode: how its pixels lie in their file.
            spots: its values at some spots, see `Measured`; without them no colour is told.
        """
        classes = labels.num_classes
        runs = Runs.of(ids)
        strange = (runs.values >= classes) & (runs.values != labels.ignore_index)
        assert not strange.any(), "a dataset gives classes and the ignored id only"
        pixels = np.bincount(
            _dense(runs.values, classes), weights=runs.lengths, minlength=classes + 1
        ).astype(np.int64)
        sizes, below, pixels_below = _regions(runs, classes)
        present = np.flatnonzero(pixels[:-1])
        together = np.zeros((classes, classes), np.int64)
        together[np.ix_(present, present)] = 1
        mark = [(_hash(name), name)]
        heat = _heat(runs, np.flatnonzero(pixels), classes)
        shares, changes = shares_in_cells(heat)
        return cls(
            tally=Tally.of(pixels),
            channels=channels,
            boundary=_boundary(runs, classes),
            together=together,
            regions=sizes,
            below=below,
            pixels_below=pixels_below,
            heat=heat,
            edges=edge_sides(runs, classes),
            shares=shares,
            changes=changes,
            colours=mean_colours(ids, spots, classes),
            lacking=[[] if held else mark for held in pixels[:-1]],
            sizes=Counter({(ids.shape[0], ids.shape[1]): 1}),
            modes=Counter({mode: 1}),
        )

    @classmethod
    def failure(cls, name: str, reason: str, *, classes: int, channels: int) -> "Counts":
        """Of a sample that cannot be used: no image, and why."""
        counts = cls.empty(classes, channels)
        counts.failed, counts.failures = [(name, reason)], 1
        return counts

    def grouped(self, attributes: Mapping[str, str]) -> "Counts":
        """Of one image: the same, grouped by these attributes of it."""
        if not self.tally.images:
            return self
        return replace(self, groups=dict.fromkeys(attributes.items(), self.tally))

    def add(self, other: "Counts") -> None:
        """Take in the images of another; the order does not matter."""
        self.tally.add(other.tally)
        self.channels = self.channels.merge(other.channels)
        for name in TABLES:
            mine: Tables = getattr(self, name)
            mine += getattr(other, name)
        self.sizes.update(other.sizes)
        self.modes.update(other.modes)
        self.colours.update(other.colours)
        for key, tally in other.groups.items():
            self.groups.setdefault(key, Tally.empty(len(self.tally.holding))).add(tally)
        for place, (mine_, theirs) in enumerate(zip(self.lacking, other.lacking, strict=True)):
            if theirs and (len(mine_) < NAMED or theirs[0] < mine_[-1]):
                self.lacking[place] = sorted([*mine_, *theirs])[:NAMED]
        if other.failed:
            self.failed = sorted([*self.failed, *other.failed])[:NAMED]
            self.failures += other.failures

    def merge(self, other: "Counts") -> "Counts":
        """Of the images of both; neither is changed."""
        return merged((self, other), len(self.tally.holding), len(self.channels.sums))


def merged(some: Iterable[Counts], classes: int, channels: int) -> Counts:
    """Of the images of all."""
    total = Counts.empty(classes, channels)
    for counts in some:
        total.add(counts)
    return total


def _hash(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=8).digest()


def _dense(values: Shaped[np.ndarray, " N"], classes: int) -> Tables:
    """Ids with the ignored one behind the classes."""
    dense: Tables = np.minimum(values, classes).astype(np.int64)
    return dense


@cache
def _cells(length: int) -> tuple[Tables, Tables, Tables]:
    """The cell of each row or column, with one behind the last; where cells begin; their lengths.

    A side shorter than the grid leaves cells empty.
    """
    cells = np.arange(length + 1, dtype=np.int64) * GRID // length
    starts = -(-np.arange(GRID + 1, dtype=np.int64) * length // GRID)
    return cells, starts, np.diff(starts)


def _heat(runs: Runs, present: Tables, classes: int) -> Int64[np.ndarray, "K1 64 64"]:
    """Pixels of each id in each cell.

    A run from one column to before another is all columns before the second without those before
    the first; and the columns before one are whole cells and a rest. So two sums over the ends of
    runs are enough, however many cells these cover.

    Args:
        runs: of the mask.
        present: the ids that occur, ignored ones as `classes`; tables of the others stay empty.
        classes: how many there are.
    """
    height, width = runs.shape
    cells, starts, lengths = _cells(width)
    rows, first = np.divmod(runs.starts, width)
    owners = np.searchsorted(present, _dense(runs.values, classes))
    keys = (owners * GRID + _cells(height)[0][rows]) * (GRID + 1)
    ends = np.concatenate((first + runs.lengths, first))
    signs = np.repeat((1.0, -1.0), len(first))
    cell = cells[ends]
    places = np.concatenate((keys, keys)) + cell
    shape = (len(present), GRID, GRID + 1)
    size = len(present) * GRID * (GRID + 1)
    whole = np.bincount(places, weights=signs, minlength=size).reshape(shape)
    rest = np.bincount(places, weights=signs * (ends - starts[cell]), minlength=size).reshape(shape)
    # The ends behind each cell: all of a row's, which are none, without those up to it.
    behind = -whole.cumsum(-1)[..., :-1]
    heat = np.zeros((classes + 1, GRID, GRID), np.int64)
    # Sums of integers below 2^53 are exact.
    heat[present] = behind * lengths + rest[..., :-1]
    return heat


def _boundary(runs: Runs, classes: int) -> Int64[np.ndarray, " K1"]:
    found: Tables = np.bincount(_dense(runs.values_at_borders(), classes), minlength=classes + 1)
    return found


def _regions(
    runs: Runs, classes: int
) -> tuple[Int64[np.ndarray, "K 32"], Int64[np.ndarray, "S K"], Int64[np.ndarray, "S K"]]:
    """Sizes of the regions of the classes; how many, with how many pixels, are too small."""
    values, areas = runs.regions()
    labelled = values < classes
    owner, areas = values[labelled].astype(np.int64), areas[labelled]
    # The exponent of a floating-point number is the exact logarithm.
    bins = np.frexp(areas.astype(np.float64))[1] - 1
    sizes = np.bincount(owner * BINS + bins, minlength=classes * BINS).reshape(classes, BINS)
    longer = max(runs.shape)
    below = np.zeros((len(SIDES), classes), np.int64)
    pixels = np.zeros((len(SIDES), classes), np.int64)
    for place, side in enumerate(SIDES):
        small = areas * side * side < longer * longer
        if small.any():
            below[place] = np.bincount(owner[small], minlength=classes)
            pixels[place] = np.bincount(owner[small], weights=areas[small], minlength=classes)
    return sizes, below, pixels
