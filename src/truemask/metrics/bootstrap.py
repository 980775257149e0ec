"""How sure a score is: 95 % intervals by resampling the images (the percentile bootstrap).

A score of N images would come out differently on N other images of the same kind. To see by how
much, draw N of the N images with replacement, score them, and repeat; the middle 95 % of those
scores is the interval (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3).
Images are drawn whole, since the pixels of one image are anything but independent. With few images
(below about 20) the interval comes out too narrow, below `FEWEST` none is given.

Drawing with replacement is a multinomial number of copies of each image, so all resamples are one
matrix product: [R, N] copies times [N, 3 K] margins. Its sums are whole numbers in float64, exact
below 2^53 = 9e15 pixels, so that no order of summation and no number of threads changes them.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float64, Int64, Shaped

from truemask.metrics.confusion import Margins, margins
from truemask.results import Interval

LEVEL = 0.95
FEWEST = 5
"""Images below which there is no interval: too few to resample would look surer than they are."""

_CHUNK = 1 << 23
"""Numbers of copies that are held at once: 64 MiB of them."""


def resampled_sums(
    values: Shaped[np.ndarray, "N S"], *, resamples: int, seed: int
) -> Float64[np.ndarray, "R S"]:
    """Column sums of N rows drawn with replacement out of N.

    Args:
        values: one row an image.
        resamples: R.
        seed: the same seed and N draw the same rows.
    """
    images = len(values)
    rng = np.random.default_rng(seed)
    shares = np.full(images, 1 / images)
    columns = values.astype(np.float64)
    sums = np.empty((resamples, values.shape[1]))
    rows = max(1, _CHUNK // images)
    for start in range(0, resamples, rows):
        part = sums[start : start + rows]
        part[:] = rng.multinomial(images, shares, size=len(part)).astype(np.float64) @ columns
    return sums


def resampled_margins(
    matrices: Int64[np.ndarray, "N K K"], *, resamples: int, seed: int
) -> Margins:
    """Margins, each [R, K], of the summed confusion matrices of images drawn with replacement."""
    classes = matrices.shape[-1]
    values = np.concatenate(margins(matrices), axis=1)
    assert int(values.max()) * len(values) < 1 << 53, "too many pixels for exact sums"
    sums = resampled_sums(values, resamples=resamples, seed=seed)
    return Margins(*(sums[:, i * classes : (i + 1) * classes] for i in range(3)))


def percentile_intervals(
    samples: Mapping[str, Float64[np.ndarray, " R"]],
) -> dict[str, Interval]:
    """The middle 95 % of the resamples of each score.

    A resample without a class has no score of it (NaN) and does not count for its interval; a score
    that no resample has gets no interval.
    """
    ends = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
    intervals = {}
    for name, scores in samples.items():
        known = scores[~np.isnan(scores)]
        if known.size > 0:
            low, high = np.quantile(known, ends)
            intervals[name] = (float(low), float(high))
    return intervals
