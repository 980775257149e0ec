"""Whether two runs differ by more than chance: TM613."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from truemask.checks.finding import Finding, Rule, rule
from truemask.errors import UsageError
from truemask.metrics.bootstrap import FEWEST, resampled_margins, resampled_sums
from truemask.metrics.confusion import headline, iou
from truemask.per_image import Evaluation, load_parts
from truemask.runs import Run

RESAMPLES = 2000

Judged = str | Path | Evaluation | np.ndarray[Any, Any] | Sequence[float]
"""A run folder; its counts; an array of confusion matrices (N, K, K); or a score an image (N,)."""


def check_difference(
    first: Judged, second: Judged, *, part: str | None = None, names: tuple[str, str] | None = None
) -> list[Finding]:
    """Look whether one of two models is better beyond chance on the images both were judged on.

    Args:
        first: a run folder, an `Evaluation`, confusion matrices (N, K, K) with the truth as rows,
            or one score for each image (N,), of which the mean counts.
        second: the same kind of thing, for the same images in the same order (those of runs are
            matched by name).
        part: of runs, "test" or "validation"; by default test where both have it.
        names: what to call the two.

    Raises:
        UsageError: the two were judged on other images, or are not of one kind.
    """
    called = names or (_name(first, "the first"), _name(second, "the second"))
    one, other, judged = _paired(first, second, part, called)
    return within_chance(one, other, names=called, where=judged)


@rule("TM613", "difference-within-chance", "warning")
def within_chance(
    first: np.ndarray[Any, Any], second: np.ndarray[Any, Any], *, names: tuple[str, str], where: str
) -> Iterator[Finding]:
    """Two runs differ by less than other images of the same kind would change.

    Why it matters:
        In the driving project city and other scenes, and neighbouring learning rates, were compared
        by their third decimal on 343 images; a ranking that other images would turn over is none.

    How it decides:
        The same images are drawn with replacement 2000 times for both (the paired bootstrap, so
        that what makes an image hard for both drops out), and the difference of the two IoUs (or of
        the two mean scores) is taken each time. It is within chance if the middle 95 % hold 0: two
        equal models are then told apart wrongly once in twenty. Fewer than five images say nothing.

    False alarms:
        Two models that do differ, by little or on few images, are reported: that cannot be told
        yet. What another seed would change comes on top, and needs several runs of each
        (`truemask compare`).

    How to mend:
        Judge on more images, train each setting with several seeds and compare those
        (`truemask compare`), or call the two equal.
    """
    if len(first) < FEWEST:
        return
    ours, theirs = _score(first), _score(second)
    differences = _resampled(second) - _resampled(first)
    known = differences[~np.isnan(differences)]
    if known.size == 0:
        return
    low, high = (float(end) for end in np.quantile(known, (0.025, 0.975)))
    if low <= 0 <= high:
        yield within_chance.finding(
            f"{names[0]} scores {ours:.4f} and {names[1]} {theirs:.4f} on {len(first)} images: the "
            f"difference, {theirs - ours:+.4f}, lies within chance (95 % interval {low:+.4f} to "
            f"{high:+.4f}).",
            where=where,
            evidence={"scores": [ours, theirs], "difference": theirs - ours,
                      "interval": [low, high], "images": len(first)},
            remedy="Do not call one of them better: judge on more images, or train more seeds.",
        )  # fmt: skip


def _score(values: np.ndarray[Any, Any]) -> float:
    return float(headline(iou(values.sum(0)))) if values.ndim == 3 else float(values.mean())


def _resampled(values: np.ndarray[Any, Any]) -> Float64[np.ndarray, " R"]:
    if values.ndim == 3:
        return headline(iou(resampled_margins(values, resamples=RESAMPLES, seed=0)))
    return resampled_sums(values[:, None], resamples=RESAMPLES, seed=0)[:, 0] / len(values)


def _paired(
    first: Judged, second: Judged, part: str | None, names: tuple[str, str]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], str]:
    where = f"{names[0]} and {names[1]}"
    if isinstance(first, str | Path) and isinstance(second, str | Path):
        one, other = (load_parts(Run.open(Path(path)).per_image_path) for path in (first, second))
        common = [name for name in ("test", "validation", *one) if name in one and name in other]
        if part is None and not common or part is not None and part not in common:
            raise UsageError(f"{where} have no {part or 'common'} part that both were judged on")
        chosen = part or common[0]
        first, second, where = one[chosen], other[chosen], f"{where}: {chosen}"
    if isinstance(first, Evaluation) and isinstance(second, Evaluation):
        if first.labels.names != second.labels.names or first.names != second.names:
            raise UsageError(
                f"{where} were judged on other images or classes: evaluate both on the same"
            )
        if (first.matrices.sum(2) != second.matrices.sum(2)).any():
            raise UsageError(f"{where} were judged against other masks, though of the same images")
        return first.matrices, second.matrices, where
    one_array, other_array = np.asarray(first), np.asarray(second)
    if one_array.shape != other_array.shape or one_array.ndim not in (1, 3):
        raise UsageError(
            f"{where}: give two runs, two evaluations, or two arrays of one shape, (N,) scores or "
            f"(N, K, K) matrices, not {one_array.shape} and {other_array.shape}"
        )
    return one_array, other_array, where


def _name(judged: Judged, otherwise: str) -> str:
    return str(judged) if isinstance(judged, str | Path) else otherwise


RULES: tuple[Rule, ...] = (within_chance,)
