"""One pass over the masks of a folder: which values they hold, how often, in which colours.

Everything that is decided about labels is decided from this pass, which is made once for all
parts. Of the images only the headers are read, to compare sizes.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from truemask.datasets.decoding import Frame, image_frame, open_image, raw_mode
from truemask.datasets.mask_files import GREY_STEPS, is_grey_gif, palette_of, read_open_mask
from truemask.datasets.pairing import Pair
from truemask.errors import UsageError
from truemask.labels import pack_rgb

SCAN_LIMIT = 2000
"""How many masks are read; of more than these, a seeded sample."""

Progress = Callable[[int, int], None]
"""Called with (done, total) after each file."""


@dataclass(frozen=True)
class MaskScan:
    """What one mask file holds.

    Attributes:
        path: the file.
        colored: whether it is a true-colour file that uses colours.
        pixels: raw value -> number of pixels; the value is a packed colour where `colored`.
        shown: raw value -> the packed colour that a viewer shows; None for 16 bits.
        indexed: whether the values are indices of a palette.
    """

    path: Path
    colored: bool
    pixels: Mapping[int, int]
    shown: Mapping[int, int] | None
    indexed: bool


def count_values(raw: Shaped[np.ndarray, "H W *C"]) -> dict[int, int]:
    """Pixels of each value, or of each packed colour.

    Masks have long runs of one value, so runs are counted rather than pixels sorted.
    """
    flat = (raw if raw.ndim == 2 else pack_rgb(raw)).ravel()
    starts = np.flatnonzero(np.diff(flat, prepend=~flat[:1]))
    lengths = np.diff(starts, append=flat.size)
    values, inverse = np.unique(flat[starts], return_inverse=True)
    counts = np.bincount(inverse, weights=lengths)
    return {int(value): int(count) for value, count in zip(values, counts, strict=True)}


def scan_mask(path: Path) -> tuple[MaskScan, tuple[int, int]]:
    """Read one mask; also gives its height and width.

    Raises:
        UsageError: as `read_mask_raw`.
    """
    with open_image(path) as image:
        step = 255 if image.mode == "1" else GREY_STEPS.get(raw_mode(image), 1)
        raw = read_open_mask(image, path)
        indexed = image.mode == "P" and not is_grey_gif(image)
        palette = palette_of(image) if indexed else None
    pixels = count_values(raw)
    shown: dict[int, int] | None = None
    if raw.ndim == 3:
        shown = {value: value for value in pixels}
    elif palette is not None:
        packed = pack_rgb(palette)
        shown = {value: int(packed[value]) for value in pixels}
    elif raw.dtype == np.uint8:
        shown = {value: value * step * 0x010101 for value in pixels}
    height, width = raw.shape[:2]
    return MaskScan(path, raw.ndim == 3, pixels, shown, palette is not None), (height, width)


def scan(
    pairs: Sequence[Pair], *, seed: int, progress: Progress | None = None
) -> dict[Path, MaskScan]:
    """Read the masks of all pairs, or of a sample where there are more than `SCAN_LIMIT`.

    Raises:
        UsageError: a file is unreadable, or a mask has another size than its image.
    """
    chosen = sample(pairs, seed=seed)
    scans: dict[Path, MaskScan] = {}
    for done, (pair, found) in enumerate(_in_threads(chosen), start=1):
        scans[pair.mask] = found
        if progress is not None:
            progress(done, len(chosen))
    return scans


def sample(pairs: Sequence[Pair], *, seed: int) -> list[Pair]:
    """At most `SCAN_LIMIT` pairs, chosen by their names and the seed alone."""
    if len(pairs) <= SCAN_LIMIT:
        return list(pairs)
    return sorted(pairs, key=lambda pair: shuffle_key(pair.name, seed))[:SCAN_LIMIT]


def shuffle_key(name: str, seed: int) -> bytes:
    """A key that sorts names at random, the same for a name whatever other names there are."""
    return hashlib.sha256(f"{seed}/{name}".encode()).digest()


def _in_threads(pairs: Sequence[Pair]) -> Iterator[tuple[Pair, MaskScan]]:
    # Decoding leaves Python's lock free, so that threads are enough.
    threads = min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 4)
    with ThreadPoolExecutor(threads) as pool:
        try:
            yield from zip(pairs, pool.map(_scan_pair, pairs), strict=True)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _scan_pair(pair: Pair) -> MaskScan:
    found, size = scan_mask(pair.mask)
    turn_of_mask(pair, image=image_frame(pair.image), mask=size)
    return found


def turn_of_mask(
    pair: Pair, *, image: Frame, mask: tuple[int, int], as_stored: bool = False
) -> int:
    """The EXIF orientation by which a mask is to be turned to lie on its image, which was turned.

    A mask may have been drawn on the image as viewers show it, or on the pixels as they are stored.
    Where the size fits only one, that is it.

    Args:
        pair: the files, for messages.
        image: how the image lies in its file.
        mask: height and width of the mask.
        as_stored: which of the two it is where the size fits both.

    Raises:
        UsageError: the size fits neither.
    """
    if mask == image.stored and (as_stored or mask != image.size):
        return image.orientation
    if mask == image.size:
        return 1
    height, width = image.size
    raise UsageError(
        f"{pair.image} is {width}x{height} pixels, but its mask {pair.mask} is "
        f"{mask[1]}x{mask[0]}: a mask must have the size of its image"
    )
