"""Whether two images that are alike are one image: laid on each other, their detail must agree.

The crop by which one image becomes the other is refined from the rough one that the search found
(Gauss-Newton on the four edges of the window, on ever finer structure: Lucas and Kanade, "An
iterative image registration technique", IJCAI 1981). Then detail is compared, of which the search
has seen nothing: over the whole image, and block by block. A copy agrees everywhere. Two images of
one camera, of one studio or of two moments agree in the background alone, and the block that agrees
least tells.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32

from truemask.checks.similarity import (
    COARSE,
    VIEWS,
    WHOLE,
    Pairs,
    Symmetry,
    View,
    spectrum,
    transform,
    unit,
    weights,
)

_FINE = 24
"""Frequencies a direction in which detail is compared; 64 cells show 32 at most."""

_PIXELS, _BLOCKS = 48, 6
"""Detail is drawn with 48 x 48 pixels, and compared in 6 x 6 blocks of 8 x 8."""

_FAINT = 0.1
"""Blocks with less than this share of the mean energy are not judged: noise is all there is."""

_WIDEST = 0.2
"""No more than this share is cut off a side."""

_AT_ONCE = 64
"""Pairs that are aligned together, few enough for the processor's cache."""

_STEP = 0.004
"""By so much of the side an edge is moved to see what that changes."""

AGREES = 0.75
"""Correlation of the detail of copies, at least; see `Alignment.same`."""

EVERYWHERE = 0.45
"""Correlation of the detail of copies in the block that agrees least, at least."""

CERTAIN = (0.985, 0.9)
"""The same two figures of pairs that are copies even where other images look much alike: of copies
altered in one way nine tenths have more, of different cars in one studio none of 86 pairs has."""

ALIKE = 0.85
"""Correlation of the coarse structure of neighbouring frames, at least."""

HALF = 0.5
"""Correlation of the detail of neighbouring frames, at least."""


@dataclass(frozen=True)
class Alignment:
    """Pairs of images laid on each other.

    Attributes:
        windows: top, bottom, left and right edge of what is left of the cropped image.
        coarse: correlation of the structure that the search sees.
        detail: correlation of the detail, over the whole image.
        weakest: the same in the block that agrees least.
    """

    windows: Float[np.ndarray, "P 4"]
    coarse: Float[np.ndarray, " P"]
    detail: Float[np.ndarray, " P"]
    weakest: Float[np.ndarray, " P"]

    @property
    def same(self) -> Bool[np.ndarray, " P"]:
        """Which pairs are one image, however altered."""
        return (self.detail >= AGREES) & (self.weakest >= EVERYWHERE)

    @property
    def certain(self) -> Bool[np.ndarray, " P"]:
        """Which pairs are one image even where all images look much alike, as in a studio."""
        detail, weakest = CERTAIN
        return (self.detail >= detail) & (self.weakest >= weakest)

    @property
    def alike(self) -> Bool[np.ndarray, " P"]:
        """Which pairs show one scene at about the same place in the image, and are not the same."""
        near: Bool[np.ndarray, " P"] = (self.coarse >= ALIKE) & (self.detail >= HALF)
        found: Bool[np.ndarray, " P"] = near & ~self.same
        return found


