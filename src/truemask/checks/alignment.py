"""How well the borders of a mask lie on the edges of its image, and whether better elsewhere.

The edges of the image (the ranks of its gradient, so that no camera and no light matters) are
correlated with the borders of the mask at every displacement at once, by FFT. What varies slowly
over the picture is taken out first (a difference of Gaussians in the spectrum), so that the
correlation is about lines, not about where scenes are busy. Divided by its standard deviation over
all displacements, the correlation at rest is a z-score: how far the mask fits better in its place
than in any place.

Measured on sound pairs, the median of that score is 27 on CamVid, 25 on BSDS500, 14 on CrackForest,
and 8 to 14 on generated pictures of 100 pixels, while the mask of another image of the same data,
or the own mask mirrored, stays below 5 in 99 of 100 pairs, and below 8 on
generated cars that all look alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped, UInt8
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, affine_grid, grid_sample

LARGEST = 1024
"""Images whose longer side is greater are compared at a half, a third ... of their size."""

REACH = 8
"""Displacements up to this many pixels are kept of every pair, to be summed over the part."""

_SMOOTH = 4.0
"""What varies over more than about this many pixels is taken out."""

_THUMB = 128
"""Height and width at which the mask of one image is held against another image."""

_FEWEST_BORDER = 32
"""A mask with fewer border pixels says nothing."""

_SURE = 12.0
"""A pair that fits so well is not tried turned or mirrored."""

_LOW = 3.0
"""A pair that fits worse is looked at coarsely as well."""

TURNS = ("mirrored", "upside down mirrored", "turned by 180 degrees")
"""Other placements of a mask of the same size, in the order of `_turned`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Fit:
    """How a mask fits its image.

    Attributes:
        score: z-score at rest, the best within one pixel.
        peak: the best z-score at any displacement.
        shift: (down, right), in pixels of the image, by which the mask would have to move for that.
        turned: name of another placement, of `TURNS` or "as stored" -> z-score; empty where the
            pair fits well.
        coarse: z-score at rest of edges and borders at a quarter of the size, where fine texture
            is gone; only for pairs with a low score, else the score itself.
        border: border pixels of the mask.
        scale: how many pixels of the image are one of those compared.
        window: (2 REACH + 1, 2 REACH + 1) z-scores around rest.
        edges: (128, 128) thumbnail of the image's edges, 0 to 255.
        borders: (128, 128) thumbnail of the mask's borders, 0 to 255.
    """

    score: float
    peak: float
    shift: tuple[int, int]
    turned: dict[str, float]
    coarse: float
    border: int
    scale: int
    window: Float[np.ndarray, "D D"]
    edges: UInt8[np.ndarray, "128 128"]
    borders: UInt8[np.ndarray, "128 128"]

    @property
    def belongs_to_stored(self) -> bool:
        """Whether the mask clearly belongs to the pixels as their file stores them."""
        other = self.turned.get("as stored", 0.0)
        return other >= 6 and other >= self.score + 4


