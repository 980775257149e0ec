"""Numbered images: whether near numbers mean like images, as in a video, and how far that goes.

Names alone prove nothing: the photos of a collection are numbered as well. So the similarity of
images with near numbers is held against that of images with far ones. The numbers of a video tell
on it, those of a collection do not.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from truemask.checks.similarity import UPRIGHT, VIEWS, descriptors, unturned_views

CLEAR = 0.8
"""How often a pair of near numbers must be more alike than a pair of far ones."""

ALIKE = 0.5
"""The median similarity that pairs of near numbers must have."""

_FEWEST = 20
"""Pairs that a step of distances needs to be judged."""

_PAIRS = 4000
"""Pairs that are compared, near ones and far ones each."""


_MANY = 10
"""Series from which on each is one group: of objects, each from several sides."""


@dataclass(frozen=True)
class Numbered:
    """Images with numbers in their names.

    Attributes:
        series: of each image, -1 where it is in none.
        number: of each image within its series.
        pattern: what the names look like, for messages.
    """

    series: Int[np.ndarray, " N"]
    number: Int[np.ndarray, " N"]
    pattern: str


@dataclass(frozen=True)
class Memory:
    """How far apart images may be to be still alike.

    Attributes:
        reach: the largest distance of numbers.
        near: median similarity of pairs within reach.
        far: the same of pairs far apart.
        clear: how often a pair within reach is more alike than one far apart; 0.5 by chance.
    """

    reach: int
    near: float
    far: float
    clear: float


def numberings(
    names: Sequence[str], parts: Sequence[int], *, across: bool = True
) -> list[Numbered]:
    """The ways in which names number images in series.

    Args:
        names: of all images; of paths, the folders count where images of one part have several.
        parts: the part of each.
        across: whether only series that lie in more than one part are wanted.
    """
    keys = _keys(names, parts)
    most = max((len(re.findall(r"\d+", key)) for key in keys), default=0)
    found = (_numbered(keys, parts if across else None, place) for place in range(1, most + 1))
    return [numbered for numbered in found if numbered is not None]


def _keys(names: Sequence[str], parts: Sequence[int]) -> list[str]:
    """Names without endings, and without the folders that all images of a part share."""
    paths = [PurePath(name).with_suffix("") for name in names]
    members: Mapping[int, list[PurePath]] = defaultdict(list)
    for path, part in zip(paths, parts, strict=True):
        members[part].append(path)
    shared = {part: _shared_folders(found) for part, found in members.items()}
    return ["/".join(path.parts[shared[part] :]) for path, part in zip(paths, parts, strict=True)]


def _shared_folders(paths: Sequence[PurePath]) -> int:
    """How many of the first folders are those of all paths."""
    folders = [path.parts[:-1] for path in paths]
    shortest, longest = min(folders), max(folders)
    same = 0
    while same < min(len(shortest), len(longest)) and shortest[same] == longest[same]:
        same += 1
    return same


def _numbered(keys: Sequence[str], parts: Sequence[int] | None, place: int) -> Numbered | None:
    """Series of names that differ in the number at a place, counted from the end."""
    series = np.full(len(keys), -1)
    number = np.zeros(len(keys), np.int64)
    known: dict[tuple[str, str], int] = {}
    for index, key in enumerate(keys):
        numbers = list(re.finditer(r"\d+", key))
        if len(numbers) < place or len(numbers[-place][0]) > 15:
            continue
        start, end = numbers[-place].span()
        series[index] = known.setdefault((key[:start], key[end:]), len(known))
        number[index] = int(key[start:end])
    # Without parts, a series is what has several numbers.
    spread = _several(series, number if parts is None else np.asarray(parts))
    if not spread.any():
        return None
    largest = np.bincount(series[spread]).argmax()
    shown = next(ends for ends, one in known.items() if one == largest)
    return Numbered(np.where(spread, series, -1), number, f"{shown[0]}#{shown[1]}")


def _several(
    series: Int[np.ndarray, " N"], values: Int[np.ndarray, " N"]
) -> Bool[np.ndarray, " N"]:
    """Which images are in a series whose images have more than one value."""
    kinds = np.unique(np.stack([series, values]), axis=1)[0]
    inside = kinds[kinds >= 0]
    if len(inside) == 0:
        return np.zeros(len(series), bool)
    found: Bool[np.ndarray, " N"] = (series >= 0) & (np.bincount(inside)[series] > 1)
    return found


class Likeness:
    """Similarities of single pairs of images, neither of them turned."""

    def __init__(self, thumbnails: Float32[np.ndarray, "N S S"]) -> None:
        windows = dict.fromkeys(view.window for view in VIEWS if view.symmetry == UPRIGHT)
        self._tables = {window: descriptors(thumbnails, window) for window in windows}

    def __call__(
        self, first: Int[np.ndarray, " P"], second: Int[np.ndarray, " P"]
    ) -> Float[np.ndarray, " P"]:
        """The similarity of each pair: the best over the crops of either."""
        best = np.full(len(first), -1.0)
        for ours, theirs in unturned_views():
            product = np.einsum("pd,pd->p", self._tables[ours][first], self._tables[theirs][second])
            best = np.maximum(best, product)
        return best


def memory(numbered: Numbered, likeness: Likeness, *, seed: int = 0) -> Memory | None:
    """How far apart images of a series are alike; None where numbers do not tell.

    The similarities of pairs at distances up to 1, 2, 4, 8, ... are held against those of pairs far
    apart: of two series, or of one at a quarter of its length and more.
    """
    generator = np.random.default_rng(seed)
    near, far = _near_pairs(numbered, generator), _far_pairs(numbered, generator)
    if len(near) < _FEWEST or len(far) < _FEWEST:
        return None
    distance = np.abs(numbered.number[near[:, 0]] - numbered.number[near[:, 1]])
    alike, unlike = likeness(*near.T), np.sort(likeness(*far.T))
    steps = np.ceil(np.log2(np.maximum(distance, 1))).astype(int)
    reach, failed = 0, False
    for step in np.unique(steps):
        chosen = steps == step
        if chosen.sum() < _FEWEST:
            continue
        if _clear(alike[chosen], unlike) >= CLEAR and np.median(alike[chosen]) >= ALIKE:
            reach, failed = int(distance[chosen].max()), False
        elif failed or reach == 0:
            break  # One step in between may fail by a change of scene, two do not.
        else:
            failed = True
    if reach == 0:
        return None
    within = alike[distance <= reach]
    return Memory(reach, float(np.median(within)), float(np.median(unlike)), _clear(within, unlike))


def _clear(near: Float[np.ndarray, " P"], far: Float[np.ndarray, " Q"]) -> float:
    """How often a value of `near` exceeds one of `far` (sorted): the area under the ROC curve."""
    below = np.searchsorted(far, near, "left") + np.searchsorted(far, near, "right")
    return float(below.mean() / (2 * len(far)))


def _near_pairs(numbered: Numbered, generator: np.random.Generator) -> Int[np.ndarray, "P 2"]:
    """Pairs of each series: neighbours, those next but one, next but three, and so on."""
    order = np.lexsort((numbered.number, numbered.series))
    order = order[numbered.series[order] >= 0]
    found = [np.zeros((0, 2), np.int64)]
    skip = 1
    while skip < len(order):
        first, second = order[:-skip], order[skip:]
        same = numbered.series[first] == numbered.series[second]
        pairs = np.stack([first[same], second[same]], axis=1)
        found.append(generator.permutation(pairs)[:_PAIRS])
        skip *= 2
    return np.concatenate(found)


def _far_pairs(numbered: Numbered, generator: np.random.Generator) -> Int[np.ndarray, "P 2"]:
    """Pairs of two series, and of one at a quarter of its length and more."""
    members = np.flatnonzero(numbered.series >= 0)
    length = np.zeros(numbered.series.max() + 1)
    last = np.zeros_like(length)
    np.maximum.at(last, numbered.series[members], numbered.number[members])
    length[:] = np.inf
    np.minimum.at(length, numbered.series[members], numbered.number[members])
    length = last - length
    pairs = generator.choice(members, (4 * _PAIRS, 2))
    first, second = pairs.T
    distance = np.abs(numbered.number[first] - numbered.number[second])
    apart = numbered.series[first] != numbered.series[second]
    apart |= (distance >= length[numbered.series[first]] / 4) & (first != second)
    chosen: Int[np.ndarray, "P 2"] = pairs[apart][:_PAIRS]
    return chosen


def nearest(
    numbered: Numbered, first: Int[np.ndarray, " N"], second: Int[np.ndarray, " M"]
) -> tuple[Int[np.ndarray, " Q"], Int[np.ndarray, " Q"], Int[np.ndarray, " Q"]]:
    """For images of `second` the image of `first` with the nearest number, and how far it is.

    Args:
        numbered: the images.
        first: places of some.
        second: places of others.

    Returns:
        Places in `numbered` of the images of `first` and of `second`, and the distances; images in
        whose series `first` has none are left out.
    """
    ours, theirs, distances = [], [], []
    for one in np.unique(numbered.series[second]):
        candidates = first[numbered.series[first] == one]
        members = second[numbered.series[second] == one]
        if one < 0 or len(candidates) == 0:
            continue
        candidates = candidates[np.argsort(numbered.number[candidates])]
        numbers, wanted = numbered.number[candidates], numbered.number[members]
        above = np.searchsorted(numbers, wanted).clip(1, max(1, len(numbers) - 1))
        below = above - 1
        above = above.clip(max=len(numbers) - 1)
        lower = np.abs(wanted - numbers[below]) <= np.abs(numbers[above] - wanted)
        place = np.where(lower, below, above)
        ours.append(candidates[place])
        theirs.append(members)
        distances.append(np.abs(numbers[place] - wanted))
    if not ours:
        return (np.zeros(0, np.int64),) * 3
    return np.concatenate(ours), np.concatenate(theirs), np.concatenate(distances)


def clusters(
    names: Sequence[str], thumbnails: Float32[np.ndarray, "N S S"]
) -> Int[np.ndarray, " N"]:
    """Which images of one part are not independent: a number for each group of them.

    Images whose numbers are time (see `memory`) are grouped by stretches of its reach, or by whole
    series where there are many. All others are alone.
    """
    for numbered in numberings(names, [0] * len(names), across=False):
        found = memory(numbered, Likeness(thumbnails))
        if found is None:
            continue
        many = len(np.unique(numbered.series[numbered.series >= 0])) >= _MANY
        stretch = np.zeros_like(numbered.number) if many else numbered.number // (found.reach + 1)
        alone = np.where(numbered.series < 0, np.arange(len(names)), 0)
        keys = np.stack([numbered.series, stretch * (numbered.series >= 0), alone])
        return np.unique(keys, axis=1, return_inverse=True)[1].reshape(-1)
    return np.arange(len(names))
