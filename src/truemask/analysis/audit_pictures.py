"""Small copies of an image, its label and its prediction, for the page of an audit."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from truemask.evaluation import Seen
from truemask.images import ImageSpec, to_rgb
from truemask.labels import Color

_SIDES = ((250, 480), (800, 320), (5000, 160))
"""Up to so many images have copies with so long a longer side; more have none larger than 96."""


def side(images: int) -> int:
    """The longer side of the copies, so that those of all images fit into memory."""
    return next((pixels for most, pixels in _SIDES if images <= most), 96)


@dataclass(frozen=True)
class AuditPicture:
    """Pixels of one size: the image in RGB, and the class ids of label and prediction."""

    image: UInt8[np.ndarray, "h w 3"]
    label: UInt8[np.ndarray, "h w"]
    prediction: UInt8[np.ndarray, "h w"]


def take(seen: Seen, spec: ImageSpec, *, longest: int) -> AuditPicture:
    """Small copies of what is being counted; none of its tensors is kept."""
    image = to_rgb(seen.sample.image, spec)
    height, width = image.shape[:2]
    scale = min(1.0, longest / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)
    label, prediction = (
        np.asarray(Image.fromarray(ids.cpu().numpy()).resize(size, Image.Resampling.NEAREST))
        for ids in (seen.truth, seen.ids)
    )
    return AuditPicture(np.asarray(small), label, prediction)


def pale(image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """The image as a background on which colours show."""
    return (110 + image.astype(np.float32) * 0.5).clip(0, 255).astype(np.uint8)


def tinted(
    image: UInt8[np.ndarray, "h w 3"],
    inside: Bool[np.ndarray, "h w"],
    color: Color,
    *,
    strength: float,
) -> UInt8[np.ndarray, "h w 3"]:
    """The image with a region tinted, and its outline drawn in full colour."""
    drawn = image.astype(np.float32)
    ink = np.array(color, dtype=np.float32)
    drawn[inside] = drawn[inside] * (1 - strength) + ink * strength
    inner = inside.copy()
    for axis, step in ((0, 1), (0, -1), (1, 1), (1, -1)):
        inner &= np.roll(inside, step, axis)
    drawn[inside & ~inner] = ink
    return drawn.astype(np.uint8)
