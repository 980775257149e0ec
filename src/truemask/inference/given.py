"""What a caller of `truemask.load(...).predict` gives: an image as the model takes it, or one line.

What is wrong is said in the caller's own terms: the order and the type of what was given, and not
of the tensor that the model makes of it.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped
from PIL import Image
from torch import Tensor, nn

from truemask.datasets.reading import read_picture
from truemask.errors import UsageError
from truemask.images import ImageSpec
from truemask.inference.read_whole import read_whole
from truemask.inference.settings import SCALES, SMALLEST_TILE
from truemask.inference.urls import is_url
from truemask.untrusted import one_line

_FORMS = "give a file, an image of Pillow, an array or a tensor"
_KINDS = {1: "grey images", 3: "RGB images"}


def as_tensor(image: Any, spec: ImageSpec) -> Shaped[Tensor, "C H W"]:
    """The pixels of an image, on the CPU.

    Args:
        image: a file; an image of Pillow; an array (H, W, C) or (H, W); a tensor (C, H, W).
        spec: the images that the model takes.

    Raises:
        UsageError: it is none of these, cannot be read, or is of another kind than the model takes.
    """
    if isinstance(image, str | os.PathLike):
        return _of_file(image, spec)
    if isinstance(image, Image.Image):
        picture: Tensor = read_picture(image, spec).as_subclass(Tensor)
        return _checked(picture, spec)
    if isinstance(image, Tensor):
        return _checked(_of_tensor(image, spec), spec)
    return _checked(_of_array(image, spec), spec)


def require_ways(
    *, tile: int | None, flips: bool, scales: Sequence[float], probabilities: bool
) -> None:
    """Nothing, where these are ways to predict; see `LoadedModel.predict`.

    Raises:
        UsageError: one of them is none.
    """
    for name, value in (("flips", flips), ("probabilities", probabilities)):
        if not isinstance(value, bool | np.bool_):
            raise UsageError(f"{name} is {value!r}: give True or False")
    whole = isinstance(tile, int | np.integer) and not isinstance(tile, bool)
    if tile is not None and (not whole or tile < SMALLEST_TILE):
        raise UsageError(
            f"tile is {tile!r}: give the largest side of a tile in pixels, {SMALLEST_TILE} or "
            "more, or None to cut large images only"
        )
    low, high = SCALES
    numbers = list(scales) if isinstance(scales, Sequence | np.ndarray) else [None]
    right = all(
        isinstance(each, int | float | np.number) and low <= each <= high for each in numbers
    )
    if not right or not numbers or len(set(numbers)) != len(numbers):
        raise UsageError(
            f"scales is {scales!r}: give different numbers from {low:g} to {high:g} in a list, "
            "such as [0.75, 1, 1.25]"
        )


def move(model: nn.Module, device: str | int | torch.device) -> None:
    """Move a model to a device.

    Raises:
        UsageError: there is no such device here, or it has no room.
    """
    try:
        place = torch.device(device)
    except (RuntimeError, TypeError):
        raise UsageError(f"device is {device!r}, which is none: give 'cpu' or 'cuda'") from None
    if place.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            f"device is {str(place)!r}, but PyTorch sees no GPU here: leave it out for the CPU, or "
            "install a driver and a PyTorch with CUDA (torch.cuda.is_available() says so then)"
        )
    if place.type == "cuda" and (place.index or 0) >= (count := torch.cuda.device_count()):
        raise UsageError(
            f"device is {str(place)!r}, but there are {count} GPUs: the last one is "
            f"'cuda:{count - 1}'"
        )
    if place.type == "meta":
        raise UsageError("device is 'meta', which holds no numbers: give 'cpu' or 'cuda'")
    try:
        model.to(place)
    # Each kind of device has its own error where PyTorch was built without it.
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(
            f"the model cannot be moved to the device {str(place)!r} ({one_line(error)[:200]}): "
            "take 'cpu', or another device"
        ) from error


def _of_file(path: str | os.PathLike[str], spec: ImageSpec) -> Shaped[Tensor, "C H W"]:
    if is_url(str(path)):
        raise UsageError(
            f"{path} is a URL, which is not fetched here: give a file (on the command line "
            "`truemask predict --allow-urls public` fetches it)"
        )
    if not str(path):
        raise UsageError("the image's name is empty: give a file")
    if os.path.isdir(path):
        raise UsageError(f"{path} is a folder: give its images in a list")
    return read_whole(Path(path), spec)


def _of_tensor(image: Tensor, spec: ImageSpec) -> Shaped[Tensor, "C H W"]:
    if image.layout != torch.strided or image.is_meta or image.is_quantized:
        raise UsageError("the tensor is sparse, quantized or without values: give a plain one")
    plain = image.detach().as_subclass(Tensor).cpu()
    if plain.ndim == 4:
        raise UsageError(
            f"the tensor has the shape {tuple(plain.shape)}, which is a batch: give its images in "
            "a list, list(images)"
        )
    if plain.ndim != 3 or plain.shape[0] != spec.channels:
        turned = plain.ndim == 3 and plain.shape[2] == spec.channels
        raise _of_shape("tensor", plain.shape, spec, ".permute(2, 0, 1)" if turned else "")
    return plain


def _of_array(image: Any, spec: ImageSpec) -> Shaped[Tensor, "C H W"]:
    try:
        pixels = np.asarray(image)
    except ValueError:  # of a tuple of images, say
        raise _no_image(image) from None
    if pixels.dtype == object or (pixels.ndim == 0 and not isinstance(image, np.ndarray)):
        raise _no_image(image)
    if pixels.dtype.kind not in "biufc":
        raise UsageError(f"the array holds {pixels.dtype}, which are no pixels: {_FORMS}")
    if pixels.ndim == 4:
        raise UsageError(
            f"the array has the shape {pixels.shape}, which is a batch: give its images in a list, "
            "list(images)"
        )
    shape = pixels.shape
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[2] != spec.channels:
        turned = len(shape) == 3 and shape[0] == spec.channels
        raise _of_shape("array", shape, spec, ".transpose(1, 2, 0)" if turned else "")
    # Of another byte order there is no tensor.
    native = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    return torch.from_numpy(np.array(native.transpose(2, 0, 1), order="C"))


def _no_image(given: Any) -> UsageError:
    return UsageError(
        f"this {type(given).__name__} is no image: {_FORMS}; give several as a list, or to "
        "predict_each"
    )


def _of_shape(what: str, shape: Sequence[int], spec: ImageSpec, mend: str) -> UsageError:
    channels = spec.channels
    kind = _KINDS.get(channels, f"images of {channels} channels")
    order = f"(H, W, {channels})" if what == "array" else f"({channels}, H, W)"
    also = " or (H, W)" if what == "array" and channels == 1 else ""
    way = f": give image{mend}" if mend else ""
    return UsageError(
        f"the model takes {kind}, as {what}s of shape {order}{also}, not of shape "
        f"{tuple(shape)}{way}"
    )


def _checked(image: Shaped[Tensor, "C H W"], spec: ImageSpec) -> Shaped[Tensor, "C H W"]:
    """The image, if its values are such as the model takes; on a GPU that would be known late."""
    if image.numel() == 0:
        height, width = image.shape[-2:]
        raise UsageError(f"the image has no pixels: it is {height} high and {width} wide")
    if image.dtype != spec.torch_dtype:
        raise UsageError(
            f"the model takes images of dtype {spec.dtype} from {spec.low:g} to {spec.high:g}, got "
            f"{str(image.dtype).removeprefix('torch.')}; it scales them itself: give the pixels as "
            "the file has them"
        )
    if not image.is_floating_point():
        return image
    strange = int(image.numel() - image.isfinite().sum())
    if strange:
        raise UsageError(
            f"{strange} of the image's {image.numel()} values are NaN or infinite: fill them, "
            f"within {spec.low:g} to {spec.high:g}"
        )
    low, high = float(image.min()), float(image.max())
    if low < spec.low or high > spec.high:
        raise UsageError(
            f"image values reach from {low:g} to {high:g}, but the model takes {spec.low:g} to "
            f"{spec.high:g} and scales them itself"
        )
    return image
