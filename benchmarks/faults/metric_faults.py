"""Row 36: metrics that count something else than their name says."""

from collections.abc import Callable, Iterator
from typing import Any

from torchmetrics.segmentation import MeanIoU

from benchmarks.faults import foreign_metrics as foreign
from benchmarks.faults.case import Check, Fault, Strength

K = 5


def check_of_metric(metric: Any, **said: Any) -> Check:
    """`check_metric` as called by its user."""

    def check() -> list[Any]:
        from truemask.checks.metrics import check_metric

        return check_metric(metric, **said)

    return check


def faults() -> Iterator[Fault]:
    """All of them."""
    yield from _means()
    yield from _ignored()
    yield from _absent()
    yield from _counted()
    yield from _named()


def _fault(
    code: str,
    name: str,
    make: Callable[[], Any],
    strength: Strength = "realistic",
    *,
    ignore_index: int | None = 255,
    num_classes: int = K,
    claims: str | None = None,
) -> Fault:
    """A metric; `claims` is what its user takes it for, where its own name does not say it."""
    said = {"num_classes": num_classes, "ignore_index": ignore_index, "claims": claims}
    return Fault(
        row=36,
        code=code,
        name=name,
        strength=strength,
        base="metrics",
        prepare=lambda: check_of_metric(make(), **said),
    )


def _means() -> Iterator[Fault]:
    yield _fault("TM608", "mean of batch scores", lambda: foreign.BatchMean(K))
    yield _fault("TM608", "mean of image scores", lambda: foreign.ImageMean(K), claims="iou")
    yield _fault("TM608", "half of the old, half of the new", lambda: foreign.RunningAverage(K),
        "strong")  # fmt: skip
    yield _fault("TM608", "mean over the samples of a batch", lambda: foreign.mean_over_samples,
        "weak", ignore_index=None)  # fmt: skip
    yield _fault(
        "TM608", "torchmetrics' MeanIoU, a mean over images",
        lambda: MeanIoU(num_classes=K, input_format="index"), "weak", ignore_index=None,
    )  # fmt: skip


def _ignored() -> Iterator[Fault]:
    yield _fault("TM609", "ignored pixels as class 0", lambda: foreign.CountsIgnored(K))
    yield _fault("TM609", "ignored pixels as the last class", lambda: foreign.ClampsIgnored(K))
    yield _fault("TM609", "ignored pixels in the total", foreign.AccuracyCountsIgnored, "weak")
    yield _fault("TM609", "ignored pixels in the union", lambda: foreign.UnionCountsIgnored(K))


def _absent() -> Iterator[Fault]:
    yield _fault("TM610", "an absent class counts 0", lambda: foreign.AbsentIsZero(K))
    yield _fault("TM610", "an absent class counts 1", lambda: foreign.AbsentIsOne(K))
    yield _fault("TM610", "an absent class counts 1 by smoothing",
        lambda: foreign.AbsentIsOneSmooth(K), "weak")  # fmt: skip
    yield _fault("TM610", "an absent class makes NaN", lambda: foreign.AbsentIsNan(K), "strong")


def _counted() -> Iterator[Fault]:
    yield _fault("TM611", "smaller batches skipped", lambda: foreign.SkipsSmallBatches(K), "weak")
    yield _fault("TM611", "the first image of each batch", lambda: foreign.FirstOfBatch(K))
    yield _fault("TM611", "the last batch twice", lambda: foreign.LastTwice(K))
    yield _fault("TM611", "never reset", lambda: foreign.NeverReset(K))
    yield _fault("TM611", "only the last batch", lambda: foreign.ForgetsOldBatches(K), "strong")


def _named() -> Iterator[Fault]:
    yield _fault("TM612", "accuracy called IoU", foreign.AccuracyAsIoU)
    yield _fault("TM612", "equal pixels over all pixels", lambda: foreign.iou_of_everything,
        ignore_index=None)  # fmt: skip
    yield _fault("TM612", "agreement called precision and IoU", lambda: foreign.clipped_agreement,
        ignore_index=None, num_classes=2, claims="iou")  # fmt: skip
    yield _fault("TM612", "Dice of all pixels", lambda: foreign.micro_dice, "weak",
        ignore_index=None)  # fmt: skip
    yield _fault("TM612", "pooled IoU of all classes", lambda: foreign.AlmostAccuracy(K), "weak",
        claims="iou")  # fmt: skip
    yield _fault("TM612", "Dice called IoU", lambda: foreign.IoUIsDice(K), "weak")
