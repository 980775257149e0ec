"""The images of each part as thumbnails, and which of two parts are alike."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int, Shaped, UInt8
from PIL import Image

from truemask.checks.finding import Picture
from truemask.checks.probe import Probe
from truemask.checks.registration import Alignment, align
from truemask.checks.similarity import Pairs, search

_ALIGNED = 600
"""Pairs of two parts that are laid on each other, at most."""

_LOOKED = 500
"""Images of a part that are held against each other, to see how alike different ones are."""

_ROUNDS = 3
"""Images of the first part that an image of the second is laid on, at most."""


@dataclass(frozen=True, kw_only=True)
class Album:
    """The images of one part.

    Attributes:
        names: of the images.
        thumbnails: of the images, see `similarity.thumbnail`.
        read: gives the whole sample at a place of `names` again.
        total: how many images the part has; more than there are names where it was too large.
    """

    names: tuple[str, ...]
    thumbnails: Float32[np.ndarray, "N S S"]
    read: Callable[[int], Probe]
    total: int

    def __len__(self) -> int:
        return len(self.names)

    @property
    def sampled(self) -> dict[str, int]:
        """What evidence says of it: `{"sampled": 5000, "of": 7000}`, or nothing if all are here."""
        return {} if len(self) == self.total else {"sampled": len(self), "of": self.total}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two parts held against each other.

    Attributes:
        first: name of the part that is learnt from, or comes first.
        second: name of the part that is judged on.
        albums: of both.
        pairs: all pairs of images that are alike.
        closer: those of them that were laid on each other, the most alike of each image of the
            second part first.
        alignment: of `closer`.
    """

    first: str
    second: str
    albums: tuple[Album, Album]
    pairs: Pairs
    closer: Pairs
    alignment: Alignment

    def names(self, place: int) -> tuple[str, str]:
        """Names of the images of a pair of `closer`."""
        first, second = self.closer.first[place], self.closer.second[place]
        return self.albums[0].names[first], self.albums[1].names[second]

    def samples(self, place: int) -> tuple[Probe, Probe]:
        """Both samples of a pair of `closer`, whole."""
        first, second = int(self.closer.first[place]), int(self.closer.second[place])
        return self.albums[0].read(first), self.albums[1].read(second)


def compare(albums: Mapping[str, Album]) -> list[Comparison]:
    """Every two parts held against each other; the training part is always the first."""
    names = sorted(albums, key=lambda name: not is_training(name))
    return [_compare(first, second, albums) for first, second in combinations(names, 2)]


def is_training(name: str) -> bool:
    """Whether a part of this name is trained on."""
    return name.lower() in ("train", "training", "trainset", "train_set")


def _compare(first: str, second: str, albums: Mapping[str, Album]) -> Comparison:
    ours, theirs = albums[first].thumbnails, albums[second].thumbnails
    pairs = search(ours, theirs)
    closer = pairs.at(_candidates(pairs))
    alignment = align(ours, theirs, closer)
    return Comparison(
        first=first,
        second=second,
        albums=(albums[first], albums[second]),
        pairs=pairs,
        closer=closer,
        alignment=alignment,
    )


def look_alikes(album: Album) -> bool:
    """Whether many images of one part pass for copies of others without being certain ones.

    Then that another part has such pairs says nothing: the subject looks like this, as cars in one
    studio do. Among up to 500 images, 3 and 2 % must have such a partner, and twice as many as have
    a certain copy (a part that was augmented on disk holds both).
    """
    some = album.thumbnails[:: -(-len(album) // _LOOKED)]
    pairs = search(some, some)
    pairs = pairs.at(np.flatnonzero(pairs.first < pairs.second))
    pairs = pairs.at(_candidates(pairs))
    alignment = align(some, some, pairs)
    certain, doubtful = (
        len(np.unique(np.stack([pairs.first[which], pairs.second[which]])))
        for which in (alignment.certain, alignment.same & ~alignment.certain)
    )
    return doubtful >= max(3, 0.02 * len(some), 2 * certain)


def _candidates(pairs: Pairs) -> Int[np.ndarray, " P"]:
    """Places of the best pair of every image of the second part, then the second best, ..."""
    # Pairs come by similarity, so the first of an image is its best.
    order = np.argsort(pairs.second, kind="stable")
    images = pairs.second[order]
    starts = np.flatnonzero(np.diff(images, prepend=-1))
    ranks = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    rank = np.empty_like(ranks)
    rank[order] = ranks
    chosen = np.flatnonzero(rank < _ROUNDS)
    return chosen[np.argsort(rank[chosen], kind="stable")][:_ALIGNED]


def side_by_side(first: Probe, second: Probe, caption: str) -> tuple[Picture, ...]:
    """Two images in one picture; nothing if one of them cannot be shown."""
    if first.image is None or second.image is None:
        return ()
    shown = [_shown(first.image), _shown(second.image)]
    height = max(image.shape[0] for image in shown)
    gap = np.full((height, 8, 3), 255, np.uint8)
    padded = [
        np.pad(image, ((0, height - len(image)), (0, 0), (0, 0)), constant_values=255)
        for image in shown
    ]
    return (Picture(caption=caption, pixels=np.concatenate([padded[0], gap, padded[1]], axis=1)),)


def _shown(image: Shaped[np.ndarray, "H W C"], longest: int = 252) -> UInt8[np.ndarray, "h w 3"]:
    """Small, in 8-bit colours."""
    channels = image[..., :3] if image.shape[2] >= 3 else np.repeat(image[..., :1], 3, axis=2)
    if channels.dtype != np.uint8:
        values = np.nan_to_num(channels.astype(np.float32))
        low, high = float(values.min()), float(values.max())
        channels = ((values - low) / max(high - low, 1e-12) * 255).round().astype(np.uint8)
    picture = Image.fromarray(np.ascontiguousarray(channels))
    scale = min(1.0, longest / max(picture.size))
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return np.array(picture.resize(size, Image.Resampling.BOX))


def short(name: str) -> str:
    """A name for a sentence: of a path, its last folder and the file."""
    return "/".join(Path(name).parts[-2:]) if "/" in name else name
