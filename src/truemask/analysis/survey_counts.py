"""What is counted of images and masks: integers only, so that `merge` is exact in any order.

Of one image, of a part, of the whole: the same object. One pass over the pixels counts everything;
memory does not grow with the number of images.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Int64, Shaped, UInt8

from truemask.data.channels import ChannelSums
from truemask.datasets.sample import Sample
from truemask.images import ImageSpec
from truemask.labels import LabelMap
from truemask.regions import borders, changes, regions

GRID = 64
"""Cells of a heatmap from left to right, and from top to bottom."""

SIDES = (512, 256, 128, 64)
"""Lengths of the longer side at which it is asked what falls below one pixel."""

BINS = 32
"""Sizes of regions: from 1, 2, 4, 8, ... pixels on."""

NAMED = 24
"""Images without a class that are named at most: those whose names have the least hash."""

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
    lacking: list[list[tuple[bytes, str]]]
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
            lacking=[[] for _ in range(classes)],
        )

    @classmethod
    def of(
        cls,
        sample: Sample,
        *,
        labels: LabelMap,
        spec: ImageSpec,
        mode: str = "",
        attributes: Mapping[str, str] | None = None,
    ) -> "Counts":
        """Of one sample.

        Args:
            sample: image and mask.
            labels: its classes.
            spec: what the pixels of its image mean.
            mode: how these lie in their file.
            attributes: those by which it is grouped.
        """
        ids: UInt8[np.ndarray, "H W"] = sample.mask.numpy()
        classes = labels.num_classes
        changed = changes(ids)
        heat = _heat(ids, changed, classes, labels.ignore_index)
        pixels = heat.sum((1, 2))
        sizes, below, pixels_below = _regions(ids, changed, classes)
        present = np.flatnonzero(pixels[:-1])
        together = np.zeros((classes, classes), np.int64)
        together[np.ix_(present, present)] = 1
        mark = [(_hash(sample.name), sample.name)]
        return cls(
            tally=Tally.of(pixels),
            channels=ChannelSums.of(sample.image, spec),
            boundary=_boundary(ids, classes),
            together=together,
            regions=sizes,
            below=below,
            pixels_below=pixels_below,
            heat=heat,
            lacking=[[] if held else mark for held in pixels[:-1]],
            sizes=Counter({(ids.shape[0], ids.shape[1]): 1}),
            modes=Counter({mode: 1}),
            groups={item: Tally.of(pixels) for item in (attributes or {}).items()},
        )

    @classmethod
    def failure(cls, name: str, reason: str, *, classes: int, channels: int) -> "Counts":
        """Of a sample that cannot be used: no image, and why."""
        counts = cls.empty(classes, channels)
        counts.failed, counts.failures = [(name, reason)], 1
        return counts

    def add(self, other: "Counts") -> None:
        """Take in the images of another; the order does not matter."""
        self.tally.add(other.tally)
        self.channels = self.channels.merge(other.channels)
        for name in ("boundary", "together", "regions", "below", "pixels_below", "heat"):
            mine: Tables = getattr(self, name)
            mine += getattr(other, name)
        self.sizes.update(other.sizes)
        self.modes.update(other.modes)
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
def _cells(length: int) -> Tables:
    """The cell of each row or column."""
    cells: Tables = np.arange(length, dtype=np.int64) * GRID // length
    return cells


def _heat(
    ids: UInt8[np.ndarray, "H W"], changed: np.ndarray, classes: int, ignored: int
) -> Int64[np.ndarray, "K1 64 64"]:
    """Pixels of each id in each cell: runs are cut where a cell begins."""
    height, width = ids.shape
    cut = changed.copy()
    cut[:, np.flatnonzero(np.diff(_cells(width), prepend=-1))] = True
    starts = np.flatnonzero(cut)
    values = ids.reshape(-1)[starts]
    strange = (values >= classes) & (values != ignored)
    assert not strange.any(), "a dataset gives classes and the ignored id only"
    rows, columns = np.divmod(starts, width)
    keys = (_dense(values, classes) * GRID + _cells(height)[rows]) * GRID + _cells(width)[columns]
    lengths = np.diff(starts, append=ids.size)
    heat = np.bincount(keys, weights=lengths, minlength=(classes + 1) * GRID * GRID)
    return heat.astype(np.int64).reshape(classes + 1, GRID, GRID)


def _boundary(ids: UInt8[np.ndarray, "H W"], classes: int) -> Int64[np.ndarray, " K1"]:
    values = ids.reshape(-1)[np.flatnonzero(borders(ids))]
    found: Tables = np.bincount(_dense(values, classes), minlength=classes + 1)
    return found


def _regions(
    ids: UInt8[np.ndarray, "H W"], changed: np.ndarray, classes: int
) -> tuple[Int64[np.ndarray, "K 32"], Int64[np.ndarray, "S K"], Int64[np.ndarray, "S K"]]:
    """Sizes of the regions of the classes; how many, with how many pixels, are too small."""
    values, areas = regions(ids, changed=changed)
    labelled = values < classes
    owner, areas = values[labelled].astype(np.int64), areas[labelled]
    # The exponent of a floating-point number is the exact logarithm.
    bins = np.frexp(areas.astype(np.float64))[1] - 1
    sizes = np.bincount(owner * BINS + bins, minlength=classes * BINS).reshape(classes, BINS)
    longer = max(ids.shape)
    below = np.zeros((len(SIDES), classes), np.int64)
    pixels = np.zeros((len(SIDES), classes), np.int64)
    for place, side in enumerate(SIDES):
        small = areas * side * side < longer * longer
        below[place] = np.bincount(owner[small], minlength=classes)
        pixels[place] = np.bincount(owner[small], weights=areas[small], minlength=classes)
    return sizes, below, pixels
