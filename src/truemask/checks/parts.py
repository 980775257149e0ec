"""Rules on what the parts show: classes in other amounts than in training, or too few images."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Int64

from truemask.checks.finding import Finding, Rule, rule
from truemask.errors import counted

ERROR_RATE = 0.003
"""How often data set by data set chance alone is reported as another distribution, at most."""

_DRAWS = 4000
"""Random divisions that the actual one is held against."""

_SPREAD = 0.2
"""Standard deviation of the IoU from image to image, as trained models have it."""

_WIDE = 0.15
"""Half of an interval's width from which on it tells nothing: 0.6 may be 0.45 or 0.75."""

_FEW = 3
"""Images below which a class cannot be judged at all."""

_LISTED = 5
"""Classes that a message names."""


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What the images of one part show.

    Attributes:
        pixels: of each class, image by image; images that are ignored as a whole are left out.
        clusters: which images belong together, such as frames of one clip; a number each.
        total: images that the part has; more than there are rows if some were drawn.
    """

    pixels: Int64[np.ndarray, "N K"]
    clusters: Int[np.ndarray, " N"]
    total: int

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def shares(self) -> Float[np.ndarray, "N K"]:
        """Of the pixels of an image that each class has."""
        shares: Float[np.ndarray, "N K"] = self.pixels / self.pixels.sum(1, keepdims=True)
        return shares

    @property
    def columns(self) -> Float[np.ndarray, "N 2K"]:
        """Of each image, the shares of the classes and which of them it shows, as 0 or 1."""
        shares = self.shares
        return np.concatenate([shares, shares > 0], axis=1)

    @property
    def sampled(self) -> dict[str, int]:
        """What evidence says of it: `{"sampled": 500, "of": 3426}`, or nothing if all are here."""
        return {} if len(self) >= self.total else {"sampled": len(self), "of": self.total}


class Difference(NamedTuple):
    """How a part differs from the training part; K classes, first by pixels, then by images.

    Attributes:
        share: mean share of each class, in training and in the part.
        presence: share of the images that show each class, in training and in the part.
        spread: standard deviation of each class's share from image to image, of both together.
        p_value: of each class, corrected for there being several; 1 where none of the differences
            matters.
    """

    share: Float[np.ndarray, "2 K"]
    presence: Float[np.ndarray, "2 K"]
    spread: Float[np.ndarray, " K"]
    p_value: Float[np.ndarray, " K"]

    @property
    def matters(self) -> Bool[np.ndarray, " K"]:
        """Which differences are large enough to change a score, whether or not they are chance."""
        low, high = self.share.min(0), self.share.max(0)
        by_ratio = (high >= 1.5 * low) & (high >= 0.002)
        by_images = np.abs(self.presence[0] - self.presence[1]) >= 0.25
        by_spread = (high - low >= 0.5 * self.spread) & (high >= 1.1 * low) & (high >= 0.002)
        found: Bool[np.ndarray, " K"] = by_ratio | by_spread | (high - low >= 0.1) | by_images
        return found


def compare_contents(train: Contents, part: Contents, *, seed: int = 0) -> Difference:
    """Hold the classes of a part against those of the training part.

    A permutation test. The clusters of both are divided anew at random, as many to each; for every
    class the difference of the mean share, and of the share of images that show it, is divided by
    its deviation over these divisions; and each actual one is held against the largest of all
    classes in a random division, so that the number of classes does not matter (Westfall and Young,
    Resampling-Based Multiple Testing, 1993, section 2.3).
    """
    classes = train.pixels.shape[1]
    columns = np.concatenate([train.columns, part.columns])
    means = np.stack([columns[: len(train)].mean(0), columns[len(train) :].mean(0)])
    spread = columns[:, :classes].std(0)
    found = Difference(means[:, :classes], means[:, classes:], spread, np.ones(classes))
    if not found.matters.any():
        return found  # The usual case, and the quicker one.
    groups = np.unique(
        np.stack([[0] * len(train) + [1] * len(part), [*train.clusters, *part.clusters]]),
        axis=1,
        return_inverse=True,
    )[1].reshape(-1)
    sizes = np.bincount(groups)
    sums = np.zeros((len(sizes), columns.shape[1]))
    np.add.at(sums, groups, columns)
    actual = np.zeros((1, len(sizes)))
    actual[0, groups[len(train) :]] = 1
    generator = np.random.default_rng(seed)
    drawn = generator.permuted(np.repeat(actual, _DRAWS, axis=0), axis=1)
    differences = _differences(np.concatenate([actual, drawn]), sums, sizes)
    deviation = differences[1:].std(0)
    scaled = np.abs(differences) / np.where(deviation > 1e-12, deviation, np.inf)
    largest = np.sort(scaled[1:].max(1))
    above = _DRAWS - np.searchsorted(largest, scaled[0] - 1e-9)
    p_values = (1 + above) / (1 + _DRAWS)
    return found._replace(p_value=np.minimum(p_values[:classes], p_values[classes:]))


def _differences(
    chosen: Float[np.ndarray, "D C"], sums: Float[np.ndarray, "C S"], sizes: Int[np.ndarray, " C"]
) -> Float[np.ndarray, "D S"]:
    """Means over the images of the clusters that are chosen, less those of all others."""
    inside, count = chosen @ sums, (chosen @ sizes)[:, None]
    outside = (sums.sum(0) - inside) / (sizes.sum() - count)
    difference: Float[np.ndarray, "D S"] = inside / count - outside
    return difference


def half_widths(part: Contents) -> Float[np.ndarray, " K"]:
    """Half the width of the 95 % interval of each class's IoU; NaN for a class that is absent.

    Were q_i the IoU of a class in image i, and u_i the size of its union, the IoU of the part is
    sum(u_i q_i) / sum(u_i). With a deviation s of the q_i its own is s sqrt(sum(u_i^2)) / sum(u_i),
    which is s / sqrt(n) for n images of one size, and more for a class whose pixels lie in a few
    images (Kish, Survey Sampling, 1965, section 11.7). The pixels of the class stand for u_i.
    """
    pixels = part.pixels.astype(np.float64)
    total = pixels.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        weight = np.sqrt((pixels**2).sum(0)) / total
    drawn = np.sqrt(len(part) / max(len(part), part.total))
    widths: Float[np.ndarray, " K"] = 1.96 * _SPREAD * drawn * weight
    return widths


def half_width_of_mean(part: Contents, classes: Sequence[int]) -> float:
    """Half the width of the 95 % interval of the mean IoU of some classes.

    As `half_widths`, where an image that is hard is hard for all of its classes: the most that
    their errors can add up to. With a_ki the share that image i has of the pixels of class k it is
    1.96 s sqrt(sum_i (sum_k a_ki)^2) / K.
    """
    pixels = part.pixels[:, list(classes)].astype(np.float64)
    weight = (pixels / pixels.sum(0)).sum(1) / len(classes)
    drawn = np.sqrt(len(part) / max(len(part), part.total))
    return float(1.96 * _SPREAD * drawn * np.sqrt((weight**2).sum()))


@rule("TM204", "other-class-distribution", "warning")
def other_distribution(
    contents: Mapping[str, Contents], *, train: str, class_names: Sequence[str]
) -> Iterator[Finding]:
    """A part shows classes in other amounts than the training part does, beyond chance.

    Why it matters:
        A score on such a part says how the model does on other data, not on data of this kind, and
        early stopping follows it. `edges` split VOC 2012 by position, so that other years were in
        test than in training: at the same weights its training IoU was 0.31, its validation IoU
        0.21, and nothing said whether that was overfitting or other images.

    How it decides:
        By a permutation test over images (up to 500 of each part): 4,000 random divisions of the
        images of both parts. Each class's mean share of the pixels, and the share of images that
        show it, must differ by more than the largest difference of any class does in all but
        0.3 % of them, divided by the number of parts, so that the number of classes and parts
        does not matter. Frames of one video are divided together. Besides, the difference must be
        one that matters: shares that differ 1.5-fold (of a class with 0.2 % of the pixels or more),
        by 10 points, or by a tenth that is half a standard deviation of the images (a "medium"
        effect: Cohen, Statistical Power Analysis, 1988); or images with the class by 25 points.

    False alarms:
        At most 0.3 % of random splits. Parts that are meant to differ, as cities that were never
        seen, are reported with reason where their classes differ.

    How to mend:
        Shuffle before splitting, or stratify (`data.split.stratify=true`). Where the parts are
        meant to differ, say so beside the score.
    """
    others = [name for name in contents if name != train and len(contents[name]) > 0]
    if train not in contents or len(contents[train]) == 0:
        return
    for name in others:
        found = compare_contents(contents[train], contents[name])
        reported = found.matters & (found.p_value <= ERROR_RATE / len(others))
        if not reported.any():
            continue
        ratio = np.abs(np.log((found.share[1] + 1e-6) / (found.share[0] + 1e-6)))
        order = [k for k in np.argsort(-ratio) if reported[k]]
        shown = "; ".join(_described(class_names[k], found, k, train) for k in order[:_LISTED])
        more = f"; and {len(order) - _LISTED} more" if len(order) > _LISTED else ""
        yield other_distribution.finding(
            f"{counted(len(order), 'class').replace('classs', 'classes')} of {name} "
            f"{'differs' if len(order) == 1 else 'differ'} from {train} by more than chance does: "
            f"{shown}{more}.",
            remedy="Shuffle before splitting, or stratify (data.split.stratify=true); where the "
            "parts are meant to differ, say so beside the score.",
            where=name,
            evidence={
                "classes": {
                    class_names[k]: {
                        "share": {
                            train: _rounded(found.share[0, k]),
                            name: _rounded(found.share[1, k]),
                        },
                        "images_with_it": {
                            train: _rounded(found.presence[0, k]),
                            name: _rounded(found.presence[1, k]),
                        },
                        "p_value": _rounded(found.p_value[k]),
                    }
                    for k in order
                },
                "images": {train: len(contents[train]), name: len(contents[name])},
                "clusters": {
                    part: len(np.unique(contents[part].clusters)) for part in (train, name)
                },
            },
        )


def _described(class_name: str, found: Difference, k: int, train: str) -> str:
    (before, share), (images_before, images) = found.share[:, k], found.presence[:, k]
    return (
        f"{class_name} has {share:.2%} of the pixels ({before:.2%} in {train}) and is in "
        f"{images:.0%} of the images ({images_before:.0%} in {train})"
    )


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


@rule("TM205", "part-too-small", "warning")
def too_small(
    contents: Mapping[str, Contents], *, train: str, class_names: Sequence[str]
) -> Iterator[Finding]:
    """A part that is judged on has too few images, or too few with some class, to tell anything.

    Why it matters:
        The IoU of a handful of images is one throw of a die: another handful gives 0.5 in place of
        0.7, and the best of several models on it is the luckiest. A mean over classes hides it, as
        a class that is in two images weighs as much as one that is in all.

    How it decides:
        From the masks, before anything is trained: each class's IoU is a mean over images, weighted
        by how much of the class they hold, and differs from image to image with a deviation of
        about 0.2 in trained models (0.1 to 0.22 by class, judged by the intervals of `driving`).
        Half its 95 % interval is then 1.96 x 0.2 / sqrt(n), with n images of equal weight; n is
        smaller where a few images hold most of a class. Of a mean over classes it is at most what
        it would be if an image that is hard were hard for all of its classes. The part is reported
        if that is more than 0.15 (n below 7) for the mean, with two classes for the foreground.
        Where it is more for most classes, though not for their mean, or where single classes are in
        one or two images alone, there is a note.

    False alarms:
        A part of very even images, on which models differ by less, may be judged by fewer.

    How to mend:
        Keep more images apart, cross-validate
        (`data.split._target_=truemask.data.splits.KFold`), or leave single classes out of what is
        compared.
    """
    for name in (name for name in contents if name != train):
        part = contents[name]
        if len(part) == 0:
            continue
        widths = half_widths(part)
        judged = [k for k, width in enumerate(widths) if not np.isnan(width)]
        if len(widths) == 2 and 1 in judged:
            judged = [1]  # The background is always there.
        images = (part.pixels > 0).sum(0)
        few = [k for k in judged if images[k] < _FEW and len(part) >= part.total]
        evidence = {
            "images": part.total,
            "half_width": {class_names[k]: round(float(widths[k]), 3) for k in judged},
            "images_with_class": {class_names[k]: int(images[k]) for k in judged},
            **part.sampled,
        }
        width = half_width_of_mean(part, judged)
        if width > _WIDE:
            yield too_small.finding(
                f"{name} has {counted(part.total, 'image')}: an IoU measured on it is uncertain by "
                f"{width:.2f} either way (95 % interval), so that it can tell only very different "
                "models apart.",
                remedy="Keep more images for it, or cross-validate.",
                where=name,
                evidence=evidence,
            )
        elif few:
            listed = ", ".join(f"{class_names[k]} ({images[k]})" for k in few[:_LISTED])
            more = f" and {len(few) - _LISTED} more" if len(few) > _LISTED else ""
            yield too_small.finding(
                f"Of the {counted(part.total, 'image')} of {name} at most {_FEW - 1} show "
                f"{listed}{more}: their IoU tells nothing, and weighs as much as any other in the "
                "mean.",
                remedy="Stratify the split (data.split.stratify=true), or read the mean without "
                "these classes.",
                where=name,
                level="note",
                evidence=evidence,
            )
        elif (usual := float(np.median(widths[judged]))) > _WIDE:
            yield too_small.finding(
                f"{name} has {counted(part.total, 'image')}: the IoU of a class is uncertain by "
                f"{usual:.2f} either way (95 % interval), their mean by {width:.2f}.",
                remedy="Compare models by the mean, or keep more images for it.",
                where=name,
                level="note",
                evidence=evidence,
            )


RULES: tuple[Rule, ...] = (other_distribution, too_small)
