"""How sure a difference between runs is.

Two runs that were judged on the same images are compared image by image: the same images are drawn
with replacement for both, so that what makes an image hard for both of them drops out (the paired
bootstrap). That interval holds what other images would change. What another start would change is
seen only where a setting was trained with several seeds: it is the t interval of Welch (Biometrika
34, 1947) of the difference of two means. Both are independent sources of doubt, so that their
half-widths are added as squares.
"""

import hashlib
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from truemask.analysis.comparison import Difference, Metric
from truemask.metrics.bootstrap import percentile_intervals, resampled_margins, resampled_sums
from truemask.metrics.confusion import headline, iou
from truemask.per_image import Evaluation

RESAMPLES = 2000

Samples = Float64[np.ndarray, " R"]
"""A run's score of each resample of its images."""

_T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""The 97.5 % quantile of Student's t, of 1 to 30 degrees of freedom."""
_NORMAL = 1.960
"""The same of endlessly many."""


def judged_images(evaluation: Evaluation) -> str:
    """What tells the images, their classes and their truth from others: equal texts, equal truth.

    Equal names alone do not, as masks may have been merged or resized.
    """
    truth = np.ascontiguousarray(evaluation.matrices.sum(2))
    content = repr((list(evaluation.names), list(evaluation.labels.names))).encode()
    return hashlib.sha256(content + truth.tobytes()).hexdigest()


def resampled_scores(evaluation: Evaluation, metric: Metric) -> Samples:
    """The score of images drawn with replacement; the draws are the same for every run."""
    if metric == "loss":
        losses = evaluation.losses[:, None]
        return resampled_sums(losses, resamples=RESAMPLES, seed=0)[:, 0] / len(losses)
    counts = resampled_margins(evaluation.matrices, resamples=RESAMPLES, seed=0)
    return headline(iou(counts))


def difference(
    best: Sequence[float],
    other: Sequence[float],
    *,
    metric: Metric,
    samples: tuple[Sequence[Samples], Sequence[Samples]] | None,
) -> Difference:
    """How much `other` is better than `best`: their means, and how sure that is.

    Args:
        best: scores of the runs of the best group.
        other: those of the other group.
        metric: what the scores are; a lower loss is better.
        samples: `resampled_scores` of each run of both groups, all of the same images; `None` where
            they were judged on different images, or on too few.
    """
    sign = -1.0 if metric == "loss" else 1.0
    value = sign * (float(np.mean(other)) - float(np.mean(best)))
    sides: list[tuple[float, float]] = []
    over: list[str] = []
    if samples is not None:
        first, second = (np.mean(group, axis=0) for group in samples)
        found = percentile_intervals({"difference": sign * (second - first)}).get("difference")
        if found is not None:
            sides.append((max(0.0, value - found[0]), max(0.0, found[1] - value)))
            over.append("images")
    if len(best) > 1 and len(other) > 1:
        half = welch(best, other)
        sides.append((half, half))
        over.append("seeds")
    if not sides:
        return Difference(value=value, interval=None)
    down, up = (math.hypot(*widths) for widths in zip(*sides, strict=True))
    return Difference(value=value, interval=(value - down, value + up), over=tuple(over))


def welch(one: Sequence[float], other: Sequence[float]) -> float:
    """Half the width of the 95 % interval of the difference of two means, 2 scores or more each."""
    shares = [float(np.var(scores, ddof=1)) / len(scores) for scores in (one, other)]
    total = sum(shares)
    if total == 0:
        return 0.0
    parts = (
        share**2 / (len(scores) - 1) for share, scores in zip(shares, (one, other), strict=True)
    )
    freedom = total**2 / sum(parts)
    return student(freedom) * math.sqrt(total)


def student(freedom: float) -> float:
    """The 97.5 % quantile of Student's t, 1 degree of freedom or more.

    Read from a table, straight between the logarithms of its entries over 1 / freedom: by up to 3 %
    too large, never too small.
    """
    shares = [1 / n for n in range(1, len(_T) + 1)]
    # `interp` wants them to increase.
    places, logs = [0.0, *reversed(shares)], np.log([_NORMAL, *reversed(_T)])
    return math.exp(float(np.interp(1 / freedom, places, logs)))
