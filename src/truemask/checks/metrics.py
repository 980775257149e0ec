"""Checks of a metric: any function of a batch, or any object that is updated and then computed.

The metric is given predictions whose every usual score is known, so that the figure that comes back
tells which score it is and how it was averaged. A metric that matches none of them is only asked
what holds for all.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from truemask.checks.failures import in_short, refuse_class
from truemask.checks.finding import Finding, Rule, rule, worst_first
from truemask.checks.metric_case import NEAR, Case
from truemask.checks.metric_probe import MetricProbe, metric_forms
from truemask.checks.metric_references import Reference
from truemask.checks.untouched import name_of, untouched
from truemask.errors import UsageError


def check_metric(
    metric: Any, *, num_classes: int, ignore_index: int | None = None, claims: str | None = None
) -> list[Finding]:
    """Look for faults of a metric.

    Args:
        metric: called with (prediction, target), or with `update`, `compute` and `reset`. Whether
            it takes ids, logits or probabilities, tensors or arrays, is found out by trying.
        num_classes: K; 1 and 2 are two classes.
        ignore_index: id of pixels that must not count; none checks nothing about them.
        claims: what it says it is, "iou", "dice" or "accuracy"; none takes that from its name.

    Raises:
        UsageError: it cannot be called in any of the usual ways.
    """
    name = name_of(metric)
    refuse_class(metric, name)
    with untouched(metric):
        case = _fitting(metric, num_classes, ignore_index, claims or _claim_of(name), name)
        found = [finding for check in RULES for finding in check(case)]
    return worst_first(found)


def _claim_of(name: str) -> str:
    lowered = name.lower()
    words = {"iou": "iou", "jaccard": "iou", "dice": "dice", "accuracy": "accuracy"}
    return next((claim for word, claim in words.items() if word in lowered), "")


def _fitting(
    metric: Any, num_classes: int, ignore_index: int | None, claims: str, name: str
) -> Case:
    """The first way to call it that gives a known score; otherwise the first that works."""
    first: Case | None = None
    trouble = ""
    for form in metric_forms(num_classes):
        case = Case(MetricProbe(metric, form), num_classes, ignore_index, claims, name)
        try:
            value = case.probe.value(case.batches)
        except Exception as error:
            trouble = trouble or in_short(error)
            continue
        if not math.isfinite(value):
            trouble = trouble or f"the figure {value}"
            continue
        first = first or case
        if case.matches(value, case.batches):
            return case
    if first is None:
        raise UsageError(
            f"{name} cannot be called with ids, logits or probabilities beside (B, H, W) masks: "
            f"wrap it as lambda prediction, target: ...; the first way gave {trouble}"
        )
    return first


@rule("TM608", "mean-of-means", "error")
def mean_of_means(case: Case) -> Iterator[Finding]:
    """The score is a mean over batches or images where one total is meant.

    Why it matters: the figure then depends on the batch size, and a small batch or an image with
    few pixels of a class counts as much as a large one. The public torchmetrics `MeanIoU` averages
    per image, which its name does not say.

    How it decides: three batches of 3, 1 and 2 images, of different difficulty, are scored. It is
    an error where an object gives another figure for the same images in one batch, unless that is
    explained by images that it drops or counts twice (TM611). Where the figure is exactly the mean
    over images of a known score it is a warning if the metric claims to be an IoU or Dice, and a
    note if nothing says what it claims to be.

    False alarms: a mean over images that is meant: say so in its name, and ignore the warning.

    How to mend: add up intersections and unions, or one confusion matrix, over all batches, and
    divide once at the end.
    """
    batches = case.batches
    value = case.probe.value(batches)
    if case.probe.stateful:
        joined = (torch.cat([b[0] for b in batches]), torch.cat([b[1] for b in batches]))
        together = case.probe.value([joined])
        if abs(value - together) > NEAR:
            if case.as_if(value) or case.uncounted():
                return  # TM611 says why.
            yield mean_of_means.finding(
                f"{case.name} is {value:.4f} for three batches, but {together:.4f} for the same "
                "images in one batch: it averages over batches.",
                remedy="Add up counts over all batches, and divide once at the end.",
                evidence={"three_batches": value, "one_batch": together},
            )
            return
    ways = case.matches(value, batches)
    if ways and all(way.over == "images" for way in ways) and case.claims != "accuracy":
        total = case.counterpart(ways[0])
        yield mean_of_means.finding(
            f"{case.name} is {value:.4f}, the mean over images of their {ways[0].score}; that of "
            f"all pixels together is {total:.4f}.",
            level="warning" if case.claims else "note",
            remedy="Add up counts over all images, or say in its name that it averages images.",
            evidence={"mean_over_images": value, "of_all_pixels": total},
        )


@rule("TM609", "ignored-pixels-in-metric", "error")
def ignored_in_metric(case: Case) -> Iterator[Finding]:
    """Ignored or padded pixels count in the score.

    Why it matters: in the published project on edges padded pixels counted as background, so the
    score depended on how images were padded.

    How it decides: a third of the pixels get the ignored id. It is reported where the metric
    raises, where other predictions at these pixels change its figure, or where it equals
    a known score of masks without such pixels, but none of the pixels that count with them.

    False alarms: a metric of (target, prediction): wrap it the other way round.

    How to mend: drop pixels where target == ignore_index before counting.
    """
    if case.ignore_index is None:
        return
    prediction, truth = case.batches[0]
    generator = torch.Generator().manual_seed(4)
    ignored = torch.rand(truth.shape, generator=generator) < 1 / 3
    holed = truth.masked_fill(ignored, case.ignore_index)
    figures = []
    for number in (case.used[0], case.used[-1]):
        try:
            figures.append(case.probe.value([(prediction.masked_fill(ignored, number), holed)]))
        except Exception as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            yield ignored_in_metric.finding(
                f"{case.name} cannot take targets with the ignored id {case.ignore_index}: "
                f"{lines[0][:160]}",
                remedy="Drop pixels where target == ignore_index before counting.",
                evidence={"error": lines[0][:160]},
            )
            return
    if abs(figures[0] - figures[1]) > 1e-6:
        yield ignored_in_metric.finding(
            f"{case.name} changes from {figures[0]:.4f} to {figures[1]:.4f} when only predictions "
            f"at pixels with the ignored id {case.ignore_index} change.",
            remedy="Drop pixels where target == ignore_index before counting.",
            evidence={"figures": figures},
        )
        return
    if case.uncounted():
        return  # Which score it is of those that do count cannot be told (TM611).
    known = case.matches(case.probe.value(case.batches[:1]), case.batches[:1])
    if known and not case.matches(figures[0], [(prediction, holed)]):
        yield ignored_in_metric.finding(
            f"{case.name} is {figures[0]:.4f} where a third of the pixels is ignored, which is no "
            f"score of the others: pixels with the id {case.ignore_index} count as wrong.",
            remedy="Drop pixels where target == ignore_index before counting.",
            evidence={"figure": figures[0]},
        )


@rule("TM610", "absent-class-in-metric", "warning")
def absent_class(case: Case) -> Iterator[Finding]:
    """A class that occurs in neither truth nor prediction counts as 0 or as 1, or makes a NaN.

    Why it matters: the mean then says more about which classes a part happens to hold than about
    the model: as 0 it can never be good, as 1 rare classes lift it, and as NaN it is lost.

    How it decides: masks without the last class are predicted, without it too, with a tenth of the
    pixels wrong. It is reported where the figure is that of a mean with 0 or 1 for that class, and
    not that of a mean without it; and where it is no number, though it is one for masks with all
    classes. Three classes or more.

    False alarms: a metric that says so.

    How to mend: leave such classes out of the mean: NaN, and `nanmean`.
    """
    if len(case.used) < 3:
        return
    batch = case.batch(5, 3, 0.1, case.used[:-1])
    value = case.probe.value([batch])
    if not math.isfinite(value) and math.isfinite(case.probe.value(case.batches)):
        yield absent_class.finding(
            f"{case.name} is {value} as soon as a class occurs in neither truth nor prediction.",
            remedy="Leave classes that do not occur out of the mean, as with nanmean.",
            evidence={"figure": str(value)},
        )
        return
    if case.uncounted():
        return  # Which score it is of those that do count cannot be told (TM611).
    ways = case.matches(value, [batch])
    if ways and all(way.absent != "out" for way in ways):
        counted = ways[0].absent
        yield absent_class.finding(
            f"{case.name} counts a class that occurs in neither truth nor prediction as {counted} "
            "in its mean.",
            remedy="Leave classes that do not occur out of the mean, as NaN with nanmean.",
            evidence={"counts_as": counted, "figure": ways[0].value},
        )


@rule("TM611", "images-counted-twice-or-dropped", "error")
def counted_wrongly(case: Case) -> Iterator[Finding]:
    """Images or pixels are dropped, counted twice, or carried over from an earlier evaluation.

    Why it matters: the figure is of other images than those it is named after. In the published
    project on driving the scores of city and other scenes looked at one pixel of each image, since
    flattened labels were indexed as if they were images.

    How it decides: the predictions of one image of a batch, or of all pixels but the first row of
    the first image, are made wrong: where the figure stays the same to the last digit, these do
    not count. Of an object that is updated its figure for three batches is compared with the scores
    of some of them and of one of them twice, and the figure of a batch alone with that after
    another batch and a reset.

    False alarms: none are known.

    How to mend: let `update` add all pixels of every batch once, and `reset` clear all that it adds
    to.
    """
    uncounted = case.uncounted()
    if uncounted:
        yield counted_wrongly.finding(
            f"{case.name} stays the same to the last digit when all predictions of {uncounted} are "
            "made wrong: it never looks at them.",
            remedy="Count every pixel of every image: index images before anything is flattened.",
            evidence={"without_effect": uncounted},
        )
    if not case.probe.stateful:
        return
    second, third = case.batches[1:]
    value = case.probe.value(case.batches)
    alone, carried = case.probe.value([third]), case.probe.after_reset(second, third)
    if abs(alone - carried) > 1e-6:
        yield counted_wrongly.finding(
            f"{case.name} is {alone:.4f} for a batch, but {carried:.4f} for it after another batch "
            "and a reset: reset leaves something behind.",
            remedy="Let reset clear all that update adds to.",
            evidence={"alone": alone, "after_reset": carried},
        )
    what = case.as_if(value)
    if what:
        yield counted_wrongly.finding(
            f"{case.name} of three batches is {value:.4f}, as if {what}.",
            remedy="Let update add every batch exactly once.",
            evidence={"figure": value, "as_if": what},
        )


@rule("TM612", "accuracy-called-iou", "error")
def accuracy_called_iou(case: Case) -> Iterator[Finding]:
    """Another score under the name of IoU or Dice.

    Why it matters: in the published project on textures "IoU" and "precision" are the share of
    pixels that agree, which is high for a mask that is empty.

    How it decides: a metric that claims to be an IoU or Dice, by `claims` or its name, is compared
    with the known scores of three batches. It is reported where it is within 0.002 of another
    score, and of no form of the claimed one. The counts of all classes pooled are no form of it:
    of n pixels with r right ones such a Dice is r / n, and such an IoU r / (2 n - r), so that
    either says what the pixel accuracy says.

    False alarms: none are known; the scores of the probes are far apart.

    How to mend: IoU is intersection / union, Dice is 2 intersection / (predicted + true).
    """
    if case.claims not in ("iou", "dice"):
        return
    value = case.probe.value(case.batches)
    ways = case.matches(value, case.batches)
    if ways and all(way.score != case.claims or way.classes == "pooled" for way in ways):
        truly = _called(ways)
        wanted = case.counterpart(Reference(case.claims, "all", "out", "mean", 0.0))
        yield accuracy_called_iou.finding(
            f"{case.name} claims to be {case.claims}, but is {truly}: {value:.4f}, where the mean "
            f"{case.claims} is {wanted:.4f}.",
            remedy=f"Compute the {case.claims}, or name it {truly}.",
            evidence={"claims": case.claims, "is": truly, "figure": value, "claimed": wanted},
        )


def _called(ways: Sequence[Reference]) -> str:
    """What a figure is, in words."""
    if any(way.score == "accuracy" for way in ways):
        return "pixel accuracy"
    pooled = all(way.classes == "pooled" for way in ways)
    return (
        f"the {ways[0].score} of all classes pooled, a form of accuracy"
        if pooled
        else (ways[0].score)
    )


RULES: tuple[Rule, ...] = (
    mean_of_means,
    ignored_in_metric,
    absent_class,
    counted_wrongly,
    accuracy_called_iou,
)
