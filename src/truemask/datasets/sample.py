"""One image with its mask, and what every dataset is: a sequence of those with one label map."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torchvision import tv_tensors

from truemask.images import ImageSpec
from truemask.labels import LabelMap


@dataclass(frozen=True, kw_only=True)
class Sample:
    """An image and its mask, as they are on disk, at their own size.

    Attributes:
        image: (C, H, W), of the dtype and range that the dataset's `ImageSpec` declares.
        mask: (H, W) uint8 class ids; ignored pixels hold the label map's `ignore_index`.
        name: unique within the dataset, the same on every machine.
        attributes: what else is known of the image, such as `{"scene": "city street"}`.
    """

    image: tv_tensors.Image
    mask: tv_tensors.Mask
    name: str
    attributes: Mapping[str, str] = field(default_factory=dict)


class SegmentationDataset(Protocol):
    """What training, evaluation and checks ask of a dataset.

    A dataset may tell more, all of it without opening an image: `attributes`, those of each sample
    in order; `sizes`, the (height, width) of each; `resized(size)`, the same samples read at
    another size; and `fingerprint(index)`, bytes that change where the sample might (settings,
    names, sizes and times of its files), by which samples are kept from one training to the next.

    A dataset that generates its samples may be endless: it then has the attribute `endless = True`,
    and takes any index from 0 on, so that epoch `e` uses the indices from `e * len(dataset)`.
    """

    @property
    def labels(self) -> LabelMap:
        """Classes and raw values."""

    @property
    def images(self) -> ImageSpec:
        """What the pixels of the images mean."""

    @property
    def names(self) -> Sequence[str]:
        """The names of the samples, in order; cheap, no file is opened."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


@dataclass(frozen=True)
class Parts(Mapping[str, SegmentationDataset]):
    """The parts of a dataset by name ("train", "validation", "test"), and how they came about.

    Attributes:
        parts: part name -> dataset; all share one label map.
        notes: decisions taken while reading the data, one sentence each, for the user.
        division: those of the notes that say how the parts came about.
    """

    parts: Mapping[str, SegmentationDataset]
    notes: tuple[str, ...] = ()
    division: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> SegmentationDataset:
        return self.parts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.parts)

    def __len__(self) -> int:
        return len(self.parts)
