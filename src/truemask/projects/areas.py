"""Whether a model does as well outside of the city as in it."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float64, Int64

from truemask.analysis.quantities import part_evaluation
from truemask.metrics.bootstrap import FEWEST, percentile_intervals, resampled_margins
from truemask.metrics.confusion import Counts, headline, iou
from truemask.per_image import Evaluation
from truemask.projects.project import Listing
from truemask.results import Interval
from truemask.runs import Run

_AREA = "area"
_GROUPS = ("city", "non-city")
_RESAMPLES = 2000


def compare_areas(runs: Mapping[str, Run]) -> Listing | None:
    """A row for each run (title -> run) whose test images are of both areas."""
    rows = []
    for title, run in runs.items():
        evaluation = part_evaluation(run, "test")
        found = None if evaluation is None else area_difference(evaluation)
        if evaluation is None or found is None:
            continue
        cells = []
        for area in _GROUPS:
            group = _of_area(evaluation, area)
            cells.append(f"{float(_global(group.sum(0))):.3f} ({len(group)} images)")
        rows.append((title, *cells, f"{found[0]:+.3f}", _ends(found[1]), _verdict(found[1])))
    head = ("Run", "City IoU", "Non-city IoU", "City less non-city", "95 % interval", "")
    return Listing(head, tuple(rows)) if rows else None


def _ends(interval: Interval | None) -> str:
    return "too few images" if interval is None else f"{interval[0]:+.3f} to {interval[1]:+.3f}"


def _verdict(interval: Interval | None) -> str:
    if interval is None:
        return ""
    return "no clear difference" if interval[0] <= 0 <= interval[1] else "a difference"


def area_difference(evaluation: Evaluation) -> tuple[float, Interval | None] | None:
    """Mean IoU of city images less that of the others, with its 95 % interval.

    The two groups are different images, so each is drawn again by itself.

    Returns:
        `None` where a group is missing; no interval where one has too few images.
    """
    groups = [_of_area(evaluation, area) for area in _GROUPS]
    if any(len(group) == 0 for group in groups):
        return None
    city, other = (float(_global(group.sum(0))) for group in groups)
    if min(map(len, groups)) < FEWEST:
        return city - other, None
    drawn = [
        _global(resampled_margins(group, resamples=_RESAMPLES, seed=seed))
        for seed, group in enumerate(groups)
    ]
    return city - other, percentile_intervals({"difference": drawn[0] - drawn[1]})["difference"]


def _of_area(evaluation: Evaluation, area: str) -> Int64[np.ndarray, "N K K"]:
    chosen = [i for i, known in enumerate(evaluation.attributes) if known.get(_AREA) == area]
    return evaluation.matrices[chosen]


def _global(counts: Counts) -> Float64[np.ndarray, "*S"]:
    return headline(iou(counts))
