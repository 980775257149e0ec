"""Whether the masks of a loader belong to its images, also where those are padded: TM303, TM304."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from truemask.checks.alignment import Fit, best_rotation, fit
from truemask.checks.finding import Finding, Level, Rule, rule
from truemask.checks.loader_samples import Drawn, Taken

_FITS, _BETTER, _FAR = 7.0, 4.0, 3
"""As for pairs of files (TM105): a placement that is clear, clearly better, and clearly another."""

_SURE = 12.0
"""An image whose mask fits so well in its place is not tried rotated."""

_SHARE = 0.03
"""Share of the images that must be found moved, at least, besides being two or more."""

_MEASURED = 64
"""Images whose masks are held against them, at most."""

_STRIP = 4
"""Rows or columns that are called padding, at least."""


@rule("TM303", "mask-not-transformed", "error")
def mask_not_transformed(drawn: Drawn) -> Iterator[Finding]:
    """An augmentation moves the image and not its mask, or moves both differently.

    Why it matters:
        Half of the training pixels then have the label of another place, and nothing fails: the
        network learns where classes are on average. Calling a random transform once for the image
        and once for the mask draws two different flips.

    How it decides:
        The borders of each mask are correlated with the edges of its image at every displacement
        and mirrored, as for files (TM105). An image counts as moved where another placement is
        both clear (7 standard deviations) and better by 4: mirrored, upside down, at least 3
        pixels away, or rotated about the middle by 3 to 45 degrees. An error is two images or more,
        and 3 % of those that could be measured (up to 64 are). Among 2,400 sound pairs of all data
        sets no single one was so.

    False alarms:
        Masks that are shifted on disk: `check_dataset` finds these first.

    How to mend:
        Hand image and mask to one call: `torchvision.transforms.v2` with
        `tv_tensors.Image` and `tv_tensors.Mask`, or draw the parameters once and apply them to
        both.
    """
    some = drawn.images[:_MEASURED]
    measured = [(taken, found) for taken in some if (found := _fit(taken)) is not None]
    moved = [
        (taken, how)
        for taken, found in measured
        if (how := _how_moved(found) or _how_rotated(taken, found))
    ]
    if len(moved) < max(2, _SHARE * len(measured)):
        return
    counts: dict[str, int] = {}
    for _, how in moved:
        kind = how.split()[0] if how.startswith(("shifted", "rotated")) else how
        counts[kind] = counts.get(kind, 0) + 1
    told = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    yield mask_not_transformed.finding(
        f"In {len(moved)} of {len(measured)} images that could be measured the mask fits another "
        f"placement of the image ({told}): the two were not transformed alike.",
        remedy="Transform image and mask in one call, transform(image, mask), with "
        "tv_tensors.Image and tv_tensors.Mask.",
        where=moved[0][0].name,
        evidence={
            "moved": len(moved),
            "measured": len(measured),
            "kinds": counts,
            "first": [f"{taken.name}: {how}" for taken, how in moved[:10]],
        },
    )


def _fit(taken: Taken) -> Fit | None:
    return None if taken.mask is None else fit(taken.pixels, taken.mask)


def _how_moved(found: Fit) -> str:
    """In which other placement the mask fits; "" where it fits in its own, or in none."""
    name, score = max(found.turned.items(), key=lambda item: item[1], default=("", 0.0))
    if score >= max(_FITS, found.peak, found.score + _BETTER):
        return name
    far = max(abs(found.shift[0]), abs(found.shift[1])) >= _FAR * found.scale
    if far and found.peak >= max(_FITS, found.score + _BETTER):
        return f"shifted by {found.shift[0]} rows and {found.shift[1]} columns"
    return ""


def _how_rotated(taken: Taken, found: Fit) -> str:
    """By which angle the mask fits better; "" for none."""
    if found.score >= _SURE or taken.mask is None:
        return ""
    angle, score, own = best_rotation(taken.pixels, taken.mask)
    clear = score >= max(_FITS, own + _BETTER)
    return f"rotated by about {abs(angle)} degrees" if clear else ""


@rule("TM304", "counted-padding", "error")
def counted_padding(drawn: Drawn, ignore_index: int) -> Iterator[Finding]:
    """Padded pixels hold a class in the mask, so that loss and metric count them.

    Why it matters:
        Images of several sizes are padded to one. If the mask is padded with 0, all padding is
        background that is trivially right: it lowers the loss, raises the accuracy, and shifts
        class weights. One of the five published projects counted its padding in all three.

    How it decides:
        Padding is a strip of at least 4 rows or columns at one border over the whole width or
        height of the image, in which the image has one value a channel and the mask one id, which
        is not the ignored one. An error is such a strip in two images or more where the value is 0
        and lies between others of the image (padding after the normalisation, which no black
        border gives), or where images of one batch have strips of different sizes and one of them
        has none (a batch padded to its largest). A warning is one and the same strip, above and
        below or left and right, that makes all images square (a letterbox). Other strips that all
        images have alike may be part of the photographs, and are not reported. Only strips of the
        most frequent value count, and none that are as bright as anything in their image, as
        overexposed skies are.

    False alarms:
        Photographs with black borders of different sizes.

    How to mend:
        Pad the mask with the ignored id: `pad(mask, ..., value=255)`,
        `tv_tensors` with `fill={tv_tensors.Mask: 255, "others": 0}`.
    """
    batches: dict[int, list[tuple[Taken, _Strips]]] = {}
    for taken in drawn.images:
        if taken.mask is not None:
            batches.setdefault(taken.batch, []).append((taken, _strips(taken)))
    told = [pair for members in batches.values() for pair in members]
    held = [(taken, s) for taken, s in told if s.share > 0 and s.held != ignore_index]
    values = Counter(strips.value for _, strips in held).most_common(1)
    held = [pair for pair in held if pair[1].value == values[0][0]]
    counted = [pair for pair in held if _is_padding(pair[1], batches[pair[0].batch])]
    level: Level = "error"
    if len(counted) < 2:
        letterboxed = len(held) == len(told) and _fit_a_square(held)
        counted, level = (held if letterboxed else []), "warning"
    if len(counted) < 2:
        return
    share = sum(strips.share for _, strips in counted) / len(drawn.images)
    ids = sorted({strips.held for _, strips in counted})
    yield counted_padding.finding(
        f"{len(counted)} of {len(drawn.images)} images are padded, and their masks hold "
        f"{' and '.join(map(str, ids))} there instead of the ignored id {ignore_index}: "
        f"{share:.1%} of all pixels are padding that counts.",
        level=level,
        remedy=f"Pad the masks with {ignore_index}.",
        where=counted[0][0].name,
        evidence={
            "images": len(counted),
            "of": len(drawn.images),
            "ids": ids,
            "share": round(share, 4),
            "strips": [list(strips.widths) for _, strips in counted[:10]],
        },
    )


@dataclass(frozen=True)
class _Strips:
    """Even strips at the borders of an image.

    Attributes:
        widths: in pixels, at the top, the bottom, the left and the right.
        held: the id of the mask there.
        share: of the image's pixels.
        after: whether the value is 0 and lies between those of the image.
        value: of each channel.
    """

    widths: tuple[int, int, int, int]
    held: int = -1
    share: float = 0.0
    after: bool = False
    value: tuple[float, ...] = ()


def _is_padding(strips: _Strips, members: Sequence[tuple[Taken, _Strips]]) -> bool:
    if strips.after:
        return True
    widths = {other.widths for _, other in members}
    ends = [tuple(min(axis) for axis in zip(*widths, strict=True))]
    return len(widths) > 1 and ends == [(0, 0, 0, 0)]


def _fit_a_square(images: Sequence[tuple[Taken, _Strips]]) -> bool:
    """Whether strips along one axis, the same in all images, are what makes these square."""
    widths = {strips.widths for _, strips in images}
    shapes = {taken.image.shape[1:] for taken, _ in images}
    if len(widths) != 1 or len(shapes) != 1:
        return False
    top, bottom, left, right = widths.pop()
    height, width = shapes.pop()
    return height == width and (top + bottom > 0) != (left + right > 0)


def _strips(taken: Taken) -> _Strips:
    mask = taken.mask
    assert mask is not None
    image = taken.image
    found = []
    for rows_first, reverse in ((True, False), (True, True), (False, False), (False, True)):
        pixels = image if rows_first else image.transpose(1, 2)
        ids = mask if rows_first else mask.T
        found.append(
            _even_rows(pixels.flip(1) if reverse else pixels, ids[::-1] if reverse else ids)
        )
    height, width = mask.shape
    top, bottom, left, right = (count if count >= _STRIP else 0 for count in found)
    if top + bottom >= height or left + right >= width or not (top or bottom or left or right):
        return _Strips((0, 0, 0, 0))
    inside = np.zeros(mask.shape, bool)
    inside[top : height - bottom, left : width - right] = True
    held = np.unique(mask[~inside])
    outer = image[:, torch.from_numpy(~inside)]
    value = outer[:, :1]
    if held.size != 1 or not bool((outer == value).all()):
        return _Strips((0, 0, 0, 0))
    inner = image[:, torch.from_numpy(inside)]
    if bool((value[:, 0] >= inner.amax(1)).all()):
        return _Strips((0, 0, 0, 0))  # As white as anything, such as an overexposed sky.
    between = bool(((inner.amin(1) < 0) & (inner.amax(1) > 0)).all())
    after = bool((value == 0).all()) and between
    share = float((~inside).mean())
    filled = tuple(round(float(channel), 6) for channel in value[:, 0])
    return _Strips((top, bottom, left, right), int(held[0]), share, after, filled)


def _even_rows(image: Shaped[Tensor, "C H W"], mask: Int64[np.ndarray, "H W"]) -> int:
    """How many rows from the first on have one value a channel, the same, and one id."""
    even = (image == image[:, :1, :1]).all(2).all(0).numpy() & (mask == mask[0, 0]).all(1)
    return len(even) if even.all() else int(np.argmin(even))


RULES: tuple[Rule, ...] = (mask_not_transformed, counted_padding)
