"""What the pixels of images mean: the contract between a dataset and a model's input."""

import math
from dataclasses import asdict, dataclass
from numbers import Real
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Shaped, UInt8
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import resize

from truemask.errors import UsageError

_DTYPES = {"uint8": torch.uint8, "float32": torch.float32}


@dataclass(frozen=True, kw_only=True)
class ImageSpec:
    """Channels, dtype, value range and statistics of a dataset's images.

    A pixel value `v` reaches the network as `((v - low) / (high - low) - mean) / std`: `mean` and
    `std` are in the units of images scaled to [0, 1], as torchvision gives them.

    Attributes:
        channels: number of channels, 3 for RGB, 1 for grey.
        dtype: dtype in which images travel until they reach the model.
        low: value that is scaled to 0.
        high: value that is scaled to 1.
        mean: one value a channel, or one for all.
        std: one value a channel, or one for all; positive.
    """

    channels: int = 3
    dtype: Literal["uint8", "float32"] = "uint8"
    low: float = 0.0
    high: float = 255.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if type(self.channels) is not int or self.channels < 1:
            raise UsageError(f"images.channels must be an integer from 1, got {self.channels!r}")
        if self.dtype not in _DTYPES:
            raise UsageError(f"images.dtype is {self.dtype!r}; allowed are {', '.join(_DTYPES)}")
        for name in ("low", "high"):
            object.__setattr__(self, name, _finite(name, getattr(self, name)))
        for name in ("mean", "std"):
            values = tuple(_finite(name, value) for value in getattr(self, name))
            if len(values) == 1:
                values *= self.channels
            if len(values) != self.channels:
                raise UsageError(
                    f"images.{name} has {len(values)} values for {self.channels} channels"
                )
            object.__setattr__(self, name, values)
        if not self.high > self.low:
            raise UsageError(
                f"images.high ({self.high}) must be greater than images.low ({self.low})"
            )
        if not all(value > 0 for value in self.std):
            raise UsageError(f"images.std must be positive, got {list(self.std)}")

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype as PyTorch names it."""
        return _DTYPES[self.dtype]

    def to_json(self) -> dict[str, Any]:
        """Plain values that `from_json` takes back."""
        return asdict(self) | {"mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "ImageSpec":
        """The inverse of `to_json`.

        Raises:
            UsageError: a key is missing, unknown or of the wrong type.
        """
        try:
            return cls(**(value | {"mean": tuple(value["mean"]), "std": tuple(value["std"])}))
        except UsageError:
            raise
        except (TypeError, KeyError, ValueError, OverflowError) as error:
            raise UsageError(f"not a description of images: {error!r}") from error


def _finite(name: str, value: Any) -> float:
    if not isinstance(value, Real) or not math.isfinite(value):
        raise UsageError(f"images.{name} must hold finite numbers, got {value!r}")
    return float(value)


def to_rgb(image: Shaped[Tensor, "C H W"], spec: ImageSpec) -> UInt8[np.ndarray, "H W 3"]:
    """What an image looks like: 8-bit colours, grey unless it has three channels or more."""
    scaled = (image.as_subclass(Tensor).float() - spec.low) / (spec.high - spec.low) * 255
    pixels = scaled.round().clamp(0, 255).to(torch.uint8).cpu()
    pixels = pixels[:3] if pixels.shape[0] >= 3 else pixels[:1].expand(3, -1, -1)
    return pixels.permute(1, 2, 0).contiguous().numpy()


def resize_image(
    image: Shaped[Tensor, "*B C H W"], size: tuple[int, int]
) -> Shaped[Tensor, "*B C h w"]:
    """An image at another height and width: bilinear, smoothed where it shrinks, of its dtype."""
    if size == (1, 1) and image.dtype == torch.uint8:
        # PyTorch mistakes the order of a 1 x 1 result for channels last, and fails.
        return resize_image(image.float(), size).round().to(torch.uint8)
    resized: Tensor = resize(image, list(size), InterpolationMode.BILINEAR, antialias=True)
    return resized


RGB = ImageSpec(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
"""8-bit RGB with the statistics of ImageNet, for when a dataset's own are not known."""
