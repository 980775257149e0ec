"""Whether a model is right as often as it says: counts by confidence, and scores from them.

The confidence of a pixel is the probability of the class that was predicted there. Pixels are
sorted into 15 bins of equal width by it; in each, the mean confidence is held against the share of
pixels that were right. The expected calibration error (ECE) is the mean difference of the two over
all pixels (Guo et al., On Calibration of Modern Neural Networks, 2017, equations 3 and 5):

    ECE = sum over bins of (pixels of the bin / all pixels) * |accuracy - mean confidence|

The state is integers, confidences in units of 2^-24 too (above one half, a float32 is a whole
number of them), so that counts of images add up to the same bits in any order.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64, UInt8

BINS = 15
"""Bins of equal width: (0, 1/15], (1/15, 2/15], ... , (14/15, 1], as Guo et al. take them."""

UNIT = 2.0**-24
"""What a count of confidence stands for."""

_PIXELS, _CONFIDENCE, _CORRECT = range(3)

Counts = Int64[np.ndarray, "*S 15 3"]
"""Of each bin its pixels, the sum of their confidences in units of 2^-24, how many are right."""


def reliability_counts(
    confidence: Float[np.ndarray, " P"],
    correct: Bool[np.ndarray, " P"],
    predicted: UInt8[np.ndarray, " P"],
    *,
    num_classes: int,
) -> Int64[np.ndarray, "K 15 3"]:
    """Count pixels by predicted class and confidence.

    Args:
        confidence: the probability of the predicted class, above 0 and at most 1.
        correct: whether the truth is that class.
        predicted: the class.
        num_classes: K.
    """
    exact = confidence.astype(np.float64)
    bins = np.clip(np.ceil(exact * BINS).astype(np.int64) - 1, 0, BINS - 1)
    cells = predicted.astype(np.int64) * BINS + bins
    size = num_classes * BINS
    # float64 sums of whole numbers, exact below 2^53: 500 million pixels of one image.
    units = np.rint(exact / UNIT)
    counts = np.stack(
        (
            np.bincount(cells, minlength=size),
            np.bincount(cells, weights=units, minlength=size).astype(np.int64),
            np.bincount(cells[correct], minlength=size),
        ),
        axis=-1,
    )
    found: Int64[np.ndarray, "K 15 3"] = counts.reshape(num_classes, BINS, 3).astype(np.int64)
    return found


def calibration_error(counts: Counts | Float64[np.ndarray, "*S 15 3"]) -> Float64[np.ndarray, "*S"]:
    """The expected calibration error, from 0 to 1; NaN without a pixel."""
    gaps = np.abs(counts[..., _CORRECT] - counts[..., _CONFIDENCE] * UNIT).sum(-1)
    return _share(gaps, counts[..., _PIXELS].sum(-1))


def mean_confidence(counts: Counts) -> Float64[np.ndarray, "*S"]:
    """Mean confidence over the last axis that is left, such as that of each bin; NaN if empty."""
    return _share(counts[..., _CONFIDENCE] * UNIT, counts[..., _PIXELS])


def accuracy(counts: Counts) -> Float64[np.ndarray, "*S"]:
    """Share of the pixels that are right, as `mean_confidence`."""
    return _share(counts[..., _CORRECT].astype(np.float64), counts[..., _PIXELS])


def _share(part: Float64[np.ndarray, "*S"], whole: np.ndarray) -> Float64[np.ndarray, "*S"]:
    shares: Float64[np.ndarray, "*S"] = np.divide(
        part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0
    )
    return shares


@dataclass(frozen=True, kw_only=True)
class Temperature:
    """A temperature that was fitted.

    Attributes:
        value: what logits are to be divided by.
        before: the mean negative log-likelihood of a pixel, in nats, at temperature 1.
        after: at `value`.
        bounded: whether a better one lies beyond what is allowed.
    """

    value: float
    before: float
    after: float
    bounded: bool


def fit_temperature(
    logits: Float[np.ndarray, "P L"],
    truth: UInt8[np.ndarray, " P"],
    weights: Float64[np.ndarray, " P"],
    *,
    low: float = 0.05,
    high: float = 20.0,
) -> Temperature:
    """The temperature at which the truth is most likely (Guo et al. 2017, section 4.2).

    The negative log-likelihood is convex in the inverse temperature, so that its derivative there,
    the mean of (expected logit - logit of the truth), has one zero, which is found by bisection.

    Args:
        logits: of some pixels; one channel for two classes.
        truth: their classes.
        weights: how many pixels each stands for, above 0.
        low: the lowest temperature allowed.
        high: the highest.
    """
    exact = logits.astype(np.float64)
    if exact.shape[1] == 1:
        exact = np.concatenate((np.zeros_like(exact), exact), axis=1)
    shares = weights / weights.sum()
    of_truth = exact[np.arange(len(exact)), truth]

    def likelihood(inverse: float) -> tuple[float, float]:
        """The negative log-likelihood and its derivative."""
        scaled = exact * inverse
        top = scaled.max(1, keepdims=True)
        powers = np.exp(scaled - top)
        total = powers.sum(1)
        loss = np.log(total) + top[:, 0] - of_truth * inverse
        expected = (powers * exact).sum(1) / total
        return float(shares @ loss), float(shares @ (expected - of_truth))

    ends = [1 / high, 1 / low]
    slopes = [likelihood(end)[1] for end in ends]
    if slopes[0] >= 0 or slopes[1] <= 0:
        inverse = ends[0] if slopes[0] >= 0 else ends[1]
        bounded = True
    else:
        bounded = False
        while ends[1] - ends[0] > 1e-7 * ends[1]:
            middle = (ends[0] * ends[1]) ** 0.5
            ends[likelihood(middle)[1] > 0] = middle
        inverse = (ends[0] * ends[1]) ** 0.5
    return Temperature(
        value=1 / inverse,
        before=likelihood(1.0)[0],
        after=likelihood(inverse)[0],
        bounded=bounded,
    )
