"""Thinning many maps at once to lines of one pixel, as MATLAB's `bwmorph(.., 'thin', inf)` does.

An edge map is thinned at each of 99 thresholds. The maps of one image are held as bits: bit t of a
pixel's word says whether the pixel is on in map t, so that one operation on a word treats 64 maps.

The rule is that of Lam, Lee and Suen, "Thinning Methodologies: A Comprehensive Survey" (TPAMI 1992,
page 879): two passes in turn, each of which takes away all pixels at once that fulfil it, until
nothing changes any more. Later passes look only where a neighbour has changed, which is exact: a
pixel that was kept among the same neighbours is kept again.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt64

Words = UInt64[np.ndarray, "G H+2 W+2"]
"""Up to 64 maps in each of G planes, with a border of one pixel that is off."""

BITS = 64
_CHUNK = 8192
"""Words that are treated at a time, so that all intermediate results stay in the cache."""


def thin(mask: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """A map with its lines thinned to one pixel."""
    words = np.pad(mask.astype(np.uint64), 1)[None]
    thin_words(words)
    thinned: Bool[np.ndarray, "H W"] = words[0, 1:-1, 1:-1].astype(bool)
    return thinned


def pack(values: Float[np.ndarray, "H W"], thresholds: Sequence[float]) -> Words:
    """The maps `values >= threshold` as bits: bit t % 64 of plane t // 64.

    Args:
        values: any numbers but NaN.
        thresholds: rising.
    """
    # How many thresholds a pixel reaches tells all of its bits: the lowest so many.
    reached = np.searchsorted(np.asarray(thresholds), values.ravel(), side="right")
    planes = -(-len(thresholds) // BITS)
    counts = range(len(thresholds) + 1)
    words = np.zeros((planes, values.shape[0] + 2, values.shape[1] + 2), np.uint64)
    for plane in range(planes):
        bits = [(1 << min(max(count - plane * BITS, 0), BITS)) - 1 for count in counts]
        words[plane, 1:-1, 1:-1] = np.array(bits, np.uint64)[reached].reshape(values.shape)
    return words


def unpack(words: Words, index: int) -> Bool[np.ndarray, "H W"]:
    """One of the maps."""
    plane = words[index // BITS, 1:-1, 1:-1]
    on: Bool[np.ndarray, "H W"] = (plane & np.uint64(1 << index % BITS)) != 0
    return on


def thin_words(words: Words) -> None:
    """Thin all maps, in place."""
    for plane in words:
        _thin_plane(plane)


def _thin_plane(plane: UInt64[np.ndarray, "H+2 W+2"]) -> None:
    width, flat = plane.shape[1], plane.reshape(-1)
    # From the east counterclockwise, as the paper numbers them.
    around = (1, 1 - width, -width, -1 - width, -1, width - 1, width, width + 1)
    to_see = (flat != 0, flat != 0)
    unchanged, turn = 0, 0
    while unchanged < 2:
        pixels = np.flatnonzero(to_see[turn])
        to_see[turn][:] = False
        removed = _removed(flat, pixels[flat[pixels] != 0], around, turn)
        unchanged = unchanged + 1 if len(removed) == 0 else 0
        for offset in around:
            for seen in to_see:
                seen[removed + offset] = True
        turn = 1 - turn


def _removed(
    flat: UInt64[np.ndarray, " P"],
    pixels: Int64[np.ndarray, " N"],
    around: Sequence[int],
    turn: int,
) -> Int64[np.ndarray, " M"]:
    """Take away what one pass takes away; the pixels that lost a bit."""
    removable = np.empty(len(pixels), np.uint64)
    for start in range(0, len(pixels), _CHUNK):
        part = pixels[start : start + _CHUNK]
        removable[start : start + _CHUNK] = flat[part] & _rule(
            [flat.take(part + offset) for offset in around], turn
        )
    changed = np.flatnonzero(removable)
    where = pixels[changed]
    flat[where] ^= removable[changed]
    return where


def _rule(x: Sequence[UInt64[np.ndarray, " N"]], turn: int) -> UInt64[np.ndarray, " N"]:
    """Which pixels a pass takes away, by their neighbours: conditions G1 to G3 of the paper."""
    x1, x2, x3, x4, x5, x6, x7, x8 = x
    first = (x1 | x2, x3 | x4, x5 | x6, x7 | x8)
    second = (x2 | x3, x4 | x5, x6 | x7, x8 | x1)
    # G1: going round, off is followed by on exactly once.
    b1, b2, b3, b4 = second[0] & ~x1, second[1] & ~x3, second[2] & ~x5, second[3] & ~x7
    once = (b1 ^ b2 ^ b3 ^ b4) & ~((b1 & b2) | (b3 & b4))
    # G2: two or three pairs of neighbours have one that is on, in the worse of two ways to pair.
    a, b, c, d = first
    all_first, two_first = a & b & c & d, (a & b) | (c & d) | ((a | b) & (c | d))
    a, b, c, d = second
    all_second, two_second = a & b & c & d, (a & b) | (c & d) | ((a | b) & (c | d))
    # G3: an east side in one pass, a west side in the other.
    side = (x6 | x7 | ~x4) & x5 if turn else (x2 | x3 | ~x8) & x1
    gone: UInt64[np.ndarray, " N"] = (
        once & two_first & two_second & ~((all_first & all_second) | side)
    )
    return gone
