"""What a plan must know of a dataset, from at most some hundred samples of its training part."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from truemask.data.randomness import epoch_order
from truemask.datasets.sample import Sample, SegmentationDataset

LIMIT = 200
"""Samples that are looked at, at most: shares and widths are known well enough from them."""

GRID = 12
"""Cells a side of the map of where classes are: a multiple of 2, coarse against single objects."""

FloatArray = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


@dataclass(frozen=True, kw_only=True)
class ClassFacts:
    """One class.

    Attributes:
        share: of the labelled pixels, 0 to 1.
        present: share of the images that have it.
        thickness: typical width in pixels, 2 area / length of its edges: the width of a long
            stripe, half the side of a square; `None` where it has no edge.
    """

    share: float
    present: float
    thickness: float | None


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A training part as a plan sees it.

    Attributes:
        images: of the training part.
        looked_at: those that the other figures are of.
        height: median, in pixels.
        width: likewise.
        smallest: least height and least width.
        channels: of an image.
        photos: whether images are 8-bit RGB.
        endless: whether each epoch has new samples.
        classes: name -> what is known of it, in the order of the ids.
        upside_down: how much the map of the classes changes when every image is turned upside down,
            the mean total variation of the cells, 0 to 1, less what chance alone gives.
        mirrored: the same for left and right.
        edge_ratio: length of upright over level edges of the classes, both in pixels.
        colour: share of the regions (a class in an image) whose class a nearest-mean rule tells
            from their mean colour alone, averaged over classes, the rule made without that image.
    """

    images: int
    looked_at: int
    height: int
    width: int
    smallest: tuple[int, int]
    channels: int
    photos: bool
    endless: bool
    classes: Mapping[str, ClassFacts]
    upside_down: float
    mirrored: float
    edge_ratio: float
    colour: float | None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @property
    def thinnest(self) -> tuple[str, float] | None:
        """The class whose typical width is the least, of those that occur."""
        known = {n: c.thickness for n, c in self.classes.items() if c.thickness is not None}
        return min(known.items(), key=lambda item: item[1], default=None)

    @property
    def thickest(self) -> float:
        """The typical width in pixels of the widest class, that of the image at most.

        The image's own border is no edge, so that a class at it may come out wider; one without
        edges is as wide as the image.
        """
        whole = float(min(self.height, self.width))
        occurring = [c for c in self.classes.values() if c.share > 0]
        return max(
            (whole if c.thickness is None else min(c.thickness, whole) for c in occurring),
            default=whole,
        )

    @property
    def imbalance(self) -> float:
        """How many times as many pixels the most frequent class has as the rarest that occurs."""
        shares = [c.share for c in self.classes.values() if c.share > 0]
        return max(shares) / min(shares) if shares else 1.0


@dataclass(frozen=True)
class _Seen:
    """One sample."""

    size: tuple[int, int]
    area: Int[np.ndarray, " K"]
    upright: Int[np.ndarray, " K"]
    level: Int[np.ndarray, " K"]
    cells: Float[np.ndarray, "K S S"]
    colours: Float[np.ndarray, "K C"]


@dataclass
class _Sums:
    seen: list[_Seen] = field(default_factory=list)

    def stack(self, name: str) -> FloatArray:
        return np.stack([getattr(one, name) for one in self.seen]).astype(float)


