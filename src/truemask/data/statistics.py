"""What must be known of the training part first: class counts, mean, deviation, sizes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from truemask.data.randomness import epoch_order
from truemask.data.shard_order import group_order, sharded
from truemask.datasets.sample import Sample, SegmentationDataset
from truemask.images import ImageSpec

IntArray = np.ndarray[tuple[int, ...], np.dtype[np.int64]]
FloatArray = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


@dataclass
class Statistics:
    """Sums over samples; `merge` of two is the sum.

    Counts are exact in any order; `sums` and `squares` are exact up to the rounding of float64.

    Attributes:
        images: samples counted.
        class_counts: (K,) pixels of each class; ignored pixels are no class.
        ignored: ignored pixels.
        pixels: all pixels of the images.
        sums: (C,) sums of the pixel values, scaled to [0, 1].
        squares: (C,) sums of their squares.
        sizes: (height, width) of each image.
    """

    images: int
    class_counts: IntArray
    ignored: int
    pixels: int
    sums: FloatArray
    squares: FloatArray
    sizes: list[tuple[int, int]]

    @classmethod
    def empty(cls, *, num_classes: int, channels: int) -> "Statistics":
        """Of no sample."""
        zero = np.zeros(channels)
        return cls(0, np.zeros(num_classes, np.int64), 0, 0, zero, zero.copy(), [])

    @classmethod
    def of(cls, sample: Sample, *, num_classes: int, spec: ImageSpec) -> "Statistics":
        """Of one sample."""
        counts = torch.bincount(sample.mask.flatten().long(), minlength=256)
        values = sample.image.flatten(1).double().sub(spec.low).div(spec.high - spec.low)
        return cls(
            images=1,
            class_counts=counts[:num_classes].numpy(),
            ignored=int(counts[num_classes:].sum()),
            pixels=values.shape[1],
            sums=values.sum(1).numpy(),
            squares=values.square().sum(1).numpy(),
            sizes=[(int(sample.mask.shape[-2]), int(sample.mask.shape[-1]))],
        )

    def merge(self, other: "Statistics") -> "Statistics":
        """Of both together."""
        return Statistics(
            self.images + other.images,
            self.class_counts + other.class_counts,
            self.ignored + other.ignored,
            self.pixels + other.pixels,
            self.sums + other.sums,
            self.squares + other.squares,
            self.sizes + other.sizes,
        )

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of each channel, in units of images scaled to [0, 1]."""
        return tuple(float(value) for value in self.sums / self.pixels)

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of each channel; at least a thousandth, for images of one colour."""
        variance = self.squares / self.pixels - (self.sums / self.pixels) ** 2
        return tuple(float(value) for value in np.sqrt(np.maximum(variance, 1e-6)))

    @property
    def median_size(self) -> tuple[int, int]:
        """Median height and width in pixels."""
        height, width = np.median(np.array(self.sizes), axis=0)
        return int(height), int(width)


def measure(
    dataset: SegmentationDataset,
    *,
    limit: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> Statistics:
    """The statistics of a dataset, or of `limit` samples drawn at random where it is larger."""
    total = Statistics.empty(
        num_classes=dataset.labels.num_classes, channels=dataset.images.channels
    )
    shards = sharded(dataset)
    if shards is None:
        order = epoch_order(len(dataset), seed=seed, epoch=0)
    else:  # drawn from a few shards, as all of them may be more than the disk holds
        order = group_order(shards.groups, seed=seed, epoch=0, window=shards.window)
    indices = order[:limit]
    for done, index in enumerate(sorted(indices), start=1):
        sample = dataset[index]
        total = total.merge(
            Statistics.of(sample, num_classes=dataset.labels.num_classes, spec=dataset.images)
        )
        if progress is not None:
            progress(done, len(indices))
    return total
