"""Which images are looked at, and which are shown."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from truemask.data.randomness import epoch_order
from truemask.datasets.sample import Sample, SegmentationDataset
from truemask.images import ImageSpec
from truemask.labels import LabelMap
from truemask.metrics.confusion import headline, iou
from truemask.per_image import Evaluation

SEED = 0
"""By which images and pixels are drawn."""


@dataclass(frozen=True, kw_only=True)
class Some:
    """Some images of a dataset, by their indices."""

    dataset: SegmentationDataset
    indices: Sequence[int]

    @property
    def labels(self) -> LabelMap:
        """The dataset's."""
        return self.dataset.labels

    @property
    def images(self) -> ImageSpec:
        """The dataset's."""
        return self.dataset.images

    @property
    def names(self) -> list[str]:
        """Of these images."""
        names = self.dataset.names
        return [names[index] for index in self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        """The sample, as the dataset reads it."""
        return self.dataset[self.indices[index]]


def chosen(
    dataset: SegmentationDataset, images: int | None
) -> tuple[SegmentationDataset, int | None]:
    """All images, or so many by the seed, and that."""
    if images is None or images >= len(dataset):
        return dataset, None
    indices = sorted(epoch_order(len(dataset), seed=SEED, epoch=0)[:images])
    return Some(dataset=dataset, indices=indices), SEED


def telling(evaluation: Evaluation) -> list[str]:
    """The images with the best, the middle and the worst IoU."""
    scores = headline(iou(evaluation.matrices))
    ranked = [place for place in np.argsort(-scores, kind="stable") if np.isfinite(scores[place])]
    if not ranked:
        return list(evaluation.names[:1])
    places = dict.fromkeys((ranked[0], ranked[len(ranked) // 2], ranked[-1]))
    return [evaluation.names[place] for place in places]
