"""Boundaries of class maps: how near a prediction's outlines lie to the true ones.

The boundary F score of Csurka et al., "What is a good evaluation measure for semantic segmentation"
(BMVC 2013, section 3): a boundary pixel of a class is one of its pixels that touches, by a side, a
pixel of another class. Precision is the share of a class's predicted boundary pixels that have a
true one of that class within the tolerance, recall the share of the true ones that have a predicted
one, F their harmonic mean. Distances are between pixel centres, exact.

Ignored pixels belong to no class: they make no boundary, neither in the truth nor in the
prediction, and nothing is near to them. So where a dataset leaves a band of ignored pixels around
its objects (PASCAL VOC), there is hardly any boundary to judge.

Counts are summed over images before they are divided. The paper's own figure, the mean over the
images that have a true boundary of the class of each image's F, is given beside it.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int, Int64, Shaped
from scipy.spatial import cKDTree

from truemask.errors import UsageError
from truemask.labels import IGNORE_INDEX
from truemask.metrics.arrays import reading_arrays, write_arrays
from truemask.metrics.bootstrap import FEWEST, percentile_intervals, resampled_sums
from truemask.metrics.confusion import headline
from truemask.results import Interval

TOLERANCE = 0.0075
"""Largest distance that counts as near, as a share of the image's diagonal."""
MULTIPLES = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Of the tolerance, for the curve."""

Ids = Int[np.ndarray, "H W"]


def boundary(ids: Ids, counted: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """The pixels that touch one of another class by a side; both must be counted."""
    found = np.zeros(ids.shape, bool)
    for one, other in (
        (np.s_[1:, :], np.s_[:-1, :]),
        (np.s_[:, 1:], np.s_[:, :-1]),
    ):
        differs = (ids[one] != ids[other]) & counted[one] & counted[other]
        found[one] |= differs
        found[other] |= differs
    return found


def boundary_counts(
    truth: Ids,
    prediction: Ids,
    *,
    num_classes: int,
    tolerances: Sequence[float] = (TOLERANCE,),
    ignore_index: int = IGNORE_INDEX,
) -> Int64[np.ndarray, "J K 4"]:
    """The counts of one image, from which every score follows.

    Args:
        truth: class ids, or `ignore_index`.
        prediction: class ids.
        num_classes: K.
        tolerances: J distances that count as near, as shares of the image's diagonal.
        ignore_index: the id of pixels that do not count.

    Returns:
        For each tolerance and class: true boundary pixels with a predicted one near, true boundary
        pixels, predicted ones with a true one near, predicted ones.

    Raises:
        UsageError: the shapes differ, or a tolerance is out of range.
    """
    if truth.shape != prediction.shape or truth.ndim != 2:
        raise UsageError(
            f"truth and prediction must both be (H, W), got {truth.shape} and {prediction.shape}"
        )
    for tolerance in tolerances:
        check_tolerance(tolerance)
    counted = truth != ignore_index
    diagonal = math.hypot(*truth.shape)
    counts = np.zeros((len(tolerances), num_classes, 4), np.int64)
    edges = [
        np.where(boundary(ids, counted), ids.astype(np.int64), -1) for ids in (truth, prediction)
    ]
    for index in np.unique(np.concatenate([edge[edge >= 0] for edge in edges])):
        true, found = (np.argwhere(edge == index) for edge in edges)
        counts[:, index, 1], counts[:, index, 3] = len(true), len(found)
        if len(true) == 0 or len(found) == 0:
            continue
        to_found, to_true = _distances(true, found), _distances(found, true)
        for row, tolerance in enumerate(tolerances):
            # Distances are roots of whole numbers: a little more than the tolerance is as far.
            reach = tolerance * diagonal + 1e-9
            counts[row, index, 0] = (to_found <= reach).sum()
            counts[row, index, 2] = (to_true <= reach).sum()
    return counts


def _distances(
    points: Int64[np.ndarray, "N 2"], others: Int64[np.ndarray, "M 2"]
) -> Float64[np.ndarray, " N"]:
    """From each point to the nearest of the others."""
    distances: Float64[np.ndarray, " N"] = cKDTree(others).query(points)[0]
    return distances


def check_tolerance(tolerance: float) -> None:
    """Refuse what is no share of a diagonal.

    Raises:
        UsageError: it is not above 0 and below 1.
    """
    if not 0 < tolerance < 1:
        raise UsageError(
            f"tolerance is {tolerance}, but must be a share of the image's diagonal, above 0 and "
            f"below 1, such as {TOLERANCE}"
        )


@dataclass(frozen=True, kw_only=True)
class BoundaryResult:
    """The scores of boundaries: shares from 0 to 1, `None` for a class without boundaries.

    Attributes:
        images: how many images.
        tolerance: largest distance that counts as near, as a share of the image's diagonal.
        f1: of two classes the foreground's, else the mean over the classes that have boundaries.
        f1_per_class: class -> F of precision and recall.
        precision_per_class: class -> share of the predicted boundary with a true one near.
        recall_per_class: class -> share of the true boundary with a predicted one near.
        image_f1_per_class: class -> mean F of the images that have a true boundary of it.
        curve: tolerance -> class -> F.
        intervals: "f1", "f1_per_class.NAME", "precision_per_class.NAME" and
            "recall_per_class.NAME" -> 95 % bootstrap interval over images.
    """

    images: int
    tolerance: float
    f1: float | None
    f1_per_class: dict[str, float | None]
    precision_per_class: dict[str, float | None]
    recall_per_class: dict[str, float | None]
    image_f1_per_class: dict[str, float | None]
    curve: dict[str, dict[str, float | None]]
    intervals: dict[str, Interval] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "intervals": {k: list(v) for k, v in self.intervals.items()}}


@dataclass(frozen=True, kw_only=True, eq=False)
class BoundaryCounts:
    """The counts of N images in the order of their names; they merge as evaluations do.

    Attributes:
        names: each once.
        classes: the names of the K classes.
        tolerance: the one that is reported; the counts are of its `MULTIPLES`.
        counts: see `boundary_counts`.
    """

    names: Sequence[str]
    classes: Sequence[str]
    tolerance: float
    counts: Int64[np.ndarray, "N J K 4"]

    def __post_init__(self) -> None:
        shape = (len(self.names), len(MULTIPLES), len(self.classes), 4)
        if self.counts.shape != shape or len(set(self.names)) != len(self.names):
            raise UsageError(
                f"the counts of boundaries must be of shape {shape}, got {self.counts.shape}, and "
                "each image counts once"
            )
        order = sorted(range(len(self.names)), key=self.names.__getitem__)
        object.__setattr__(self, "names", tuple(self.names[index] for index in order))
        object.__setattr__(self, "classes", tuple(self.classes))
        object.__setattr__(self, "counts", self.counts[order])

    def merge(self, other: "BoundaryCounts") -> "BoundaryCounts":
        """The counts of the images of both; the order of merging does not matter.

        Raises:
            UsageError: an image is in both, or they were counted otherwise.
        """
        if (self.tolerance, self.classes) != (other.tolerance, other.classes):
            raise UsageError("counts of boundaries with other tolerances or classes do not merge")
        return BoundaryCounts(
            names=(*self.names, *other.names),
            classes=self.classes,
            tolerance=self.tolerance,
            counts=np.concatenate((self.counts, other.counts)),
        )

    def result(self, *, resamples: int = 2000, seed: int = 0) -> BoundaryResult:
        """Every score, with its 95 % bootstrap interval over images.

        Args:
            resamples: how often the images are drawn again; 0 gives no intervals.
            seed: the same seed gives the same intervals.

        Raises:
            UsageError: there is no image.
        """
        if len(self.counts) == 0:
            raise UsageError("no image was evaluated, so there is nothing to score")
        own = self.counts[:, MULTIPLES.index(1.0)]
        scores = boundary_scores(own.sum(0))
        curve = {
            f"{multiple * self.tolerance:.6g}": self._by_class(boundary_scores(row)["f1"])
            for multiple, row in zip(MULTIPLES, self.counts.sum(0), strict=True)
        }
        return BoundaryResult(
            images=len(self.counts),
            tolerance=self.tolerance,
            f1=_number(headline(scores["f1"])),
            f1_per_class=self._by_class(scores["f1"]),
            precision_per_class=self._by_class(scores["precision"]),
            recall_per_class=self._by_class(scores["recall"]),
            image_f1_per_class=self._by_class(_image_mean(own)),
            curve=curve,
            intervals=self._intervals(own, resamples=resamples, seed=seed),
        )

    def _intervals(
        self, own: Int64[np.ndarray, "N K 4"], *, resamples: int, seed: int
    ) -> dict[str, Interval]:
        if len(own) < FEWEST or resamples == 0:
            return {}
        sums = resampled_sums(own.reshape(len(own), -1), resamples=resamples, seed=seed)
        scores = boundary_scores(sums.reshape(resamples, *own.shape[1:]))
        # A class whose outlines few images have is not known better for all the others.
        known = (own.sum(2) > 0).sum(0) >= FEWEST
        samples = {}
        if len(self.classes) != 2 or known[1]:
            samples["f1"] = headline(scores["f1"])
        for score, values in scores.items():
            for name, column, enough in zip(self.classes, values.T, known, strict=True):
                if enough:
                    samples[f"{score}_per_class.{name}"] = column
        return percentile_intervals(samples)

    def _by_class(self, scores: Float64[np.ndarray, " K"]) -> dict[str, float | None]:
        return {name: _number(score) for name, score in zip(self.classes, scores, strict=True)}

    def save(self, path: Path) -> None:
        """Write an .npz file, atomically.

        Raises:
            UsageError: the file cannot be written.
        """
        write_arrays(
            path,
            {
                "names": np.array(self.names, dtype=np.str_),
                "classes": np.array(self.classes, dtype=np.str_),
                "tolerance": np.array(self.tolerance),
                "counts": self.counts,
            },
        )

    @classmethod
    def load(cls, path: Path) -> "BoundaryCounts":
        """Read what `save` wrote; nothing in the file is executed.

        Raises:
            UsageError: the file is missing, or holds something else.
        """
        with reading_arrays(path) as arrays:
            return cls(
                names=[str(name) for name in arrays["names"]],
                classes=[str(name) for name in arrays["classes"]],
                tolerance=float(arrays["tolerance"]),
                counts=arrays["counts"].astype(np.int64),
            )


def boundary_scores(counts: Shaped[np.ndarray, "*S K 4"]) -> dict[str, Float64[np.ndarray, "*S K"]]:
    """F, precision and recall; NaN without a boundary in either, 0 with one in one of them only."""
    near_true, true, near_found, found = np.moveaxis(counts.astype(np.float64), -1, 0)
    nothing = true + found == 0
    recall = np.where(nothing, np.nan, near_true / np.maximum(true, 1))
    precision = np.where(nothing, np.nan, near_found / np.maximum(found, 1))
    total = precision + recall
    f1 = np.where(nothing, np.nan, 2 * precision * recall / np.where(total > 0, total, 1))
    return {"f1": f1, "precision": precision, "recall": recall}


def _image_mean(counts: Int64[np.ndarray, "N K 4"]) -> Float64[np.ndarray, " K"]:
    """Mean F over the images that have a true boundary of the class; NaN where none has."""
    has = counts[..., 1] > 0
    f1 = np.where(has, boundary_scores(counts)["f1"], 0)
    mean: Float64[np.ndarray, " K"] = np.where(
        has.any(0), f1.sum(0) / np.maximum(has.sum(0), 1), np.nan
    )
    return mean


def _number(value: np.floating | Float64[np.ndarray, ""]) -> float | None:
    return None if math.isnan(value) else float(value)