def fit(
    image: Shaped[np.ndarray, "H W C"],
    mask: Shaped[np.ndarray, "H W *C"],
    *,
    as_stored: Shaped[np.ndarray, "H W *C"] | None = None,
) -> Fit | None:
    """Measure how a mask fits its image.

    Args:
        image: as in a `Probe`.
        mask: as in a `Probe`, of the same size.
        as_stored: the mask as it would lie if it belonged to the pixels as their file stores them,
            where that is another placement of the same size.

    Returns:
        None where there is nothing to compare: too few borders, or an image without any edge.
    """
    borders = border_of(mask)
    count = int(np.count_nonzero(borders))
    scale = -(-max(borders.shape) // LARGEST)
    edges = _shrunk(_edges(image), scale)
    placed = _shrunk(borders.astype(np.float32), scale)
    if count < _FEWEST_BORDER or min(edges.shape) < 2 * REACH or float(edges.std()) < 1e-3:
        return None
    size = _padded(edges)
    spectrum = torch.fft.rfft2(edges - edges.mean(), s=size) * _without_slow(size)
    scores = _scores(spectrum, placed, size)
    score = _at_rest(scores)
    place = int(scores.argmax())
    shift = [_centred(place // size[1], size[0]), _centred(place % size[1], size[1])]
    turned: dict[str, float] = {}
    if score < _SURE:
        axes = ((1,), (0,), (0, 1))
        for name, flipped in zip(TURNS, axes, strict=True):
            turned[name] = _at_rest(_scores(spectrum, placed.flip(flipped), size))
        if as_stored is not None:
            other = _shrunk(border_of(as_stored).astype(np.float32), scale)
            turned["as stored"] = _at_rest(_scores(spectrum, other, size))
    return Fit(
        score=score,
        peak=float(scores.max()),
        shift=(shift[0] * scale, shift[1] * scale),
        turned=turned,
        coarse=score if score >= _LOW else _coarse_score(image, placed, scale),
        border=count,
        scale=scale,
        window=_around_rest(scores, REACH).numpy().astype(np.float32),
        edges=_thumbnail(edges),
        borders=_thumbnail(placed),
    )


def border_of(mask: Shaped[np.ndarray, "H W *C"]) -> Bool[np.ndarray, "H W"]:
    """Pixels that differ from the one above, below, left or right of them."""
    found = np.zeros(mask.shape[:2], dtype=bool)
    across, down = mask[:, 1:] != mask[:, :-1], mask[1:] != mask[:-1]
    if mask.ndim == 3:
        across, down = across.any(-1), down.any(-1)
    found[:, 1:] |= across
    found[:, :-1] |= across
    found[1:] |= down
    found[:-1] |= down
    return found


def scores_of_others(edges: UInt8[np.ndarray, "128 128"], borders: Tensor) -> Float[Tensor, " N"]:
    """How well each of many masks fits an image, as z-scores at rest.

    Args:
        edges: of the image, as in a `Fit`.
        borders: spectra of the masks, of `spectra_of`.
    """
    size = (_THUMB, _THUMB)
    values = torch.from_numpy(edges).float()
    spectrum = torch.fft.rfft2(values - values.mean()) * _without_slow(size)
    scores = torch.fft.irfft2(spectrum * borders.conj(), s=size)
    scores = scores / scores.std((1, 2), keepdim=True).clamp(min=1e-9)
    return _around_rest(scores, 1).amax((1, 2))


def spectra_of(fits: Sequence[Fit]) -> Tensor:
    """The spectra of the masks' thumbnails, (N, 128, 65) complex."""
    values = torch.from_numpy(np.stack([found.borders for found in fits])).float()
    spectra: Tensor = torch.fft.rfft2(values - values.mean((1, 2), keepdim=True))
    return spectra


def best_rotation(
    image: Shaped[np.ndarray, "H W C"], mask: Shaped[np.ndarray, "H W *C"]
) -> tuple[int, float, float]:
    """The angle by which a mask fits its image best, turned about the middle.

    Both are compared at 128 pixels, where three degrees move the corners by three.

    Returns:
        The angle in degrees, its z-score, and that of the mask as it is.
    """
    scale = -(-max(mask.shape[:2]) // _THUMB)
    edges = _shrunk(_edges(image), scale)
    borders = _shrunk(border_of(mask).astype(np.float32), scale)
    height, width = borders.shape
    angles = [angle for angle in range(-45, 46, 3) if angle]
    turns = torch.deg2rad(torch.tensor([0, *angles], dtype=torch.float32))
    cos, sin, none = turns.cos(), turns.sin(), torch.zeros_like(turns)
    rows = (
        torch.stack([cos, -sin * height / width, none], 1),
        torch.stack([sin * width / height, cos, none], 1),
    )
    grid = affine_grid(torch.stack(rows, 1), [len(turns), 1, height, width], align_corners=False)
    turned = grid_sample(borders.expand(len(turns), 1, -1, -1), grid, align_corners=False)[:, 0]
    size = _padded(edges)
    spectrum = torch.fft.rfft2(edges - edges.mean(), s=size) * _without_slow(size)
    own, *scores = (_at_rest(_scores(spectrum, one, size)) for one in turned)
    best = int(np.argmax(scores))
    return angles[best], scores[best], own


def _coarse_score(image: Shaped[np.ndarray, "H W C"], placed: Tensor, scale: int) -> float:
    """The score where grains of texture have no edges, but what they are part of has."""
    grey = _shrunk(_grey(image).astype(np.float32), 4 * scale)
    edges = torch.from_numpy(_edges(grey.numpy()[..., None]))
    borders = torch.nn.functional.avg_pool2d(placed[None], 4)[0][: edges.shape[0], : edges.shape[1]]
    edges = edges[: borders.shape[0], : borders.shape[1]]
    if min(edges.shape) < 2 * REACH:
        return float("inf")
    size = _padded(edges)
    spectrum = torch.fft.rfft2(edges - edges.mean(), s=size) * _without_slow(size)
    return _at_rest(_scores(spectrum, borders, size))


def _edges(image: Shaped[np.ndarray, "H W C"]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The rank of each pixel's gradient among all of the image, from 0 to 1."""
    grey = _grey(image)
    steep = np.zeros(grey.shape, np.int16)
    steep[:, 1:-1] += np.abs(grey[:, 2:] - grey[:, :-2])
    steep[1:-1] += np.abs(grey[2:] - grey[:-2])
    counts = np.bincount(steep.ravel())
    ranks = ((np.cumsum(counts) - counts / 2) / steep.size).astype(np.float32)
    return ranks.take(steep)


def _grey(image: Shaped[np.ndarray, "H W C"]) -> np.ndarray[Any, np.dtype[np.int16]]:
    """Red, twice green and blue, from 0 to 1020; other numbers of channels and ranges alike."""
    if image.dtype != np.uint8:
        values = np.nan_to_num(image.astype(np.float32).mean(2))
        low, high = float(values.min()), float(values.max())
        scaled = (values - low) * (1020 / max(high - low, 1e-9))
        return np.asarray(scaled.astype(np.int16))
    if image.shape[2] < 3:
        return image[..., 0].astype(np.int16) * 4
    grey = image[..., 1].astype(np.int16) * 2
    grey += image[..., 0]
    grey += image[..., 2]
    return np.asarray(grey)


def _shrunk(values: np.ndarray[Any, np.dtype[np.float32]], scale: int) -> Tensor:
    pixels = torch.from_numpy(np.ascontiguousarray(values))
    if scale == 1:
        return pixels
    return torch.nn.functional.avg_pool2d(pixels[None], scale)[0]


def _padded(edges: Tensor) -> tuple[int, int]:
    """A height and width for which the FFT is fast."""
    return -(-edges.shape[0] // 16) * 16, -(-edges.shape[1] // 16) * 16


@lru_cache(maxsize=16)
def _without_slow(size: tuple[int, int]) -> Tensor:
    """The spectrum of what takes a Gaussian mean of the surroundings away."""
    down, right = torch.fft.fftfreq(size[0])[:, None], torch.fft.rfftfreq(size[1])
    kept: Tensor = 1 - torch.exp(-2 * (torch.pi * _SMOOTH) ** 2 * (down**2 + right**2))
    return kept


def _scores(spectrum: Tensor, borders: Tensor, size: tuple[int, int]) -> Tensor:
    """z-scores of the borders at all displacements."""
    placed = torch.fft.rfft2(borders - borders.mean(), s=size)
    correlation = torch.fft.irfft2(spectrum * placed.conj(), s=size)
    scores: Tensor = correlation / correlation.std().clamp(min=1e-9)
    return scores


def _around_rest(scores: Tensor, reach: int) -> Tensor:
    rolled = scores.roll((reach, reach), (-2, -1))
    return rolled[..., : 2 * reach + 1, : 2 * reach + 1]


def _at_rest(scores: Tensor) -> float:
    return float(scores[..., [-1, 0, 1], :][..., [-1, 0, 1]].max())


def _centred(place: int, size: int) -> int:
    return (place + size // 2) % size - size // 2


def _thumbnail(values: Tensor) -> UInt8[np.ndarray, "128 128"]:
    small = adaptive_avg_pool2d(values[None], (_THUMB, _THUMB))[0]
    return np.asarray((small * 255).round().to(torch.uint8).numpy())
