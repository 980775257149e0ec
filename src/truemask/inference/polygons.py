"""Outlines of the regions of a mask, exact to the pixel, with their holes.

Corners lie between pixels: the pixel in row r and column c is the square from (c, r) to (c + 1,
r + 1). So the outlines of two neighbours coincide, and filling them gives the mask back.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, UInt8

from truemask.regions import Runs

Ring = Int64[np.ndarray, "N 2"]
"""Corners (x, y) of a closed outline, each once; the first follows the last."""

_STEPS = np.array([(0, 1), (1, 0), (0, -1), (-1, 0)])
"""Row and column by which one goes along the upper, right, lower and left side of a pixel."""

_STARTS = np.array([(0, 0), (1, 0), (1, 1), (0, 1)])
"""Where each side begins, x and y, from the pixel's upper left corner."""


@dataclass(frozen=True, eq=False)
class Region:
    """Pixels of one class that are connected by their sides.

    Attributes:
        class_id: their class.
        pixels: how many they are.
        outline: clockwise as one sees it.
        holes: outlines of what lies inside and belongs to others, the other way round.
    """

    class_id: int
    pixels: int
    outline: Ring
    holes: tuple[Ring, ...]

    @property
    def bounds(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom."""
        left, top = self.outline.min(0)
        right, bottom = self.outline.max(0)
        return int(left), int(top), int(right), int(bottom)


def ring_area(ring: Ring) -> int:
    """Pixels inside a ring, negative where it runs anticlockwise."""
    x, y = ring[:, 0], ring[:, 1]
    return int((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()) // 2


def trace_regions(ids: UInt8[np.ndarray, "H W"]) -> list[Region]:
    """The regions of a mask, in the order of their first pixels.

    Each side of a pixel towards another region is an edge, walked with the pixel on the right. What
    follows on it is told by the two pixels ahead; where two pixels of a region touch at a corner
    only, one stays at one's own, so that outlines touch there but do not cross.
    """
    numbers = Runs.of(ids).numbered()
    height, width = ids.shape
    padded = np.full((height + 2, width + 2), -1, numbers.dtype)
    padded[1:-1, 1:-1] = numbers
    edges, rows, columns, following = _edges(padded)
    owners = numbers[rows, columns]
    starts = np.stack((columns, rows), axis=1) + _STARTS[edges // (height * width)]
    sides = (edges // (height * width)).tolist()
    outlines: dict[int, Ring] = {}
    holes: dict[int, list[Ring]] = {}
    seen = bytearray(len(edges))
    for first in range(len(edges)):
        if seen[first]:
            continue
        ring, place, side = [], first, -1
        while not seen[place]:
            seen[place] = 1
            if sides[place] != side:
                side = sides[place]
                ring.append(place)
            place = following[place]
        if sides[ring[0]] == side:  # begun within a straight line
            ring.pop(0)
        corners = starts[ring]
        owner = int(owners[first])
        if ring_area(corners) > 0:
            outlines[owner] = corners
        else:
            holes.setdefault(owner, []).append(corners)
    areas = np.bincount(numbers.ravel(), minlength=len(outlines))
    _, firsts = np.unique(numbers, return_index=True)
    classes = ids.ravel()[firsts]
    return [
        Region(int(classes[n]), int(areas[n]), outlines[n], tuple(holes.get(n, ())))
        for n in sorted(outlines, key=lambda n: int(firsts[n]))
    ]


def _edges(
    padded: Int64[np.ndarray, "H2 W2"],
) -> tuple[Int64[np.ndarray, " E"], Int64[np.ndarray, " E"], Int64[np.ndarray, " E"], list[int]]:
    """The edges between regions: number, row and column of the pixel, and which edge follows.

    An edge's number is its side times the number of pixels, plus its pixel.
    """
    height, width = padded.shape[0] - 2, padded.shape[1] - 2
    inner = padded[1:-1, 1:-1]
    found = []
    for side in range(4):
        down, right = _STEPS[side - 1]  # outwards, over the side
        beyond = padded[1 + down : 1 + down + height, 1 + right : 1 + right + width]
        found.append(np.flatnonzero(inner != beyond) + side * height * width)
    edges = np.concatenate(found)
    sides, pixels = np.divmod(edges, height * width)
    rows, columns = np.divmod(pixels, width)
    own = inner[rows, columns]
    ahead = np.stack((rows, columns), axis=1) + _STEPS[sides]
    across = ahead + _STEPS[sides - 1]
    ahead_same = padded[ahead[:, 0] + 1, ahead[:, 1] + 1] == own
    across_same = padded[across[:, 0] + 1, across[:, 1] + 1] == own
    turned = np.where(ahead_same & across_same, -1, np.where(ahead_same, 0, 1))
    target = np.where(
        (turned == 1)[:, None],
        np.stack((rows, columns), axis=1),
        np.where((turned == 0)[:, None], ahead, across),
    )
    following = (sides + turned) % 4 * (height * width) + target[:, 0] * width + target[:, 1]
    return edges, rows, columns, np.searchsorted(edges, following).tolist()
