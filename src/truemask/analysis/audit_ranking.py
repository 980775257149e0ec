"""From the evidence of each image to one ranking: how unusual it is among all images.

Every kind of evidence has its own scale, and hard data has more of each. So each is told in robust
standard deviations above the median of all images of the audit. Both come from the lower three
quarters alone, so that up to a quarter of the images may be wrong without hiding one another. An
image's score is its largest: one kind of evidence is enough.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64

from truemask.analysis.audit_borders import Step
from truemask.analysis.audit_image import Evidence, FoundRegion

Kind = Literal["mask", "region", "moved", "border"]

THRESHOLD = 3.5
"""From this modified z-score on Iglewicz and Hoaglin (1993) call a value an outlier."""

FEWEST = 8
"""Images with a class, below which nothing is known of what is usual for its border."""

_WHOLE = 0.3
"""Share of labelled pixels that contradict, from which on it may be the mask of another image."""

_ONE = 0.6
"""Share of the evidence in one region, from which on it is that region and not the mask."""

# The smallest deviations: a nat in a two-thousandth of the pixels; a thousandth of a nat for every
# pixel by moving the mask; a nat for each pixel of a border as long as a pixel.
_LEAST_SHARE, _LEAST_GAIN, _LEAST_BORDER = 5e-4, 1e-3, 1.0

# What is the best of some hundred translations, or of two steps for every class, has a longer tail
# than a sum over pixels. Found by injecting errors (docs/audit.md).
_TAILS = {"region": 1.0, "moved": 10 / 3, "border": 2.0}

_QUARTILE = 0.6745
"""Of the standard normal distribution: its third quartile."""


@dataclass(frozen=True)
class Scale:
    """What is usual: the median of a kind of evidence, and a robust standard deviation above it."""

    median: float
    deviation: float

    @classmethod
    def of(
        cls,
        values: Sequence[float] | Float64[np.ndarray, " N"],
        *,
        least: float,
        tail: float = 1.0,
    ) -> "Scale":
        """Of some values: the distance from the median to the third quartile.

        Args:
            values: one an image.
            least: the smallest deviation, for a model that hardly ever errs: less is nobody's
                concern, however unusual.
            tail: by which the deviation is multiplied, for a kind of evidence whose tail is longer
                than its middle lets expect.
        """
        if len(values) == 0:
            return cls(0.0, tail * least)
        median, upper = np.quantile(np.asarray(values, dtype=np.float64), (0.5, 0.75))
        return cls(float(median), tail * max(least, float(upper - median) / _QUARTILE))

    def score(self, value: float) -> float:
        """How far a value lies above the median, in deviations."""
        return (value - self.median) / self.deviation


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """An image with its scores.

    Attributes:
        evidence: what they come from.
        scores: of each kind.
        score: the largest.
        kind: what it looks like most.
        step: the class border that stands out most, if one is known.
        regions: (region, its score), the highest first.
    """

    evidence: Evidence
    scores: dict[str, float]
    score: float
    kind: Kind
    step: Step | None
    regions: tuple[tuple[FoundRegion, float], ...]


def rank(evidence: Sequence[Evidence]) -> list[Ranked]:
    """The images, that whose label is most likely wrong first.

    Args:
        evidence: of every image; the scores are of this set.
    """
    usual = _usual_steps(evidence)
    steps = [_strongest_step(one, usual) for one in evidence]
    contradiction = Scale.of([one.contradiction for one in evidence], least=_LEAST_SHARE)
    translation = Scale.of(
        [one.translation.gain for one in evidence], least=_LEAST_GAIN, tail=_TAILS["moved"]
    )
    border = Scale.of([excess for excess, _ in steps], least=_LEAST_BORDER, tail=_TAILS["border"])
    region = Scale.of([_largest(one) for one in evidence], least=_LEAST_SHARE)
    ranked = []
    for one, (excess, step) in zip(evidence, steps, strict=True):
        scores: dict[str, float] = {
            "region": contradiction.score(one.contradiction),
            "moved": translation.score(one.translation.gain),
            "border": border.score(excess),
        }
        # What it looks like most is told by the middle of the distributions alone: a moved mask
        # contradicts everywhere too, and its tail would never win.
        kind = max(scores, key=lambda name: scores[name] * _TAILS[name])
        if kind == "region" and _is_whole(one):
            scores["mask"] = scores.pop("region")
            kind = "mask"
        found = [(r, region.score(r.evidence)) for r in one.regions]
        ranked.append(
            Ranked(
                evidence=one,
                scores=scores,
                score=max(scores.values()),
                kind=kind,  # type: ignore[arg-type]
                step=step,
                regions=tuple(sorted(found, key=lambda pair: -pair[1])),
            )
        )
    return sorted(ranked, key=lambda r: (-r.score, r.evidence.part, r.evidence.name))


def _is_whole(one: Evidence) -> bool:
    """Whether much contradicts, and not as one region does."""
    return one.contradicted >= _WHOLE and _largest(one) < _ONE * one.contradiction


def _largest(one: Evidence) -> float:
    return max((region.evidence for region in one.regions), default=0.0)


def _usual_steps(evidence: Sequence[Evidence]) -> dict[tuple[int, bool], float]:
    """(class, outwards) -> the median gain: a model has its habits with each class."""
    gains: dict[tuple[int, bool], list[float]] = {}
    for one in evidence:
        for step in one.steps:
            gains.setdefault((step.label, step.pixels > 0), []).append(step.gain)
    return {key: float(np.median(values)) for key, values in gains.items() if len(values) >= FEWEST}


def _strongest_step(
    one: Evidence, usual: dict[tuple[int, bool], float]
) -> tuple[float, Step | None]:
    """The class border with most evidence beyond the usual.

    The gain of a border pixel scatters less the longer the border is: hence its square root.
    """
    best: tuple[float, Step | None] = (0.0, None)
    for step in one.steps:
        key = (step.label, step.pixels > 0)
        if key in usual:
            excess = max(0.0, step.gain - usual[key]) * float(np.sqrt(step.border))
            if excess > best[0]:
                best = (excess, step)
    return best
