"""Mean and deviation of the channels of images, from sums of integers: exact in any order."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64, Shaped
from torch import Tensor

from truemask.images import ImageSpec

STEPS = 1 << 16
"""Steps from low to high in which images of floats are counted; those of bytes are as they are."""

_ROWS = 225
_COLUMNS = 256
"""Sums of 225 squares of bytes are below 2^24, up to which 32-bit floats hold every integer."""

_SMALLEST = 1e-6
"""Variance of images of one colour, which must not become a divisor of 0."""


@dataclass(frozen=True)
class ChannelSums:
    """Sums over pixels; `merge` of two is the sum, exactly.

    Python's integers have no largest one.

    Attributes:
        pixels: how many there are.
        sums: of the values of each channel: bytes as they are, floats in `STEPS` of their range.
        squares: of the squares of these.
    """

    pixels: int
    sums: tuple[int, ...]
    squares: tuple[int, ...]

    @classmethod
    def empty(cls, channels: int) -> "ChannelSums":
        """Of no pixel."""
        return cls(0, (0,) * channels, (0,) * channels)

    @classmethod
    def of(cls, image: Shaped[Tensor, "C H W"], spec: ImageSpec) -> "ChannelSums":
        """Of one image of the dtype that `spec` declares."""
        values = image.as_subclass(Tensor).numpy().transpose(1, 2, 0)
        if spec.dtype == "uint8":
            sums, squares = _of_bytes(values)
        else:
            scaled = (values.astype(np.float64) - spec.low) / (spec.high - spec.low)
            steps = np.rint(scaled * STEPS).astype(np.int64).reshape(-1, values.shape[2])
            sums, squares = steps.sum(0), np.square(steps).sum(0)
        return cls(values.shape[0] * values.shape[1], tuple(sums.tolist()), tuple(squares.tolist()))

    @classmethod
    def of_histogram(cls, counts: Int64[np.ndarray, "C 256"]) -> "ChannelSums":
        """Of images of bytes, of which each value of each channel occurs so often."""
        values = np.arange(256, dtype=np.int64)
        return cls(
            int(counts[0].sum()),
            tuple((counts @ values).tolist()),
            tuple((counts @ (values * values)).tolist()),
        )

    def merge(self, other: "ChannelSums") -> "ChannelSums":
        """Of both together."""
        return ChannelSums(
            self.pixels + other.pixels,
            tuple(a + b for a, b in zip(self.sums, other.sums, strict=True)),
            tuple(a + b for a, b in zip(self.squares, other.squares, strict=True)),
        )

    def mean(self, spec: ImageSpec) -> tuple[float, ...]:
        """Mean of each channel, in units of images scaled to [0, 1]."""
        low, size = _scale(spec)
        return tuple((total / self.pixels - low) / size for total in self.sums)

    def std(self, spec: ImageSpec) -> tuple[float, ...]:
        """Standard deviation of each channel; at least a thousandth, for images of one colour."""
        _, size = _scale(spec)
        n = self.pixels
        # The difference of integers cancels nothing, however large the mean is.
        spread = (n * square - total * total for total, square in self._pairs())
        return tuple(max(value / (n * n) / size**2, _SMALLEST) ** 0.5 for value in spread)

    def _pairs(self) -> Any:
        return zip(self.sums, self.squares, strict=True)


def _scale(spec: ImageSpec) -> tuple[float, float]:
    """What is 0 in images scaled to [0, 1], and how much is 1."""
    return (spec.low, spec.high - spec.low) if spec.dtype == "uint8" else (0.0, float(STEPS))


def _of_bytes(values: Shaped[np.ndarray, "H W C"]) -> tuple[np.ndarray, np.ndarray]:
    """Sums and sums of squares, in floats of 32 bits that are integers: the fastest exact way."""
    channels = values.shape[2]
    flat = np.ascontiguousarray(values).reshape(-1)
    width = _COLUMNS * channels
    block = _ROWS * width
    sums = np.zeros(width, np.int64)
    squares = np.zeros(width, np.int64)
    for start in range(0, flat.size, block):
        part = flat[start : start + block]
        if part.size % width:
            part = np.concatenate((part, np.zeros(-part.size % width, np.uint8)))
        rows = part.reshape(-1, width).astype(np.float32)
        sums += rows.sum(0).astype(np.int64)
        np.multiply(rows, rows, out=rows)
        squares += rows.sum(0).astype(np.int64)
    return sums.reshape(-1, channels).sum(0), squares.reshape(-1, channels).sum(0)
