"""Sharing out units (images, or groups of images that stay together) among parts.

Every part gets one unit at least. All is a function of the units' keys and the seed.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from truemask.datasets.scanning import shuffle_key


def apportion_in_order(sizes: Sequence[int], counts: Sequence[int]) -> list[int]:
    """The part of each unit, where units stay in order and parts follow each other.

    Args:
        sizes: images of each unit, in order; at least as many units as parts.
        counts: images that each part should have. A cut lies between two units, where it comes
            nearest to them; for units of one image the counts are met.
    """
    ends, wanted = np.cumsum(sizes), np.cumsum(counts)
    chosen: list[int] = []
    for part in range(len(counts)):
        low, high = len(chosen) + 1, len(sizes) - (len(counts) - 1 - part)
        last = part == len(counts) - 1
        end = high if last else low + int(np.abs(ends[low - 1 : high] - wanted[part]).argmin())
        chosen += [part] * (end - len(chosen))
    return chosen


def apportion_at_random(
    keys: Sequence[str],
    sizes: Sequence[int],
    counts: Sequence[int],
    *,
    seed: int,
    presence: Int64[np.ndarray, "U K"] | None = None,
) -> list[int]:
    """The part of each unit, large ones first, so that the small ones even out the sizes.

    Units whose sizes differ by less than a factor of two may come in any order, so that the seed
    has a say. A unit goes to a part that has room for it, drawn with a chance in proportion to the
    room; where none has, to the one with most room. So a part gets fewer images too many than the
    largest unit has, and units of one image meet the counts.

    With `presence`, parts are chosen by iterative stratification instead (Sechidis, Tsoumakas and
    Vlahavas 2011, "On the stratification of multi-label data", algorithm 1): the class that the
    fewest images left have is shared out first, each time to the part that lacks most of it. Their
    parts only come near their sizes; here a part without room is passed over.

    Args:
        keys: the name of each unit, unique.
        sizes: images of each unit; at least as many units as parts.
        counts: images that each part should have.
        seed: of the order, and of what is drawn.
        presence: images of each unit that show each class.
    """
    hashes = [shuffle_key(key, seed) for key in keys]
    waiting = sorted(range(len(keys)), key=lambda unit: (-sizes[unit].bit_length(), hashes[unit]))
    filling = _Filling(sizes, counts)
    if presence is not None:
        _spread_classes(filling, waiting, hashes, presence)
    for unit in waiting:
        if unit not in filling.chosen:
            parts = filling.candidates(unit)
            chances = [max(1, int(filling.room[part])) for part in parts]
            filling.put(unit, _draw(parts, chances, hashes[unit]))
    return [filling.chosen[unit] for unit in range(len(keys))]


class _Filling:
    """Parts while they fill up.

    Attributes:
        room: images that each part lacks; negative where it has too many.
        empty: parts without a unit.
        chosen: unit -> its part.
    """

    def __init__(self, sizes: Sequence[int], counts: Sequence[int]) -> None:
        self.sizes = sizes
        self.room = np.array(counts, dtype=np.int64)
        self.empty = list(range(len(counts)))
        self.chosen: dict[int, int] = {}

    def candidates(self, unit: int) -> list[int]:
        """The parts that may take a unit, so that none stays empty."""
        if len(self.sizes) - len(self.chosen) <= len(self.empty):
            return self.empty
        fits = np.flatnonzero(self.room >= self.sizes[unit])
        return [int(part) for part in fits] or [int(self.room.argmax())]

    def put(self, unit: int, part: int) -> None:
        """Give a unit to a part."""
        self.chosen[unit] = part
        self.room[part] -= self.sizes[unit]
        if part in self.empty:
            self.empty.remove(part)


def _spread_classes(
    filling: _Filling,
    waiting: Sequence[int],
    hashes: Sequence[bytes],
    presence: Int64[np.ndarray, "U K"],
) -> None:
    """Give all units that show a class to parts, in the order in which they wait."""
    left = presence.sum(0)
    lacking = np.outer(filling.room, left / sum(filling.sizes))
    while left.any():
        rarest = int(np.where(left > 0, left, left.max() + 1).argmin())
        for unit in [unit for unit in waiting if presence[unit, rarest] > 0]:
            # A tie is for the part with most room, and then for any.
            rank = {
                part: (lacking[part, rarest], filling.room[part], hashes[unit][-1 - part % 16])
                for part in filling.candidates(unit)
            }
            part = max(rank, key=lambda part: rank[part])
            filling.put(unit, part)
            lacking[part] -= presence[unit]
            left -= presence[unit]
        waiting = [unit for unit in waiting if unit not in filling.chosen]


def _draw(parts: Sequence[int], chances: Sequence[int], digest: bytes) -> int:
    """One of the parts, with these chances; the first bytes of the digest gave the order."""
    place = int.from_bytes(digest[8:16]) * sum(chances) >> 64
    return parts[int(np.searchsorted(np.cumsum(chances), place, side="right"))]
