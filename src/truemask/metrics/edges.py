"""Edge maps against what several people drew: precision and recall by threshold, ODS, OIS, AP.

The benchmark of BSDS500 (Arbelaez et al., "Contour Detection and Hierarchical Image Segmentation",
TPAMI 2011, section 2.1), step by step as its published code does it. A map of probabilities is cut
at each threshold, thinned, and matched one to one with each annotator's drawing, within 0.0075 of
the image's diagonal. Recall is the share of all drawn pixels, over all annotators, that have a
partner; precision the share of the map's pixels that have one with at least one annotator.

ODS is the best F of one threshold for all images, between thresholds by straight lines of precision
and recall; OIS the F of the summed counts when each image has its own best threshold; AP the mean
of the precision, by straight lines over the recall, at 0, 0.01 .. 1.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64, Shaped

from truemask.errors import UsageError
from truemask.metrics.arrays import reading_arrays, write_arrays
from truemask.metrics.bootstrap import FEWEST, percentile_intervals, resampled_sums
from truemask.metrics.matching import match_words
from truemask.metrics.thinning import pack, thin_words, unpack
from truemask.results import Interval

TOLERANCE = 0.0075
"""Largest distance of partners, as a share of the image's diagonal."""
THRESHOLDS = 99
_STEPS = 100
"""Points from a threshold to the next, both included, at which the best F is looked for."""

Curve = Shaped[np.ndarray, "*S T 4"]
"""At each threshold: drawn pixels with a partner, drawn pixels, found pixels with one, found."""


def thresholds(count: int = THRESHOLDS) -> Float64[np.ndarray, " T"]:
    """The benchmark's thresholds: 0.01, 0.02 .. 0.99 for 99."""
    if count < 1:
        raise UsageError(f"thresholds is {count}, but there must be at least one")
    return np.linspace(1 / (count + 1), 1 - 1 / (count + 1), count)


def edge_counts(
    probability: Float[np.ndarray, "H W"],
    drawings: Bool[np.ndarray, "K H W"],
    *,
    count: int = THRESHOLDS,
    tolerance: float = TOLERANCE,
    thinned: bool = True,
    doubtful: Bool[np.ndarray, "H W"] | None = None,
) -> Int64[np.ndarray, "T 4"]:
    """The counts of one image, from which every score follows.

    Args:
        probability: of an edge, from 0 to 1.
        drawings: the edge pixels of each annotator.
        count: T, how many thresholds.
        tolerance: largest distance of partners as a share of the image's diagonal.
        thinned: whether the maps are thinned first, as in the benchmark.
        doubtful: where nobody knows whether there is an edge; a found pixel there may be a partner,
            and counts only if it is. The benchmark knows none.

    Raises:
        UsageError: the shapes do not fit, there is no annotator, or a value is out of range.
    """
    _check(probability, drawings, tolerance)
    levels = thresholds(count)
    words = pack(probability, levels.tolist())
    if thinned:
        thin_words(words)
    radius = tolerance * math.hypot(*probability.shape)
    matched = match_words(words, drawings, radius=radius, maps=count, doubtful=doubtful)
    clear = slice(None) if doubtful is None else ~doubtful
    found = np.array([int(unpack(words, index)[clear].sum()) for index in range(count)])
    drawn = np.full(count, int(drawings.sum()))
    return np.stack([matched.drawn.sum(1), drawn, matched.found, found + matched.excused], axis=1)


def _check(
    probability: Float[np.ndarray, "H W"], drawings: Bool[np.ndarray, "K H W"], tolerance: float
) -> None:
    if probability.ndim != 2 or drawings.ndim != 3 or drawings.shape[1:] != probability.shape:
        raise UsageError(
            "an edge map must be (H, W) and its drawings (K, H, W), got "
            f"{probability.shape} and {drawings.shape}"
        )
    if len(drawings) == 0:
        raise UsageError("an edge map needs the drawing of at least one annotator")
    if drawings.dtype != np.bool_:
        raise UsageError(f"drawings must be bool, got {drawings.dtype}: compare them with 0 first")
    if not np.issubdtype(probability.dtype, np.floating):
        raise UsageError(
            f"an edge map must hold probabilities from 0 to 1, got {probability.dtype}: divide the "
            "bytes of an image by 255"
        )
    # Written so that NaN is refused, too.
    if probability.size > 0 and not (probability.min() >= 0 and probability.max() <= 1):
        raise UsageError(
            "an edge map must hold probabilities from 0 to 1, but this one reaches from "
            f"{probability.min()} to {probability.max()}"
        )
    if not 0 < tolerance < 1:
        raise UsageError(
            f"tolerance is {tolerance}, but must be a share of the image's diagonal between 0 and 1"
        )


