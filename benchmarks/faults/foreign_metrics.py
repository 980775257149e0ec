"""Metrics as people write them: sound ones first, then each with one fault."""
# ruff: noqa: ANN001, ANN201, ANN202, ANN204, D101, D102

import numpy as np
import torch

# --- Sound. Predictions and targets are (B, H, W) class ids unless it says other.


class ConfusionIoU:
    """Counts first, divides last; classes that occur nowhere are left out of the mean."""

    def __init__(self, num_classes, ignore_index=255):
        self.k, self.ignore_index = num_classes, ignore_index
        self.reset()

    def reset(self):
        self.matrix = torch.zeros(self.k, self.k, dtype=torch.int64)

    def update(self, pred, target):
        if pred.ndim == 4:
            pred = pred.argmax(1)
        keep = target != self.ignore_index
        index = target[keep].long() * self.k + pred[keep].long()
        self.matrix += torch.bincount(index, minlength=self.k**2).reshape(self.k, self.k)

    def compute(self):
        inter = self.matrix.diag().double()
        union = self.matrix.sum(0) + self.matrix.sum(1) - inter
        return (inter[union > 0] / union[union > 0]).mean()


class RunningDice(ConfusionIoU):
    def compute(self):
        inter = self.matrix.diag().double()
        total = (self.matrix.sum(0) + self.matrix.sum(1)).double()
        return (2 * inter[total > 0] / total[total > 0]).mean()


def numpy_miou(pred, target, num_classes=5, ignore_index=255):
    """A function of all predictions at once, on arrays or tensors."""
    pred, target = np.asarray(pred), np.asarray(target)
    keep = target != ignore_index
    index = target[keep].astype(int) * num_classes + pred[keep].astype(int)
    m = np.bincount(index, minlength=num_classes**2).reshape(num_classes, num_classes)
    inter, union = np.diag(m), m.sum(0) + m.sum(1) - np.diag(m)
    return float((inter[union > 0] / union[union > 0]).mean())


def binary_iou(pred, target):
    """Foreground IoU over everything given; ids (B, H, W) of 0 and 1."""
    p, t = pred == 1, target == 1
    union = (p | t).sum()
    return (p & t).sum() / union if union > 0 else torch.tensor(float("nan"))


class PixelAccuracy:
    """Says what it is."""

    name = "pixel_accuracy"

    def __init__(self, ignore_index=255):
        self.ignore_index = ignore_index
        self.reset()

    def reset(self):
        self.right = self.total = 0

    def update(self, pred, target):
        keep = target != self.ignore_index
        self.right += (pred[keep] == target[keep]).sum().item()
        self.total += keep.sum().item()

    def compute(self):
        return self.right / max(self.total, 1)


# --- 36: means of means.


def _iou(pred, target, k, ignore_index=255):
    keep = target != ignore_index
    scores = []
    for c in range(k):
        p, t = (pred == c) & keep, (target == c) & keep
        union = (p | t).sum().item()
        if union:
            scores.append((p & t).sum().item() / union)
    return sum(scores) / len(scores) if scores else float("nan")


class BatchMean:
    """The mean of batch scores, called the dataset's IoU."""

    def __init__(self, num_classes, ignore_index=255):
        self.k, self.ignore_index = num_classes, ignore_index
        self.reset()

    def reset(self):
        self.scores = []

    def update(self, pred, target):
        self.scores.append(_iou(pred, target, self.k, self.ignore_index))

    def compute(self):
        return float(np.nanmean(self.scores))


class ImageMean(BatchMean):
    """The mean of image scores, by the name of mIoU."""

    def update(self, pred, target):
        for p, t in zip(pred, target, strict=True):
            self.scores.append(_iou(p, t, self.k, self.ignore_index))


class RunningAverage(BatchMean):
    """new = (old + batch) / 2: the last batches count most."""

    def compute(self):
        value = self.scores[0]
        for score in self.scores[1:]:
            value = (value + score) / 2
        return value


def mean_over_samples(pred, target, num_classes=5):
    """A function that averages per-image scores inside a batch."""
    return float(np.nanmean([_iou(p, t, num_classes) for p, t in zip(pred, target, strict=True)]))


# --- 36: ignored pixels.


class CountsIgnored(ConfusionIoU):
    """255 becomes 0 before it is counted."""

    def update(self, pred, target):
        super().update(pred, torch.where(target == 255, 0, target))


class ClampsIgnored(ConfusionIoU):
    """255 becomes the last class."""

    def update(self, pred, target):
        super().update(pred, target.clamp(max=self.k - 1))


