"""Photos, masks and the errors between them as data URIs, so that a page needs no other file."""

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from truemask.labels import Color, LabelMap

WRONG: Color = (213, 94, 0)
FOUND: Color = (0, 158, 115)
MISSED: Color = (0, 114, 178)
INVENTED: Color = WRONG
"""The colours of errors, from Okabe and Ito's palette: colour-blind readers can tell them apart."""


@dataclass(frozen=True)
class Quality:
    """How much room pictures may take: pixels of the long side, and WebP's quality (0 to 100)."""

    long_side: int
    webp: int


QUALITIES = (
    Quality(640, 82),
    Quality(480, 75),
    Quality(320, 65),
    Quality(200, 50),
    Quality(120, 40),
)
"""From the best to the smallest; a page takes the first with which it is small enough."""


@dataclass(frozen=True)
class Picture:
    """An image that stands in a page: its data URI and its size in pixels."""

    uri: str
    width: int
    height: int

    @property
    def tiny(self) -> bool:
        """Whether a page will enlarge it, and should then show its pixels as they are."""
        return self.width < 200


def photo(image: UInt8[np.ndarray, "H W 3"], quality: Quality) -> Picture:
    """An RGB image."""
    return _photo(Image.fromarray(image), quality)


def mask(ids: UInt8[np.ndarray, "H W"], labels: LabelMap, quality: Quality) -> Picture:
    """A mask in the colours of its classes."""
    picture = Image.fromarray(ids)
    picture = picture.resize(_size(picture, quality), Image.Resampling.NEAREST)
    picture.putpalette(labels.palette.tobytes())
    return _encode(picture, "PNG", optimize=True)


def drawing(pixels: UInt8[np.ndarray, "H W 3"], quality: Quality) -> Picture:
    """Flat colours, kept as they are."""
    picture = Image.fromarray(pixels)
    picture = picture.resize(_size(picture, quality), Image.Resampling.NEAREST)
    return _encode(picture, "WEBP", lossless=True)


def crisp(image: UInt8[np.ndarray, "H W 3"], quality: Quality) -> Picture:
    """An image whose colours are kept pixel by pixel, as single coloured pixels on grey need it."""
    picture = Image.fromarray(image)
    picture = picture.resize(_size(picture, quality), Image.Resampling.LANCZOS)
    # WebP has colours at half the resolution; JPEG has them so by default only.
    return _encode(picture, "JPEG", quality=quality.webp, subsampling=0)


def errors(
    image: UInt8[np.ndarray, "H W 3"],
    truth: UInt8[np.ndarray, "H W"],
    prediction: UInt8[np.ndarray, "H W"],
    labels: LabelMap,
    quality: Quality,
) -> Picture:
    """Where a prediction is wrong, over the pale image.

    For two classes it tells found, missed and invented pixels of class 1 apart. Pixels whose truth
    is ignored are never marked.
    """
    grey = image.mean(2, keepdims=True)
    drawn = np.repeat(128 + grey / 2, 3, axis=2).astype(np.uint8)
    valid = truth != labels.ignore_index
    if labels.num_classes == 2:
        drawn[valid & (truth == 1) & (prediction == 1)] = FOUND
        drawn[valid & (truth == 1) & (prediction != 1)] = MISSED
        drawn[valid & (truth == 0) & (prediction != 0)] = INVENTED
    else:
        drawn[valid & (truth != prediction)] = WRONG
    return _photo(Image.fromarray(drawn), quality)


def _photo(picture: Image.Image, quality: Quality) -> Picture:
    picture = picture.resize(_size(picture, quality), Image.Resampling.LANCZOS)
    return _encode(picture, "WEBP", quality=quality.webp, method=4)


def _size(picture: Image.Image, quality: Quality) -> tuple[int, int]:
    scale = min(1.0, quality.long_side / max(picture.size))
    return max(1, round(picture.width * scale)), max(1, round(picture.height * scale))


def _encode(picture: Image.Image, form: str, **options: Any) -> Picture:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return Picture(f"data:image/{form.lower()};base64,{data}", picture.width, picture.height)
