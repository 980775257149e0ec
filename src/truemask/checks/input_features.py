"""An image as 32 figures: colours, light, detail, sharpness, layout, size; quick, and small.

They are what TM701 compares (`inputs.py`, `input_reference.py`).
"""

import numpy as np
from jaxtyping import Float64, Shaped
from torch import Tensor

from truemask.images import ImageSpec, resize_image

NAMES = (
    "red", "green", "blue", "red deviation", "green deviation", "blue deviation",
    "darkest hundredth", "brightest hundredth", "red against green", "blue against green",
    "fine detail", "middle detail", "coarse detail", "flat area", "height", "width",
    "balance of light and dark", "balance of light and dark detail",
    "blown-out share", "colour detail", "red beyond green", "blue beyond green",
    "red-green spread", "blue-green spread", "blue-red spread", "colourfulness",
    "fine sharpness", "middle sharpness", "edge sharpness",
    "light above", "light in the middle", "detail above",
)  # fmt: skip
FIRST = 18
"""So many of them were there in the first format of `inputs.json`."""

_SIDE = 128
"""Least side of the thinned pixels, of images that have as many."""


def step_of(height: int, width: int) -> int:
    """Of an image every so many-th pixel is looked at, along both axes, from the first one on."""
    return max(1, min(height, width) // _SIDE)


def thinned(pixels: Shaped[np.ndarray, "H W C"]) -> Shaped[np.ndarray, "h w C"]:
    """The pixels of an image that are looked at."""
    step = step_of(*pixels.shape[:2])
    return pixels[::step, ::step]


def as_taken(
    image: Shaped[Tensor, "C H W"], spec: ImageSpec, *, size: tuple[int, int] | None = None
) -> Shaped[np.ndarray, "H W C"]:
    """An image as a model takes it, for `describe_images` and `check_input`.

    Args:
        image: as the dataset or the reader of files gives it.
        spec: what its pixels mean; floats are scaled to [0, 1].
        size: to which the model brings it.
    """
    plain = image.as_subclass(Tensor)
    if size is not None and tuple(plain.shape[-2:]) != size:
        plain = resize_image(plain, size)
    if spec.dtype != "uint8":
        plain = (plain - spec.low) / (spec.high - spec.low)
    pixels: Shaped[np.ndarray, "H W C"] = plain.permute(1, 2, 0).cpu().numpy()
    return pixels


def white_of(dtype: str, high: float) -> float:
    """The value that is taken for white."""
    if dtype.startswith(("uint", "int")):
        return float(np.iinfo(np.dtype(dtype)).max)
    return max(1.0, high)


def figures(
    thin: Shaped[np.ndarray, "h w C"], size: tuple[int, ...], white: float
) -> Float64[np.ndarray, " F"]:
    """The figures of `NAMES`, of an image's thinned pixels and its height and width."""
    # One channel after the other, along which NumPy adds up three times as fast.
    planes = np.ascontiguousarray(thin.transpose(2, 0, 1)).astype(np.float64) / white
    colors = planes[:3] if len(planes) >= 3 else np.repeat(planes[:1], 3, axis=0)
    grey = colors[0] / 3 + colors[1] / 3 + colors[2] / 3
    flat = colors.reshape(3, -1)
    mean, deviation = flat.mean(1), flat.std(1)
    dark, middle, bright = np.quantile(grey, (0.01, 0.5, 0.99))
    detail = [_detail(grey, 2**level) for level in range(3)]
    near = np.abs(np.diff(grey, axis=1)) < 0.01
    light = np.maximum(mean, 0) + 0.02
    red, blue = (float(np.log(light[c] / light[1])) for c in (0, 2))
    return np.array(
        [*mean, *deviation, dark, bright, 0.3 * red, 0.3 * blue, *detail,
         float(near.mean()) if near.size else 1.0,
         0.1 * np.log2(size[0]), 0.1 * np.log2(size[1]),
         0.05 * _skewness(grey), 0.05 * _skewness(grey - _surroundings(grey)),
         0.25 * float((colors.min(0) >= 1).mean()), *_chroma(colors, float(middle)),
         detail[0] - detail[1], detail[1] - detail[2], _edges(grey) - detail[0],
         *_layout(grey)]
    )  # fmt: skip


def _chroma(colors: Float64[np.ndarray, "3 H W"], middle: float) -> list[float]:
    """Detail of the colours, how far they go beyond green, their spread, their strength.

    Args:
        colors: red, green, blue.
        middle: the median of the light; tints are seen in relation to it.
    """
    red, green, blue = colors
    opponent = red - green, blue - green
    # Four pixels apart: what JPEG does to the colours of neighbours would drown all else.
    detail = sum(abs(part).mean() for plane in opponent for part in _apart(plane, 4))
    beyond = [float(np.quantile(plane, 0.75)) / (max(middle, 0.0) + 0.05) for plane in opponent]
    spread = [0.2 * np.log(0.003 + plane.std()) for plane in (*opponent, blue - red)]
    strength = (colors.max(0) - colors.min(0)).mean()
    return [0.2 * np.log(0.002 + detail / 2), *beyond, *spread, 0.2 * np.log(0.003 + strength)]


def _layout(grey: Float64[np.ndarray, "H W"]) -> list[float]:
    """Light above against below and in the middle, detail above against below: by thirds."""
    third = max(1, len(grey) // 3)
    above, below = grey[:third], grey[-third:]
    middle = grey[third:-third] if len(grey) > 2 * third else grey
    outside = (above.mean() + below.mean()) / 2
    details = [np.log(1e-3 + _mean(np.abs(np.diff(part, axis=1)))) for part in (above, below)]
    return [above.mean() - below.mean(), middle.mean() - outside, 0.2 * (details[0] - details[1])]


def _edges(grey: Float64[np.ndarray, "H W"]) -> float:
    """The logarithm of how much pixels differ from their four neighbours together (Laplacian)."""
    around = grey[2:, 1:-1] + grey[:-2, 1:-1] + grey[1:-1, 2:] + grey[1:-1, :-2]
    return 0.2 * float(np.log(1e-3 + _mean(np.abs(4 * grey[1:-1, 1:-1] - around))))


def _apart(plane: Float64[np.ndarray, "H W"], step: int) -> list[Float64[np.ndarray, "h w"]]:
    """How pixels at a distance differ, down and across; nothing where there are none."""
    both = plane[step:] - plane[:-step], plane[:, step:] - plane[:, :-step]
    return [part if part.size else np.zeros((1, 1)) for part in both]


def _mean(values: Float64[np.ndarray, "H W"]) -> float:
    """0 of nothing."""
    return float(values.mean()) if values.size else 0.0


def _detail(grey: Float64[np.ndarray, "H W"], step: int) -> float:
    """The logarithm of how much neighbours at a distance differ."""
    return 0.2 * float(np.log(1e-3 + np.mean([np.abs(a).mean() for a in _apart(grey, step)])))


def _skewness(values: Float64[np.ndarray, "H W"]) -> float:
    """Positive where a few are light and most dark; of an even image 0."""
    centred = values - values.mean()
    squared = centred * centred
    # Not **3, which takes longer than all the other figures together.
    return float((squared * centred).mean() / max(float(np.sqrt(squared.mean())), 1e-3) ** 3)


def _surroundings(grey: Float64[np.ndarray, "H W"], side: int = 9) -> Float64[np.ndarray, "H W"]:
    """The mean around each pixel."""
    summed = np.pad(grey, side // 2, mode="edge").cumsum(0).cumsum(1)
    summed = np.pad(summed, ((1, 0), (1, 0)))
    mean: Float64[np.ndarray, "H W"] = (
        summed[side:, side:]
        - summed[:-side, side:]
        - summed[side:, :-side]
        + summed[:-side, :-side]
    ) / side**2
    return mean
