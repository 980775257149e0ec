"""A dataset that lies in memory: masks as given, images that follow from the names."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torchvision import tv_tensors

from truemask.datasets.sample import Sample
from truemask.images import RGB
from truemask.labels import LabelMap

LABELS = LabelMap(names=("a", "b", "c"), values={0: 0, 1: 1, 2: 2, 255: 255})


class InMemory:
    """It tells its attributes and sizes only where they are given."""

    images = RGB

    def __init__(
        self,
        names: Sequence[str],
        masks: Sequence[np.ndarray] | None = None,
        *,
        labels: LabelMap = LABELS,
        attributes: Sequence[Mapping[str, str]] | None = None,
    ) -> None:
        self.names = tuple(names)
        self.masks = [np.zeros((2, 3), np.uint8)] * len(names) if masks is None else list(masks)
        self.labels = labels
        if attributes is not None:
            self.attributes = tuple(attributes)
        self.reads = 0

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        self.reads += 1
        mask = np.asarray(self.masks[index], dtype=np.uint8)
        random = np.random.default_rng(list(self.names[index].encode()))
        image = random.integers(0, 256, (3, *mask.shape)).astype(np.uint8)
        return Sample(
            image=tv_tensors.Image(torch.from_numpy(image)),
            mask=tv_tensors.Mask(torch.from_numpy(mask.copy())),
            name=self.names[index],
            attributes=getattr(self, "attributes", [{}] * len(self))[index],
        )


def numbered(count: int, prefix: str = "") -> list[str]:
    return [f"{prefix}{i:04d}" for i in range(count)]


def presence_masks(presence: np.ndarray) -> list[np.ndarray]:
    """Masks of one row that hold the classes of each row of (N, K), and one ignored pixel."""
    return [np.array([[*np.flatnonzero(row), 255]], np.uint8) for row in presence]
