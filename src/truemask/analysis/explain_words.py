"""What each section of an explanation says, in a sentence."""

from collections.abc import Sequence

import numpy as np

from truemask.analysis.explain_summary import MOST_CONFUSIONS
from truemask.analysis.explanation import (
    Calibration,
    CostlyConfusion,
    ErrorBin,
    GateLook,
    SizeBin,
)
from truemask.errors import counted
from truemask.report.formats import number, percent
from truemask.results import PartResult

_NEAR = 2
"""Pixels from a border that the sentence tells of."""


def calibration_words(before: Calibration, after: Calibration | None) -> str:
    """How sure the model is, and how right."""
    if before.error is None or before.confidence is None or before.accuracy is None:
        return "No pixel counts, so nothing can be said of the confidence."
    text = (
        f"The model is {percent(before.confidence)} sure on average and right in "
        f"{percent(before.accuracy)} of the pixels"
    )
    gap = before.confidence - before.accuracy
    text += f": {'too sure' if gap > 0 else 'not sure enough'}. " if abs(gap) > 0.01 else ". "
    text += f"The expected calibration error is {percent(before.error)}"
    if after is None or after.error is None:
        return text + "."
    return (
        text + f"; at the bundle's temperature of {after.temperature:.3g} {percent(after.error)}."
    )


def border_words(bins: Sequence[ErrorBin]) -> str:
    """How many of the wrong pixels lie near a border."""
    wrong, pixels = sum(item.wrong for item in bins), sum(item.pixels for item in bins)
    if wrong == 0:
        return "No pixel is wrong."
    near = [item for item in bins if item.high is not None and item.high <= _NEAR]
    share = sum(item.wrong for item in near) / wrong
    area = sum(item.pixels for item in near) / pixels
    text = f"{percent(share, 0)} of all wrong pixels lie within {_NEAR} px of a border"
    return f"{text}, and so do {percent(area, 0)} of all pixels."


def size_words(bins: Sequence[SizeBin]) -> str:
    """What is found of the smaller half of the regions, and of the larger."""
    regions = sum(item.regions for item in bins)
    if regions == 0:
        return "There is no region to find."
    ends = np.cumsum([item.regions for item in bins])
    split = int(np.searchsorted(2 * ends, regions)) + 1
    small, large = bins[:split], bins[split:]
    text = f"{percent(_recall(small), 0)} of the pixels of regions below "
    text += f"{small[-1].high or small[-1].low:,} pixels are found"
    if not large:
        return text + "."
    return f"{text}, and {percent(_recall(large), 0)} of those of larger ones."


def _recall(bins: Sequence[SizeBin]) -> float:
    pixels = sum(item.pixels for item in bins)
    return sum((item.recall or 0.0) * item.pixels for item in bins) / max(pixels, 1)


def position_words(rates: Sequence[Sequence[float | None]]) -> str:
    """Where in the image errors are most and least frequent."""
    cells = [
        (rate, _place(row, len(rates), column, len(line)))
        for row, line in enumerate(rates)
        for column, rate in enumerate(line)
        if rate is not None
    ]
    if not cells:
        return "No pixel counts."
    most, least = max(cells), min(cells)
    if most[0] - least[0] < 0.005:
        return f"Errors are spread evenly: {percent(most[0])} of the pixels everywhere."
    there = "also there" if least[1] == most[1] else least[1]
    return (
        f"Errors are most frequent {most[1]} (up to {percent(most[0], 0)} of the pixels of a "
        f"place), least {there} ({percent(least[0], 0)})."
    )


def _place(row: int, rows: int, column: int, columns: int) -> str:
    up = ("at the top", "in the middle", "at the bottom")[row * 3 // rows]
    side = ("left", "", "right")[column * 3 // columns]
    return f"{up} {side}".strip()


def attribute_words(scores: PartResult) -> str:
    """The value of an attribute with the lowest score, against the one with the highest."""
    found = []
    for attribute, groups in scores.subgroups.items():
        known = [(group.iou, value) for value, group in groups.items() if group.iou is not None]
        if len(known) > 1:
            found.append((max(known)[0] - min(known)[0], attribute, min(known), max(known)))
    if not found:
        return "The images have no attributes to tell them apart by."
    _, attribute, low, high = max(found)
    groups = scores.subgroups[attribute]
    text = (
        f"The widest gap is in {attribute}: IoU {number(low[0])} for {low[1]}, {number(high[0])} "
        f"for {high[1]}"
    )
    ends = [groups[value].intervals.get("iou") for value in (low[1], high[1])]
    if ends[0] is None or ends[1] is None:
        return f"{text}; there are too few images to tell how sure that is."
    if ends[0][1] < ends[1][0]:
        return f"{text}; their intervals do not overlap."
    return f"{text}; their intervals overlap, so that it may be chance."


def confusion_words(confusions: Sequence[CostlyConfusion], scores: PartResult) -> str:
    """The costliest confusion, and what all that are shown cost."""
    if not confusions:
        return "No class is taken for another."
    first = confusions[0]
    better = number((scores.iou or 0.0) + first.gain)
    text = (
        f"{first.truth} taken for {first.prediction} costs most: were these "
        f"{counted(first.pixels, 'pixel')} right, the IoU would be {better} instead of "
        f"{number(scores.iou)}"
    )
    if len(confusions) == 1:
        return f"{text}."
    share = sum(item.share_of_wrong for item in confusions)
    shown = f"the first {MOST_CONFUSIONS}" if len(confusions) == MOST_CONFUSIONS else "these"
    return f"{text}. {percent(share, 0)} of all wrong pixels are in {shown}."


def attention_words(gates: Sequence[GateLook]) -> str:
    """What the finest gate lets through most and least."""
    if not gates:
        return "This model has no attention gates."
    known = [(value, name) for name, value in gates[-1].per_class.items() if value is not None]
    if len(known) < 2:
        return f"There are {counted(len(gates), 'gate')}."
    most, least = max(known), min(known)
    return (
        f"In the images shown the finest gate lets {most[1]} through most (mean {most[0]:.2f}) and "
        f"{least[1]} least ({least[0]:.2f})."
    )
