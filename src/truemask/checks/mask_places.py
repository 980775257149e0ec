"""Rules on where classes are: missing where nearly all have one, out of place, always there."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from truemask.checks.finding import Finding, Picture, rule
from truemask.checks.mask_part import Part, named, names
from truemask.checks.mask_pictures import heatmap
from truemask.checks.mask_records import IGNORED
from truemask.errors import counted

Cells = np.ndarray[Any, np.dtype[Any]]
"""(S, S) values of a grid."""

_NEAR_UNIVERSAL = 0.9
"""Share of the images that have a class which one expects in every image."""

_USUAL, _LEAST = 0.05, 0.02
"""What such a class covers of 98 % of the images that have it, and of all of them."""

_FEWEST = 20
"""Images from which on a part tells what is usual."""

_STUFF = 0.03
"""Median area of a class that has its place in a scene, as sky and road have."""

_OWNED = 0.8
"""Share of the images from which on a place belongs to a class."""

_ALWAYS = 0.8
"""Share of the images from which on a label is always at a place."""

_STEP = 3
"""Within so many of 128 cells the share must fall for a border to be always the same."""


@rule("TM113", "missing-common-class", "warning")
def missing_common_class(part: Part) -> Iterator[Finding]:
    """A class that all other images show much of is missing in some.

    Why it matters:
        Among 3,426 driving images of a published project, 145 have no road: not because there is
        none, but because it was labelled as something else or not at all. Such labels teach the
        opposite, and count as errors of a model that is right.

    How it decides:
        A class that at least nine in ten images have, of which all but 2 % of these images have
        at least 5 % of their pixels, and none less than 2 %: then its area does not run down to
        nothing, so that an image without it is no image with little of it. At least 20 images. In
        CamVid, pavement, tree, car and pedestrian are missing in up to 50 of 367 images and are not
        reported, as others have very little of them.

    False alarms:
        Scenes of another kind in the same part: a tunnel without sky, an indoor photograph.

    How to mend:
        Look at these images; label the class, or mark its pixels as ignored.
    """
    shares = part.pixels / np.maximum(part.areas - part.ignored, 1)[:, None]
    for k, name in enumerate(part.meanings.names):
        has = part.pixels[:, k] > 0
        if len(has) < _FEWEST or has.all() or has.mean() < _NEAR_UNIVERSAL:
            continue
        low = float(np.quantile(shares[has, k], 0.02))
        if low < _USUAL or shares[has, k].min() < _LEAST:
            continue
        usable = ~has & (part.ignored < part.areas)
        found = [record for record, lacks in zip(part.read, usable, strict=True) if lacks]
        if not found:
            continue
        yield missing_common_class.finding(
            f"{counted(len(found), 'image')} of {len(has)} {'has' if len(found) == 1 else 'have'} "
            f"no {name}, which covers at least {low:.0%} of nearly every other ({named(found)}).",
            where=part.where(found[0].where),
            remedy=f"Look at these images: label {name}, or set its pixels to the ignored id.",
            evidence=part.evidence(
                images=names(found), count=len(found), share_present=round(float(has.mean()), 4),
                least_area=round(low, 4),
            ),
            pictures=part.pictures(found, f"no {name}"),
        )  # fmt: skip


@rule("TM114", "class-out-of-place", "warning")
def class_out_of_place(part: Part) -> Iterator[Finding]:
    """A class lies far from every place where it is in the other images.

    Why it matters:
        Sky under the cars or road above the houses is a slip of the pen, a swapped id or a mask of
        another picture. It is rare, so that no statistic shows it, and it teaches a wrong thing.

    How it decides:
        On a grid of 32 x 32 cells, the share of the images in which a class holds the middle of a
        cell. Only classes with a place of their own are looked at: in at least half of the images,
        covering 3 % of these in the median. Their home are the cells that the class holds in 2 % of
        the images or more, and that hang together with cells that it holds in 15 %. A cell is out
        of place if it is four cells or more from home, an eighth of the picture, and another class
        or the ignored id holds it in 80 % of the images. An image is reported if 1 % of its cells
        are, of one class. At least 30 images; nothing is said where more than one image in six
        would be reported.

    False alarms:
        A picture taken from an unusual angle.

    How to mend:
        Look at these images and correct the masks.
    """
    if len(part.read) < 30:
        return
    cells = part.ids[:, 2::4, 2::4]
    shares = part.pixels / np.maximum(part.areas, 1)[:, None]
    usual_of = np.stack([(cells == k).mean(0) for k in range(len(part.meanings.names))])
    ignored = (cells == IGNORED).mean(0)
    for k, name in enumerate(part.meanings.names):
        has = part.pixels[:, k] > 0
        if has.mean() < 0.5 or np.median(shares[has, k]) < _STUFF:
            continue
        holds = cells == k
        others = np.delete(usual_of, k, 0).max(0, initial=0.0)
        owned = np.maximum(others, ignored) >= _OWNED
        amount = (holds & owned & ~_grown(_home(usual_of[k]), 3)).mean((1, 2))
        places = [place for place in np.argsort(-amount) if amount[place] >= 0.01]
        if not places or len(places) > len(cells) / 6:
            continue
        found = [part.read[place] for place in places]
        usual = usual_of[k].repeat(4, 0).repeat(4, 1)
        yield class_out_of_place.finding(
            f"{counted(len(found), 'image')} of {len(cells)} "
            f"{'has' if len(found) == 1 else 'have'} {name} far from where it is in the others, "
            f"over {amount[places[0]]:.1%} of the first ({named(found)}).",
            where=part.where(found[0].where),
            remedy=f"Look at these images: is what is labelled {name} there?",
            evidence=part.evidence(
                images=names(found),
                count=len(found),
                shares=[round(float(amount[place]), 4) for place in places[:50]],
            ),
            pictures=(
                *part.pictures(found, f"{name} out of place"),
                Picture(caption=f"where {name} usually is", pixels=heatmap(usual)),
            ),
        )


def _home(usual: Float[np.ndarray, "S S"]) -> Bool[np.ndarray, "S S"]:
    """Cells at 2 % that hang together with cells at 15 %."""
    possible = usual >= 0.02
    return _connected(usual >= 0.15, possible)


def _connected(
    cells: Bool[np.ndarray, "S S"], to: Bool[np.ndarray, "S S"]
) -> Bool[np.ndarray, "S S"]:
    """Cells that hang together with given ones."""
    while True:
        grown = _grown(cells, 1) & to
        if np.array_equal(grown, cells):
            return cells
        cells = grown


def _grown(cells: Bool[np.ndarray, "S S"], by: int) -> Bool[np.ndarray, "S S"]:
    """All cells within a distance of some cells."""
    padded = np.pad(cells, by)
    grown = np.zeros_like(cells)
    for down in range(2 * by + 1):
        for right in range(2 * by + 1):
            grown |= padded[down : down + cells.shape[0], right : right + cells.shape[1]]
    return grown


@dataclass(frozen=True)
class _Region:
    """Cells that a class always holds.

    Attributes:
        area: their share of the picture.
        sharp: which share of their outline, the frame apart, is at the same place in every image.
    """

    area: float
    sharp: float


@rule("TM115", "constant-region", "warning")
def constant_region(part: Part) -> Iterator[Finding]:
    """The same label has the same outline at the same place in nearly every image.

    Why it matters:
        The bonnet of the car that took the pictures, a logo or a time stamp, labelled in every
        image: the model learns the place, not the look, and predicts a bonnet on photographs that
        have none. That happened to the published Cityscapes project.

    How it decides:
        On a grid of 128 x 128 cells, the cells that a class holds in at least 80 % of the images
        (ignored pixels not counted). Sky at the top and road at the bottom have such cells too, but
        their outline varies, so that the share falls slowly. It is a finding if, along 80 % of the
        outline of a connected region, the share falls from 80 % to under 20 % within 3 cells.
        Ignored regions are no label, and an outline against them is left out. At least 20 images,
        a region of 0.1 % to 60 % of the picture with an outline of 12 cells at least.

    False alarms:
        A camera that does not move, before a still scene: the background is constant, and a model
        trained on it knows this scene only.

    How to mend:
        Give the region the ignored id, or crop it away.
    """
    if len(part.read) < _FEWEST:
        return
    counted_pixels = part.ids != IGNORED
    known = counted_pixels.mean(0)
    for k, name in enumerate(part.meanings.names):
        holds = (part.ids == k).sum(0) / np.maximum(counted_pixels.sum(0), 1)
        regions = [region for region in _always(holds, known) if 0.001 <= region.area <= 0.6]
        region = max(regions, key=lambda region: region.sharp, default=None)
        if region is None or region.sharp < 0.8:
            continue
        yield constant_region.finding(
            f"{name} covers the same {region.area:.1%} of the picture in nearly every one of "
            f"{len(part.read)} images, and {region.sharp:.0%} of its outline does not move.",
            where=part.where(name),
            remedy=f"Give this region the ignored id, or crop it away, so that {name} is not "
            "learnt by its place.",
            evidence=part.evidence(
                label=name, area=round(region.area, 4), outline_constant=round(region.sharp, 3),
                images=len(part.read),
            ),
            pictures=(
                Picture(caption=f"share of the images with {name}", pixels=heatmap(holds)),
                *part.pictures(part.read, f"{name} at the same place")[:1],
            ),
        )  # fmt: skip


def _always(holds: Float[np.ndarray, "S S"], known: Float[np.ndarray, "S S"]) -> Iterator[_Region]:
    """The regions that a class always holds, and how constant their outlines are."""
    inside = (holds >= _ALWAYS) & (known >= 0.5)
    outline = np.zeros_like(inside)
    # Where the outline hardly rises, the share falls within few cells across it, not along a row.
    least = holds
    for axis in (0, 1):
        near = [_moved(least, way, axis, fill=1.0) for way in range(-_STEP, _STEP + 1)]
        least = np.min(near, axis=0)
        for way in (1, -1):
            steps = range(1, _STEP + 1)
            known_near = np.min([_moved(known, way * n, axis, fill=1.0) for n in steps], axis=0)
            outline |= inside & ~_moved(inside, way, axis, fill=True) & (known_near >= 0.5)
    sharp = outline & (least <= 1 - _ALWAYS)
    left = inside
    while left.any():
        seed = np.zeros_like(left)
        seed.flat[int(left.argmax())] = True
        region = _connected(seed, left)
        left = left & ~region
        length = int((outline & region).sum())
        if length >= 12:
            yield _Region(float(region.mean()), float((sharp & region).sum()) / length)


def _moved(values: Cells, way: int, axis: int, *, fill: float) -> Cells:
    """What stands so many cells further along an axis; `fill` beyond the frame."""
    moved = np.full_like(values, fill)
    size = values.shape[axis]
    to, of = (slice(0, size - way), slice(way, size)) if way > 0 else (
        slice(-way, size), slice(0, size + way))  # fmt: skip
    index_to, index_of = [slice(None)] * 2, [slice(None)] * 2
    index_to[axis], index_of[axis] = to, of
    moved[tuple(index_to)] = values[tuple(index_of)]
    return moved
