from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchmetrics.classification import (
    BinaryJaccardIndex,
    MulticlassAccuracy,
    MulticlassJaccardIndex,
)
from torchmetrics.segmentation import MeanIoU

from truemask.checks.metrics import RULES, check_metric
from truemask.errors import UsageError
from truemask.metrics.confusion import confusion_matrices, dice, iou, mean_over_classes

Scores = Callable[[Any], Any]


class Total:
    """Counts first, divides last: the sound way."""

    def __init__(self, classes: int = 4, *, scores: Scores = iou, ignored: int = 255) -> None:
        self.classes, self.scores, self.ignored = classes, scores, ignored
        self.reset()

    def reset(self) -> None:
        self.counts = np.zeros((self.classes, self.classes), np.int64)

    def counted(self, prediction: Tensor, target: Tensor) -> Any:
        matrices = confusion_matrices(
            target, prediction, num_classes=self.classes, ignore_index=self.ignored
        )
        return matrices.sum(0).numpy()

    def update(self, prediction: Tensor, target: Tensor) -> None:
        self.counts = self.counts + self.counted(prediction, target)

    def compute(self) -> float:
        return float(mean_over_classes(self.scores(self.counts)))


class MeanOfBatches(Total):
    def reset(self) -> None:
        self.figures: list[float] = []

    def update(self, prediction: Tensor, target: Tensor) -> None:
        self.figures.append(float(mean_over_classes(self.scores(self.counted(prediction, target)))))

    def compute(self) -> float:
        return float(np.mean(self.figures))


class NeverReset(Total):
    def reset(self) -> None:
        if not hasattr(self, "counts"):
            super().reset()


class LastOnly(Total):
    def update(self, prediction: Tensor, target: Tensor) -> None:
        self.counts = self.counted(prediction, target)


class CountsTwice(Total):
    def update(self, prediction: Tensor, target: Tensor) -> None:
        super().update(prediction, target)
        self.last = self.counted(prediction, target)

    def compute(self) -> float:
        return float(mean_over_classes(self.scores(self.counts + self.last)))


class SkipsSmaller(Total):
    size = 0

    def update(self, prediction: Tensor, target: Tensor) -> None:
        self.size = self.size or len(prediction)
        if len(prediction) == self.size:
            super().update(prediction, target)


class FirstImages(Total):
    def update(self, prediction: Tensor, target: Tensor) -> None:
        super().update(prediction[:1], target[:1])


class OnePixelAnImage(Total):
    """Flattened labels, indexed as if they were images."""

    def update(self, prediction: Tensor, target: Tensor) -> None:
        count = len(prediction)
        pixels = [ids.reshape(-1)[None, None, :count] for ids in (prediction, target)]
        super().update(*pixels)


class RunningMean(MeanOfBatches):
    def compute(self) -> float:
        value = self.figures[0]
        for figure in self.figures[1:]:
            value = (value + figure) / 2
        return value


class NanWhereAbsent(Total):
    def compute(self) -> float:
        return float(self.scores(self.counts).mean())


def of_ids(prediction: Tensor, target: Tensor, *, absent: float = np.nan) -> float:
    counts = confusion_matrices(target, prediction, num_classes=4).sum(0).numpy()
    return float(np.nanmean(np.nan_to_num(iou(counts), nan=absent)))


def per_image(prediction: Tensor, target: Tensor) -> float:
    return float(np.mean([of_ids(p[None], t[None]) for p, t in zip(prediction, target)]))  # noqa: B905


def agreement(prediction: Tensor, target: Tensor) -> Tensor:
    return (prediction == target).float().mean()


def found(metric: Any, **how: Any) -> list[tuple[str, str]]:
    return [(finding.code, finding.level) for finding in check_metric(metric, **how)]


@pytest.mark.parametrize(
    ("metric", "how"),
    [
        (Total(), {"num_classes": 4, "ignore_index": 255, "claims": "iou"}),
        (Total(scores=dice), {"num_classes": 4, "ignore_index": 255, "claims": "dice"}),
        (of_ids, {"num_classes": 4, "ignore_index": 255, "claims": "iou"}),
        (
            MulticlassJaccardIndex(4, ignore_index=255),
            {"num_classes": 4, "ignore_index": 255},
        ),
        (MulticlassAccuracy(4, average="micro"), {"num_classes": 4}),
        (BinaryJaccardIndex(ignore_index=255), {"num_classes": 1, "ignore_index": 255}),
        (lambda p, t: of_ids(p.argmax(1), t), {"num_classes": 4, "claims": "iou"}),
        (lambda p, t: agreement(p, t), {"num_classes": 4, "claims": "accuracy"}),
    ],
)
def test_nothing_is_said_of_a_sound_metric(metric: Any, how: dict[str, Any]) -> None:
    assert found(metric, **how) == []


