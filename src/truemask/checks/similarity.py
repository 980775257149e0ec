"""How alike two images are, whatever was done to a copy: resized, recompressed, mirrored, cropped.

An image is kept as a thumbnail, 64 x 64 cells of grey. The lowest 8 x 8 cosine coefficients of a
thumbnail, each multiplied by its frequency, and scaled to length 1 make its descriptor: the mean
(brightness) is left out, the length (contrast) divided out, and the factor weighs coarse and fine
structure alike, as amplitudes of natural images fall with 1 / frequency (Field, "Relations between
the statistics of natural images and the response properties of cortical cells", JOSA A 4, 1987).
Without it all street scenes are alike, bright above and dark below.

The similarity of two images is the largest product of their descriptors over `VIEWS`: one of them
turned or mirrored, or cropped. `search` finds every pair of at least a given similarity by looking
at all pairs, with no index that could miss one: for 10,000 images that is some seconds of matrix
products.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, Shaped
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from torch import Tensor

from truemask.datasets.decoding import load, open_image, orientation
from truemask.errors import UsageError

SIDE = 64
"""Height and width of a thumbnail, in cells."""

COARSE = 8
"""Frequencies a direction in the descriptors that are searched."""

LEAST = 0.8
"""Similarity from which on a pair is looked at more closely.

