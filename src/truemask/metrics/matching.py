"""Pixels of edge maps matched one to one with what several people drew: as many as can be.

Two pixels may be partners where they are at most a tolerance apart, and each pixel has one partner
at most. The published benchmark (Martin, Fowlkes and Malik, "Learning to Detect Natural Image
Boundaries", TPAMI 2004, section 4.1) looks for the most pairs and, of equally many, for those that
lie nearest, through a random graph that misses a pair here and there. Here the number of pairs is
the exact maximum. Near pairs come first, but the sum of distances is not the exact minimum.

All thresholds and annotators are matched at once, in words whose bit t belongs to threshold t (see
`thinning.py`):

1. Greedily, nearest offsets first. At one offset no two pairs share a pixel, so it is a few
   operations on arrays.
2. By augmenting, as Hopcroft and Karp do (SIAM Journal on Computing 1973): a search in breadth from
   all free pixels of the map gives each drawn pixel its level, the number of exchanges after which
   a partner is free. Then each free drawn pixel takes a partner of the next lower level, whose
   former partner does likewise. Whoever finds its partners taken stays free. So the pairs are a
   matching at any time, and a pixel of the map that has a partner keeps one.
3. When a search to its end reaches no free drawn pixel, no path augments the matching, and by
   Berge's theorem (1957) none has more pairs.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64, UInt64

from truemask.metrics.thinning import BITS, Words

_ALL = np.uint64((1 << BITS) - 1)
_DEPTHS = (2, 4, 8, 16, 32, None)
"""Levels of the searches: most paths are short, and a short search is cheap. The last has no end,
and is repeated."""
_PIECE = 4096
"""Drawn pixels that are treated at a time, so that what is gathered stays in the cache."""


def disc(radius: float) -> Int64[np.ndarray, "D 2"]:
    """All (rows, columns) at most `radius` away from (0, 0), the nearest first."""
    reach = math.floor(radius)
    steps = np.arange(-reach, reach + 1)
    offsets = np.stack(np.meshgrid(steps, steps, indexing="ij"), -1).reshape(-1, 2)
    squares = (offsets**2).sum(1)
    order = np.argsort(squares, kind="stable")
    inside: Int64[np.ndarray, "D 2"] = offsets[order][squares[order] <= radius * radius]
    return inside


@dataclass(frozen=True, kw_only=True, eq=False)
class Matched:
    """How many pixels have a partner, in each of T maps.

    Attributes:
        drawn: pixels of each annotator that have one; as many of the map have one among them.
        found: pixels of the map that have one among those of at least one annotator.
        excused: those of them that lie on doubtful ground.
    """

    drawn: Int64[np.ndarray, "T K"]
    found: Int64[np.ndarray, " T"]
    excused: Int64[np.ndarray, " T"]


def match_words(
    words: Words,
    drawings: Bool[np.ndarray, "K H W"],
    *,
    radius: float,
    maps: int,
    doubtful: Bool[np.ndarray, "H W"] | None = None,
) -> Matched:
    """Match each of many maps with each annotator's drawing.

    Args:
        words: the maps as bits, see `thinning.pack`.
        drawings: what each annotator drew.
        radius: the largest distance of partners in pixels.
        maps: T, how many bits count.
        doubtful: ground on which partners are counted apart.
    """
    drawn = np.zeros((len(words) * BITS, len(drawings)), np.int64)
    found, excused = np.zeros((2, len(words) * BITS), np.int64)
    for index, plane in enumerate(words):
        pairs = _Pairs(plane[1:-1, 1:-1], drawings, disc(radius))
        pairs.maximise()
        bits = slice(index * BITS, (index + 1) * BITS)
        for annotator, own in enumerate(pairs.owners):
            drawn[bits, annotator] = _count(~pairs.free[own])
        places, has = pairs.found()
        found[bits] = _count(has)
        if doubtful is not None:
            excused[bits] = _count(has[doubtful[places[:, 0], places[:, 1]]])
    return Matched(drawn=drawn[:maps], found=found[:maps], excused=excused[:maps])


def match(first: Bool[np.ndarray, "H W"], second: Bool[np.ndarray, "H W"], *, radius: float) -> int:
    """How many pixels of two maps can be partners."""
    words = np.pad(first.astype(np.uint64), 1)[None]
    return int(match_words(words, second[None], radius=radius, maps=1).drawn[0, 0])


def _count(words: UInt64[np.ndarray, " N"]) -> Int64[np.ndarray, " 64"]:
    """How many of the words have each bit."""
    counts = np.zeros(BITS, np.int64)
    for start in range(0, len(words), 1 << 16):
        part = np.ascontiguousarray(words[start : start + (1 << 16)], "<u8")
        bits = np.unpackbits(part.view(np.uint8).reshape(-1, 8), axis=1, bitorder="little")
        counts += bits.sum(0, dtype=np.int64)
    return counts


class _Pairs:
    """A matching of up to 64 maps with all drawings.

    There are G drawn pixels, those of all annotators, and P places: one for each annotator and each
    pixel of a map that one of its drawn pixels can reach, and a last one that is nowhere.

    Attributes:
        owners: the drawn pixels of each annotator.
        places: the place at each offset from each drawn pixel.
        taken: in which maps a drawn pixel has its partner at which offset.
        free: in which maps it has none.
        unused: in which maps a place has a pixel without a partner.
    """

    owners: list[slice]
    places: Int64[np.ndarray, "D G"]
    taken: UInt64[np.ndarray, "D G"]
    free: UInt64[np.ndarray, " G"]
    unused: UInt64[np.ndarray, " P"]

    def __init__(
        self,
        plane: UInt64[np.ndarray, "H W"],
        drawings: Bool[np.ndarray, "K H W"],
        offsets: Int64[np.ndarray, "D 2"],
    ) -> None:
        self._reach = reach = int(offsets.max())
        padded = np.pad(plane, reach)
        maps = np.tile(padded.reshape(-1), len(drawings))
        self._annotator, y, x = np.nonzero(drawings)
        ends = np.searchsorted(self._annotator, np.arange(len(drawings) + 1))
        self.owners = [slice(a, b) for a, b in zip(ends[:-1], ends[1:], strict=True)]
        height, width = padded.shape
        self._width = width
        centres = (self._annotator * height + y + reach) * width + x + reach
        steps = offsets[:, 0] * width + offsets[:, 1]

        near = np.zeros(maps.shape, bool)
        for step in steps:
            near[centres + step] = True
        position = np.flatnonzero(near & (maps != 0))
        self.places = _numbers(position, maps.size)[centres + steps[:, None]]
        self._around = _numbers(centres, maps.size)[position - steps[:, None]]
        self._place_annotator, self._pixel = np.divmod(position, height * width)

        self._maps = np.append(maps[position], np.uint64(0))
        self.unused = self._maps.copy()
        self.taken = np.zeros(self.places.shape, np.uint64)
        self.free = self._take(np.full(len(centres), _ALL), self.unused)
        # Where it is not settled yet whether the matching is the largest.
        self._open = np.full(len(drawings), _ALL)
        self._reachable = np.zeros_like(self.free)
        for rows in _pieces(np.arange(len(centres))):
            self._reachable[rows] = _any(self._maps[self.places[:, rows]])

    def found(self) -> tuple[Int64[np.ndarray, "N 2"], UInt64[np.ndarray, " N"]]:
        """Pixels, as rows and columns, and in which maps each has a partner in some drawing."""
        order = np.argsort(self._pixel, kind="stable")
        pixels, has = self._pixel[order], (self._maps ^ self.unused)[:-1][order]
        starts = np.flatnonzero(np.diff(pixels, prepend=-1))
        some = np.bitwise_or.reduceat(has, starts) if len(has) > 0 else has
        return np.stack(np.divmod(pixels[starts], self._width), 1) - self._reach, some

    def maximise(self) -> None:
        """Augment until no matching has more pairs."""
        for depth in _DEPTHS:
            while self._augment(depth) and depth is None:
                pass

    def _augment(self, depth: int | None) -> bool:
        """Search to a depth and exchange; whether there was a path."""
        reached, levels = self._search(depth)
        if not any((self.free & wave).any() for wave in reached):
            return False
        self._exchange(reached, levels)
        return True

    def _search(
        self, depth: int | None
    ) -> tuple[list[UInt64[np.ndarray, " G"]], list[UInt64[np.ndarray, " P"]]]:
        """The drawn pixels of each level, and the places from which each level takes."""
        first = self.unused.copy()
        first[:-1] &= self._open[self._place_annotator]
        ahead = self._reachable & self._open[self._annotator]
        reached: list[UInt64[np.ndarray, " G"]] = []
        levels = [first]
        wave = ahead
        while depth is None or len(reached) < depth:
            wave = np.zeros_like(ahead)
            for rows in _pieces(self._near(levels[-1], ahead)):
                wave[rows] = _any(levels[-1][self.places[:, rows]]) & ahead[rows]
            if not wave.any():
                break
            ahead ^= wave
            reached.append(wave)
            levels.append(self._partners(wave))
        # A map in which the search came to its end and reached no free pixel is done.
        for annotator, own in enumerate(self.owners):
            going = [wave[own], *(self.free[own] & passed[own] for passed in reached)]
            self._open[annotator] &= np.bitwise_or.reduce(np.concatenate(going))
        return reached, levels

    def _near(
        self, level: UInt64[np.ndarray, " P"], ahead: UInt64[np.ndarray, " G"]
    ) -> Int64[np.ndarray, " N"]:
        """Those of some drawn pixels that a level may reach."""
        rows, places = ahead.nonzero()[0], level[:-1].nonzero()[0]
        if len(places) > len(rows) // 2:
            return rows  # to ask all is as fast
        near = np.zeros(len(ahead) + 1, bool)
        near[self._around[:, places]] = True
        return rows[near[rows]]

    def _partners(self, wave: UInt64[np.ndarray, " G"]) -> UInt64[np.ndarray, " P"]:
        """The places of the partners of drawn pixels."""
        level = np.zeros_like(self.unused)
        for rows in _pieces(np.flatnonzero(wave)):
            pairs = self.taken[:, rows] & wave[rows]
            offset, row = np.nonzero(pairs)
            np.bitwise_or.at(level, self.places[offset, rows[row]], pairs[offset, row])
        return level

    def _exchange(
        self,
        reached: Sequence[UInt64[np.ndarray, " G"]],
        levels: Sequence[UInt64[np.ndarray, " P"]],
    ) -> None:
        """Each free drawn pixel takes a partner, from the highest level to the lowest."""
        wanting = np.zeros_like(self.free)
        for height in range(len(reached) - 1, -1, -1):
            freed = self.free & reached[height]
            self.free ^= freed
            supply = levels[height].copy()
            self.free |= self._take(wanting | freed, supply)
            given = levels[height] ^ supply
            if height == 0:
                self.unused ^= given
                return
            lower = reached[height - 1]
            wanting = np.zeros_like(self.free)
            for rows in _pieces(self._near(given, lower)):
                # Who has just taken is of a higher level, so that only former partners are found.
                lost = self.taken[:, rows] & given[self.places[:, rows]] & lower[rows]
                self.taken[:, rows] ^= lost
                wanting[rows] = _any(lost)

    def _take(
        self, wanting: UInt64[np.ndarray, " G"], supply: UInt64[np.ndarray, " P"]
    ) -> UInt64[np.ndarray, " G"]:
        """Take partners from a supply, the nearest first, and diminish it; who still wants one."""
        left = wanting.copy()
        rows = left.nonzero()[0]
        offsets: Sequence[int] = range(len(self.places))
        if len(rows) < _PIECE:  # few are to be had then, at few offsets
            pairs = supply[self.places[:, rows]] & left[rows]
            offsets = pairs.any(1).nonzero()[0].tolist()
        for offset in offsets:
            here = self.places[offset, rows]
            pairs = supply[here] & left[rows]
            some = pairs.nonzero()[0]
            if len(some) == 0:
                continue
            # No two drawn pixels of an annotator have the same place at the same offset.
            pairs, takers = pairs[some], rows[some]
            supply[here[some]] ^= pairs
            self.taken[offset, takers] |= pairs
            left[takers] ^= pairs
            if offset % 8 == 7:
                rows = rows[left[rows] != 0]
        return left


def _numbers(positions: Int64[np.ndarray, " N"], size: int) -> Int64[np.ndarray, " S"]:
    """Position -> its number in the list; N for all others."""
    numbers = np.full(size, len(positions))
    numbers[positions] = np.arange(len(positions))
    return numbers


def _any(words: UInt64[np.ndarray, "D N"]) -> UInt64[np.ndarray, " N"]:
    joined: UInt64[np.ndarray, " N"] = np.bitwise_or.reduce(words, axis=0)
    return joined


def _pieces(rows: Int64[np.ndarray, " N"]) -> Iterator[Int64[np.ndarray, " M"]]:
    for start in range(0, len(rows), _PIECE):
        yield rows[start : start + _PIECE]
