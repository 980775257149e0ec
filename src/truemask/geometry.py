"""Padding, boxes and tiles, each with its inverse; all act on the last two axes of a tensor."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Padding:
    """Pixels added at each side; `remove(add(x))` is `x`."""

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0

    def __post_init__(self) -> None:
        # Negative padding would crop, and `remove` could not bring back what is gone.
        assert min(self.top, self.bottom, self.left, self.right) >= 0, f"negative sides in {self}"

    def add(
        self, pixels: Shaped[Tensor, "*B H W"], *, value: float = 0.0
    ) -> Shaped[Tensor, "*B H2 W2"]:
        """Pad with a constant."""
        return functional.pad(pixels, (self.left, self.right, self.top, self.bottom), value=value)

    def add_mirrored(self, pixels: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H2 W2"]:
        """Pad with the image mirrored at its border, or repeat the border of a small image."""
        if not (self.top or self.bottom or self.left or self.right):
            return pixels
        height, width = pixels.shape[-2:]
        fits = max(self.top, self.bottom) < height and max(self.left, self.right) < width
        sides = (self.left, self.right, self.top, self.bottom)
        return functional.pad(pixels, sides, mode="reflect" if fits else "replicate")

    def remove(self, pixels: Shaped[Tensor, "*B H2 W2"]) -> Shaped[Tensor, "*B H W"]:
        """Crop what `add` added."""
        height, width = pixels.shape[-2:]
        return pixels[..., self.top : height - self.bottom, self.left : width - self.right]


def round_up(size: int, multiple: int) -> int:
    """The smallest multiple of `multiple` that is at least `size`."""
    return divide_up(size, multiple) * multiple


def divide_up(size: int, by: int) -> int:
    """`size / by`, rounded up, of two positive numbers.

    Without a negative number in between, which ONNX divides otherwise than Python.
    """
    return (size + by - 1) // by


def pad_to(height: int, width: int, *, to_height: int, to_width: int) -> Padding:
    """Padding at the bottom and the right that reaches a given size."""
    return Padding(bottom=to_height - height, right=to_width - width)


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels; `paste` is the inverse of `crop`."""

    top: int
    left: int
    height: int
    width: int

    def crop(self, pixels: Shaped[Tensor, "*B H W"]) -> Shaped[Tensor, "*B h w"]:
        """The pixels inside, as a view."""
        return pixels[..., self.top : self.top + self.height, self.left : self.left + self.width]

    def paste(self, canvas: Shaped[Tensor, "*B H W"], pixels: Shaped[Tensor, "*B h w"]) -> None:
        """Write pixels into the canvas, in place."""
        self.crop(canvas).copy_(pixels)


def tile(height: int, width: int, *, size: int, overlap: int) -> list[Box]:
    """Boxes of at most `size` x `size` that cover an image and overlap their neighbours.

    Neighbours share at least `overlap` pixels. The last row and column are shifted inwards rather
    than made smaller, so that all tiles of an image larger than `size` are of one size.

    Raises:
        ValueError: the overlap is negative or not smaller than the size.
    """
    if not 0 <= overlap < size:
        raise ValueError(f"overlap {overlap} must be from 0 to below the tile size {size}")

    def starts(length: int) -> list[int]:
        if length <= size:
            return [0]
        step = size - overlap
        return [min(start, length - size) for start in range(0, length - overlap, step)]

    return [
        Box(top, left, min(size, height), min(size, width))
        for top in starts(height)
        for left in starts(width)
    ]


def tile_weights(box: Box, *, height: int, width: int, overlap: int) -> Float[Tensor, "h w"]:
    """Weights that blend a tile into its neighbours: 1 inside, falling linearly over the overlap.

    Sides at the image's own border do not fall. Divide the weighted sum by the sum of weights.
    """

    def ramp(length: int, *, at_start: bool, at_end: bool) -> Float[Tensor, " n"]:
        position = torch.arange(length, dtype=torch.float32)
        weight = torch.ones(length)
        if overlap and not at_start:
            weight = torch.minimum(weight, (position + 1) / (overlap + 1))
        if overlap and not at_end:
            weight = torch.minimum(weight, (length - position) / (overlap + 1))
        return weight

    rows = ramp(box.height, at_start=box.top == 0, at_end=box.top + box.height == height)
    columns = ramp(box.width, at_start=box.left == 0, at_end=box.left + box.width == width)
    return rows[:, None] * columns[None, :]
