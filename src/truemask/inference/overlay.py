"""An image with its mask over it."""

from typing import Any

import numpy as np
from jaxtyping import UInt8

from truemask.labels import LabelMap


def overlay_image(
    image: UInt8[np.ndarray, "H W 3"],
    ids: UInt8[np.ndarray, "H W"],
    labels: LabelMap,
    *,
    alpha: float = 0.5,
) -> UInt8[np.ndarray, "H W 3"]:
    """An image with its mask over it: each region tinted, its border drawn in the full colour.

    A class called "background" and ignored pixels stay as they are in the image.

    Args:
        image: RGB.
        ids: class ids.
        labels: their colours.
        alpha: how much of the tint is colour, from 0 to 1.
    """
    plain = [i for i, name in enumerate(labels.names) if name.lower() in ("background", "bg")]
    strength = np.full(256, round(alpha * 256), dtype=np.uint16)
    strength[[*plain, labels.ignore_index]] = 0
    weight = strength[ids]
    weight[_borders(ids, width=max(1, round(max(ids.shape) / 800))) & (weight > 0)] = 256
    blended = np.empty_like(image)
    for channel in range(3):
        color = labels.palette[:, channel].astype(np.uint16)[ids]
        # At most 255 * 256, which 16 bits hold.
        mixed = color * weight + image[..., channel].astype(np.uint16) * (256 - weight)
        blended[..., channel] = mixed >> 8
    return blended


def _borders(ids: UInt8[np.ndarray, "H W"], *, width: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Pixels with another class within `width` pixels, along a row or a column."""
    border = np.zeros(ids.shape, dtype=bool)
    for step in range(1, width + 1):
        across, down = ids[:, step:] != ids[:, :-step], ids[step:] != ids[:-step]
        border[:, step:] |= across
        border[:, :-step] |= across
        border[step:] |= down
        border[:-step] |= down
    return border