@dataclass(frozen=True, kw_only=True)
class EdgeResult:
    """The scores of edge maps; shares from 0 to 1.

    Attributes:
        images: how many images.
        tolerance: largest distance of partners as a share of the image's diagonal.
        ods: best F of one threshold for all images.
        ods_threshold: that threshold.
        ods_precision: the precision there.
        ods_recall: the recall there.
        ois: F where each image has its own best threshold.
        ois_precision: the precision then.
        ois_recall: the recall then.
        ap: average precision.
        thresholds: T thresholds, rising.
        precision: at each.
        recall: at each.
        intervals: "ods", "ois" and "ap" -> 95 % bootstrap interval over images.
    """

    images: int
    tolerance: float
    ods: float
    ods_threshold: float
    ods_precision: float
    ods_recall: float
    ois: float
    ois_precision: float
    ois_recall: float
    ap: float
    thresholds: list[float]
    precision: list[float]
    recall: list[float]
    intervals: dict[str, Interval] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "intervals": {k: list(v) for k, v in self.intervals.items()}}


@dataclass(frozen=True, kw_only=True, eq=False)
class EdgeCounts:
    """The counts of N images in the order of their names; they merge as evaluations do.

    Attributes:
        names: each once.
        counts: see `edge_counts`.
        tolerance: with which they were counted.
    """

    names: Sequence[str]
    counts: Int64[np.ndarray, "N T 4"]
    tolerance: float = TOLERANCE

    def __post_init__(self) -> None:
        if len(set(self.names)) != len(self.names) or len(self.names) != len(self.counts):
            raise UsageError("the counts of edges need one name an image, and each name once")
        order = sorted(range(len(self.names)), key=self.names.__getitem__)
        object.__setattr__(self, "names", tuple(self.names[index] for index in order))
        object.__setattr__(self, "counts", np.asarray(self.counts)[order])

    def merge(self, other: "EdgeCounts") -> "EdgeCounts":
        """The counts of the images of both; the order of merging does not matter.

        Raises:
            UsageError: an image is in both, or they were counted otherwise.
        """
        if (self.tolerance, self.counts.shape[1:]) != (other.tolerance, other.counts.shape[1:]):
            raise UsageError("counts of edges with other tolerances or thresholds cannot be merged")
        return EdgeCounts(
            names=(*self.names, *other.names),
            counts=np.concatenate((self.counts, other.counts)),
            tolerance=self.tolerance,
        )

    def result(self, *, resamples: int = 2000, seed: int = 0) -> EdgeResult:
        """Every score, with its 95 % bootstrap interval over images.

        Args:
            resamples: how often the images are drawn again; 0 gives no intervals.
            seed: the same seed gives the same intervals.

        Raises:
            UsageError: there is no image.
        """
        if len(self.counts) == 0:
            raise UsageError("there is no edge map, so there is nothing to score")
        total, chosen = self.counts.sum(0), best_counts(self.counts)
        levels = thresholds(total.shape[0])
        f, recall, precision, threshold = best_f(total, levels)
        own_recall, own_precision = shares(chosen.sum(0))
        recalls, precisions = shares(total)
        return EdgeResult(
            images=len(self.counts),
            tolerance=self.tolerance,
            ods=float(f),
            ods_threshold=float(threshold),
            ods_precision=float(precision),
            ods_recall=float(recall),
            ois=float(harmonic(own_recall, own_precision)),
            ois_precision=float(own_precision),
            ois_recall=float(own_recall),
            ap=average_precision(total),
            thresholds=levels.tolist(),
            precision=precisions.tolist(),
            recall=recalls.tolist(),
            intervals=self._intervals(chosen, levels, resamples=resamples, seed=seed),
        )

    def save(self, path: Path) -> None:
        """Write an .npz file, atomically.

        Raises:
            UsageError: the file cannot be written.
        """
        write_arrays(
            path,
            {
                "names": np.array(self.names, dtype=np.str_),
                "counts": self.counts,
                "tolerance": np.array(self.tolerance),
            },
        )

    @classmethod
    def load(cls, path: Path) -> "EdgeCounts":
        """Read what `save` wrote; nothing in the file is executed.

        Raises:
            UsageError: the file is missing, or holds something else.
        """
        with reading_arrays(path) as arrays:
            return cls(
                names=[str(name) for name in arrays["names"]],
                counts=arrays["counts"].astype(np.int64),
                tolerance=float(arrays["tolerance"]),
            )

    def _intervals(
        self,
        chosen: Int64[np.ndarray, "N 4"],
        levels: Float64[np.ndarray, " T"],
        *,
        resamples: int,
        seed: int,
    ) -> dict[str, Interval]:
        if len(self.counts) < FEWEST or resamples == 0:
            return {}
        flat = self.counts.reshape(len(self.counts), -1)
        sums = resampled_sums(np.concatenate((flat, chosen), 1), resamples=resamples, seed=seed)
        curves = sums[:, :-4].reshape(resamples, *self.counts.shape[1:])
        return percentile_intervals(
            {
                "ods": np.array([best_f(curve, levels)[0] for curve in curves]),
                "ois": harmonic(*shares(sums[:, -4:])),
                "ap": np.array([average_precision(curve) for curve in curves]),
            }
        )