def test_a_mean_of_batch_means() -> None:
    for metric in (MeanOfBatches(), RunningMean()):
        assert found(metric, num_classes=4, claims="iou") == [("TM608", "error")]


@pytest.mark.parametrize("metric", [per_image, MeanIoU(4, input_format="index", per_class=False)])
def test_a_mean_over_images(metric: Any) -> None:
    (finding,) = check_metric(metric, num_classes=4, claims="iou")
    assert (finding.code, finding.level) == ("TM608", "warning")


def test_a_mean_over_images_that_claims_nothing_is_a_note() -> None:
    assert found(lambda p, t: per_image(p, t), num_classes=4) == [("TM608", "note")]


def test_ignored_pixels() -> None:
    as_background = [
        lambda p, t: of_ids(p, torch.where(t == 255, 0, t)),
        lambda p, t: agreement(p, t),
    ]
    for metric in as_background:
        assert ("TM609", "error") in found(metric, num_classes=4, ignore_index=255)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_an_absent_class(value: float) -> None:
    (finding,) = check_metric(lambda p, t: of_ids(p, t, absent=value), num_classes=4)
    assert finding.code == "TM610"
    assert finding.evidence["counts_as"] == f"{value:.0f}"


def test_an_absent_class_that_makes_the_mean_no_number() -> None:
    (finding,) = check_metric(NanWhereAbsent(), num_classes=4, claims="iou")
    assert (finding.code, finding.evidence["figure"]) == ("TM610", "nan")


@pytest.mark.parametrize(
    "metric",
    [
        NeverReset(),
        LastOnly(),
        CountsTwice(),
        SkipsSmaller(),
        FirstImages(),
        OnePixelAnImage(),
        lambda p, t: of_ids(p[1:], t[1:]),
    ],
)
def test_images_counted_wrongly(metric: Any) -> None:
    """By this name alone: not as a mean of means, nor as ignored pixels that count."""
    said = found(metric, num_classes=4, ignore_index=255, claims="iou")
    assert set(said) == {("TM611", "error")}


@pytest.mark.parametrize(
    ("metric", "claims", "truly"),
    [
        (agreement, "iou", "pixel accuracy"),
        (Total(scores=dice), "iou", "dice"),
        (of_ids, "dice", "iou"),
        (lambda p, t: 2 * (p == t).sum() / (p.numel() + t.numel()), "dice", "pixel accuracy"),
        (
            lambda p, t: (p == t).sum() / (2 * p.numel() - (p == t).sum()),
            "iou",
            "the iou of all classes pooled, a form of accuracy",
        ),
    ],
)
def test_another_score_under_its_name(metric: Any, claims: str, truly: str) -> None:
    (finding,) = check_metric(metric, num_classes=4, claims=claims)
    assert finding.code == "TM612"
    assert finding.evidence["is"] == truly


def test_the_agreement_of_the_textures_project() -> None:
    """Clipped at 0.1 and 0.9, compared, and called IoU."""

    def iou_score(prediction: Tensor, target: Tensor) -> Tensor:
        assert prediction.is_floating_point()
        return ((prediction.clip(0.1, 0.9) > 0.5) == (target > 0.5)).float().mean()

    (finding,) = check_metric(iou_score, num_classes=1)
    assert finding.code == "TM612"


def test_the_metric_is_left_as_it_was() -> None:
    metric = MulticlassJaccardIndex(4)
    metric.update(torch.zeros(1, 4, 4).long(), torch.zeros(1, 4, 4).long())
    before = metric.confmat.clone()
    check_metric(metric, num_classes=4)
    assert torch.equal(metric.confmat, before)


def test_wrong_usage() -> None:
    with pytest.raises(UsageError, match="wrap it as lambda prediction, target"):
        check_metric(lambda only: only, num_classes=4)


def test_every_rule_is_explained() -> None:

    for rule in RULES:
        for heading in ("Why it matters:", "How it decides:", "False alarms:", "How to mend:"):
            assert heading in rule.explanation, rule.code
