"""From the evidence of each image to one ranking: how unusual it is among all images.

Every kind of evidence has its own scale, and hard data has more of each. So each is put as a
modified z-score, 0.6745 (x - median) / MAD (Iglewicz and Hoaglin 1993): the median and the median
absolute deviation are those of the sound majority, whatever the rest holds. An image's score is its
largest: one kind of evidence is enough.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

THRESHOLD = 3.5
"""From which modified z-score on Iglewicz and Hoaglin call a value an outlier."""


def modified_z(values: Float64[np.ndarray, " N"]) -> Float64[np.ndarray, " N"]:
    """How far each value lies above the median, in robust standard deviations.

    Where half of the values or more are the same, the mean absolute deviation stands for that of
    the median, as these authors advise; where all are the same, every score is 0.
    """
    if len(values) == 0:
        return values
    distance = np.abs(values - np.median(values))
    scale = float(np.median(distance)) / 0.6745
    if scale == 0:
        scale = float(distance.mean()) * 1.2533
    if scale == 0:
        return np.zeros_like(values)
    scored: Float64[np.ndarray, " N"] = (values - np.median(values)) / scale
    return scored


def position(values: Sequence[float], other: float) -> float:
    """The modified z-score of one more value among others."""
    array = np.asarray(values, dtype=np.float64)
    distance = np.abs(array - np.median(array))
    scale = float(np.median(distance)) / 0.6745 or float(distance.mean()) * 1.2533
    return 0.0 if scale == 0 else (other - float(np.median(array))) / scale
