"""Weights of classes from their pixel counts, so that a loss does not forget the rare ones."""

import math
import statistics
from collections.abc import Callable, Sequence

from truemask.errors import UsageError


def class_weights(counts: Sequence[int], *, method: str) -> list[float]:
    """One weight a class, so that rare classes count for more.

    With f the share of a class among the pixels, and K the number of classes that occur:

    - "balanced": 1 / (K f), as scikit-learn's `compute_class_weight`;
    - "inverse": the same, the inverse share scaled so that the mean weight of a pixel is 1;
    - "inverse_sqrt": 1 / sqrt(f), so scaled;
    - "median_frequency": the median of all f, divided by f (Eigen and Fergus 2015,
      https://arxiv.org/abs/1411.4734; they count a class's share in those images only that hold
      it);
    - "effective_number": (1 - beta) / (1 - beta ** count), scaled to a sum of K (Cui et al. 2019,
      https://arxiv.org/abs/1901.05555), with beta = 1 - 1 / N for N pixels in all.

    Args:
        counts: pixels of each class in the training part, ignored pixels not among them.
        method: one of `CLASS_WEIGHTS`.

    Returns:
        Weights; 0 for a class without pixels, of which nothing can be learnt.

    Raises:
        UsageError: there is no such method, or no pixel.
    """
    if method not in CLASS_WEIGHTS:
        raise UsageError(
            f"there is no method {method!r} for class weights; allowed are "
            f"{', '.join(CLASS_WEIGHTS)}, or numbers, one a class"
        )
    _require_counts(counts)
    present = [count for count in counts if count > 0]
    weights = iter(CLASS_WEIGHTS[method](present))
    return [next(weights) if count > 0 else 0.0 for count in counts]


def pos_weight(counts: Sequence[int]) -> float:
    """The number of pixels of class 0 for one of class 1, which balances a binary cross-entropy.

    Args:
        counts: pixels of either class in the training part, ignored pixels not among them.

    Raises:
        UsageError: there are not two classes, or one has no pixel.
    """
    _require_counts(counts)
    if len(counts) != 2:
        raise UsageError(f"pos_weight is for two classes, not for {len(counts)}: use class weights")
    if min(counts) == 0:
        raise UsageError(
            f"no pixel is of class {int(counts[0] > 0)}, so there is no pos_weight that balances: "
            "check the masks, or give a number"
        )
    return counts[0] / counts[1]


def _require_counts(counts: Sequence[int]) -> None:
    if min(counts, default=0) < 0:
        raise UsageError(f"a pixel count is below 0: {list(counts)}")
    if sum(counts) == 0:
        raise UsageError("there is no pixel to count: is every pixel ignored?")


def _balanced(counts: list[int]) -> list[float]:
    return [sum(counts) / (len(counts) * count) for count in counts]


def _inverse_sqrt(counts: list[int]) -> list[float]:
    scale = sum(counts) / sum(math.sqrt(count) for count in counts)
    return [scale / math.sqrt(count) for count in counts]


def _median_frequency(counts: list[int]) -> list[float]:
    middle = statistics.median(counts)
    return [middle / count for count in counts]


def _effective_number(counts: list[int]) -> list[float]:
    # 1 - beta ** count, by logarithms: beta is too near 1 for the power. A single pixel has beta 0.
    total = sum(counts)
    log_beta = math.log1p(-1 / total) if total > 1 else -math.inf
    inverse = [-1 / math.expm1(count * log_beta) for count in counts]
    return [len(counts) * value / sum(inverse) for value in inverse]


CLASS_WEIGHTS: dict[str, Callable[[list[int]], list[float]]] = {
    "balanced": _balanced,
    "inverse": _balanced,
    "inverse_sqrt": _inverse_sqrt,
    "median_frequency": _median_frequency,
    "effective_number": _effective_number,
}
"""Methods of `class_weights` by name."""
