"""Batches of anybody's loader, or one that a model is tried with: which tensors are which."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from truemask.checks.items import IMAGE_KEYS, MASK_KEYS
from truemask.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What a loader gives at once.

    Attributes:
        images: (B, C, H, W), as they came, so that a model takes them.
        masks: as they came, in whatever form; None where there are none.
    """

    images: Shaped[Tensor, "B C H W"]
    masks: Shaped[Tensor, "B *K H W"] | None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images."""
        return self.images.shape[-2], self.images.shape[-1]


def read_batch(batch: Any) -> Batch:
    """Images and masks of a batch.

    Args:
        batch: images alone; (images, masks, ...); a mapping with keys such as "image" and "mask";
            or an object with attributes such as `images` and `masks`.

    Raises:
        UsageError: no images can be told in it, or they are not (B, C, H, W).
    """
    images, masks = _parts(batch)
    pixels = _tensor(images)
    if pixels is None:
        raise UsageError(
            f"no images can be told in a batch of the type {type(batch).__name__}: give a tensor "
            '(B, C, H, W), (images, masks), or a mapping with the keys "image" and "mask"'
        )
    if pixels.ndim != 4:
        raise UsageError(
            f"the images of a batch have the shape {tuple(pixels.shape)}; it must be (B, C, H, W)"
        )
    return Batch(images=pixels, masks=_tensor(masks))


def class_ids(
    masks: Shaped[Tensor, "B *K H W"], size: tuple[int, int], *, num_classes: int
) -> Int64[Tensor, "B H W"] | None:
    """Masks of any form as ids; None where they are none, such as values between the ids.

    Args:
        masks: ids (B, H, W), (B, 1, H, W) or (B, H, W, 1), integers or floats; or one-hot, with
            the classes second or last.
        size: height and width that they must have.
        num_classes: how many classes there are.
    """
    values = masks.detach().as_subclass(Tensor)
    if values.ndim == 4 and 1 in (values.shape[1], values.shape[-1]):
        values = values.squeeze(1) if values.shape[1] == 1 else values.squeeze(-1)
    if values.ndim == 4:
        axis = one_hot_axis(values, size, num_classes=num_classes)
        return None if axis is None else values.to(torch.float32).argmax(axis)
    if values.ndim != 3 or tuple(values.shape[1:]) != tuple(size):
        return None
    if values.is_floating_point():
        rounded = values.round()
        return rounded.long() if bool((rounded == values).all()) else None
    return values.long()


def one_hot_axis(
    masks: Shaped[Tensor, "B K H W"], size: tuple[int, int], *, num_classes: int
) -> int | None:
    """The axis of the classes of one-hot masks, 1 or 3; None where they are none."""
    for axis, spatial in ((1, masks.shape[2:]), (3, masks.shape[1:3])):
        if masks.shape[axis] >= min(num_classes, 2) and tuple(spatial) == tuple(size):
            zeros_and_ones = bool(((masks == 0) | (masks == 1)).all())
            return axis if zeros_and_ones and bool((masks.sum(axis) <= 1).all()) else None
    return None


def _parts(batch: Any) -> tuple[Any, Any]:
    if isinstance(batch, Tensor | np.ndarray):
        return batch, None
    if isinstance(batch, tuple | list):
        return (batch[0] if batch else None), (batch[1] if len(batch) > 1 else None)
    return _held(batch, IMAGE_KEYS), _held(batch, MASK_KEYS)


def _held(batch: Any, keys: tuple[str, ...]) -> Any:
    mapping = isinstance(batch, Mapping)
    for key in keys:
        value = batch.get(key) if mapping else getattr(batch, key, None)
        if isinstance(value, Tensor | np.ndarray):
            return value
    return None


def _tensor(value: Any) -> Tensor | None:
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    return value.as_subclass(Tensor) if isinstance(value, Tensor) else None
