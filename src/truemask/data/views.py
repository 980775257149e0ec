"""Samples of other datasets, seen as one dataset: chosen, put together, or resized.

Nothing is read before a sample is asked for, and nothing is copied but places.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar, cast

import numpy as np
import torch
from jaxtyping import Int64
from PIL import Image
from torchvision import tv_tensors

from truemask.channels import ChannelSums
from truemask.datasets.measuring import Measured, spots_of_image
from truemask.datasets.paired import Size, nearest
from truemask.datasets.sample import Sample, SegmentationDataset
from truemask.errors import UsageError
from truemask.images import ImageSpec, resize_image
from truemask.labels import LabelMap

Item = TypeVar("Item")

Progress = Callable[[int, int], None]
"""Called with (done, total) after each sample."""


@dataclass(frozen=True, kw_only=True)
class View:
    """Chosen samples of one or several datasets, which share a label map.

    Attributes:
        sources: the datasets; one at least.
        places: (source, index in it) of each sample, in the order of the view.

    Raises:
        UsageError: the sources have different label maps or kinds of images.
    """

    sources: tuple[SegmentationDataset, ...]
    places: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        assert self.sources, "a view needs a source"
        for source in self.sources:
            if source.labels != self.labels:
                raise UsageError("parts with different label maps cannot be put together")
            if source.images != self.images:
                raise UsageError("parts with different kinds of images cannot be put together")

    @classmethod
    def of(cls, datasets: Iterable[SegmentationDataset]) -> "View":
        """All samples of all datasets, sorted by name, so that it matters not how they came.

        Raises:
            UsageError: the datasets do not go together, or one is endless.
        """
        sources = tuple(datasets)
        if any(getattr(source, "endless", False) for source in sources):
            raise UsageError(
                "data that is generated anew for every epoch cannot be split or chosen from: "
                "leave out data.split and data.subset, and set the sizes of its parts"
            )
        places = [
            (source, index)
            for source, dataset in enumerate(sources)
            for index in range(len(dataset))
        ]
        places.sort(key=lambda place: sources[place[0]].names[place[1]])
        return cls(sources=sources, places=tuple(places))

    @classmethod
    def some(cls, dataset: SegmentationDataset, indices: Iterable[int]) -> "View":
        """Samples of one dataset, in this order; of an endless one these and no others."""
        return cls(sources=(dataset,), places=tuple((0, index) for index in indices))

    def take(self, indices: Iterable[int]) -> "View":
        """The samples at these indices, in this order."""
        return replace(self, places=tuple(self.places[index] for index in indices))

    @property
    def labels(self) -> LabelMap:
        """The sources'."""
        return self.sources[0].labels

    @property
    def images(self) -> ImageSpec:
        """The sources'."""
        return self.sources[0].images

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the samples, in order."""
        return self._of_each(tuple(source.names for source in self.sources))

    @cached_property
    def attributes(self) -> tuple[Mapping[str, str], ...]:
        """What else is known of each sample; nothing of those whose source has no attributes."""
        return self._of_each(tuple(attributes(source) for source in self.sources))

    @cached_property
    def sizes(self) -> tuple[Size, ...]:
        """Height and width of each sample; missing where a source lacks them."""
        return self._of_each(tuple(cast(Any, source).sizes for source in self.sources))

    def _of_each(self, columns: Sequence[Sequence[Item]]) -> tuple[Item, ...]:
        return tuple(columns[source][index] for source, index in self.places)

    def resized(self, size: Size) -> "View":
        """The same samples at another height and width."""
        return replace(self, sources=tuple(resized(source, size) for source in self.sources))

    def __getstate__(self) -> dict[str, Any]:
        # Names and attributes are found again; a loading process needs neither.
        return {"sources": self.sources, "places": self.places}

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Sample:
        """The sample, as its source reads it."""
        source, place = self.places[index]
        return self.sources[source][place]

    def mask(self, index: int) -> tv_tensors.Mask:
        """The mask alone."""
        source, place = self.places[index]
        return read_mask(self.sources[source], place)

    def fingerprint(self, index: int) -> bytes | None:
        """The source's."""
        source, place = self.places[index]
        return fingerprint(self.sources[source], place)

    def measured(self, index: int) -> Measured:
        """The source's."""
        source, place = self.places[index]
        return measured(self.sources[source], place)


class Wrapped:
    """What stays the same of a dataset whose samples are changed or kept one by one.

    Attributes:
        dataset: where the samples come from.
    """

    dataset: SegmentationDataset

    @property
    def images(self) -> ImageSpec:
        """The dataset's."""
        return self.dataset.images

    @property
    def names(self) -> Sequence[str]:
        """The dataset's."""
        return self.dataset.names

    @property
    def attributes(self) -> Sequence[Mapping[str, str]]:
        """The dataset's."""
        return attributes(self.dataset)

    @property
    def sizes(self) -> Sequence[Size]:
        """The dataset's; missing where it has none."""
        return cast(Sequence[Size], cast(Any, self.dataset).sizes)

    @property
    def endless(self) -> bool:
        """Whether the dataset takes any index from 0 on."""
        return bool(getattr(self.dataset, "endless", False))

    def __len__(self) -> int:
        return len(self.dataset)