def shares(
    counts: Shaped[np.ndarray, "*S 4"],
) -> tuple[Float64[np.ndarray, "*S"], Float64[np.ndarray, "*S"]]:
    """Recall and precision; 0 where there is nothing to divide by, as in the benchmark."""
    drawn, found = counts[..., 1], counts[..., 3]
    return counts[..., 0] / np.maximum(drawn, 1), counts[..., 2] / np.maximum(found, 1)


def harmonic(
    recall: Float64[np.ndarray, "*S"], precision: Float64[np.ndarray, "*S"]
) -> Float64[np.ndarray, "*S"]:
    """F, the harmonic mean; 0 where both are 0."""
    total = recall + precision
    f: Float64[np.ndarray, "*S"] = 2 * precision * recall / (total + (total == 0))
    return f


def best_f(
    counts: Shaped[np.ndarray, "T 4"], levels: Float64[np.ndarray, " T"]
) -> tuple[float, float, float, float]:
    """The best F on straight lines between thresholds, with recall, precision and threshold."""
    ends = np.stack([*shares(counts), levels])
    weight = np.linspace(0, 1, _STEPS)
    between = ends[:, 1:, None] * weight + ends[:, :-1, None] * (1 - weight)
    points = np.concatenate([ends[:, :1], between.reshape(3, -1)], axis=1)
    f = harmonic(points[0], points[1])
    best = int(f.argmax())
    recall, precision, threshold = points[:, best]
    return float(f[best]), float(recall), float(precision), float(threshold)


def best_counts(counts: Int64[np.ndarray, "N T 4"]) -> Int64[np.ndarray, "N 4"]:
    """The counts of each image at its own best threshold, the lowest of equals."""
    best = harmonic(*shares(counts)).argmax(1)
    chosen: Int64[np.ndarray, "N 4"] = counts[np.arange(len(counts)), best]
    return chosen


def average_precision(counts: Shaped[np.ndarray, "T 4"]) -> float:
    """AP; 0 where all recalls are equal, and precision 0 at recalls that are not reached."""
    recall, precision = shares(counts)
    # Of equal recalls the lowest threshold's precision, as MATLAB's `unique` takes the first.
    known, first = np.unique(recall, return_index=True)
    if len(known) < 2:
        return 0.0
    at = np.arange(101) * 0.01
    return float(np.interp(at, known, precision[first], left=0, right=0).sum() * 0.01)
