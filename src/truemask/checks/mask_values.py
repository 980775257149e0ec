"""The values of one mask: how often each occurs, and whether they blend into each other at borders.

A smooth resize or JPEG leaves values between those of the two sides along a border. Classes that
people draw do not: where a thin run of a third value lies between two others, it is as often a thin
object on one background, or of a value that is not between. So runs of pixels are looked at, along
rows and columns: how many of the borders that could hold a value between do, and how many thin runs
are of a value between.
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped

from truemask.labels import pack_rgb

_THIN = 3
"""A run of at most this many pixels is thin."""


@dataclass(frozen=True, kw_only=True)
class Borders:
    """Counts of what lies at the borders of a mask; `merge` of two is the sum.

    Attributes:
        blended: borders between two values that are crossed through thin runs of values between.
        direct: borders without, between values that leave room for one between.
        thin: thin runs that are not between: of the same value on both sides, or beyond both.
        lone: pixels unlike all their eight neighbours.
        pixels: border pixels, those unlike the pixel above or left of them.
    """

    blended: int = 0
    direct: int = 0
    thin: int = 0
    lone: int = 0
    pixels: int = 0

    def merge(self, other: "Borders") -> "Borders":
        """Of both together."""
        names = [field.name for field in fields(self)]
        return Borders(**{name: getattr(self, name) + getattr(other, name) for name in names})

    @property
    def share_blended(self) -> float:
        """Of the borders that leave room, how many hold a value between."""
        return self.blended / max(self.blended + self.direct, 1)

    @property
    def share_between(self) -> float:
        """Of the thin runs, how many are of a value between."""
        return self.blended / max(self.blended + self.thin, 1)

    @property
    def share_lone(self) -> float:
        """Lone pixels for each border pixel."""
        return self.lone / max(self.pixels, 1)


def look_at_borders(mask: Shaped[np.ndarray, "H W *C"]) -> tuple[Borders, dict[int, int]]:
    """Count what lies at the borders of a mask.

    Returns:
        The counts, and value (or packed colour) -> thin runs of it that lie between others.
    """
    blended: dict[int, int] = {}
    found = Borders(lone=_lone(mask), pixels=_border_pixels(mask))
    for lines in (mask, mask.swapaxes(0, 1)):
        found = found.merge(_along(np.ascontiguousarray(lines), blended))
    return found, blended


def _along(lines: Shaped[np.ndarray, "H W *C"], blended: dict[int, int]) -> Borders:
    """Counts along the second axis; adds to `blended`."""
    width = lines.shape[1]
    flat = lines.reshape(-1, *lines.shape[2:])
    change = np.empty(len(flat), dtype=bool)
    change[0] = True
    differs = flat[1:] != flat[:-1]
    change[1:] = differs.any(-1) if differs.ndim == 2 else differs
    change[::width] = True
    starts = np.flatnonzero(change)
    if len(starts) < 3:
        return Borders()
    values = flat[starts].astype(np.int64)
    values = values if values.ndim == 2 else values[:, None]
    lengths = np.diff(starts, append=len(flat))
    line = starts // width
    inner = (line[2:] == line[1:-1]) & (line[:-2] == line[1:-1])
    thin = (lengths[1:-1] <= _THIN) & inner
    between = thin & _between(values[:-2], values[1:-1], values[2:])
    _count(values[1:-1][between], blended)
    # Several values between, one behind the other, are one border.
    chains = int(np.count_nonzero(between[1:] & ~between[:-1])) + int(between[:1].sum())
    is_thin = np.concatenate(([False], thin, [False]))
    pairs = (line[1:] == line[:-1]) & ~is_thin[1:] & ~is_thin[:-1]
    room = (np.abs(values[1:] - values[:-1]) >= 2).any(-1)
    return Borders(
        blended=chains,
        direct=int(np.count_nonzero(pairs & room)),
        thin=int(np.count_nonzero(thin & ~between)),
    )


def _between(
    before: Shaped[np.ndarray, "R C"], value: Shaped[np.ndarray, "R C"], after: Any
) -> Bool[np.ndarray, " R"]:
    """Whether a value lies between its neighbours in every channel, and equals neither."""
    low, high = np.minimum(before, after), np.maximum(before, after)
    inside = ((low <= value) & (value <= high)).all(-1)
    found: Bool[np.ndarray, " R"] = inside & (value != before).any(-1) & (value != after).any(-1)
    return found


def _count(values: Shaped[np.ndarray, "R C"], counts: dict[int, int]) -> None:
    packed = pack_rgb(values) if values.shape[1] == 3 else values[:, 0]
    found, numbers = np.unique(packed, return_counts=True)
    for value, number in zip(found.tolist(), numbers.tolist(), strict=True):
        counts[value] = counts.get(value, 0) + number


def _border_pixels(mask: Shaped[np.ndarray, "H W *C"]) -> int:
    across, down = mask[:, 1:] != mask[:, :-1], mask[1:] != mask[:-1]
    if mask.ndim == 3:
        across, down = across.any(-1), down.any(-1)
    return int(np.count_nonzero(across)) + int(np.count_nonzero(down))


def _lone(mask: Shaped[np.ndarray, "H W *C"]) -> int:
    """Pixels unlike all their neighbours, those at the frame left out."""
    if min(mask.shape[:2]) < 3:
        return 0
    height, width = mask.shape[:2]
    middle = mask[1:-1, 1:-1]
    alike = np.zeros(middle.shape[:2], dtype=bool)
    for down in range(3):
        for right in range(3):
            if (down, right) != (1, 1):
                same = mask[down : height - 2 + down, right : width - 2 + right] == middle
                alike |= same.all(-1) if same.ndim == 3 else same
    return alike.size - int(np.count_nonzero(alike))
