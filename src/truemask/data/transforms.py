"""Augmentation of image and mask together, in the form of torchvision's v2 transforms.

Any `torchvision.transforms.v2` transform serves: images are `tv_tensors.Image`, masks
`tv_tensors.Mask`, so a geometric transform moves both and a colour transform leaves the mask alone.
What torchvision lacks is here.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Shaped, UInt8
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tvf

from truemask.data.randomness import seeded
from truemask.datasets.sample import Sample
from truemask.errors import UsageError
from truemask.geometry import Box, Padding
from truemask.images import resize_image

Transform = Callable[[Any, Any], tuple[Any, Any]]


def _uniform(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(()))


def _integer(high: int) -> int:
    """A random integer from 0 to `high`, both included."""
    return int(torch.randint(high + 1, ()))


class RandomScaleCrop:
    """Zoom at random, then cut a window of a fixed size.

    The window is cut from the source before it is resized, so that the cost does not grow with the
    image. Where the zoomed image is smaller than the window, the rest of the window is ignored: the
    image is padded with zeros and the mask with `ignore_index`.

    Args:
        size: height and width of the result in pixels.
        scale: lowest and highest zoom factor (drawn log-uniformly); 1 keeps the resolution.
        stretch: up to this factor height and width are zoomed differently (log-uniformly, 1 or
            more).
        ignore_index: id of padded pixels.
        focus: class id -> share of the windows that are laid on a pixel of that class, drawn evenly
            among those of the image; an image without it gets a window anywhere, as do the shares
            that are left. Isensee et al., nnU-Net (https://doi.org/10.1038/s41592-020-01008-z),
            lay a third of their patches so.
    """

    def __init__(
        self,
        *,
        size: Sequence[int],
        scale: Sequence[float] = (1.0, 1.0),
        stretch: float = 1.0,
        ignore_index: int = 255,
        focus: Mapping[int, float] | None = None,
    ) -> None:
        if len(size) != 2 or min(size) < 1:
            raise UsageError(f"the crop size must be [height, width], got {list(size)}")
        if len(scale) != 2 or not 0 < scale[0] <= scale[1]:
            raise UsageError(
                f"the crop's scale must be [low, high] with 0 < low <= high, got {list(scale)}"
            )
        if stretch < 1:
            raise UsageError(f"the crop's stretch must be at least 1, got {stretch}")
        self.height, self.width = size
        self.scale = (float(scale[0]), float(scale[1]))
        self.stretch = float(stretch)
        self.ignore_index = ignore_index
        self.focus = dict(focus or {})
        if any(share < 0 for share in self.focus.values()) or sum(self.focus.values()) > 1 + 1e-9:
            raise UsageError(
                f"the crop's focus must be shares from 0 on that sum to at most 1, got {self.focus}"
            )

    def __call__(
        self, image: Shaped[Tensor, "C H W"], mask: UInt8[Tensor, "H W"]
    ) -> tuple[Shaped[Tensor, "C h w"], UInt8[Tensor, "h w"]]:
        """The window of both, the same place."""
        rows, columns = mask.shape[-2:]
        zoom = math.exp(_uniform(*(math.log(value) for value in self.scale)))
        stretch = math.exp(_uniform(-1.0, 1.0) * math.log(self.stretch) / 2)
        zoom_y, zoom_x = zoom * stretch, zoom / stretch
        box_height = min(rows, max(1, round(self.height / zoom_y)))
        box_width = min(columns, max(1, round(self.width / zoom_x)))
        box = self._place(mask, box_height, box_width)
        size = (
            min(self.height, max(1, round(box_height * zoom_y))),
            min(self.width, max(1, round(box_width * zoom_x))),
        )
        pixels, ids = box.crop(image), box.crop(mask)
        if size != (box_height, box_width):
            pixels = resize_image(pixels, size)
            ids = tvf.resize(ids[None], list(size), InterpolationMode.NEAREST_EXACT)[0]
        top, left = _integer(self.height - size[0]), _integer(self.width - size[1])
        padding = Padding(top, self.height - size[0] - top, left, self.width - size[1] - left)
        return (
            tv_tensors.Image(padding.add(pixels.as_subclass(Tensor))),
            tv_tensors.Mask(padding.add(ids.as_subclass(Tensor), value=self.ignore_index)),
        )

    def _place(self, mask: UInt8[Tensor, "H W"], height: int, width: int) -> Box:
        """A window of this size: on a pixel of a class in focus, or anywhere."""
        rows, columns = mask.shape[-2:]
        wanted = self._draw_class() if self.focus else None
        if wanted is not None:
            pixels = (mask.as_subclass(Tensor) == wanted).flatten().nonzero()
            if len(pixels) > 0:
                row, column = divmod(int(pixels[_integer(len(pixels) - 1)]), columns)
                return Box(
                    _around(row, height, rows), _around(column, width, columns), height, width
                )
        return Box(_integer(rows - height), _integer(columns - width), height, width)

    def _draw_class(self) -> int | None:
        drawn = _uniform(0.0, 1.0)
        for wanted, share in self.focus.items():
            drawn -= share
            if drawn < 0:
                return wanted
        return None


def _around(place: int, length: int, whole: int) -> int:
    """Where a window of this length begins that covers a place, all beginnings alike."""
    first = max(0, place - length + 1)
    return first + _integer(min(place, whole - length) - first)


class RandomQuarterTurn:
    """Turn by 0, 90, 180 or 270 degrees, each as likely; of what is not square only by 0 or 180.

    Such turns move pixels to pixels, so that neither image nor mask is interpolated.
    """

    def __call__(
        self, image: Shaped[Tensor, "C H W"], mask: UInt8[Tensor, "H W"]
    ) -> tuple[Shaped[Tensor, "C h w"], UInt8[Tensor, "h w"]]:
        """Both, turned alike."""
        square = mask.shape[-2] == mask.shape[-1]
        turns = _integer(3) if square else 2 * _integer(1)
        return (
            tv_tensors.Image(image.as_subclass(Tensor).rot90(turns, (-2, -1)).contiguous()),
            tv_tensors.Mask(mask.as_subclass(Tensor).rot90(turns, (-2, -1)).contiguous()),
        )


def augment(sample: Sample, transforms: Sequence[Transform], *, address: tuple[int, ...]) -> Sample:
    """The sample after all transforms, with randomness that is a function of the address alone.

    Args:
        sample: it is not changed.
        transforms: called in turn with (image, mask).
        address: such as (seed, epoch, index).
    """
    if not transforms:
        return sample
    image, mask = sample.image, sample.mask
    with seeded(*address):
        for transform in transforms:
            image, mask = transform(image, mask)
    return Sample(image=image, mask=mask, name=sample.name, attributes=sample.attributes)