@dataclass(frozen=True, kw_only=True)
class Resized(Wrapped):
    """A dataset whose samples are resized after they were read.

    Attributes:
        size: height and width to which images (smoothly) and masks (by the nearest pixel) are
            brought.
    """

    dataset: SegmentationDataset
    size: Size

    @property
    def labels(self) -> LabelMap:
        """The dataset's."""
        return self.dataset.labels

    @property
    def sizes(self) -> tuple[Size, ...]:
        """The one size, for each sample."""
        return (self.size,) * len(self)

    def resized(self, size: Size) -> "Resized":
        """The same samples at another height and width, not resized twice."""
        return replace(self, size=size)

    def __getitem__(self, index: int) -> Sample:
        """The sample of the dataset, resized."""
        sample = self.dataset[index]
        image: torch.Tensor = sample.image.as_subclass(torch.Tensor)
        if image.shape[-2:] != self.size:
            image = resize_image(image, self.size)
        return replace(sample, image=tv_tensors.Image(image), mask=self._fit(sample.mask))

    def mask(self, index: int) -> tv_tensors.Mask:
        """The mask alone."""
        return self._fit(read_mask(self.dataset, index))

    def fingerprint(self, index: int) -> bytes | None:
        """The dataset's, with the size."""
        return fingerprint(self.dataset, index, more=("resized", self.size))

    def _fit(self, mask: tv_tensors.Mask) -> tv_tensors.Mask:
        if mask.shape[-2:] == self.size:
            return mask
        return tv_tensors.Mask(torch.from_numpy(nearest(mask.numpy(), self.size)))


def resized(dataset: SegmentationDataset, size: Size) -> SegmentationDataset:
    """The dataset at another height and width: read so where it can, else resized afterwards."""
    height, width = size
    if hasattr(dataset, "resized"):
        return cast(SegmentationDataset, dataset.resized((height, width)))
    return Resized(dataset=dataset, size=(height, width))


def attributes(dataset: SegmentationDataset) -> Sequence[Mapping[str, str]]:
    """What else is known of each sample; empty where the dataset tells nothing."""
    found: Sequence[Mapping[str, str]] | None = getattr(dataset, "attributes", None)
    return ({},) * len(dataset) if found is None else found


def fingerprint(dataset: SegmentationDataset, index: int, *, more: object = None) -> bytes | None:
    """Bytes that change where the sample might, without reading it; None where none can be given.

    Args:
        dataset: asked if its class has a method `fingerprint(index)`. One that is inherited does
            not count, as the class may read otherwise than the one above it.
        index: of the sample.
        more: what the sample depends on besides, something with a telling `repr`.
    """
    if "fingerprint" not in vars(type(dataset)):
        return None
    found: bytes | None = cast(Any, dataset).fingerprint(index)
    if found is None or more is None:
        return found
    return hashlib.blake2b(repr((found, more)).encode(), digest_size=16).digest()


def measured(dataset: SegmentationDataset, index: int) -> Measured:
    """What a survey needs of a sample.

    A dataset may do so without making an array of the image, by `measured(index)`, which counts if
    its own class has it.
    """
    if "measured" in vars(type(dataset)):
        found: Measured = cast(Any, dataset).measured(index)
        return found
    sample = dataset[index]
    spec = dataset.images
    return Measured(
        ChannelSums.of(sample.image, spec),
        sample.mask,
        f"{spec.channels} x {spec.dtype}",
        spots_of_image(sample.image, spec),
    )


def read_mask(dataset: SegmentationDataset, index: int) -> tv_tensors.Mask:
    """The mask of a sample, without its image where the dataset can do so (by `mask(index)`)."""
    if hasattr(dataset, "mask"):
        return cast(tv_tensors.Mask, dataset.mask(index))
    return dataset[index].mask


def count_pixels(
    dataset: SegmentationDataset, *, progress: Progress | None = None
) -> Int64[np.ndarray, "N 256"]:
    """Pixels of each id in each mask; reads every mask once."""
    counts = np.zeros((len(dataset), 256), dtype=np.int64)

    def count(index: int) -> list[int]:
        return Image.fromarray(read_mask(dataset, index).numpy()).histogram()

    # Decoding leaves Python's lock free, so that threads are enough.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        try:
            for index, row in enumerate(pool.map(count, range(len(dataset)))):
                counts[index] = row
                if progress is not None:
                    progress(index + 1, len(dataset))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return counts
