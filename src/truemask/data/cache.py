"""Keeping decoded samples in memory, so that an epoch does not decode the files again."""

from collections.abc import Sequence

from truemask.datasets.sample import Sample, SegmentationDataset
from truemask.images import ImageSpec
from truemask.labels import LabelMap


class MemoryCache:
    """A dataset that keeps the samples it has read, up to a limit of bytes; the rest is read again.

    Args:
        dataset: where the samples come from.
        limit: bytes of pixels to keep at most.
    """

    def __init__(self, dataset: SegmentationDataset, *, limit: int) -> None:
        self.dataset = dataset
        self.limit = limit
        self._kept: dict[int, Sample] = {}
        self._bytes = 0

    @property
    def labels(self) -> LabelMap:
        """The dataset's."""
        return self.dataset.labels

    @property
    def images(self) -> ImageSpec:
        """The dataset's."""
        return self.dataset.images

    @property
    def names(self) -> Sequence[str]:
        """The dataset's."""
        return self.dataset.names

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        if index in self._kept:
            return self._kept[index]
        sample = self.dataset[index]
        size = sample.image.nbytes + sample.mask.nbytes
        if self._bytes + size <= self.limit:
            self._kept[index] = sample
            self._bytes += size
        return sample
