"""What a survey needs of a sample: less than its pixels, and faster to get."""

import math
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors

from truemask.channels import ChannelSums
from truemask.images import ImageSpec

_SPOTS = 1 << 13
"""Pixels that are looked at of a large image, about: they tell a mean colour as well as all do."""


class Measured(NamedTuple):
    """A sample, measured.

    Attributes:
        channels: sums of the values of the image, over all pixels.
        mask: (H, W) ids.
        mode: how the image's pixels lie in its file, such as "RGB".
        spots: (h, w, C) values of the image in the middles of squares of `spot_step` pixels, an
            even grid over it; `None` of images that are not of bytes.
    """

    channels: ChannelSums
    mask: tv_tensors.Mask
    mode: str
    spots: Shaped[np.ndarray, "h w C"] | None


def spot_step(height: int, width: int) -> int:
    """Pixels from one spot to the next, each way: 1 in small images."""
    return max(1, min(height, width, math.isqrt(height * width // _SPOTS)))


def spots_of(values: Shaped[Any, "H W *C"]) -> Any:
    """What lies at the spots of an array of rows and columns, such as a mask."""
    height, width = values.shape[:2]
    step = spot_step(height, width)
    first = step // 2
    rows, columns = height // step, width // step
    return values[first::step, first::step][:rows, :columns]


def spots_of_picture(picture: Image.Image) -> Shaped[np.ndarray, "h w C"]:
    """The same of a decoded picture of bytes, of which no array is made."""
    step = spot_step(picture.height, picture.width)
    columns, rows = picture.width // step, picture.height // step
    # The nearest pixel to the middle of a square is the one that `spots_of` takes.
    few = picture.resize(
        (columns, rows), Image.Resampling.NEAREST, box=(0, 0, columns * step, rows * step)
    )
    values = np.asarray(few)
    return values if values.ndim == 3 else values[..., None]


def spots_of_image(image: tv_tensors.Image, spec: ImageSpec) -> Shaped[np.ndarray, "h w C"] | None:
    """The same of an image as its dataset gives it; `None` where it is not of bytes."""
    if spec.dtype != "uint8":
        return None
    values: np.ndarray[Any, Any] = image.as_subclass(Tensor).numpy().transpose(1, 2, 0)
    found: np.ndarray[Any, Any] = spots_of(values)
    return found
