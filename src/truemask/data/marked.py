"""A dataset some of whose pixels are ignored, because a list says that their labels are wrong."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torchvision import tv_tensors

from truemask.data.marks import RegionMark
from truemask.data.views import Wrapped, fingerprint, read_mask, resized
from truemask.datasets.paired import Size
from truemask.datasets.sample import Sample, SegmentationDataset
from truemask.errors import UsageError
from truemask.labels import LabelMap


@dataclass(frozen=True, kw_only=True)
class Ignoring(Wrapped):
    """A dataset whose masks have the ignored id in the regions of a list.

    Attributes:
        regions: name of an image -> its regions.
        digest: of the list, by which kept samples know that it changed.
        own_size: whether masks come at their own size, which is then that of the list.
    """

    dataset: SegmentationDataset
    regions: Mapping[str, Sequence[RegionMark]]
    digest: str
    own_size: bool = True

    @property
    def labels(self) -> LabelMap:
        """The dataset's."""
        return self.dataset.labels

    def resized(self, size: Size) -> "Ignoring":
        """The same samples at another height and width."""
        return replace(self, dataset=resized(self.dataset, size), own_size=False)

    def __getitem__(self, index: int) -> Sample:
        """The sample of the dataset, the listed regions ignored."""
        sample = self.dataset[index]
        return replace(sample, mask=self._ignore(sample.mask, sample.name))

    def mask(self, index: int) -> tv_tensors.Mask:
        """The mask alone."""
        return self._ignore(read_mask(self.dataset, index), self.names[index])

    def fingerprint(self, index: int) -> bytes | None:
        """The dataset's, with the list."""
        return fingerprint(self.dataset, index, more=("ignoring", self.digest))

    def _ignore(self, mask: tv_tensors.Mask, name: str) -> tv_tensors.Mask:
        marks = self.regions.get(name)
        if not marks:
            return mask
        ids = mask.numpy().copy()
        for mark in marks:
            if self.own_size and ids.shape != mark.size:
                raise UsageError(
                    f"{name}: a region to ignore (line {mark.line} of its list) is of a mask of "
                    f"{mark.size[1]} x {mark.size[0]} pixels, but the mask has {ids.shape[1]} x "
                    f"{ids.shape[0]}"
                )
            ids[places(mark, ids.shape[0], ids.shape[1])] = self.labels.ignore_index
        return tv_tensors.Mask(torch.from_numpy(ids))


def ignoring(
    dataset: SegmentationDataset,
    regions: Sequence[RegionMark],
    *,
    digest: str,
    own_size: bool,
) -> Ignoring:
    """The dataset without these regions; those of other images are passed over."""
    of_each: dict[str, list[RegionMark]] = {}
    names = set(dataset.names)
    for mark in regions:
        if mark.name in names:
            of_each.setdefault(mark.name, []).append(mark)
    return Ignoring(dataset=dataset, regions=of_each, digest=digest, own_size=own_size)


def places(mark: RegionMark, height: int, width: int) -> Any:
    """Rows and columns of the pixels of a mask of this size whose nearest is in the region."""
    down = ((np.arange(height) + 0.5) * mark.size[0] / height).astype(np.int64) - mark.top
    right = ((np.arange(width) + 0.5) * mark.size[1] / width).astype(np.int64) - mark.left
    rows = np.flatnonzero((down >= 0) & (down < mark.height))
    columns = np.flatnonzero((right >= 0) & (right < mark.width))
    inside = mark.inside()[np.ix_(down[rows], right[columns])]
    found = np.nonzero(inside)
    return rows[found[0]], columns[found[1]]
