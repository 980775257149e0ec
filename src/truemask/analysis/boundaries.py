"""How well a run's outlines lie: watchers that count boundaries and edges while it is evaluated."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from truemask.datasets.bsds500 import annotations, read_annotators
from truemask.errors import UsageError
from truemask.evaluation import Seen
from truemask.labels import LabelMap
from truemask.metrics.boundary import (
    MULTIPLES,
    BoundaryCounts,
    BoundaryResult,
    boundary_counts,
    check_tolerance,
)
from truemask.metrics.edges import TOLERANCE, EdgeCounts, EdgeResult, edge_counts

Drawings = Callable[[str], Bool[np.ndarray, "K H W"] | None]
"""The name of an image -> what each annotator drew, or None where that is not known."""


class BoundaryWatcher:
    """Counts the boundaries of the classes of each image; see `metrics/boundary.py`."""

    def __init__(self, labels: LabelMap, *, tolerance: float) -> None:
        check_tolerance(tolerance)
        if MULTIPLES[-1] * tolerance >= 1:
            raise UsageError(
                f"tolerance is {tolerance}, but must be below {1 / MULTIPLES[-1]:g}, as the curve "
                f"reaches {MULTIPLES[-1]:g} times as far"
            )
        self._labels, self._tolerance = labels, tolerance
        self._counts: dict[str, Int64[np.ndarray, "J K 4"]] = {}

    def __call__(self, seen: Seen) -> None:
        """Count one image."""
        self._counts[seen.sample.name] = boundary_counts(
            seen.truth.cpu().numpy(),
            seen.ids.cpu().numpy(),
            num_classes=self._labels.num_classes,
            tolerances=[multiple * self._tolerance for multiple in MULTIPLES],
            ignore_index=self._labels.ignore_index,
        )

    def counts(self) -> BoundaryCounts:
        """Of all images seen so far."""
        return BoundaryCounts(
            names=list(self._counts),
            classes=self._labels.names,
            tolerance=self._tolerance,
            counts=np.array(list(self._counts.values())),
        )


class EdgeWatcher:
    """Counts the probability of class 1 of each image as an edge map; see `metrics/edges.py`.

    Args:
        labels: of two classes.
        tolerance: largest distance of partners as a share of the image's diagonal.
        drawings: what each annotator drew; where it is not known the mask is one drawing, and a
            found pixel on ignored ground counts only if it is a partner.

    Raises:
        UsageError: the labels have more than two classes, or the tolerance is out of range.
    """

    def __init__(
        self, labels: LabelMap, *, tolerance: float, drawings: Drawings = lambda name: None
    ) -> None:
        if labels.num_classes != 2:
            raise UsageError(
                f"edges are a task of two classes, but these are {labels.num_classes}: merge them "
                "with data.labels, or leave --edges out"
            )
        check_tolerance(tolerance)
        self._labels, self._tolerance, self._drawings = labels, tolerance, drawings
        self._counts: dict[str, Int64[np.ndarray, "T 4"]] = {}

    def __call__(self, seen: Seen) -> None:
        """Count one image."""
        probability = self._labels.probabilities(seen.logits[None])[0, 1].double().cpu().numpy()
        truth, name = seen.truth.cpu().numpy(), seen.sample.name
        drawings, doubtful = self._drawings(name), None
        if drawings is None:
            drawings, doubtful = (truth == 1)[None], truth == self._labels.ignore_index
        try:
            self._counts[name] = edge_counts(
                probability, drawings, tolerance=self._tolerance, doubtful=doubtful
            )
        except UsageError as error:
            raise UsageError(f"{name}: {error}") from error

    def counts(self) -> EdgeCounts:
        """Of all images seen so far."""
        return EdgeCounts(
            names=list(self._counts),
            counts=np.array(list(self._counts.values())),
            tolerance=self._tolerance,
        )


def is_edge_data(config: Mapping[str, Any]) -> bool:
    """Whether a run's data is BSDS500."""
    return str(config["data"]["dataset"].get("_target_", "")).endswith(".bsds500.bsds500")


def drawings_of(config: Mapping[str, Any]) -> Drawings:
    """What each annotator drew, where the run's data is BSDS500 with its original annotations.

    A run on one annotator's drawings, or on a copy that holds sums over them, is held against its
    masks.
    """
    dataset = config["data"]["dataset"]
    if not is_edge_data(config) or dataset.get("annotator") is not None:
        return lambda name: None
    files = annotations(Path(str(dataset["root"])))
    return lambda name: read_annotators(files[name]) if name in files else None


class Watchers:
    """What watches an evaluation beside its confusion matrices: boundaries, edges, both or neither.

    Args:
        labels: of the run.
        config: of the run, which names its data.
        boundaries: the tolerance; `None` for no boundaries. BSDS500's are edges, too.
        edges: whether edges are counted, within `boundaries` or the benchmark's own tolerance.

    Raises:
        UsageError: the tolerance is out of range, or edges are asked of more than two classes.
    """

    def __init__(
        self, labels: LabelMap, config: Mapping[str, Any], *, boundaries: float | None, edges: bool
    ) -> None:
        self.boundaries: BoundaryWatcher | None = None
        self.edges: EdgeWatcher | None = None
        if boundaries is not None:
            self.boundaries = BoundaryWatcher(labels, tolerance=boundaries)
        if edges or (boundaries is not None and is_edge_data(config)):
            self.edges = EdgeWatcher(
                labels,
                tolerance=TOLERANCE if boundaries is None else boundaries,
                drawings=drawings_of(config),
            )

    def __call__(self, seen: Seen) -> None:
        """Count one image."""
        for watcher in (self.boundaries, self.edges):
            if watcher is not None:
                watcher(seen)

    def results(self) -> tuple[BoundaryResult | None, EdgeResult | None]:
        """The scores of all images seen."""
        return (
            None if self.boundaries is None else self.boundaries.counts().result(),
            None if self.edges is None else self.edges.counts().result(),
        )
