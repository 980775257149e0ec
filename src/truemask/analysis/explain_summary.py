"""From the counts of a pass to the tables of an explanation, with intervals over images."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float64, Int64

from truemask.analysis.explain_costs import confusion_costs, heaviest
from truemask.analysis.explain_places import REACHES, SIZES
from truemask.analysis.explain_tally import Tally
from truemask.analysis.explanation import (
    Calibration,
    ClassCalibration,
    ConfidenceBin,
    ConfusedImage,
    CostlyConfusion,
    ErrorBin,
    SizeBin,
)
from truemask.metrics.bootstrap import FEWEST, percentile_intervals, resampled_sums
from truemask.metrics.calibration import BINS, accuracy, calibration_error, mean_confidence
from truemask.per_image import Evaluation
from truemask.results import Interval

RESAMPLES = 2000
MOST_CONFUSIONS = 8
MOST_IMAGES = 3
"""Of each confusion, those that hold most of it."""


def calibration(tally: Tally, place: int, *, seed: int = 0) -> Calibration:
    """The calibration at one of the tally's temperatures."""
    images = _by_name(tally, tally.reliability)[:, place]
    classes = np.asarray(tally.reliability_per_class)[place]
    total = images.sum(0)
    interval = _intervals(
        images.reshape(len(images), -1),
        lambda sums: calibration_error(sums.reshape(-1, BINS, 3))[:, None],
        seed=seed,
    )[0]
    whole = total.sum(0)
    return Calibration(
        temperature=tally.temperatures[place],
        error=_number(calibration_error(total)),
        interval=interval,
        confidence=_number(mean_confidence(whole)),
        accuracy=_number(accuracy(whole)),
        bins=_confidence_bins(total),
        per_class=[
            ClassCalibration(
                name=name,
                pixels=int(counts[:, 0].sum()),
                error=_number(calibration_error(counts)),
                confidence=_number(mean_confidence(counts.sum(0))),
                accuracy=_number(accuracy(counts.sum(0))),
                bins=_confidence_bins(counts),
            )
            for name, counts in zip(tally.labels.names, classes, strict=True)
        ],
    )


def _confidence_bins(counts: Int64[np.ndarray, "15 3"]) -> list[ConfidenceBin]:
    return [
        ConfidenceBin(
            low=place / BINS,
            high=(place + 1) / BINS,
            pixels=int(row[0]),
            confidence=_number(mean_confidence(row)),
            accuracy=_number(accuracy(row)),
        )
        for place, row in enumerate(counts)
    ]


def borders(tally: Tally, *, seed: int = 0) -> list[ErrorBin]:
    """Errors by distance to a border."""
    images = _by_name(tally, tally.borders)
    intervals = _rate_intervals(images.reshape(len(images), -1), seed=seed)
    ends: list[int | None] = [*REACHES, None]
    return [
        ErrorBin(
            low=low,
            high=high,
            pixels=int(pixels),
            wrong=int(wrong),
            rate=_ratio(wrong, pixels),
            interval=interval,
        )
        for low, high, (pixels, wrong), interval in zip(
            (0, *REACHES), ends, images.sum(0), intervals, strict=True
        )
    ]


def sizes(tally: Tally, *, seed: int = 0) -> list[SizeBin]:
    """What is found of regions, by their size, with intervals."""
    images = _by_name(tally, tally.regions)
    # Of each bin (its pixels, those that were found), as `_rates` wants them.
    pairs = images[:, :, 1:3].reshape(len(images), -1)
    return _size_bins(images.sum(0), _rate_intervals(pairs, seed=seed))


def sizes_per_class(tally: Tally) -> dict[str, list[SizeBin]]:
    """The same for each class that occurs, without intervals."""
    counts = np.asarray(tally.regions_per_class)
    return {
        name: _size_bins(own, [None] * SIZES)
        for name, own in zip(tally.labels.names, counts, strict=True)
        if own.any()
    }


def _size_bins(
    counts: Int64[np.ndarray, "24 4"], intervals: Sequence[Interval | None]
) -> list[SizeBin]:
    """Those from the first to the last in which there is a region."""
    used = np.flatnonzero(counts[:, 0])
    if len(used) == 0:
        return []
    return [
        SizeBin(
            low=1 << place,
            high=None if place == SIZES - 1 else 1 << (place + 1),
            regions=int(counts[place, 0]),
            pixels=int(counts[place, 1]),
            recall=_ratio(counts[place, 2], counts[place, 1]),
            found=_ratio(counts[place, 3], counts[place, 0]),
            interval=intervals[place],
        )
        for place in range(used[0], used[-1] + 1)
    ]


def positions(tally: Tally) -> list[list[float | None]]:
    """The error rate of each cell of the grid."""
    return [[_ratio(wrong, pixels) for pixels, wrong in row] for row in np.asarray(tally.positions)]


def confusions(evaluation: Evaluation) -> list[CostlyConfusion]:
    """The confusions that cost most, each with the images that hold most of it."""
    total = evaluation.matrices.sum(0)
    wrong = int(total.sum() - np.trace(total))
    names = evaluation.labels.names
    return [
        CostlyConfusion(
            truth=names[cost.truth],
            prediction=names[cost.prediction],
            pixels=cost.pixels,
            share_of_wrong=cost.pixels / wrong,
            gain=cost.gain,
            images=[
                ConfusedImage(name=evaluation.names[place], pixels=pixels)
                for place, pixels in heaviest(evaluation.matrices, cost, most=MOST_IMAGES)
            ],
        )
        for cost in confusion_costs(total)[:MOST_CONFUSIONS]
        if cost.gain > 0
    ]


def _by_name(tally: Tally, rows: Sequence[np.ndarray]) -> np.ndarray:
    """The rows of the images in the order of their names, whatever order they were counted in."""
    order = sorted(range(len(tally.names)), key=tally.names.__getitem__)
    return np.stack([rows[place] for place in order])


def _rates(sums: Float64[np.ndarray, "R S"]) -> Float64[np.ndarray, "R s"]:
    """Of columns (all, some), (all, some), ... the shares; NaN where there is nothing."""
    whole, part = sums[:, 0::2], sums[:, 1::2]
    shares: Float64[np.ndarray, "R s"] = np.divide(
        part, whole, out=np.full(part.shape, np.nan), where=whole > 0
    )
    return shares


def _rate_intervals(values: Int64[np.ndarray, "N S"], *, seed: int) -> list[Interval | None]:
    """Those of `_rates`; none where too few images have anything of which it is a share."""
    holding = (values[:, 0::2] > 0).sum(0)
    return [
        interval if images >= FEWEST else None
        for images, interval in zip(holding, _intervals(values, _rates, seed=seed), strict=True)
    ]


def _intervals(
    values: Int64[np.ndarray, "N S"],
    score: Callable[[Float64[np.ndarray, "R S"]], Float64[np.ndarray, "R s"]],
    *,
    seed: int,
) -> list[Interval | None]:
    """The 95 % interval of each column that `score` makes of sums over images drawn again."""
    if len(values) < FEWEST:
        columns = score(values.sum(0, keepdims=True).astype(np.float64))
        return [None] * columns.shape[1]
    columns = score(resampled_sums(values, resamples=RESAMPLES, seed=seed))
    found = percentile_intervals({str(i): column for i, column in enumerate(columns.T)})
    return [found.get(str(i)) for i in range(columns.shape[1])]


def _ratio(part: int | np.integer, whole: int | np.integer) -> float | None:
    return float(part) / float(whole) if whole > 0 else None


def _number(value: Float64[np.ndarray, ""] | np.floating) -> float | None:
    return None if np.isnan(value) else float(value)
