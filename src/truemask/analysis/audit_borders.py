"""Borders that lie consistently off: a mask that is moved, or a class drawn too large or too small.

Disagreement along a border says little, as people and models both differ there by a pixel or two.
That it always points the same way does: then a small translation of the whole mask, or a step
outwards or inwards of one class, agrees better with the model, and by how much is the evidence.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from scipy import fft, ndimage

REACH = 0.06
"""How far a border is looked for, as a share of the shorter side."""

_CAP = 4.0
"""Of the evidence of one pixel; a single sure mistake of the model must not outweigh a border."""


@dataclass(frozen=True)
class Translation:
    """The translation of the mask that agrees best.

    Attributes:
        down: pixels by which the mask should move down.
        right: likewise to the right.
        gain: how much the mean log probability of the labels grows by it, 0 or more.
    """

    down: int
    right: int
    gain: float


def best_translation(
    log_probabilities: Float32[np.ndarray, "K H W"],
    mask: UInt8[np.ndarray, "H W"],
    valid: Bool[np.ndarray, "H W"],
) -> Translation:
    """Of all translations by whole pixels up to `REACH`, the one with which the mask fits best.

    Every one is scored on the pixels that both positions share, by correlation with the Fourier
    transform: the sum over classes of the log probability where the moved mask has that class.

    Args:
        log_probabilities: of the labels.
        mask: class ids.
        valid: which pixels have a label.
    """
    height, width = mask.shape
    reach = max(1, round(min(height, width) * REACH))
    floor = -_CAP * 2
    shape = (
        fft.next_fast_len(height + reach, real=True),
        fft.next_fast_len(width + reach, real=True),
    )
    total = np.zeros((shape[0], shape[1] // 2 + 1), dtype=np.complex64)
    still = np.zeros_like(mask, dtype=np.float32)
    for one in np.unique(mask[valid]):
        where = ((mask == one) & valid).astype(np.float32)
        evidence = np.maximum(log_probabilities[one], floor)
        still += where * evidence
        total += fft.rfft2(evidence, shape) * np.conj(fft.rfft2(where, shape))
    # The label that stays, counted on the pixels where the moved mask has one: what is compared are
    # two labels of the same pixels.
    inside = np.ones_like(still)
    pairs = fft.irfft2(
        fft.rfft2(inside, shape) * np.conj(fft.rfft2(valid.astype(np.float32), shape)), shape
    )
    moved = fft.irfft2(total, shape)
    down, right = np.meshgrid(
        np.arange(-reach, reach + 1), np.arange(-reach, reach + 1), indexing="ij"
    )
    score = moved[down, right] / np.maximum(pairs[down, right], 1)
    gains = score - still.sum() / max(1, valid.sum())
    best = np.unravel_index(int(gains.argmax()), gains.shape)
    return Translation(int(down[best]), int(right[best]), max(0.0, float(gains[best])))


@dataclass(frozen=True)
class Step:
    """A step outwards or inwards of the border of one class.

    Attributes:
        label: the class.
        pixels: how far it should step; below 0 inwards.
        gain: the evidence for it, summed over the pixels that change hands, for each pixel of the
            class's border.
        border: pixels of that border.
    """

    label: int
    pixels: int
    gain: float
    border: int


def border_steps(
    log_probabilities: Float32[np.ndarray, "K H W"],
    mask: UInt8[np.ndarray, "H W"],
    valid: Bool[np.ndarray, "H W"],
) -> list[Step]:
    """For each class that the mask shows, its best step outwards and its best step inwards."""
    height, width = mask.shape
    reach = max(1, round(min(height, width) * REACH))
    own = np.take_along_axis(log_probabilities, np.where(valid, mask, 0)[None].astype(np.int64), 0)[
        0
    ]
    steps: list[Step] = []
    for label in np.unique(mask[valid]):
        inside = (mask == label) & valid
        outside = (mask != label) & valid
        if not outside.any():
            continue
        border = int((inside & ndimage.binary_dilation(outside)).sum())
        if border < 8:
            continue
        box = _around(inside, reach + 1)
        steps += _steps(
            int(label), inside[box], outside[box], mask[box],
            log_probabilities[(slice(None), *box)], own[box], reach, border,
        )  # fmt: skip
    return steps


def _around(inside: Bool[np.ndarray, "H W"], margin: int) -> tuple[slice, slice]:
    """The box around what is inside, and a margin: distances are measured nowhere else."""
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    return (
        slice(max(0, int(rows[0]) - margin), int(rows[-1]) + margin + 1),
        slice(max(0, int(columns[0]) - margin), int(columns[-1]) + margin + 1),
    )


def _steps(
    label: int,
    inside: Bool[np.ndarray, "h w"],
    outside: Bool[np.ndarray, "h w"],
    mask: UInt8[np.ndarray, "h w"],
    log_probabilities: Float32[np.ndarray, "K h w"],
    own: Float32[np.ndarray, "h w"],
    reach: int,
    border: int,
) -> tuple[Step, Step]:
    """The best step outwards, and the best inwards."""
    away = ndimage.distance_transform_edt(~inside)
    gain = np.clip(log_probabilities[label] - own, -_CAP, _CAP)
    outwards = _best(label, away, outside & (away <= reach), gain, border, 1)
    depth, places = ndimage.distance_transform_edt(~outside, return_indices=True)
    near = inside & (depth <= reach)
    other = mask[places[0], places[1]].astype(np.int64)
    taken = np.take_along_axis(log_probabilities, other[None], 0)[0]
    gain = np.clip(taken - own, -_CAP, _CAP)
    return outwards, _best(label, depth, near, gain, border, -1)


def _best(
    label: int,
    distance: np.ndarray[Any, Any],
    near: Bool[np.ndarray, "H W"],
    gain: np.ndarray[Any, Any],
    border: int,
    sign: int,
) -> Step:
    """How far to step: where the evidence, summed from the border on, is highest."""
    rings = np.ceil(distance[near]).astype(np.int64)
    sums = np.cumsum(np.bincount(rings, weights=gain[near], minlength=2)[1:])
    best = int(sums.argmax()) if len(sums) else 0
    value = max(0.0, float(sums[best])) if len(sums) else 0.0
    return Step(label, sign * (best + 1), value / border, border)
