"""Predictions that know nothing of the image: collapsed to a class (TM601), trivial (TM604)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from truemask.checks.finding import Finding, Rule, rule
from truemask.checks.learning import collapsed
from truemask.metrics.bootstrap import FEWEST, resampled_margins
from truemask.metrics.confusion import headline, iou, pixel_accuracy

RESAMPLES = 2000
_FEWEST_PIXELS = 100
_COLLAPSED = 0.02

Matrices = Int64[np.ndarray, "N K K"]


def collapsed_counts(
    matrices: Matrices, *, names: Sequence[str], where: str = ""
) -> Iterator[Finding]:
    """TM601 by the counts of pixels.

    Args:
        matrices: a confusion matrix an image, rows are the truth.
        names: the classes.
        where: what was judged, such as a part.
    """
    total = matrices.sum(0)
    truth, predicted = total.sum(1), total.sum(0)
    most = int(predicted.argmax())
    others = np.arange(len(names)) != most
    true, found = int(truth[others].sum()), int(predicted[others].sum())
    if true >= _FEWEST_PIXELS and found < _COLLAPSED * true:
        yield collapsed.finding(
            f"{predicted[most] / predicted.sum():.2%} of all pixels are predicted as "
            f"{names[most]!r}, which {truth[most] / truth.sum():.2%} are: of the other classes "
            f"{true:,} pixels are true and {found:,} predicted.",
            where=where,
            evidence={"class": names[most], "true_pixels_of_others": true,
                      "predicted_pixels_of_others": found, "images": len(matrices)},
            remedy="Weigh the rare classes in the loss (pos_weight, weight, Dice), and see TM112.",
        )  # fmt: skip


def constant_matrices(matrices: Matrices, class_id: int) -> Matrices:
    """What predicting one class everywhere would have counted on the same images."""
    constant = np.zeros_like(matrices)
    constant[:, :, class_id] = matrices.sum(2)
    return constant


@dataclass(frozen=True)
class Comparison:
    """A model against a trivial prediction, on the same images.

    Attributes:
        name: of the trivial prediction.
        score: the model's IoU (two classes: the foreground's, else the mean).
        trivial: that of the trivial prediction.
        low: lower end of the 95 % interval of the difference, model minus trivial.
        high: upper end; both are `None` for fewer than five images.
    """

    name: str
    score: float
    trivial: float
    low: float | None
    high: float | None

    @property
    def above(self) -> bool:
        """Whether the model is better beyond chance, or nothing can be told."""
        if self.low is None:
            return self.score > self.trivial
        return self.score > self.trivial and self.low > 0

    @property
    def below(self) -> bool:
        """Whether the model is no better, beyond chance where that can be told."""
        return self.score <= self.trivial and (self.high is None or self.high <= 0)


def compare(matrices: Matrices, trivial: Matrices, *, name: str) -> Comparison:
    """A model against a trivial prediction, by the paired bootstrap over images."""
    score, other = (float(headline(iou(m.sum(0)))) for m in (matrices, trivial))
    if len(matrices) < FEWEST:
        return Comparison(name, score, other, None, None)
    ours, theirs = _resampled(matrices), _resampled(trivial)
    differences = ours - theirs
    low, high = np.quantile(differences[~np.isnan(differences)], (0.025, 0.975))
    return Comparison(name, score, other, float(low), float(high))


def _resampled(matrices: Matrices) -> Float64[np.ndarray, " R"]:
    # The same seed and number of images draw the same images for both.
    return headline(iou(resampled_margins(matrices, resamples=RESAMPLES, seed=0)))


@rule("TM604", "trivial-score", "error")
def trivial_score(
    matrices: Matrices,
    *,
    names: Sequence[str],
    largest: int | None = None,
    maps: Mapping[str, Matrices] | None = None,
    where: str = "",
) -> Iterator[Finding]:
    """The score is no higher than that of a prediction that never looks at the image.

    Why it matters:
        In the benchmarks project a pixel accuracy of 73 % on VOC was taken for a result; "always
        background" gets as much. On pictures of a fixed camera, a map of which class is most
        frequent at each place can beat a model.

    How it decides:
        By the IoU (two classes: the foreground's, else the mean of the classes that occur) of the
        same images: the model against each class everywhere, and against the best constant map,
        which has at each place the class that is most frequent there in the training masks (two
        classes: where its share is above the threshold that is best for the training masks).
        Images are drawn with replacement 2000 times for both alike (the paired bootstrap): a score
        that is higher in no more than 2.5 % of the draws is an error; one that is higher in more,
        but not in 97.5 %, is a warning. An error is wrong for at most one in 40 models. A pixel
        accuracy that is not higher than "always the largest class", beside an IoU that is, is a
        note: the model may be fine, but that figure says nothing.

    False alarms:
        With few images a model that is slightly better gets the warning: the data then cannot tell.
        Of fewer than five images only predictions that are the trivial ones are reported.

    How to mend:
        Report IoU per class rather than pixel accuracy. If the IoU is trivial, the model has not
        learnt: see whether it collapsed (TM601), whether the loss moved (TM603), and the data.
    """
    total = matrices.sum(0)
    found = [k for k in range(len(names)) if total[k].sum() > 0]
    if len(found) < 2:
        return
    constants = {f"always {names[k]!r}": constant_matrices(matrices, k) for k in found}
    trivials = {**constants, **{f"the best constant {name}": m for name, m in (maps or {}).items()}}
    best = max(trivials, key=lambda name: float(headline(iou(trivials[name].sum(0)))))
    compared = compare(matrices, trivials[best], name=best)
    if compared.low is None and not np.array_equal(matrices, trivials[best]):
        return
    if not compared.above:
        yield _finding(compared, images=len(matrices), where=where)
        return
    most = int(total.sum(1).argmax()) if largest is None else largest
    accuracy, share = float(pixel_accuracy(total)), float(total[most].sum() / total.sum())
    if accuracy <= share:
        yield trivial_score.finding(
            f"The pixel accuracy, {accuracy:.4f}, is not higher than that of always predicting "
            f"{names[most]!r}, {share:.4f}; the IoU is ({compared.score:.4f} against "
            f"{compared.trivial:.4f} of {best}).",
            level="note",
            where=where,
            evidence={"pixel_accuracy": accuracy, "trivial": share, "iou": compared.score},
            remedy="Leave the pixel accuracy out, or put that of the largest class beside it.",
        )


def _finding(compared: Comparison, *, images: int, where: str) -> Finding:
    interval = None if compared.low is None else [compared.low, compared.high]
    said = (
        ""
        if interval is None
        else f" (95 % interval of the difference {interval[0]:+.4f} to {interval[1]:+.4f})"
    )
    how = "not higher than" if compared.below else "not higher beyond chance than"
    return trivial_score.finding(
        f"The IoU, {compared.score:.4f}, is {how} that of {compared.name}, "
        f"{compared.trivial:.4f}{said}.",
        level="error" if compared.below else "warning",
        where=where,
        evidence={"iou": compared.score, "trivial": compared.trivial, "baseline": compared.name,
                  "interval_of_difference": interval, "images": images},
        remedy="Do not report this model: see whether its loss moved and what it predicts."
        if compared.below
        else "Judge on more images before you call this model better than that.",
    )  # fmt: skip


RULES: tuple[Rule, ...] = (trivial_score,)
