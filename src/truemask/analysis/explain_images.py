"""Which images are looked at, and which are shown."""

import numpy as np

from truemask.data.randomness import epoch_order
from truemask.data.views import View
from truemask.datasets.sample import SegmentationDataset
from truemask.metrics.confusion import headline, iou
from truemask.per_image import Evaluation

SEED = 0
"""By which images and pixels are drawn."""


def chosen(
    dataset: SegmentationDataset, images: int | None
) -> tuple[SegmentationDataset, int | None]:
    """All images, or so many by the seed, and that."""
    if images is None or images >= len(dataset):
        return dataset, None
    indices = sorted(epoch_order(len(dataset), seed=SEED, epoch=0)[:images])
    return View.some(dataset, indices), SEED


def telling(evaluation: Evaluation) -> list[str]:
    """The images with the best, the middle and the worst IoU."""
    scores = headline(iou(evaluation.matrices))
    ranked = [place for place in np.argsort(-scores, kind="stable") if np.isfinite(scores[place])]
    if not ranked:
        return list(evaluation.names[:1])
    places = dict.fromkeys((ranked[0], ranked[len(ranked) // 2], ranked[-1]))
    return [evaluation.names[place] for place in places]
