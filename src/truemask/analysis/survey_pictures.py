"""The pictures of a survey's page: a few samples, read again once the counting is done."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from matplotlib import colormaps
from PIL import Image
from torchvision import tv_tensors

from truemask.analysis.survey_result import Survey
from truemask.datasets.paired import nearest
from truemask.datasets.sample import Sample, SegmentationDataset
from truemask.errors import UsageError
from truemask.images import resize_image, to_rgb
from truemask.labels import LabelMap
from truemask.report import pictures
from truemask.report.gallery import Fact, GalleryItem
from truemask.report.pictures import Picture, Quality

_QUALITY = Quality(480, 74)
_MAP = Quality(208, 82)

SAMPLES = 12
"""Samples that are shown, drawn by their names."""

_LACKING = 8
"""Images that are shown of each class which they lack; of the four classes most others have."""

_OVERLAID = 0.5
"""How much of the colour of its class a pixel takes where a mask lies over its image."""


@dataclass(frozen=True)
class Rung:
    """A sample at one length of its longer side: image and mask."""

    side: int
    image: Picture
    mask: Picture


@dataclass(frozen=True)
class Pictures:
    """What a page shows besides numbers.

    Attributes:
        samples: of the training part where there is one.
        lacking: class -> images that lack it.
        ladder: one sample at each side, the largest first.
        ladder_name: which.
    """

    samples: list[GalleryItem]
    lacking: dict[str, list[GalleryItem]]
    ladder: list[Rung]
    ladder_name: str


def read_pictures(parts: Mapping[str, SegmentationDataset], survey: Survey) -> Pictures:
    """Read the few samples that are shown; those that cannot be read are left out."""
    names = {one.name: one.named[:_LACKING] for one in survey.lacking[:4]}
    shown_first = parts.get("train") or next(part for part in parts.values() if len(part))
    if not len(shown_first):
        shown_first = next(part for part in parts.values() if len(part))
    drawn = _drawn(shown_first.names, SAMPLES)
    places = _places(parts, {name for some in names.values() for name in some})
    samples = [found for index in drawn if (found := _read(shown_first, index)) is not None]
    labels = shown_first.labels
    lacking = {
        cls: [
            _item(found, parts[part], survey.attributes)
            for name in some
            if name in places
            for part, index in [places[name]]
            if (found := _read(parts[part], index)) is not None
        ]
        for cls, some in names.items()
    }
    richest = max(samples, key=lambda one: len(np.unique(one.mask.numpy())), default=None)
    return Pictures(
        samples=[_item(one, shown_first, survey.attributes) for one in samples],
        lacking={cls: items for cls, items in lacking.items() if items},
        ladder=[] if richest is None else _ladder(richest, shown_first, labels, survey.sides),
        ladder_name="" if richest is None else richest.name,
    )


def _drawn(names: Sequence[str], count: int) -> list[int]:
    """The same ones every time, from all over the part."""
    marks = [hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names]
    return sorted(sorted(range(len(names)), key=lambda index: marks[index])[:count])


def _places(
    parts: Mapping[str, SegmentationDataset], wanted: Iterable[str]
) -> dict[str, tuple[str, int]]:
    sought = set(wanted)
    return {
        name: (key, index)
        for key, part in parts.items()
        for index, name in enumerate(part.names)
        if name in sought
    }


def _read(part: SegmentationDataset, index: int) -> Sample | None:
    try:
        return part[index]
    except UsageError:
        return None


def _item(sample: Sample, part: SegmentationDataset, keys: Iterable[str]) -> GalleryItem:
    rgb, ids = _small(to_rgb(sample.image, part.images), sample.mask.numpy())
    ignored = float((ids == part.labels.ignore_index).mean())
    facts: dict[str, Fact] = {key: sample.attributes.get(key) for key in keys}
    return GalleryItem(
        name=sample.name,
        pictures=(
            ("mask over image", pictures.photo(_overlay(rgb, ids, part.labels), _QUALITY)),
            ("image", pictures.photo(rgb, _QUALITY)),
            ("mask", pictures.mask(ids, part.labels, _QUALITY)),
        ),
        facts=facts | {"ignored, %": round(100 * ignored, 1)},
    )


def _small(
    rgb: UInt8[np.ndarray, "H W 3"], ids: UInt8[np.ndarray, "H W"]
) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"]]:
    """Brought to the size of the page's pictures, if they are larger."""
    scale = min(1.0, _QUALITY.long_side / max(ids.shape))
    size = (max(1, round(ids.shape[0] * scale)), max(1, round(ids.shape[1] * scale)))
    picture = Image.fromarray(rgb).resize(size[::-1], Image.Resampling.LANCZOS)
    return np.asarray(picture), nearest(ids, size)


def _overlay(
    rgb: UInt8[np.ndarray, "H W 3"], ids: UInt8[np.ndarray, "H W"], labels: LabelMap
) -> UInt8[np.ndarray, "H W 3"]:
    """The colours of the classes over the image; ignored pixels show the image alone."""
    known = (ids != labels.ignore_index)[..., None]
    mixed = _OVERLAID * labels.colorize(ids) + (1 - _OVERLAID) * rgb.astype(np.float32)
    return np.where(known, mixed, rgb).round().astype(np.uint8)


def _ladder(
    sample: Sample, part: SegmentationDataset, labels: LabelMap, sides: Sequence[int]
) -> list[Rung]:
    """The sample at each side that is smaller than its own, shown as large as the others."""
    image, ids = sample.image, sample.mask.numpy()
    height, width = ids.shape
    shown = Quality(512, 78)
    rungs = []
    for side in sides:
        scale = side / max(height, width)
        if scale >= 1:
            continue
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        rgb = to_rgb(tv_tensors.Image(resize_image(image, size)), part.images)
        rungs.append(
            Rung(
                side,
                pictures.photo(rgb, shown),
                pictures.mask(nearest(ids, size), labels, shown),
            )
        )
    return rungs


def heatmap(values: Sequence[Sequence[float]], *, aspect: float) -> Picture:
    """A grid as a picture of viridis, from 0 to its largest value.

    Args:
        values: (G, G) of 0 and more.
        aspect: width over height of the images that it was laid over.
    """
    grid = np.asarray(values, np.float32)
    scaled = Image.fromarray(grid / max(float(grid.max()), 1e-12))
    width, height = (208, 208 / aspect) if aspect >= 1 else (208 * aspect, 208)
    smooth = scaled.resize((round(width), max(1, round(height))), Image.Resampling.BICUBIC)
    colors = colormaps["viridis"](np.asarray(smooth).clip(0, 1), bytes=True)[..., :3]
    return pictures.photo(np.ascontiguousarray(colors), _MAP)
