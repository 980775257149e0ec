"""What must be known of the training part first: class counts, mean, deviation, sizes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from truemask.channels import ChannelSums
from truemask.data.randomness import epoch_order
from truemask.data.shard_order import group_order, sharded
from truemask.datasets.sample import Sample, SegmentationDataset
from truemask.images import ImageSpec

IntArray = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


@dataclass
class Statistics:
    """Sums over samples; `merge` of two is the sum.

    All of it is exact, in any order.

    Attributes:
        images: samples counted.
        class_counts: (K,) pixels of each class; ignored pixels are no class.
        ignored: ignored pixels.
        channels: sums of the pixel values.
        spec: what these mean.
        sizes: (height, width) of each image.
    """

    images: int
    class_counts: IntArray
    ignored: int
    channels: ChannelSums
    spec: ImageSpec
    sizes: list[tuple[int, int]]

    @classmethod
    def empty(cls, *, num_classes: int, spec: ImageSpec) -> "Statistics":
        """Of no sample."""
        channels = ChannelSums.empty(spec.channels)
        return cls(0, np.zeros(num_classes, np.int64), 0, channels, spec, [])

    @classmethod
    def of(cls, sample: Sample, *, num_classes: int, spec: ImageSpec) -> "Statistics":
        """Of one sample."""
        counts = torch.bincount(sample.mask.flatten().long(), minlength=256)
        return cls(
            images=1,
            class_counts=counts[:num_classes].numpy(),
            ignored=int(counts[num_classes:].sum()),
            channels=ChannelSums.of(sample.image, spec),
            spec=spec,
            sizes=[(int(sample.mask.shape[-2]), int(sample.mask.shape[-1]))],
        )

    def merge(self, other: "Statistics") -> "Statistics":
        """Of both together."""
        return Statistics(
            self.images + other.images,
            self.class_counts + other.class_counts,
            self.ignored + other.ignored,
            self.channels.merge(other.channels),
            self.spec,
            self.sizes + other.sizes,
        )

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of each channel, in units of images scaled to [0, 1]."""
        return self.channels.mean(self.spec)

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of each channel; at least a thousandth, for images of one colour."""
        return self.channels.std(self.spec)

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
    observe: Callable[[Sample], None] | None = None,
    observed: int = 0,
) -> Statistics:
    """The statistics of a dataset, or of `limit` samples drawn at random where it is larger.

    Args:
        dataset: the training part.
        limit: the most samples that are read.
        seed: by which they are drawn.
        progress: called with the number of samples read and of all.
        observe: called with some of these samples, drawn at random.
        observed: how many of them, at most.
    """
    total = Statistics.empty(num_classes=dataset.labels.num_classes, spec=dataset.images)
    shards = sharded(dataset)
    if shards is None:
        order = epoch_order(len(dataset), seed=seed, epoch=0)
    else:  # drawn from a few shards, as all of them may be more than the disk holds
        order = group_order(shards.groups, seed=seed, epoch=0, window=shards.window)
    indices = order[:limit]
    shown = set(indices[:observed])
    for done, index in enumerate(sorted(indices), start=1):
        sample = dataset[index]
        total = total.merge(
            Statistics.of(sample, num_classes=dataset.labels.num_classes, spec=dataset.images)
        )
        if observe is not None and index in shown:
            observe(sample)
        if progress is not None:
            progress(done, len(indices))
    return total
