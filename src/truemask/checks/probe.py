"""One sample as the checks see it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

Fault = tuple[str, str]
"""What could not be read, "image" or "mask", and why."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """An image and its mask as arrays, and where they come from.

    Attributes:
        name: of the sample; unique in its part.
        image: (H, W, C) uint8 or floating point, turned by its EXIF orientation; None where there
            is none, or it could not be read.
        mask: (H, W) integers as they are stored: ids, grey levels or palette indices; or (H, W, 3)
            uint8 colours; None where it could not be read.
        image_path: the image's file, where it is known.
        mask_path: the mask's file, where it is known.
        orientation: EXIF orientation, 1 to 8, by which the image was turned.
        stored: height and width of the image as its file stores it; None where unknown.
        mask_stored: whether the mask lay on the image as its file stores it, and was turned along.
        lossy: what makes the mask's file one of lossy compression, such as "a JPEG file"; or "".
        fraction: a value of the mask that is no integer, where there is one; it was rounded.
        fractions: which share of the mask's pixels was no integer.
        fault: what could not be read, and why.
    """

    name: str
    image: Shaped[np.ndarray, "H W C"] | None = None
    mask: Shaped[np.ndarray, "H W *C"] | None = None
    image_path: Path | None = None
    mask_path: Path | None = None
    orientation: int = 1
    stored: tuple[int, int] | None = None
    mask_stored: bool = False
    lossy: str = ""
    fraction: float | None = None
    fractions: float = 0.0
    fault: Fault | None = None

    @property
    def fits(self) -> bool:
        """Whether there are an image and a mask, of one size."""
        image, mask = self.image, self.mask
        return image is not None and mask is not None and image.shape[:2] == mask.shape[:2]
