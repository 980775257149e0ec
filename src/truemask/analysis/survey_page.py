"""The page of a survey: what its tables and pictures say, of a result that is computed already."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from truemask.analysis.charts import Bar, Chart, Line, bars_chart, lines_chart
from truemask.analysis.survey_pictures import Pictures, heatmap
from truemask.analysis.survey_result import (
    ClassSurvey,
    GroupDifference,
    PartSurvey,
    ShareDifference,
    Survey,
)
from truemask.errors import counted
from truemask.files import write_text
from truemask.report import formats
from truemask.report.confusion import Cell
from truemask.report.gallery import gallery_content
from truemask.report.pages import render_page
from truemask.report.pictures import Picture

_MOST_BARS = 10
_MOST_VALUES = 24
_MOST_PAIRED = 48


@dataclass(frozen=True)
class HeatMap:
    """Where a class lies: a picture, and the largest share of a cell."""

    name: str
    color: str
    picture: Picture
    most: float


def write_page(survey: Survey, shown: Pictures, *, path: Path) -> None:
    """Write the page.

    Raises:
        UsageError: it cannot be written.
    """
    total = survey.total
    paired = _in_most_images(survey)
    context = {
        "survey": survey,
        "colors": [f"rgb({r} {g} {b})" for r, g, b in survey.colors],
        "headline": _headline(survey),
        "samples": gallery_content(shown.samples) if shown.samples else None,
        "lacking": [
            (one, gallery_content(shown.lacking[one.name]) if one.name in shown.lacking else None)
            for one in survey.lacking
        ],
        "ladder": shown.ladder,
        "ladder_name": shown.ladder_name,
        "below": [_below(one, survey.sides) for one in total.classes],
        "bins": _bins(total),
        "region_sizes": _region_sizes(total),
        "heatmaps": _heatmaps(survey),
        "symmetry": _symmetry(total),
        "paired": paired,
        "together": _together(survey, paired),
        "size_of_table": _table_size(len(paired)),
        "parts_chart": _parts_chart(survey),
        "differences": [(found, _verdict(found)) for found in survey.differences],
        "attributes": {
            name: (groups[:_MOST_VALUES], [_verdict(group.difference) for group in groups])
            for name, groups in survey.attributes.items()
        },
        "attribute_classes": sorted(
            range(len(survey.classes)), key=lambda k: -total.classes[k].pixels
        )[:8],
        "keeping_chart": _keeping_chart(survey),
        "deviations": _deviations,
        "quantity": formats.quantity,
        "duration": formats.duration,
    }
    write_text(path, render_page("survey.html", context))


def _headline(survey: Survey) -> str:
    total = survey.total
    parts = ", ".join(f"{part.images:,} {name}" for name, part in survey.parts.items())
    ordered = sorted(total.classes, key=lambda one: -one.pixels)
    first = " and ".join(one.name for one in ordered[:2])
    text = f"{counted(total.images, 'image')} ({parts}), {len(survey.classes)} classes."
    known = ordered[0].share
    if known is not None:
        both = sum(one.share or 0 for one in ordered[:2])
        text += f" {first} have {formats.percent(both)} of the labelled pixels"
        rare = [one for one in ordered if one.pixels][-1]
        text += f"; {rare.name}, the rarest, has {formats.percent(rare.share, 2)}."
    return text


def _below(one: ClassSurvey, sides: Sequence[int]) -> list[Cell]:
    tiles = []
    for side in sides:
        found = one.below[side]
        if not one.regions:
            tiles.append(Cell(0.0, "", f"{one.name} does not occur"))
            continue
        share = found.regions / one.regions
        tiles.append(
            Cell(
                share,
                formats.percent(share, 0) if found.regions else "0",
                f"{found.regions:,} of {one.regions:,} regions of {one.name} fall below one pixel "
                f"at {side}: {formats.percent(found.pixels / one.pixels, 2)} of its pixels",
            )
        )
    return tiles


def _bins(total: PartSurvey) -> list[int]:
    used = [b for one in total.classes for b in one.region_sizes]
    return list(range(min(used), max(used) + 1)) if used else []


def _region_sizes(total: PartSurvey) -> list[list[Cell]]:
    rows = []
    for one in total.classes:
        tiles = []
        for b in _bins(total):
            count = one.region_sizes.get(b, 0)
            share = count / one.regions if count else 0.0
            said = f"{count:,} regions of {one.name} have {2**b:,} to {2 ** (b + 1) - 1:,} pixels"
            tiles.append(Cell(share, formats.quantity(count) if count else "", said))
        rows.append(tiles)
    return rows


def _heatmaps(survey: Survey) -> list[HeatMap]:
    """Of each class that occurs, and of ignored pixels: its share of the pixels of each cell."""
    grids = np.asarray(survey.total.heatmaps, np.float64)
    cells = grids.sum(0)
    # Images of fewer pixels a side than there are cells leave some empty, which are no places.
    grids = grids[:, cells.any(1)][:, :, cells.any(0)]
    cells = np.maximum(grids.sum(0), 1)
    size = survey.total.sizes[0]
    colors = [f"rgb({r} {g} {b})" for r, g, b in survey.colors]
    found = []
    for name, color, grid in zip(
        (*survey.classes, survey.ignore_name), (*colors, "#888"), grids, strict=True
    ):
        if grid.any():
            shares = grid / cells
            picture = heatmap(shares.tolist(), aspect=_aspect(size.width, size.height))
            found.append(HeatMap(name, color, picture, float(shares.max())))
    return found


def _symmetry(total: PartSurvey) -> list[tuple[str, str, str]]:
    """What a figure is called, the figure, what it means."""
    found = total.symmetry
    moves = "of the map of the classes changes, beyond what chance makes"
    ratio, told = found.edge_ratio, found.told_by_colour
    return [
        ("Upside down", formats.percent(found.upside_down), moves),
        ("Mirrored", formats.percent(found.mirrored), moves),
        (
            "Upright to level edges",
            "–" if ratio is None else f"{ratio:.2f}",
            "far from 1, a turn by 90° makes another picture",
        ),
        (
            "Told by colour",
            formats.percent(told, 0),
            "of the classes in an image, on average over classes: near 100 %, colour is the class"
            if told is not None
            else "not known: the images are not of bytes, or fewer than two classes are in several",
        ),
    ]


def _aspect(width: int, height: int) -> float:
    return min(3.0, max(1 / 3, width / height))


def _in_most_images(survey: Survey) -> list[int]:
    """The classes of the table of pairs, which would be too large of hundreds of classes."""
    classes = survey.total.classes
    order = sorted(range(len(classes)), key=lambda k: -classes[k].images)
    return sorted(order[:_MOST_PAIRED])


def _together(survey: Survey, chosen: Sequence[int]) -> list[list[Cell]]:
    """Of the images with the class of the row, the share with that of the column."""
    rows = []
    for i in chosen:
        one = survey.classes[i]
        counts = survey.total.co_occurrence[i]
        holding = counts[i]
        tiles = []
        for j in chosen:
            other = survey.classes[j]
            share = counts[j] / holding if holding else 0.0
            said = (
                f"{counts[j]:,} images hold {one}"
                if i == j
                else f"{counts[j]:,} of {holding:,} images with {one} hold {other} too"
            )
            text = formats.quantity(counts[j]) if i == j else f"{100 * share:.0f}"
            tiles.append(Cell(share, text if holding else "", said))
        rows.append(tiles)
    return rows


def _table_size(classes: int) -> str:
    return "few" if classes <= 4 else "crowd" if classes > 40 else "many" if classes > 12 else ""


def _parts_chart(survey: Survey) -> Chart | None:
    names = [name for name, part in survey.parts.items() if part.images]
    if len(names) < 2:
        return None
    order = sorted(range(len(survey.classes)), key=lambda k: -survey.total.classes[k].pixels)
    bars = [
        Bar(
            name=survey.classes[k].replace("$", r"\$"),
            values=[
                None if (share := survey.parts[name].classes[k].share) is None else 100 * share
                for name in names
            ],
            intervals=[None] * len(names),
        )
        for k in order[:_MOST_BARS]
        if survey.total.classes[k].pixels
    ]
    return bars_chart(bars, series=names, x="% of the labelled pixels", said="shares of the parts")


def _keeping_chart(survey: Survey) -> Chart | None:
    if len(survey.keeping) < 3:
        return None
    pixels = [(float(one.kept), 100 * one.dropped_share) for one in survey.keeping]
    regions = [(float(one.kept), 100 * one.dropped_regions) for one in survey.keeping]
    lines = [
        Line(name="labelled pixels", points=pixels),
        Line(name="connected regions", points=regions),
    ]
    return lines_chart(
        lines, x="classes kept, the largest first", y="% dropped", said="what would be dropped"
    )


def _verdict(found: GroupDifference) -> str:
    if not found.classes:
        return "too few images to tell"
    surely = [one for one in found.classes if one.differs]
    if not surely:
        return "no class differs more than chance makes it"
    shown = ", ".join(one.name for one in surely[:4])
    more = f" and {len(surely) - 4} more" if len(surely) > 4 else ""
    return f"differ{'s' if len(surely) == 1 else ''} in {shown}{more}"


def _deviations(one: ShareDifference) -> Any:
    return f"{one.z:+.1f}"
