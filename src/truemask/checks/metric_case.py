"""A metric and the predictions that it is given: what it says of them tells which score it is."""

from collections.abc import Sequence

from truemask.checks.metric_probe import MetricProbe
from truemask.checks.metric_references import (
    Batch,
    Reference,
    references,
    regions,
    with_errors,
)

_UNUSED = -99
"""An id that no pixel has, where nothing is ignored."""

NEAR = 2e-3
"""How far a figure may be from a score that it is, which small smoothing terms need."""

_SAME = 2e-6
"""The same where other images are to be recognised by a figure."""


class Case:
    """A metric, what it claims, and what it was asked."""

    def __init__(
        self, probe: MetricProbe, num_classes: int, ignore_index: int | None, claims: str, name: str
    ) -> None:
        self.probe, self.name, self.claims = probe, name, claims
        self.classes = max(num_classes, 2)
        self.ignore_index = ignore_index
        self.used = [number for number in range(self.classes) if number != ignore_index]
        # Batches of different size and difficulty, so that no two ways to average agree.
        self.batches: list[Batch] = [
            self.batch(1, 3, 0.05),
            self.batch(2, 1, 0.6),
            self.batch(3, 2, 0.25),
        ]

    def batch(
        self, seed: int, size: int, errors: float, classes: Sequence[int] | None = None
    ) -> Batch:
        """Predictions and masks of a difficulty.

        Args:
            seed: of both.
            size: images.
            errors: share of the pixels that are wrong.
            classes: that occur; all by default.
        """
        chosen = self.used if classes is None else classes
        truth = regions(seed, batch=size, classes=chosen)
        return with_errors(truth, errors, chosen, seed), truth

    def matches(self, value: float, batches: Sequence[Batch]) -> list[Reference]:
        """The ways to compute a score that give this figure."""
        ignored = _UNUSED if self.ignore_index is None else self.ignore_index
        known = references(batches, num_classes=self.classes, ignore_index=ignored)
        return [way for way in known if abs(way.value - value) < NEAR]

    def counterpart(self, way: Reference) -> float:
        """The same score of all pixels together."""
        ignored = _UNUSED if self.ignore_index is None else self.ignore_index
        known = references(self.batches, num_classes=self.classes, ignore_index=ignored)
        same = (way.score, "all", way.absent, way.classes)
        return next(r.value for r in known if (r.score, r.over, r.absent, r.classes) == same)

    def as_if(self, value: float) -> str:
        """Which batches the figure of all three was made of; "" for all, or where that is unknown.

        Only the scores that the metric is of a single batch are asked for, and nearly to the last
        digit: among the many figures of many sets of images some are near each other by accident.
        """
        single = self.matches(self.probe.value(self.batches[:1]), self.batches[:1])
        forms = {(way.score, way.absent, way.classes) for way in single if way.over == "all"}

        def is_of(batches: Sequence[Batch]) -> bool:
            return any(
                way.over == "all"
                and (way.score, way.absent, way.classes) in forms
                and abs(way.value - value) < _SAME
                for way in self.matches(value, batches)
            )

        if is_of(self.batches):
            return ""
        first, second, third = self.batches
        others = {
            "the last batch is dropped": [first, second],
            "the first batch is dropped": [second, third],
            "batches smaller than the first are dropped": [first],
            "only the last batch counts": [third],
            "the last batch counts twice": [first, second, third, third],
            "the first batch counts twice": [first, first, second, third],
        }
        for what, batches in others.items():
            if is_of(batches):
                return what
        return ""

    def uncounted(self) -> str:
        """Which pixels of a batch do not change the figure, however wrong they are; "" for none."""
        prediction, truth = self.batches[0]
        value = self.probe.value([(prediction, truth)])
        following = dict(zip(self.used, [*self.used[1:], self.used[0]], strict=True))
        wrong = truth.clone()
        for one, other in following.items():
            wrong[truth == one] = other
        areas = {f"image {place + 1} of {len(truth)}": [place] for place in range(len(truth))}
        for name, places in areas.items():
            changed = prediction.clone()
            changed[places] = wrong[places]
            if self.probe.value([(changed, truth)]) == value:
                return name
        changed = wrong.clone()
        changed[0, 0] = prediction[0, 0]
        if self.probe.value([(changed, truth)]) == value:
            return "all pixels but the first row of the first image"
        return ""
