"""Images and masks that lie on disk as pairs of files: what most datasets are."""

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision import tv_tensors

from truemask.channels import ChannelSums
from truemask.datasets.decoding import Frame, image_frame, image_size, turn
from truemask.datasets.mask_files import read_mask_raw
from truemask.datasets.measuring import Measured, spots_of_image
from truemask.datasets.pairing import Pair
from truemask.datasets.reading import read_image_and_frame, read_measured
from truemask.datasets.sample import Sample
from truemask.datasets.scanning import turn_of_mask
from truemask.errors import UsageError
from truemask.images import RGB, ImageSpec
from truemask.labels import LabelMap

Size = tuple[int, int]
"""Height and width in pixels."""

RawMask = np.ndarray[tuple[int, ...], np.dtype[Any]]
"""(H, W) integers, or (H, W, 3) uint8 colours."""


@dataclass(frozen=True, kw_only=True)
class PairedDataset:
    """Images and masks on disk, in the order given.

    Attributes:
        pairs: the files, with what is known of each.
        labels: classes and raw values.
        images: what the pixels of the images mean.
        size: height and width to which images (smoothly) and masks (by the nearest pixel) are
            brought while they are read, which is faster than afterwards; None leaves them as they
            are.
        fit_masks: whether a mask of another size than its image is brought to the image's, rather
            than refused.
        as_stored: whether masks belong to the pixels as their image's file stores them, rather than
            turned by its EXIF orientation, where the size does not tell.
        read_raw: how to read a mask file whose values are not simply those of its pixels; given the
            path, it returns what `LabelMap.encode` takes.
        class_pixels: pixels of each class in all masks, where they are known; None elsewhere.
        ignored_pixels: likewise of ignored pixels.
    """

    pairs: tuple[Pair, ...]
    labels: LabelMap
    images: ImageSpec = RGB
    size: Size | None = None
    fit_masks: bool = False
    as_stored: bool = False
    read_raw: Callable[[Path], RawMask] | None = None
    class_pixels: tuple[int, ...] | None = None
    ignored_pixels: int | None = None

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the samples, in order."""
        return tuple(pair.name for pair in self.pairs)

    @cached_property
    def attributes(self) -> tuple[Mapping[str, str], ...]:
        """What else is known of each sample; no file is opened."""
        return tuple(pair.attributes for pair in self.pairs)

    @cached_property
    def sizes(self) -> tuple[Size, ...]:
        """Height and width of each sample, from the headers of the image files."""
        if self.size is not None:
            return (self.size,) * len(self.pairs)
        return tuple(image_size(pair.image) for pair in self.pairs)

    def resized(self, size: Size) -> "PairedDataset":
        """The same samples at another height and width, read at that size."""
        return replace(self, size=size)

    @cached_property
    def _settings(self) -> str | None:
        """What all samples depend on; None where somebody else's code reads the masks."""
        reader = _describe(self.read_raw)
        if reader is None:
            return None
        how = (self.size, self.fit_masks, self.as_stored, reader)
        settings = repr((*how, self.images, self.labels.to_json()))
        return hashlib.blake2b(settings.encode(), digest_size=16).hexdigest()

    def fingerprint(self, index: int) -> bytes | None:
        """What changes where the sample might: settings, names, sizes and times of its files.

        No file is opened. None where one is missing, or somebody else's code reads the masks.
        """
        pair = self.pairs[index]
        if self._settings is None:
            return None
        try:
            files = [(os.path.abspath(path), path.stat()) for path in (pair.image, pair.mask)]
        except OSError:
            return None
        known = [(path, found.st_size, found.st_mtime_ns) for path, found in files]
        described = repr((pair.name, sorted(pair.attributes.items()), known, self._settings))
        return hashlib.blake2b(described.encode(), digest_size=16).digest()

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        """Read an image and its mask.

        Raises:
            UsageError: a file is unreadable, the sizes differ, or a value of the mask is in no
                class; the file is named.
        """
        pair = self.pairs[index]
        image, frame = read_image_and_frame(pair.image, self.images, size=self.size)
        ids = self._read_ids(pair, size=(image.shape[-2], image.shape[-1]), image=frame)
        return Sample(
            image=image,
            mask=tv_tensors.Mask(torch.from_numpy(ids)),
            name=pair.name,
            attributes=pair.attributes,
        )

    def measured(self, index: int) -> Measured:
        """What a survey needs of `self[index]`, in three quarters of the time.

        Raises:
            UsageError: as `__getitem__`.
        """
        if self.size is not None:
            sample = self[index]
            sums = ChannelSums.of(sample.image, self.images)
            few = spots_of_image(sample.image, self.images)
            return Measured(sums, sample.mask, "resized", few)
        pair = self.pairs[index]
        sums, frame, mode, few = read_measured(pair.image, self.images)
        ids = self._read_ids(pair, size=frame.size, image=frame)
        return Measured(sums, tv_tensors.Mask(torch.from_numpy(ids)), mode, few)

    def mask(self, index: int) -> tv_tensors.Mask:
        """The mask alone; of the image only the header is read.

        Raises:
            UsageError: as `__getitem__`.
        """
        pair = self.pairs[index]
        frame = image_frame(pair.image)
        ids = self._read_ids(pair, size=self.size or frame.size, image=frame)
        return tv_tensors.Mask(torch.from_numpy(ids))

    def raw_mask(self, pair: Pair, *, image: Frame) -> RawMask:
        """The values of a mask file as they lie on the image, which `read_image` has turned.

        Args:
            pair: the files.
            image: how the image lies in its file.

        Raises:
            UsageError: the file is unreadable, or of another size than the image.
        """
        if self.read_raw is None:
            raw = read_mask_raw(pair.mask, colors=self.labels.encoding == "colors")
        else:
            raw = self.read_raw(pair.mask)
        if self.fit_masks:
            return raw
        found = (raw.shape[0], raw.shape[1])
        return turn(raw, turn_of_mask(pair, image=image, mask=found, as_stored=self.as_stored))

    def _read_ids(
        self, pair: Pair, *, size: Size, image: Frame
    ) -> np.ndarray[Any, np.dtype[np.uint8]]:
        raw = self.raw_mask(pair, image=image)
        if raw.shape[:2] != size:
            raw = nearest(raw, size)
        try:
            return self.labels.encode(raw)
        except UsageError as error:
            raise UsageError(f"{pair.mask}: {error}") from error


def _describe(function: Any) -> str | None:
    """A function of this package, with what it is given; None of any other, whose code changes."""
    if function is None:
        return ""
    if isinstance(function, partial):
        inner = _describe(function.func)
        return None if inner is None else f"{inner}{function.args}{function.keywords}"
    module, name = getattr(function, "__module__", ""), getattr(function, "__qualname__", "<")
    known = str(module).startswith(f"{__name__.split('.')[0]}.") and "<" not in name
    return f"{module}.{name}" if known else None


def nearest(raw: RawMask, size: Size) -> RawMask:
    """An array brought to another height and width by taking the nearest pixel.

    The centres of pixels are what is compared, as `InterpolationMode.NEAREST_EXACT` does.
    """
    height, width = raw.shape[:2]
    rows = ((np.arange(size[0]) + 0.5) * height / size[0]).astype(np.int64)
    columns = ((np.arange(size[1]) + 0.5) * width / size[1]).astype(np.int64)
    taken: RawMask = raw[rows[:, None], columns[None, :]]
    return taken
