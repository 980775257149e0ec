"""What two parts have in common: equal images, altered copies, frames of one video."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import numpy as np
from jaxtyping import Bool, Int

from truemask.checks.albums import Comparison, look_alikes, short, side_by_side
from truemask.checks.colours import colour_difference
from truemask.checks.finding import Picture
from truemask.checks.probe import Probe
from truemask.checks.registration import describe
from truemask.checks.series import Likeness, Memory, Numbered, memory, nearest, numberings
from truemask.checks.similarity import UPRIGHT, VIEWS, WHOLE
from truemask.errors import counted

_READ = 200
"""Pairs of two parts that are read again, whole, to tell whether their pixels are equal."""

_EQUAL = 0.998
"""Similarity of equal images, at least: one thumbnail may be of a JPEG read at half its size."""

_UNTOUCHED = 0.97
"""Detail of two frames of a moving camera agrees less than this."""

_COLOURS = 10 / 255
"""Mean difference of the colours of neighbouring frames, at most, as a share of the range."""

_LISTED = 20
"""Pairs that the evidence lists."""

_SHOWN = 2
"""Pairs that are shown as pictures."""

_FRAMES = (3, 0.1)
"""Neighbouring frames matter from so many images and from this share of a part on."""

Matches = dict[int, int]
"""Image of the second part -> place of its pair in `Comparison.closer`."""


@dataclass(frozen=True, kw_only=True)
class Frames:
    """Images whose numbers are time.

    Attributes:
        numbered: all images of the first part, then all of the second.
        memory: how far apart they are alike.
        first: images of the first part, the nearest in time of each of `second`.
        second: images of the second part that have a neighbour within reach, the nearest first.
        distance: of their numbers.
    """

    numbered: Numbered
    memory: Memory
    first: Int[np.ndarray, " Q"]
    second: Int[np.ndarray, " Q"]
    distance: Int[np.ndarray, " Q"]


@dataclass(frozen=True)
class Shared:
    """What two parts have in common.

    Attributes:
        comparison: of the parts.
    """

    comparison: Comparison

    @cached_property
    def equal(self) -> Matches:
        """The pairs whose pixels are equal."""
        found: Matches = {}
        closer = self.comparison.closer
        upright = [VIEWS[v].symmetry == UPRIGHT and VIEWS[v].window == WHOLE for v in closer.view]
        likely = np.flatnonzero(np.array(upright, bool) & (closer.similarity >= _EQUAL))
        for place in likely[:_READ]:
            second = int(closer.second[place])
            if second not in found and same_pixels(*self.comparison.samples(int(place))):
                found[second] = int(place)
        return found

    @cached_property
    def _alike(self) -> tuple[Matches, Matches]:
        """Copies, and other pairs of one scene."""
        alignment = self.comparison.alignment
        copies = self._matches(alignment.same, known=self.equal)
        scenes = self._matches(alignment.alike, known=(*self.equal, *copies))
        if self.frames is None:
            scenes = self._of_one_light(scenes)
        moved = {second: place for second, place in copies.items() if self._is_frame(place)}
        if self.frames is None and not (
            enough(len(scenes), self.images) and len(scenes) >= len(moved)
        ):
            moved = {}
        if not all(alignment.certain[place] for place in copies.values()) and look_alikes(
            self.comparison.albums[0]
        ):
            copies = self._matches(alignment.same & alignment.certain, known=self.equal)
        return {s: p for s, p in copies.items() if s not in moved}, {**scenes, **moved}

    @property
    def copies(self) -> Matches:
        """The pairs that are one image, but altered."""
        return self._alike[0]

    @property
    def scenes(self) -> Matches:
        """The pairs that show one scene at another moment, or from nearly the same place."""
        return self._alike[1]

    @cached_property
    def frames(self) -> Frames | None:
        """The neighbours in time; None where numbers are not time, or there are none."""
        albums = self.comparison.albums
        parts = [0] * len(albums[0]) + [1] * len(albums[1])
        ours, theirs = np.arange(len(albums[0])), np.arange(len(albums[0]), len(parts))
        likeness: Likeness | None = None
        for numbered in numberings([*albums[0].names, *albums[1].names], parts):
            near, of, distance = nearest(numbered, ours, theirs)
            if not enough(len(of), len(theirs)):
                continue
            likeness = likeness or Likeness(
                np.concatenate([albums[0].thumbnails, albums[1].thumbnails])
            )
            found = memory(numbered, likeness)
            if found is None:
                continue
            order = np.argsort(distance, kind="stable")
            order = order[distance[order] <= found.reach]
            return Frames(
                numbered=numbered,
                memory=found,
                first=near[order],
                second=of[order] - len(ours),
                distance=distance[order],
            )
        return None

    @property
    def images(self) -> int:
        """How many images of the second part were compared."""
        return len(self.comparison.albums[1])

    def _is_frame(self, place: int) -> bool:
        """Whether a pair that looks like copies may be frames of a video as well."""
        closer, alignment = self.comparison.closer, self.comparison.alignment
        if VIEWS[closer.view[place]].symmetry != UPRIGHT:
            return False
        if self.frames is None:
            return bool(alignment.detail[place] < _UNTOUCHED)
        series = self.frames.numbered.series
        first, second = closer.first[place], closer.second[place] + len(self.comparison.albums[0])
        return bool(series[first] == series[second] >= 0)

    def _of_one_light(self, scenes: Matches) -> Matches:
        """The pairs whose colours agree; of very many, the first say whether the others are."""
        looked = dict(islice(scenes.items(), _READ))
        kept = {second: place for second, place in looked.items() if self._one_light(place)}
        if len(scenes) > _READ and 2 * len(kept) >= _READ:
            return {s: p for s, p in scenes.items() if s in kept or s not in looked}
        return kept

    def _one_light(self, place: int) -> bool:
        """Whether the colours of a pair are those of one scene in one light."""
        first, second = self.comparison.samples(place)
        if first.image is None or second.image is None:
            return False
        if first.image.shape[2] != second.image.shape[2]:
            return False
        view = VIEWS[self.comparison.closer.view[place]]
        window = self.comparison.alignment.windows[place]
        return colour_difference(first.image, second.image, view, window) <= _COLOURS

    def _matches(self, which: Bool[np.ndarray, " P"], *, known: Iterable[int]) -> Matches:
        found: Matches = {}
        for place in np.flatnonzero(which):
            found.setdefault(int(self.comparison.closer.second[place]), int(place))
        return {second: place for second, place in found.items() if second not in set(known)}

    @property
    def unread(self) -> int:
        """Images of the second part with a similar one in the first that were not looked at."""
        looked = np.unique(self.comparison.closer.second)
        return len(np.unique(self.comparison.pairs.second)) - len(looked)

    def altered(self, place: int) -> str:
        """How the images of a pair differ, in words."""
        view = VIEWS[self.comparison.closer.view[place]]
        return describe(view, self.comparison.alignment.windows[place])

    def pictures(self, matches: Matches) -> list[Picture]:
        """The first of some pairs, side by side."""
        comparison = self.comparison
        found: list[Picture] = []
        for place in list(matches.values())[:_SHOWN]:
            first, second = comparison.names(place)
            caption = f"{comparison.first}: {short(first)}; {comparison.second}: {short(second)}"
            found += side_by_side(*comparison.samples(place), caption)
        return found

    def evidence(self, matches: Matches) -> dict[str, object]:
        """Numbers and names of some pairs."""
        comparison = self.comparison
        parts = (comparison.first, comparison.second)
        albums = dict(zip(parts, comparison.albums, strict=True))
        sampled = {name: album.sampled for name, album in albums.items() if album.sampled}
        pairs = [
            {
                **dict(zip(parts, comparison.names(place), strict=True)),
                "altered": self.altered(place),
                "agreement": round(float(comparison.alignment.detail[place]), 3),
            }
            for place in list(matches.values())[:_LISTED]
        ]
        return {
            "parts": list(parts),
            "images": {name: len(album) for name, album in albums.items()},
            "count": len(matches),
            "pairs": pairs,
            **({"sampled": sampled} if sampled else {}),
            **({"not_looked_at": self.unread} if self.unread else {}),
        }

    def how_many(self, matches: Matches) -> str:
        """As "12 of the 101 images of val", or "At least 600 of ..."."""
        least = "At least " if self.unread and len(matches) > 1 else ""
        images = counted(self.images, "image")
        return f"{least}{len(matches):,} of the {images} of {self.comparison.second}"


def enough(images: int, of: int) -> bool:
    """Whether so many neighbouring frames matter in a part of so many images."""
    return images >= _FRAMES[0] and images >= _FRAMES[1] * of


def same_pixels(first: Probe, second: Probe) -> bool:
    """Whether both images could be read, and are equal."""
    if first.image is None or second.image is None:
        return False
    return np.array_equal(first.image, second.image)


def masks_differ(first: Probe, second: Probe) -> bool:
    """Whether both masks could be read, and differ."""
    if first.mask is None or second.mask is None:
        return False
    return not np.array_equal(first.mask, second.mask)