def gather_facts(
    dataset: SegmentationDataset,
    *,
    limit: int = LIMIT,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Facts:
    """Look at samples of a training part, drawn at random where there are more than `limit`.

    Args:
        dataset: the training part, as it is trained on.
        limit: samples to look at.
        seed: of the draw.
        progress: called with the number of samples done and of all.
    """
    chosen = sorted(epoch_order(len(dataset), seed=seed, epoch=0)[:limit])
    sums, num_classes = _Sums(), dataset.labels.num_classes
    for done, index in enumerate(chosen, start=1):
        sums.seen.append(_look(dataset[index], num_classes))
        if progress is not None:
            progress(done, len(chosen))
    area, upright, level = (sums.stack(name) for name in ("area", "upright", "level"))
    cells = sums.stack("cells")
    heights, widths = zip(*(one.size for one in sums.seen), strict=True)
    spec = dataset.images
    return Facts(
        images=len(dataset),
        looked_at=len(chosen),
        height=int(np.median(heights)),
        width=int(np.median(widths)),
        smallest=(min(heights), min(widths)),
        channels=spec.channels,
        photos=spec.channels == 3 and spec.dtype == "uint8",
        endless=bool(getattr(dataset, "endless", False)),
        classes=_classes(dataset.labels.names, area, upright + level),
        upside_down=asymmetry(cells, axis=2),
        mirrored=asymmetry(cells, axis=3),
        edge_ratio=float(upright.sum() / max(level.sum(), 1.0)),
        colour=colour_accuracy(sums.stack("colours"), area > 0),
    )


def _look(sample: Sample, num_classes: int) -> _Seen:
    ids = sample.mask.as_subclass(Tensor).numpy()
    upright, level = edge_lengths(ids, num_classes)
    area = np.bincount(ids.ravel(), minlength=256)[:num_classes]
    colours = np.zeros((num_classes, sample.image.shape[0]))
    # Every fourth pixel of each side tells a mean colour as well.
    some = ids[::4, ::4]
    for channel, plane in enumerate(sample.image.as_subclass(Tensor)[:, ::4, ::4].numpy()):
        sums = np.bincount(some.ravel(), weights=plane.ravel().astype(float), minlength=256)
        count = np.maximum(np.bincount(some.ravel(), minlength=256), 1)
        colours[:, channel] = (sums / count)[:num_classes]
    return _Seen(
        size=(ids.shape[0], ids.shape[1]),
        area=area,
        upright=upright,
        level=level,
        cells=class_cells(ids, num_classes),
        colours=colours,
    )


def edge_lengths(
    ids: UInt8[np.ndarray, "H W"], num_classes: int
) -> tuple[Int[np.ndarray, " K"], Int[np.ndarray, " K"]]:
    """Pixel sides between each class and what is not it: upright ones, and level ones.

    The border of the image makes no edge; ignored pixels do, as some datasets outline all objects
    with them.
    """
    lengths = []
    for one, other in ((ids[:, :-1], ids[:, 1:]), (ids[:-1], ids[1:])):
        edge = one != other
        both = np.concatenate([one[edge], other[edge]])
        lengths.append(np.bincount(both, minlength=num_classes)[:num_classes])
    return lengths[0], lengths[1]


def class_cells(ids: UInt8[np.ndarray, "H W"], num_classes: int) -> Float[np.ndarray, "K S S"]:
    """Share of each class in each cell of a grid laid over the image; 0 where all is ignored."""
    height, width = ids.shape
    rows = np.arange(height) * GRID // height
    columns = np.arange(width) * GRID // width
    place = rows[:, None] * GRID + columns[None]
    counts = np.bincount((place * 256 + ids).ravel(), minlength=GRID * GRID * 256)
    table = counts.reshape(GRID, GRID, 256)[..., :num_classes].astype(float)
    return np.moveaxis(table / np.maximum(table.sum(-1, keepdims=True), 1), -1, 0)


def asymmetry(cells: Float[np.ndarray, "N K S S"], *, axis: int) -> float:
    """How much the mean map of the classes changes when it is flipped, beyond chance.

    The mean over cells of the total variation between a cell's classes and its mirror image's. Of a
    dataset whose images were each flipped by the toss of a coin nothing but chance would be left;
    the mean of twenty such tosses is taken off.

    Args:
        cells: share of each class in each cell of each image.
        axis: 2 flips upside down, 3 flips left and right.

    Returns:
        0 (symmetric) to 1.
    """
    flipped = np.flip(cells, axis)
    half = (cells - flipped) / 2
    tosses = np.random.default_rng(0).choice([-1.0, 1.0], size=(20, len(cells)))

    def variation(signs: FloatArray) -> float:
        change = np.tensordot(signs, half, axes=(0, 0)) / len(cells)
        return float(np.abs(change).sum(0).mean())

    chance = np.mean([variation(signs) for signs in tosses])
    return max(0.0, variation(np.ones(len(cells))) - float(chance))


def colour_accuracy(
    colours: Float[np.ndarray, "N K C"], present: Bool[np.ndarray, "N K"]
) -> float | None:
    """How often the mean colour of a region tells its class, averaged over the classes.

    The class is that whose mean colour over all other images is nearest, in units of each channel's
    deviation. `None` where fewer than two classes occur in two images or more.
    """
    count = present.sum(0)
    usable = np.flatnonzero(count >= 2)
    if len(usable) < 2:
        return None
    scale = colours[present].std(0) + 1e-9
    scaled = np.where(present[..., None], colours / scale, 0.0)
    sums = scaled.sum(0)
    right, tried = np.zeros(len(usable)), np.zeros(len(usable))
    for image, here in zip(scaled, present, strict=True):
        others = np.maximum(count - here, 1)
        means = ((sums - image) / others[:, None])[usable]
        for place, k in enumerate(usable):
            if here[k]:
                nearest = np.argmin(((means - image[k]) ** 2).sum(1))
                right[place] += nearest == place
                tried[place] += 1
    return float((right / tried).mean())


def _classes(names: tuple[str, ...], area: FloatArray, edges: FloatArray) -> dict[str, ClassFacts]:
    labelled = max(area.sum(), 1.0)
    total, length = area.sum(0), edges.sum(0)
    return {
        name: ClassFacts(
            share=float(total[k] / labelled),
            present=float((area[:, k] > 0).mean()),
            thickness=None if length[k] == 0 else float(2 * total[k] / length[k]),
        )
        for k, name in enumerate(names)
    }