def align(
    first: Float32[np.ndarray, "N S S"], second: Float32[np.ndarray, "M S S"], pairs: Pairs
) -> Alignment:
    """Lay the images of each pair on each other."""
    parts = [
        _align(
            [VIEWS[view] for view in pairs.view[start : start + _AT_ONCE]],
            first[pairs.first[start : start + _AT_ONCE]],
            second[pairs.second[start : start + _AT_ONCE]],
        )
        for start in range(0, len(pairs), _AT_ONCE)
    ]
    if not parts:
        return Alignment(np.zeros((0, 4)), *(np.zeros(0) for _ in range(3)))
    return Alignment(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _align(
    views: list[View], first: Float32[np.ndarray, "P S S"], second: Float32[np.ndarray, "P S S"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    second = np.stack([view.symmetry.of(image) for view, image in zip(views, second, strict=True)])
    swapped = np.array([not view.second_is_whole for view in views])[:, None, None]
    cropped, whole = np.where(swapped, second, first), np.where(swapped, first, second)
    windows = np.array([view.window for view in views])
    uncut = np.tile(WHOLE, (len(views), 1))
    windows, coarse = _refine(cropped, unit(spectrum(whole, uncut, COARSE)), windows, COARSE, 4)
    for frequencies in (12, 16):
        target = unit(spectrum(whole, uncut, frequencies))
        windows, _ = _refine(cropped, target, windows, frequencies, 2)
    ours, theirs = spectrum(cropped, windows, _FINE), spectrum(whole, uncut, _FINE)
    detail = (unit(ours) * unit(theirs)).sum(1)
    return windows, coarse, detail, _weakest(_blocks(ours), _blocks(theirs))


def _refine(
    cropped: Float[np.ndarray, "P S S"],
    target: Float[np.ndarray, "P D"],
    windows: Float[np.ndarray, "P 4"],
    frequencies: int,
    rounds: int,
) -> tuple[Float[np.ndarray, "P 4"], Float[np.ndarray, " P"]]:
    """Windows that make `cropped` more like `target`, never less; and how much like it."""
    windows = windows.copy()
    seen, slopes = _slopes(cropped, windows, frequencies)
    best = (seen * target).sum(1)
    for left in reversed(range(rounds)):
        squares = slopes.swapaxes(1, 2) @ slopes
        # A little damping, for images whose edges do not matter.
        damping = 2.5e-3 * np.trace(squares, axis1=1, axis2=2)[:, None, None] + 1e-12
        change = slopes.swapaxes(1, 2) @ (target - seen)[..., None]
        change = np.linalg.solve(squares + damping * np.eye(4), change)[..., 0]
        moved = windows + np.clip(change, -0.05, 0.05)
        moved[:, ::2] = moved[:, ::2].clip(0, _WIDEST)
        moved[:, 1::2] = moved[:, 1::2].clip(1 - _WIDEST, 1)
        score = (unit(spectrum(cropped, moved, frequencies)) * target).sum(1)
        better = score > best
        windows[better], best[better] = moved[better], score[better]
        if not better.any() or left == 0:
            break
        seen, slopes = _slopes(cropped, windows, frequencies)
    return windows, best


def _slopes(
    cropped: Float[np.ndarray, "P S S"], windows: Float[np.ndarray, "P 4"], frequencies: int
) -> tuple[Float[np.ndarray, "P D"], Float[np.ndarray, "P D 4"]]:
    """The descriptors of windows, and what each edge's moving inwards changes in them."""
    down, right = _axes(windows, frequencies)
    wide, tall = cropped @ right.swapaxes(1, 2), down @ cropped
    weight = weights(frequencies)
    seen = unit((down @ wide) * weight)
    slopes = np.empty((*seen.shape, 4))
    # Inwards, since there is nothing beyond the edges.
    for edge, step in enumerate((_STEP, -_STEP, _STEP, -_STEP)):
        moved = windows.copy()
        moved[:, edge] += step
        if edge < 2:
            spectra = transform(moved[:, 0], moved[:, 1], frequencies) @ wide
        else:
            spectra = tall @ transform(moved[:, 2], moved[:, 3], frequencies).swapaxes(1, 2)
        slopes[..., edge] = (unit(spectra * weight) - seen) / step
    return seen, slopes


def _axes(
    windows: Float[np.ndarray, "P 4"], frequencies: int
) -> tuple[Float[np.ndarray, "P K S"], Float[np.ndarray, "P K S"]]:
    return (
        transform(windows[:, 0], windows[:, 1], frequencies),
        transform(windows[:, 2], windows[:, 3], frequencies),
    )


def _blocks(spectra: Float[np.ndarray, "P K K"]) -> Float[np.ndarray, "P B D"]:
    """Drawn as pixels again, detail enhanced, and cut into blocks."""
    frequencies = spectra.shape[1]
    places = (np.arange(_PIXELS) + 0.5) / _PIXELS
    waves = np.cos(np.pi * np.arange(frequencies)[:, None] * places)
    drawn = waves.T @ spectra @ waves
    side = _PIXELS // _BLOCKS
    cut = drawn.reshape(-1, _BLOCKS, side, _BLOCKS, side).swapaxes(2, 3)
    blocks: Float[np.ndarray, "P B D"] = cut.reshape(-1, _BLOCKS * _BLOCKS, side * side)
    return blocks


def _weakest(
    ours: Float[np.ndarray, "P B D"], theirs: Float[np.ndarray, "P B D"]
) -> Float[np.ndarray, " P"]:
    """The least correlation of two blocks that show anything."""
    energy, other = (ours**2).sum(2), (theirs**2).sum(2)
    energy /= energy.mean(1, keepdims=True).clip(1e-12)
    other /= other.mean(1, keepdims=True).clip(1e-12)
    # Overexposure may wipe out what was faint, but a busy block that is empty in the other image is
    # the plainest of all differences.
    judged = (np.sqrt(energy * other) > _FAINT) | (np.maximum(energy, other) > 1)
    correlation = (_unit(ours) * _unit(theirs)).sum(2)
    least: Float[np.ndarray, " P"] = np.where(judged, correlation, 1.0).min(1)
    return least


def _unit(blocks: Float[np.ndarray, "P B D"]) -> Float[np.ndarray, "P B D"]:
    length = np.linalg.norm(blocks, axis=2, keepdims=True)
    scaled: Float[np.ndarray, "P B D"] = blocks / np.maximum(length, 1e-6)
    return scaled


def describe(view: View, window: Float[np.ndarray, " 4"]) -> str:
    """How a copy was altered, in words: "mirrored, cropped by 8 %"."""
    cut = 1 - (window[1] - window[0]) * (window[3] - window[2])
    words = [str(view.symmetry)] if view.symmetry != Symmetry() else []
    if cut >= 0.02:
        words.append(f"cropped by {cut:.0%} of its area")
    return ", ".join(words)
