"""How far the colours of two images differ that are laid on each other."""

import numpy as np
from jaxtyping import Float, Shaped
from PIL import Image

from truemask.checks.similarity import UPRIGHT, WHOLE, Symmetry, View

_CELLS = 6
"""Cells a side, coarse enough that a shift by some pixels changes little."""


def colour_difference(
    first: Shaped[np.ndarray, "H W C"],
    second: Shaped[np.ndarray, "h w C"],
    view: View,
    window: Float[np.ndarray, " 4"],
) -> float:
    """The mean over 6 x 6 cells of the channel that differs most, as a share of the range.

    Args:
        first: an image.
        second: another one, with as many channels.
        view: how the second is turned, and which of the two is cropped.
        window: what is left of the cropped one.
    """
    cropped = (window, np.array(WHOLE)) if view.second_is_whole else (np.array(WHOLE), window)
    ours, theirs = _cells(first, UPRIGHT, cropped[0]), _cells(second, view.symmetry, cropped[1])
    bytes_ = first.dtype == second.dtype == np.uint8
    low, high = min(ours.min(), theirs.min()), max(ours.max(), theirs.max())
    whole = 255.0 if bytes_ else max(float(high - low), 1e-12)
    return float(np.abs(ours - theirs).max(2).mean() / whole)


def _cells(
    image: Shaped[np.ndarray, "H W C"], symmetry: Symmetry, window: Float[np.ndarray, " 4"]
) -> Float[np.ndarray, "S S C"]:
    turned = [symmetry.of(image[..., c]) for c in range(image.shape[2])]
    height, width = turned[0].shape
    top, bottom = round(window[0] * height), max(round(window[1] * height), 1)
    left, right = round(window[2] * width), max(round(window[3] * width), 1)
    shown = [
        Image.fromarray(np.ascontiguousarray(one[top:bottom, left:right], dtype=np.float32))
        for one in turned
    ]
    size = (_CELLS, _CELLS)
    return np.stack([np.asarray(one.resize(size, Image.Resampling.BOX)) for one in shown], axis=2)
