"""From the evidence of each image to one ranking: how unusual it is among all images.

Every kind of evidence has its own scale, and hard data has more of each. So each is told in robust
standard deviations of its logarithm above the median of all images of the audit: evidence spans
decades, and what counts is how many times the usual it is. Both come from the lower three quarters
alone, so that up to a quarter of the images may be wrong without hiding one another. An image's
score is the sum of what lies above the median: kinds of evidence that agree make each other
stronger, and one alone is enough.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64

from truemask.analysis.audit_borders import Step
from truemask.analysis.audit_image import BORDER_SIDE, Evidence, FoundRegion
from truemask.analysis.audit_mixed import Likeness, mixed_up

Kind = Literal["mask", "region", "moved", "border"]

THRESHOLD = 2.5
"""Score from which on an image is flagged by default. Found as `_SHAPE` was: half to nearly all of
what lies above it was made wrong, depending on how much was."""

FEWEST = 8
"""Images with a class, below which nothing is known of what is usual for its border."""

_WHOLE = 0.2
"""Share of labelled pixels that contradict, from which on it may be the mask of another image."""

_ONE = 0.6
"""Share of the evidence in one region, from which on it is that region and not the mask."""

# Evidence below this counts as none: a nat in a two-thousandth of the pixels; a thousandth of a nat
# for every pixel by moving the mask; a nat for each pixel of a border as long as a pixel.
_LEAST_SHARE, _LEAST_GAIN, _LEAST_BORDER = 5e-4, 1e-3, 1.0

_NARROWEST = 0.5
"""The smallest deviation of the logarithms: evidence half as strong again is nobody's concern."""

_SHAPE = 0.2
"""What `moved` and `border` count beside `region`, being the best of many tries. Found by injecting
errors (docs/audit.md)."""

_QUARTILE = 0.6745
"""Of the standard normal distribution: its third quartile."""


@dataclass(frozen=True)
class Scale:
    """What is usual of a kind of evidence: the median of its logarithm, and a robust deviation."""

    least: float
    median: float
    deviation: float

    @classmethod
    def of(cls, values: Sequence[float] | Float64[np.ndarray, " N"], *, least: float) -> "Scale":
        """Of some values: the distance from the median to the third quartile.

        Args:
            values: one an image, 0 or more.
            least: what is added before the logarithm, as less is nobody's concern.
        """
        if len(values) == 0:
            return cls(least, float(np.log(least)), _NARROWEST)
        logs = np.log(np.asarray(values, dtype=np.float64) + least)
        median, upper = np.quantile(logs, (0.5, 0.75))
        deviation = max(_NARROWEST, float(upper - median) / _QUARTILE)
        return cls(least, float(median), deviation)

    def score(self, value: float) -> float:
        """How far a value lies above the median, in deviations."""
        return (float(np.log(value + self.least)) - self.median) / self.deviation


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """An image with its scores.

    Attributes:
        evidence: what they come from.
        scores: what each kind of evidence adds: deviations above the median, below 0 under it.
        score: the sum of those above 0.
        kind: what it looks like most.
        like: the image that the label fits instead, where the masks may be mixed up.
        step: the class border that stands out most, if one is known.
        regions: (region, its score), the highest first.
    """

    evidence: Evidence
    scores: dict[str, float]
    score: float
    kind: Kind
    step: Step | None
    like: Likeness | None
    regions: tuple[tuple[FoundRegion, float], ...]


def rank(evidence: Sequence[Evidence]) -> list[Ranked]:
    """The images, that whose label is most likely wrong first.

    Args:
        evidence: of every image; the scores are of this set.
    """
    usual = _usual_steps(evidence)
    steps = [_strongest_step(one, usual) for one in evidence]
    scored = _scored(evidence, [excess for excess, _ in steps])
    totals = [sum(max(0.0, value) for value in scores.values()) for scores in scored]
    suspects = sorted(
        (i for i, total in enumerate(totals) if total >= THRESHOLD), key=lambda i: -totals[i]
    )
    likes = mixed_up([one.copy for one in evidence], [one.name for one in evidence], suspects)
    region = Scale.of([_largest(one) for one in evidence], least=_LEAST_SHARE)
    ranked = []
    for index, (one, scores) in enumerate(zip(evidence, scored, strict=True)):
        found = [(r, region.score(r.evidence)) for r in one.regions]
        kind = "mask" if index in likes else _kind(one, steps[index][1])
        if kind == "mask":
            scores["mask"] = scores.pop("region")
        ranked.append(
            Ranked(
                evidence=one,
                scores=scores,
                score=totals[index],
                kind=kind,
                step=steps[index][1],
                like=likes.get(index),
                regions=tuple(sorted(found, key=lambda pair: -pair[1])),
            )
        )
    return sorted(ranked, key=lambda r: (-r.score, r.evidence.part, r.evidence.name))


def _scored(evidence: Sequence[Evidence], excesses: Sequence[float]) -> list[dict[str, float]]:
    """What each kind of evidence adds to the score of each image."""
    region = Scale.of([one.contradiction for one in evidence], least=_LEAST_SHARE)
    moved = Scale.of([one.translation.gain for one in evidence], least=_LEAST_GAIN)
    border = Scale.of(excesses, least=_LEAST_BORDER)
    return [
        {
            "region": region.score(one.contradiction),
            "moved": _SHAPE * moved.score(one.translation.gain),
            "border": _SHAPE * border.score(excess),
        }
        for one, excess in zip(evidence, excesses, strict=True)
    ]


def _kind(one: Evidence, step: Step | None) -> Kind:
    """What it looks like most: what moving a border explains is no region of another class."""
    moved, border = one.translation.gain, 0.0
    if step is not None:
        squares = one.height * one.width / math.ceil(max(one.height, one.width) / BORDER_SIDE) ** 2
        border = step.gain * step.border / squares
    if max(moved, border) >= max(one.contradiction, _LEAST_GAIN):
        return "moved" if moved >= border else "border"
    if one.contradicted >= _WHOLE and _largest(one) < _ONE * one.contradiction:
        return "mask"
    return "region"


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
