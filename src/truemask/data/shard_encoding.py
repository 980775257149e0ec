"""A sample as it goes into a shard: the image file as it is, the mask as class ids."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from truemask.data.views import View
from truemask.datasets.decoding import SUFFIXES, Frame, image_frame
from truemask.datasets.paired import PairedDataset, nearest
from truemask.datasets.pairing import Pair
from truemask.datasets.sample import SegmentationDataset
from truemask.errors import UsageError


@dataclass(frozen=True)
class Source:
    """A sample that is to be sharded.

    Attributes:
        dataset: which knows how to read it.
        pair: its files.
    """

    dataset: PairedDataset
    pair: Pair


def source_of(dataset: SegmentationDataset, index: int) -> Source:
    """Where a sample comes from.

    Raises:
        UsageError: it does not come from files as they are.
    """
    while isinstance(dataset, View):
        source, index = dataset.places[index]
        dataset = dataset.sources[source]
    if not isinstance(dataset, PairedDataset) or dataset.size is not None:
        raise UsageError(
            f"{type(dataset).__name__} cannot be sharded: only data that lies in files of images "
            "and masks can, at its own size and with its own classes"
        )
    return Source(dataset, dataset.pairs[index])


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """A sample as it goes into a shard.

    Attributes:
        name: of the sample.
        attributes: what else is known of it.
        size: height and width of the image, as it is to be looked at.
        suffix: how the name of the image file ends.
        image: the image file.
        mask: a PNG of class ids, of the size of the mask file.
        pixels: of each of 256 ids, at the size of the image.
    """

    name: str
    attributes: Mapping[str, str]
    size: tuple[int, int]
    suffix: str
    image: bytes
    mask: bytes
    pixels: Sequence[int]


def encode(source: Source) -> Encoded:
    """Read the image file, and make the mask a PNG of class ids.

    Raises:
        UsageError: a file is unreadable, or the mask does not fit.
    """
    pair = source.pair
    try:
        image = pair.image.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {pair.image}: {error.strerror}") from error
    frame = image_frame(pair.image)
    size = frame.size
    ids = _ids(source, frame)
    mask = io.BytesIO()
    Image.fromarray(ids).save(mask, "PNG")
    fitted = ids if ids.shape == size else nearest(ids, size)
    suffix = pair.image.suffix.lower()
    return Encoded(
        name=pair.name,
        attributes=pair.attributes,
        size=size,
        suffix=suffix if suffix in SUFFIXES else "",
        image=image,
        mask=mask.getvalue(),
        pixels=Image.fromarray(fitted).histogram(),
    )


def _ids(source: Source, image: Frame) -> UInt8[np.ndarray, "H W"]:
    """The class ids of a mask at the size that its file has, as `PairedDataset` reads them."""
    dataset, pair = source.dataset, source.pair
    raw = dataset.raw_mask(pair, image=image)
    try:
        return dataset.labels.encode(raw)
    except UsageError as error:
        raise UsageError(f"{pair.mask}: {error}") from error
