"""Class weights against the pixels of the classes: order, meaning, and what was counted."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64

from truemask.checks.finding import Finding, Rule, rule, worst_first
from truemask.checks.probing import each, samples_of
from truemask.errors import UsageError

Values = Float64[np.ndarray, " K"]

EXACT = 0.01
"""How far weights may be from a formula that they follow, as a share."""

RULES_OF_THUMB: dict[str, Callable[[Values], Values]] = {
    "inverse frequency": lambda share: 1 / share,
    "inverse square root of frequency": lambda share: share**-0.5,
    "1 / log(1.02 + frequency)": lambda share: 1 / np.log(1.02 + share),
    "1 - frequency": lambda share: 1 - share,
    "minus log of frequency": lambda share: -np.log(share),
}
"""What weights are mostly made by, up to a factor."""


def check_weights(
    weights: Any,
    counts: Any,
    *,
    num_classes: int,
    ignore_index: int | None = 255,
    ignored: int | None = None,
    class_names: Sequence[str] | None = None,
) -> list[Finding]:
    """Hold class weights, or a `pos_weight`, against how many pixels the classes have.

    Args:
        weights: one number a class; for two classes also one number, that of class 1.
        counts: pixels a class, in the order of the ids, without ignored ones; or the training
            data, whose masks are then counted: a folder, a list of files, a dataset.
        num_classes: K; 1 and 2 are two classes.
        ignore_index: id of pixels that do not count.
        ignored: how many pixels have it; counted where `counts` is data.
        class_names: for messages.

    Raises:
        UsageError: there is not one count a class, or no pixel.
    """
    classes = max(num_classes, 2)
    pixels, unlabelled = _counts(counts, classes, ignore_index)
    unlabelled = unlabelled if ignored is None else ignored
    names = [str(name) for name in class_names or range(classes)]
    values = as_weights(weights, classes)
    if len(values) != classes:
        return list(ignored_in_weight(values, pixels, unlabelled, names))
    found = ignored_in_weight(values, pixels, unlabelled, names)
    return worst_first([*found, *wrong_weight(values, pixels, names)])


def as_weights(weights: Any, classes: int) -> Values:
    """Weights as numbers, one a class; a `pos_weight` as that of class 1 against 1.

    Raises:
        UsageError: they are no numbers, negative, or all zero.
    """
    if hasattr(weights, "detach"):
        weights = weights.detach().cpu().numpy()
    try:
        values = np.atleast_1d(np.asarray(weights, np.float64)).ravel()
    except (TypeError, ValueError) as error:
        raise UsageError(f"weights must be numbers, one a class: {error}") from error
    if not (np.isfinite(values).all() and (values >= 0).all() and values.any()):
        raise UsageError(f"weights are {values.tolist()}; they must be 0 or more, not all 0")
    if len(values) == 1 and classes == 2:
        return np.array((1.0, values[0]))
    return values


@rule("TM404", "wrong-weight", "error")
def wrong_weight(weights: Values, pixels: Values, names: Sequence[str]) -> Iterator[Finding]:
    """Class weights in another order than the classes, or of another meaning.

    Why it matters: a rare class then counts less than without any weight, and training looks
    healthy. Weights are often computed over sorted names, raw ids or a subset of the classes, and
    passed on by position.

    How it decides: against pixel counts (`check_weights`), for classes that occur: weights that are
    proportional to the frequency, or that grow with it for every pair of classes, are of another
    meaning (a warning where there are two classes only and no proportion). Weights that follow one
    of five usual formulas (inverse frequency, its square root, 1 / log(1.02 + f), 1 - f, -log f)
    within 1 % when sorted, but not in their order, are in another order. Against a loss
    (`check_loss(weight=...)`): the gradient at surely wrong pixels shows how much each class
    counts; it is compared with the weight of the class.

    False alarms: weights that somebody chose by hand to favour frequent classes.

    How to mend: compute weights as an array indexed by class id, from counts of the training part
    without ignored pixels, and rarer classes get larger ones.
    """
    present = (pixels > 0) & (weights > 0)
    share, given = pixels[present] / pixels.sum(), weights[present]
    if len(share) < 2 or spread(given) < EXACT or spread(share) < EXACT:
        return
    labels = [name for name, there in zip(names, present, strict=True) if there]
    if any(follows(given, formula(share)) for formula in RULES_OF_THUMB.values()):
        return
    evidence = {"weights": weights.tolist(), "pixels": pixels.tolist()}
    rising = _pairs(given, share)
    for power, meaning in ((1.0, "the frequency"), (0.5, "the square root of the frequency")):
        if follows(given, share**power):
            yield wrong_weight.finding(
                f"the weights are proportional to {meaning} of the classes: "
                f"{_extremes(labels, share, given)}.",
                remedy="Take the inverse, so that rare classes weigh more.",
                evidence=evidence,
            )
            return
    for name, formula in RULES_OF_THUMB.items():
        if len(share) > 2 and follows(np.sort(given), np.sort(formula(share))):
            wanted = formula(share)
            yield wrong_weight.finding(
                f"the weights follow the {name} of the classes, but in another order than the "
                f"classes{moved(given, wanted)}: {_extremes(labels, share, given)}.",
                remedy="Put the weights into the order of the class ids.",
                evidence=evidence | {"expected": (wanted * given.sum() / wanted.sum()).tolist()},
            )
            return
    if all(rising) and rising:
        yield wrong_weight.finding(
            f"the weights grow with the frequency of the classes: "
            f"{_extremes(labels, share, given)}.",
            remedy="Give rare classes the larger weights, or none to any class.",
            level="error" if len(share) > 2 else "warning",
            evidence=evidence,
        )


@rule("TM405", "ignored-counted-in-weight", "error")
def ignored_in_weight(
    weights: Values, pixels: Values, ignored: int, names: Sequence[str]
) -> Iterator[Finding]:
    """The ignored id was counted as a class, or as pixels of one, in the class weights.

    Why it matters: in the published driving project the "balanced" weights came from all values of
    the masks, 255 among them, as if it were one more class. In the published project on edges,
    padding counted as non-edges in `pos_weight`.

    How it decides: there is one weight more than classes; or the weights follow the inverse
    frequency within 1 % if the ignored pixels are added to one of the classes, and not without
    them; or they are the "balanced" weights n / (K * count) with the ignored pixels in n and one
    class too many in K (a warning: only their scale is wrong, which a weighted mean divides out).

    False alarms: none are known.

    How to mend: drop pixels of the ignored id before counting:
    `np.bincount(mask[mask != ignore_index], minlength=num_classes)`.
    """
    classes = len(pixels)
    evidence = {"weights": weights.tolist(), "pixels": pixels.tolist(), "ignored": ignored}
    remedy = "Count pixels where mask != ignore_index only, for exactly the K classes."
    if len(weights) == classes + 1:
        yield ignored_in_weight.finding(
            f"there are {classes + 1} weights for {classes} classes: the ignored id was probably "
            "counted as one more.",
            remedy=remedy,
            evidence=evidence,
        )
    if len(weights) != classes:
        if len(weights) != classes + 1:
            raise UsageError(
                f"there are {len(weights)} weights, but {classes} classes: give one a class"
            )
        return
    present = (pixels > 0) & (weights > 0)
    if ignored <= 0 or present.sum() < 2 or follows(weights[present], 1 / pixels[present]):
        yield from _scaled(weights, pixels, ignored, evidence) if ignored > 0 else ()
        return
    for number in np.flatnonzero(present):
        padded = pixels.copy()
        padded[number] += ignored
        if follows(weights[present], 1 / padded[present]):
            yield ignored_in_weight.finding(
                f"the weights follow the inverse frequency only if the {ignored:,} ignored pixels "
                f"count as class {names[int(number)]}.",
                remedy=remedy,
                evidence=evidence,
            )
            return


def _scaled(
    weights: Values, pixels: Values, ignored: int, evidence: Mapping[str, Any]
) -> Iterator[Finding]:
    """Weights called balanced, with too many pixels and one class too many in their scale."""
    present = pixels > 0
    classes, total = int(present.sum()), pixels.sum()
    scale = float(np.mean(weights[present] * pixels[present]))
    wrong, right = (total + ignored) / (classes + 1), total / classes
    if abs(wrong / right - 1) > 2 * EXACT and abs(scale / wrong - 1) < 1e-3:
        yield ignored_in_weight.finding(
            f"the weights are n / (K * count) with the {ignored:,} ignored pixels in n and "
            f"K = {classes + 1} for {classes} classes: the ignored id was counted as a class.",
            remedy="Count pixels where mask != ignore_index only, for exactly the K classes.",
            level="warning",
            evidence=evidence,
        )


def follows(values: Values, formula: Values, tolerance: float = EXACT) -> bool:
    """Whether one is the other times a factor."""
    if not (np.isfinite(formula).all() and (formula > 0).all() and (values > 0).all()):
        return False
    return spread(values / formula) < tolerance


def spread(values: Values) -> float:
    """How much larger the largest is than the smallest, as a share."""
    return float(values.max() / values.min() - 1) if values.min() > 0 else math.inf


def moved(given: Values, wanted: Values) -> str:
    """In which usual way values were put into another order, in brackets, or nothing."""
    size = len(given)
    ways = {
        "reversed": wanted[::-1],
        "sorted": np.sort(wanted),
        "sorted downwards": -np.sort(-wanted),
    }
    ways |= {f"shifted by {n}": np.roll(wanted, n) for n in range(1, size)}
    for name, values in ways.items():
        if follows(given, values):
            return f" ({name})"
    return ""


def _pairs(given: Values, share: Values) -> list[bool]:
    """For all pairs of classes of different weight, whether the more frequent one weighs more."""
    pairs = itertools.combinations(range(len(share)), 2)
    signs = [np.sign(given[i] - given[j]) * np.sign(share[i] - share[j]) for i, j in pairs]
    return [bool(sign > 0) for sign in signs if sign]


def _extremes(labels: Sequence[str], share: Values, given: Values) -> str:
    most, least = int(share.argmax()), int(share.argmin())
    return (
        f"class {labels[most]} with {share[most]:.3%} of the pixels weighs {given[most]:.4g}, "
        f"class {labels[least]} with {share[least]:.3%} weighs {given[least]:.4g}"
    )


def _counts(counts: Any, classes: int, ignore_index: int | None) -> tuple[Values, int]:
    """Pixels of each class, and those that are ignored."""
    if isinstance(counts, Mapping):
        counts = list(counts.values())
    numbers = _plain_numbers(counts)
    if numbers is None:
        return _counted(counts, classes, ignore_index)
    if len(numbers) != classes:
        raise UsageError(
            f"there are {len(numbers)} counts, but {classes} classes: give one a class"
        )
    if numbers.sum() <= 0 or (numbers < 0).any():
        raise UsageError(f"counts are {numbers.tolist()}; they must be 0 or more, not all 0")
    return numbers, 0


def _plain_numbers(counts: Any) -> Values | None:
    """One-dimensional numbers, or None for data."""
    if hasattr(counts, "detach"):
        counts = counts.detach().cpu().numpy()
    if isinstance(counts, np.ndarray):
        return counts.astype(np.float64) if counts.ndim == 1 else None
    plain = isinstance(counts, list | tuple) and all(
        isinstance(value, int | float | np.number) for value in counts
    )
    return np.asarray(counts, np.float64) if plain and counts else None


def _counted(data: Any, classes: int, ignore_index: int | None) -> tuple[Values, int]:
    pixels, ignored = np.zeros(classes), 0
    for mask in each(samples_of(data), lambda probe: probe.mask):
        if mask is None:
            continue
        if mask.ndim != 2:
            raise UsageError("the masks are colours, not class ids: give the counts of the classes")
        values, found = np.unique(mask, return_counts=True)
        for value, count in zip(values.tolist(), found.tolist(), strict=True):
            if value == ignore_index:
                ignored += count
            elif 0 <= value < classes:
                pixels[value] += count
    if not pixels.any():
        raise UsageError("no mask holds a pixel of a class: check num_classes and the masks")
    return pixels, ignored


RULES: tuple[Rule, ...] = (wrong_weight, ignored_in_weight)
