"""What somebody's dataset gives, as a `Probe`: tuples, mappings, objects; arrays of any order."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped

from truemask.checks.probe import Probe
from truemask.errors import UsageError

IMAGE_KEYS = ("image", "img", "images", "pixel_values", "input", "inputs", "x")
"""Keys or attributes under which samples hold their image, the first that is there."""

MASK_KEYS = (
    "mask", "masks", "label", "labels", "segmentation", "semantic", "semantic_mask",
    "annotation", "target", "targets", "gt", "y",
)  # fmt: skip
"""Keys or attributes under which samples hold their mask, the first that is there."""


def read_item(source: Any, index: int, *, name: str) -> Probe:
    """The sample at an index; whatever reading it raises is the probe's fault.

    Raises:
        UsageError: there is a sample, but no image and mask can be told in it.
    """
    try:
        item = source[index]
    except Exception as error:  # Other people's code may raise anything.
        return Probe(name=name, fault=("image", f"reading it raises {error!r}"))
    image, mask = image_and_mask(item)
    ids, fraction, fractions = mask_array(mask)
    pixels = None if image is None else image_array(image, ids.shape[:2])
    paths = {key: _path_in(item, f"{key}_path") for key in ("image", "mask")}
    return Probe(
        name=name,
        image=pixels,
        mask=ids,
        image_path=paths["image"],
        mask_path=paths["mask"],
        fraction=fraction,
        fractions=fractions,
    )


def image_and_mask(item: Any) -> tuple[Any, Any]:
    """The image and the mask of a sample, as they are.

    Raises:
        UsageError: they cannot be told.
    """
    if isinstance(item, tuple | list) and len(item) >= 2:
        return item[0], item[1]
    image, mask = _first_of(item, IMAGE_KEYS), _first_of(item, MASK_KEYS)
    if image is None or mask is None:
        kind = f"a mapping with the keys {sorted(map(str, item))}" if _is_mapping(item) else None
        raise UsageError(
            f"a sample is {kind or f'of the type {type(item).__name__}'}, in which image and mask "
            'cannot be told: give (image, mask), or a mapping with the keys "image" and "mask"'
        )
    return image, mask


def _is_mapping(item: Any) -> bool:
    return isinstance(item, Mapping)


def _first_of(item: Any, keys: Sequence[str]) -> Any:
    for key in keys:
        found = item.get(key) if _is_mapping(item) else getattr(item, key, None)
        if found is not None and not callable(found):
            return found
    return None


def _path_in(item: Any, key: str) -> Path | None:
    found = item.get(key) if _is_mapping(item) else getattr(item, key, None)
    return Path(found) if isinstance(found, str | Path) else None


def image_array(image: Any, size: tuple[int, ...] | None = None) -> Shaped[np.ndarray, "H W C"]:
    """An image with its channels last.

    Args:
        image: an array, a tensor or a PIL image; (H, W), (H, W, C) or (C, H, W), with or without a
            batch axis of one.
        size: height and width of its mask, by which the axes are told where they can be both.
    """
    pixels = _array(image)
    while pixels.ndim > 3 and pixels.shape[0] == 1:
        pixels = pixels[0]
    if pixels.ndim == 2:
        return pixels[..., None]
    if pixels.ndim != 3:
        raise UsageError(f"an image has the shape {pixels.shape}: give (C, H, W) or (H, W, C)")
    first, last = pixels.shape[1:] == size, pixels.shape[:2] == size
    if first == last:
        few = (1, 2, 3, 4)
        first = pixels.shape[0] in few and (
            pixels.shape[2] not in few or isinstance(image, torch.Tensor)
        )
        first |= pixels.shape[2] not in few and pixels.shape[0] < min(pixels.shape[1:])
    return pixels.transpose(1, 2, 0) if first else pixels


def mask_array(mask: Any) -> tuple[Shaped[np.ndarray, "H W *C"], float | None, float]:
    """A mask as integers, with a value that was none, and the share of those.

    (1, H, W) and (H, W, 1) lose their axis; one-hot masks (K, H, W) or (H, W, K) of zeros and ones
    become ids; three channels of anything else are colours, channels last.
    """
    values = _array(mask)
    while values.ndim > 2 and 1 in (values.shape[0], values.shape[-1]):
        values = values[0] if values.shape[0] == 1 else values[..., 0]
    if values.ndim not in (2, 3):
        raise UsageError(f"a mask has the shape {values.shape}: give (H, W)")
    if values.ndim == 3:
        values = _without_channels(values)
    if values.dtype.kind == "b":
        return values.astype(np.uint8), None, 0.0
    if values.dtype.kind != "f":
        return _narrow(values), None, 0.0
    finite = np.nan_to_num(values, nan=-1.0, posinf=-1.0, neginf=-1.0)
    rounded = np.rint(finite)
    odd = rounded != finite
    fraction = float(finite[odd][0]) if odd.any() else None
    return _narrow(rounded.astype(np.int64)), fraction, float(odd.mean())


def _without_channels(values: Shaped[np.ndarray, "A B C"]) -> Shaped[np.ndarray, "H W *C"]:
    axis = 0 if values.shape[0] < values.shape[2] else 2
    one_hot = values.min() >= 0 and (values.sum(axis) == values.max()).all()
    if one_hot and values.shape[axis] > 1 and values.max() in (1, 255):
        ids: np.ndarray = values.argmax(axis)
        return ids
    if values.shape[axis] != 3:
        raise UsageError(
            f"a mask has the shape {values.shape} and is not one-hot: give ids of shape (H, W)"
        )
    return values.transpose(1, 2, 0) if axis == 0 else values


def _narrow(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """As uint8 where the values fit, as most do: everything is faster on it."""
    if values.dtype == np.uint8 or values.size == 0:
        return values
    fits = values.min() >= 0 and values.max() <= 255
    return values.astype(np.uint8 if fits else np.int64)


def _array(value: Any) -> np.ndarray[Any, Any]:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = value.float() if value.dtype in (torch.bfloat16, torch.float16) else value
        return np.asarray(value.as_subclass(torch.Tensor).numpy())
    return np.asarray(value)
