"""From counts to shares: count first, divide last."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from truemask.analysis.survey_counts import SIDES, Counts, Tally, merged
from truemask.analysis.survey_differences import difference
from truemask.analysis.survey_result import (
    COMMON,
    Below,
    ClassSurvey,
    GroupDifference,
    GroupSurvey,
    Keeping,
    Lacking,
    Normalisation,
    PartSurvey,
    SizeSurvey,
    Survey,
    Symmetry,
)
from truemask.analysis.survey_traits import asymmetry, told_by_colour
from truemask.errors import counted as counted_in_words
from truemask.images import ImageSpec
from truemask.labels import LabelMap


def summarise(
    counts: Mapping[str, Counts],
    *,
    name: str,
    labels: LabelMap,
    spec: ImageSpec,
    notes: Sequence[str] = (),
    seconds: float = 0.0,
    counted: int | None = None,
) -> Survey:
    """The result of counts.

    Args:
        counts: of each part.
        name: of the data.
        labels: its classes.
        spec: what the pixels of its images mean.
        notes: for the reader.
        seconds: that the counting took.
        counted: images that were decoded; None for all.
    """
    total = merged(counts.values(), labels.num_classes, spec.channels)
    names = labels.names
    ordered_by = "train" if counts.get("train", total).tally.images and "train" in counts else ""
    return Survey(
        name=name,
        classes=list(names),
        colors=list(labels.colors),
        ignore_name=labels.ignore_name,
        sides=list(SIDES),
        total=_part(total, names),
        parts={part: _part(own, names) for part, own in counts.items()},
        normalisation=_normalisation(counts.get("train"), spec),
        differences=[
            difference(
                counts[one].tally, counts[other].tally, names=names, one_name=one, other_name=other
            )
            for one, other in combinations(counts, 2)
        ],
        attributes=_attributes(total, names),
        keeping=_keeping(counts[ordered_by] if ordered_by else total, names, ordered_by or "all"),
        lacking=_lacking(total, names),
        notes=[*notes, *_depth(total, spec)],
        seconds=seconds,
        counted=total.tally.images + total.failures if counted is None else counted,
    )


def _depth(total: Counts, spec: ImageSpec) -> list[str]:
    """What a reader who compares the mean with the files must know."""
    wide = sum(images for mode, images in total.modes.items() if mode.startswith("16-bit"))
    if spec.dtype != "uint8" or not wide:
        return []
    return [
        f"{counted_in_words(wide, 'image')} of 16 bits {'is' if wide == 1 else 'are'} read as 8 "
        "bits, as every training and prediction does (each value divided by 257 and rounded): mean "
        "and deviation are of those."
    ]


def _part(counts: Counts, names: Sequence[str]) -> PartSurvey:
    tally = counts.tally
    pixels = int(tally.pixels.sum())
    told = told_by_colour(counts.colours, len(names))
    return PartSurvey(
        images=tally.images,
        unreadable=counts.failures,
        failed=list(counts.failed),
        pixels=pixels,
        ignored=int(tally.pixels[-1]),
        ignored_share=int(tally.pixels[-1]) / max(pixels, 1),
        boundary_share=int(counts.boundary.sum()) / max(pixels, 1),
        sizes=[
            SizeSurvey(height=height, width=width, images=images)
            for (height, width), images in sorted(
                counts.sizes.items(), key=lambda item: (-item[1], item[0])
            )
        ],
        modes=dict(sorted(counts.modes.items(), key=lambda item: (-item[1], item[0]))),
        classes=[_class(counts, k, name, told[k]) for k, name in enumerate(names)],
        symmetry=_symmetry(counts, told),
        co_occurrence=counts.together.tolist(),
        heatmaps=counts.heat.tolist(),
    )


def _symmetry(counts: Counts, told: Sequence[float | None]) -> Symmetry:
    known = [share for share in told if share is not None]
    upside_down, mirrored = (
        asymmetry(counts.shares, counts.changes[axis - 1], axis=axis, images=counts.tally.images)
        for axis in (1, 2)
    )
    upright, level = (int(sides.sum()) for sides in counts.edges)
    return Symmetry(
        upside_down=upside_down,
        mirrored=mirrored,
        edge_ratio=upright / level if level else None,
        told_by_colour=sum(known) / len(known) if known else None,
    )


def _class(counts: Counts, k: int, name: str, told: float | None) -> ClassSurvey:
    tally = counts.tally
    upright, level = (int(sides[k]) for sides in counts.edges)
    pixels = int(tally.pixels[k])
    return ClassSurvey(
        name=name,
        pixels=pixels,
        share=pixels / tally.labelled if tally.labelled else None,
        images=int(tally.holding[k]),
        regions=int(counts.regions[k].sum()),
        region_sizes={int(b): int(counts.regions[k, b]) for b in np.flatnonzero(counts.regions[k])},
        below={
            side: Below(
                regions=int(counts.below[place, k]), pixels=int(counts.pixels_below[place, k])
            )
            for place, side in enumerate(SIDES)
        },
        boundary_share=int(counts.boundary[k]) / pixels if pixels else None,
        upright_edges=upright,
        level_edges=level,
        width=2 * pixels / (upright + level) if upright + level else None,
        told_by_colour=told,
        lacking=[found for _, found in counts.lacking[k]],
    )


def _normalisation(train: Counts | None, spec: ImageSpec) -> Normalisation | None:
    if train is None or train.channels.pixels == 0:
        return None
    sums = train.channels
    return Normalisation(mean=sums.mean(spec), std=sums.std(spec), pixels=sums.pixels)


def _attributes(total: Counts, names: Sequence[str]) -> dict[str, list[GroupSurvey]]:
    found: dict[str, list[GroupSurvey]] = {}
    ordered = sorted(total.groups.items(), key=lambda item: (-item[1].images, item[0]))
    for (attribute, value), tally in ordered:
        others = Tally.empty(len(names))
        for (key, another), their in ordered:
            if key == attribute and another != value:
                others.add(their)
        found.setdefault(attribute, []).append(
            GroupSurvey(
                value=value,
                images=tally.images,
                shares=[
                    int(pixels) / tally.labelled if tally.labelled else None
                    for pixels in tally.pixels[:-1]
                ],
                holding=[int(images) for images in tally.holding],
                difference=_against(tally, others, value, names),
            )
        )
    return dict(sorted(found.items()))


def _against(tally: Tally, others: Tally, value: str, names: Sequence[str]) -> GroupDifference:
    return difference(tally, others, names=names, one_name=value, other_name="other")


def _keeping(counts: Counts, names: Sequence[str], part: str) -> list[Keeping]:
    pixels = counts.tally.pixels[:-1]
    sizes = counts.regions.sum(1)
    # As `data.labels.keep` orders them: of two that are equal, the lower id is the larger.
    order = sorted(range(len(names)), key=lambda k: (-int(pixels[k]), k))

    def left(table: Any, kept: int) -> float:
        return int(sum(int(table[k]) for k in order[kept:])) / max(int(table.sum()), 1)

    return [
        Keeping(
            kept=n,
            added=names[order[n - 1]],
            dropped_share=left(pixels, n),
            dropped_regions=left(sizes, n),
            part=part,
        )
        for n in range(1, len(names) + 1)
    ]


def _lacking(total: Counts, names: Sequence[str]) -> list[Lacking]:
    """The class that most images have first."""
    images = total.tally.images
    found = [
        Lacking(
            name=name,
            images=images - held,
            share=(images - held) / images,
            named=[named for _, named in total.lacking[k]],
        )
        for k, name in enumerate(names)
        if COMMON * images <= (held := int(total.tally.holding[k])) < images
    ]
    return sorted(found, key=lambda one: one.images)