class AccuracyCountsIgnored(PixelAccuracy):
    """Ignored pixels are never right, and are divided by."""

    def update(self, pred, target):
        self.right += (pred == target).sum().item()
        self.total += target.numel()


class UnionCountsIgnored(ConfusionIoU):
    """Predictions on ignored pixels are false positives."""

    def reset(self):
        self.inter, self.union = torch.zeros(self.k), torch.zeros(self.k)

    def update(self, pred, target):
        for c in range(self.k):
            p, t = pred == c, target == c
            self.inter[c] += (p & t).sum()
            self.union[c] += (p | t).sum()

    def compute(self):
        seen = self.union > 0
        return (self.inter[seen] / self.union[seen]).mean()


# --- 36: absent classes.


class AbsentIsZero(ConfusionIoU):
    def compute(self):
        inter = self.matrix.diag().double()
        union = self.matrix.sum(0) + self.matrix.sum(1) - inter
        return (inter / union.clamp(min=1)).mean()


class AbsentIsOne(ConfusionIoU):
    def compute(self):
        inter = self.matrix.diag().double()
        union = self.matrix.sum(0) + self.matrix.sum(1) - inter
        return ((inter + 1e-6) / (union + 1e-6)).mean()


class AbsentIsOneSmooth(ConfusionIoU):
    """`smooth = 1` from the loss, kept in the metric."""

    def compute(self):
        inter = self.matrix.diag().double()
        union = self.matrix.sum(0) + self.matrix.sum(1) - inter
        return ((inter + 1) / (union + 1)).mean()


class AbsentIsNan(ConfusionIoU):
    """0 / 0, and the mean of it."""

    def compute(self):
        inter = self.matrix.diag().double()
        union = self.matrix.sum(0) + self.matrix.sum(1) - inter
        return (inter / union).mean()


# --- 36: images twice, or dropped.


class SkipsSmallBatches(ConfusionIoU):
    """Remembers the first batch's size, and skips a last one that is smaller."""

    size = None

    def update(self, pred, target):
        if self.size is None:
            self.size = len(pred)
        if len(pred) == self.size:
            super().update(pred, target)


class FirstOfBatch(ConfusionIoU):
    """Looks at the first image of each batch."""

    def update(self, pred, target):
        super().update(pred[:1], target[:1])


class LastTwice(ConfusionIoU):
    """Updated in the loop and once more behind it."""

    last = None

    def update(self, pred, target):
        self.last = pred, target
        super().update(pred, target)

    def compute(self):
        super().update(*self.last)
        return super().compute()


class NeverReset(ConfusionIoU):
    """`reset` forgets nothing: the next epoch counts the last one's images again."""

    matrix = None

    def reset(self):
        if self.matrix is None:
            super().reset()


class ForgetsOldBatches(ConfusionIoU):
    """Overwrites instead of adding: only the last batch counts."""

    def update(self, pred, target):
        self.reset()
        super().update(pred, target)


# --- 36: accuracy by another name.


class AccuracyAsIoU:
    """`iou` is the share of equal pixels."""

    __name__ = "iou"

    def __init__(self, ignore_index=255):
        self.ignore_index = ignore_index

    def __call__(self, pred, target):
        keep = target != self.ignore_index
        return (pred[keep] == target[keep]).float().mean()


def iou_of_everything(pred, target):
    """Intersection: equal pixels. Union: all pixels."""
    inter = (pred == target).sum()
    return inter / target.numel()


def clipped_agreement(pred, target):
    """The published textures: clipped, rounded, compared; called precision and IoU."""
    p = pred.float().clamp(0.1, 0.9).round()
    return (p == target).float().mean()


def micro_dice(pred, target):
    """2 * equal / (all + all): accuracy in the dress of Dice."""
    equal = (pred == target).sum()
    return 2 * equal / (pred.numel() + target.numel())


class AlmostAccuracy(ConfusionIoU):
    """IoU of all classes pooled: right / (2 * all - right), as micro-averaging gives it."""

    def compute(self):
        inter = self.matrix.diag().sum().double()
        return inter / (2 * self.matrix.sum() - inter)


class IoUIsDice(ConfusionIoU):
    """Dice by the name of IoU."""

    def compute(self):
        inter = self.matrix.diag().double()
        total = (self.matrix.sum(0) + self.matrix.sum(1)).double()
        return (2 * inter[total > 0] / total[total > 0]).mean()
