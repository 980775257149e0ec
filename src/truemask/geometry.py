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


@dataclass(frozen=True, eq=False)
class Span:
    """A tile along one axis.

    Attributes:
        start: its first pixel.
        length: its pixels.
        begin: its first pixel that is used; what lies before sees too much of the tile's padding.
        core: how many pixels are used.
        final: how many of these no later tile shares.
        weights: of the used pixels; over all tiles those of a pixel sum to 1.
    """

    start: int
    length: int
    begin: int
    core: int
    final: int
    weights: Float[Tensor, " core"]


def tile_spans(length: int, *, size: int, overlap: int, margin: int, multiple: int) -> list[Span]:
    """Tiles that cover one axis of an image, and how they are blended.

    They are as few as `size` allows, no longer than that number needs, and evenly spread: 4000
    pixels are covered by three tiles of 1504, where three of 2048 would cost a third more.

    Args:
        length: pixels of the image.
        size: the most pixels of a tile; a multiple of `multiple`, as `overlap` is.
        overlap: pixels that neighbours share, at least.
        margin: of these, pixels at each side of a tile that are not used, but at the image's own
            border; the weights fall linearly over what is left.
        multiple: of what the tiles' starts are multiples.

    Raises:
        ValueError: the overlap is negative or not smaller than the size.
    """
    if not 0 <= overlap < size:
        raise ValueError(f"overlap {overlap} must be from 0 to below the tile size {size}")
    assert 2 * margin <= overlap, "what nobody uses would be missing"
    assert size % multiple == overlap % multiple == 0, (size, overlap, multiple)
    places = _places(length, size=size, overlap=overlap, multiple=multiple)
    begins = [start + (margin if start > 0 else 0) for start, _ in places]
    ends = [start + own - (margin if start + own < length else 0) for start, own in places]
    ramps = [
        _ramp(end - begin, overlap - 2 * margin, at_start=begin == 0, at_end=end == length)
        for begin, end in zip(begins, ends, strict=True)
    ]
    total = torch.zeros(length)
    for begin, end, ramp in zip(begins, ends, ramps, strict=True):
        total[begin:end] += ramp
    return [
        Span(
            start=start,
            length=own,
            begin=begin,
            core=end - begin,
            final=following - begin,
            weights=ramp / total[begin:end],
        )
        for (start, own), begin, end, following, ramp in zip(
            places, begins, ends, [*begins[1:], length], ramps, strict=True
        )
    ]


def _places(length: int, *, size: int, overlap: int, multiple: int) -> list[tuple[int, int]]:
    """Where tiles begin, and how long each is."""
    if length <= size:
        return [(0, length)]
    padded = round_up(length, multiple)
    count = divide_up(padded - overlap, size - overlap)
    needed = overlap + round_up(divide_up(padded - overlap, count), multiple)
    last = padded - needed
    starts = [last * index // (count - 1) // multiple * multiple for index in range(count)]
    # The last tile ends with the image, not with the padding: the model pads it as it would pad
    # the image.
    return [(start, min(needed, length - start)) for start in starts]


def _ramp(length: int, overlap: int, *, at_start: bool, at_end: bool) -> Float[Tensor, " n"]:
    """1 inside, falling linearly over the overlap at those sides that are not the image's own."""
    position = torch.arange(length, dtype=torch.float32)
    weight = torch.ones(length)
    if overlap and not at_start:
        weight = torch.minimum(weight, (position + 1) / (overlap + 1))
    if overlap and not at_end:
        weight = torch.minimum(weight, (length - position) / (overlap + 1))
    return weight