Copies of real images that are resized to 0.3 to 1.5 times, saved as JPEG of quality 30, mirrored,
and cut by up to 10 % on each side have 0.86 or more (BSDS500, CrackForest, CamVid).
"""

_BLOCK = 2048
"""Images of either side that are compared at once: 16 MiB of products."""

Window = tuple[float, float, float, float]
"""Top, bottom, left and right edge in shares of the image."""

WHOLE: Window = (0.0, 1.0, 0.0, 1.0)

_WINDOWS: tuple[Window, ...] = tuple(
    (top, 1 - bottom, left, 1 - right)
    for top, bottom, left, right in itertools.product((0.02, 0.08), repeat=4)
)
"""Crops by up to 10 % a side are at most 3 % a side away from one of them."""


@dataclass(frozen=True)
class Symmetry:
    """How a copy may be turned: first mirrored in either direction, then transposed."""

    top_down: bool = False
    left_right: bool = False
    transposed: bool = False

    def __str__(self) -> str:
        return {
            (False, False, False): "",
            (False, True, False): "mirrored",
            (True, False, False): "mirrored top to bottom",
            (True, True, False): "turned by 180 degrees",
            (False, False, True): "mirrored at its diagonal",
            (False, True, True): "turned by 90 degrees to the left",
            (True, False, True): "turned by 90 degrees to the right",
            (True, True, True): "mirrored at its other diagonal",
        }[self.top_down, self.left_right, self.transposed]

    def of(self, images: Shaped[np.ndarray, "*N H W"]) -> Shaped[np.ndarray, "*N h w"]:
        """Pictures turned so."""
        images = images[..., ::-1, :] if self.top_down else images
        images = images[..., ::-1] if self.left_right else images
        return images.swapaxes(-1, -2) if self.transposed else images


UPRIGHT, MIRRORED = Symmetry(), Symmetry(left_right=True)
_SYMMETRIES = tuple(Symmetry(*flags) for flags in itertools.product((False, True), repeat=3))


@dataclass(frozen=True)
class View:
    """How the one image of a pair is seen to be like the other.

    Attributes:
        symmetry: turns the second image.
        window: what is left of the first image, or of the second one (as turned) if
            `second_is_whole` is false.
        second_is_whole: which of the two is cropped.
    """

    symmetry: Symmetry = UPRIGHT
    window: Window = WHOLE
    second_is_whole: bool = True


VIEWS: tuple[View, ...] = (
    *(View(symmetry) for symmetry in _SYMMETRIES),
    *(
        View(symmetry, window, whole)
        for symmetry in (UPRIGHT, MIRRORED)
        for window in _WINDOWS
        for whole in (True, False)
    ),
)
"""All that is tried; turned images are only looked for uncropped."""


def unturned_views() -> list[tuple[Window, Window]]:
    """The windows of the first and the second image, for the views that turn neither."""
    views = [view for view in VIEWS if view.symmetry == UPRIGHT]
    return [
        (view.window, WHOLE) if view.second_is_whole else (WHOLE, view.window) for view in views
    ]


def thumbnail(image: Shaped[np.ndarray, "H W C"]) -> Float32[np.ndarray, "S S"]:
    """The mean grey of 64 x 64 cells, in the unit of the image.

    Args:
        image: of any size, 1 channel, 3 (as RGB) or another number (whose mean is taken).
    """
    if image.dtype == np.uint8 and image.shape[2] in (1, 3):
        picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
        return small(picture)
    values = image.astype(np.float32)
    weights = np.array([0.299, 0.587, 0.114], np.float32)
    grey = values @ weights if image.shape[2] == 3 else values.mean(2)
    return small(Image.fromarray(np.nan_to_num(grey)))


def small(picture: Image.Image) -> Float32[np.ndarray, "S S"]:
    """The thumbnail of a picture that Pillow has opened."""
    grey = picture if picture.mode in ("L", "F") else picture.convert("L")
    # From 8 bits to float first: rounding to whole greys would drown a faint picture.
    grey = grey.convert("F")
    shrinks = min(grey.size) >= SIDE
    how = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
    cells = np.asarray(grey.resize((SIDE, SIDE), how), np.float32)
    # An image of one colour has no structure, and must not get any from rounding.
    level = cells.mean(dtype=np.float64).astype(np.float32)
    return np.where(np.abs(cells - level) <= 1e-5 * np.abs(level), level, cells)


def file_thumbnail(path: Path) -> Float32[np.ndarray, "S S"] | None:
    """The thumbnail of a JPEG file, decoded at no more than about twice its size.

    Returns:
        None for other formats, and for files that cannot be read or would have to be turned.
    """
    try:
        with open_image(path) as image:
            if not isinstance(image, JpegImageFile) or image.mode not in ("L", "RGB"):
                return None
            if orientation(image, path) != 1:
                return None
            image.draft("L", (2 * SIDE, 2 * SIDE))
            load(image, path)
            return small(image)
    except UsageError:
        return None


def transform(
    low: Float[np.ndarray, " N"], high: Float[np.ndarray, " N"], frequencies: int
) -> Float[np.ndarray, "N K S"]:
    """Matrices that take cells to the cosine coefficients of the windows from `low` to `high`.

    The integral of each cosine over each cell, so that windows need not end between cells.

    Args:
        low: where the windows begin, in shares of the side.
        high: where they end.
        frequencies: K.
    """
    low, high = low[:, None] * SIDE, high[:, None] * SIDE
    edges = (np.clip(np.arange(SIDE + 1.0), low, high) - low) / (high - low)
    # sin(k x) is the imaginary part of exp(i x)^k, which takes a tenth of the time.
    turn = np.exp(1j * np.pi * edges)
    integrals = np.empty((len(edges), frequencies, SIDE + 1))
    integrals[:, 0] = edges
    power = turn
    for frequency in range(1, frequencies):
        integrals[:, frequency] = power.imag * (np.sqrt(2) / (np.pi * frequency))
        power = power * turn
    over_cells: Float[np.ndarray, "N K S"] = np.diff(integrals, axis=2)
    return over_cells


def spectrum(
    thumbnails: Float[np.ndarray, "N S S"],
    windows: Float[np.ndarray, "N 4"],
    frequencies: int,
) -> Float[np.ndarray, "N K K"]:
    """Cosine coefficients of windows, each times its frequency; that of the mean is 0."""
    down = transform(windows[:, 0], windows[:, 1], frequencies)
    right = transform(windows[:, 2], windows[:, 3], frequencies)
    seen = down @ thumbnails @ right.swapaxes(1, 2)
    weighted: Float[np.ndarray, "N K K"] = seen * weights(frequencies)
    return weighted


def weights(frequencies: int) -> Float[np.ndarray, "K K"]:
    """The frequency of each coefficient, by which it is multiplied."""
    steps = np.arange(frequencies)
    return np.hypot(steps[:, None], steps[None, :])


def unit(spectra: Float[np.ndarray, "N *S"]) -> Float[np.ndarray, "N D"]:
    """As vectors of length 1; of an image without structure all 0."""
    flat = spectra.reshape(len(spectra), -1)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    scaled: Float[np.ndarray, "N D"] = flat / np.maximum(length, 1e-30)
    return scaled


def descriptors(
    thumbnails: Float[np.ndarray, "N S S"], window: Window = WHOLE, symmetry: Symmetry = UPRIGHT
) -> Float32[np.ndarray, "N 64"]:
    """The descriptors of images, turned and then cropped."""
    count = len(thumbnails)
    if count == 0:
        return np.zeros((0, COARSE * COARSE), np.float32)
    edges = np.array(window, np.float32)[:, None]
    down = transform(edges[0], edges[1], COARSE)[0].astype(np.float32)
    right = transform(edges[2], edges[3], COARSE)[0].astype(np.float32)
    # Brightness has no part in it, but the rounding of large numbers would.
    turned = symmetry.of(thumbnails - thumbnails.mean((1, 2), keepdims=True, dtype=np.float64))
    turned = turned.astype(np.float32)
    return unit((down @ turned @ right.T) * weights(COARSE)).astype(np.float32)


@dataclass(frozen=True)
class Pairs:
    """Pairs of images of two parts, the most alike first.

    Attributes:
        first: places in the first part.
        second: places in the second part.
        view: places in `VIEWS`.
        similarity: of the pair, seen so.
        total: how many there are; more than are listed where they are very many.
    """

    first: Int[np.ndarray, " P"]
    second: Int[np.ndarray, " P"]
    view: Int[np.ndarray, " P"]
    similarity: Float32[np.ndarray, " P"]
    total: int

    def __len__(self) -> int:
        return len(self.first)

    def at(self, places: Int[np.ndarray, " Q"]) -> "Pairs":
        """Some of the pairs."""
        columns = (self.first, self.second, self.view, self.similarity)
        first, second, view, similarity = (column[places] for column in columns)
        return Pairs(first, second, view, similarity, self.total)


def search(
    first: Float32[np.ndarray, "N S S"],
    second: Float32[np.ndarray, "M S S"],
    *,
    least: float = LEAST,
    most: int = 1_000_000,
) -> Pairs:
    """Every pair of an image of `first` and one of `second` of at least this similarity.

    All pairs are compared, so none is missed. Of more than `most` pairs the most alike are listed.
    """
    ours = {key: _table(first, *key) for key in {_key(view, second=False) for view in VIEWS}}
    theirs = {key: _table(second, *key) for key in {_key(view, second=True) for view in VIEWS}}
    found: list[Tensor] = []
    total = 0
    for top in range(0, len(first), _BLOCK):
        for left in range(0, len(second), _BLOCK):
            block = _search_block(
                [
                    (
                        ours[_key(view, second=False)][top : top + _BLOCK],
                        theirs[_key(view, second=True)][left : left + _BLOCK],
                    )
                    for view in VIEWS
                ],
                least,
            )
            total += block.shape[1]
            block[0] += top
            block[1] += left
            found.append(block)
            if sum(part.shape[1] for part in found) > 2 * most:
                found = [_best(found, most)]
    best = _best(found, most)
    rows = best[:3].numpy().astype(np.int64)
    return Pairs(rows[0], rows[1], rows[2], best[3].numpy().astype(np.float32), total)


def _key(view: View, *, second: bool) -> tuple[Window, Symmetry]:
    """How one side of a pair is to be described."""
    whole = view.second_is_whole == second
    return WHOLE if whole else view.window, view.symmetry if second else UPRIGHT


def _table(
    thumbnails: Float32[np.ndarray, "N S S"], window: Window, symmetry: Symmetry
) -> Float32[Tensor, "N 64"]:
    return torch.from_numpy(descriptors(thumbnails, window, symmetry))


def _search_block(tables: list[tuple[Tensor, Tensor]], least: float) -> Float[Tensor, "4 P"]:
    """First, second, view and similarity of the pairs of two blocks, of their best view each."""
    shape = (len(tables[0][0]), len(tables[0][1]))
    best = torch.full(shape, np.nextafter(np.float32(least), np.float32(-1)).item())
    view = torch.full(shape, -1, dtype=torch.int16)
    product = torch.empty(shape)
    for place, (ours, theirs) in enumerate(tables):
        torch.mm(ours, theirs.T, out=product)
        # Nearly always nothing is near, and this is the cheapest way to see it.
        if product.amax() < least:
            continue
        nearer = product > best
        view[nearer] = place
        torch.maximum(best, product, out=best)
    first, second = torch.nonzero(view >= 0, as_tuple=True)
    return torch.stack(
        [
            first.double(),
            second.double(),
            view[first, second].double(),
            best[first, second].double(),
        ]
    )


def _best(found: list[Tensor], most: int) -> Float[Tensor, "4 P"]:
    pairs = torch.cat(found, dim=1) if found else torch.zeros(4, 0, dtype=torch.float64)
    order = torch.sort(pairs[3], descending=True, stable=True).indices[:most]
    return pairs[:, order]
