"""Sound losses of many kinds, written here or from libraries, with how to call them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import segmentation_models_pytorch as smp
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import sigmoid_focal_loss

from truemask import losses as own

Sound = tuple[str, Callable[..., Any], dict[str, Any]]

library = smp.losses
WEIGHTS = [0.2, 1.0, 5.0, 0.7]
BINARY = {"num_classes": 1, "target": "float"}
FOUR = {"num_classes": 4}
IGNORING = {"num_classes": 4, "ignore_index": 255}


def one_hot(target: Tensor, like: Tensor) -> Tensor:
    return functional.one_hot(target, like.shape[1]).movedim(-1, 1).to(like.dtype)


def soft_dice(
    logits: Tensor, target: Tensor, *, smooth: float = 1.0, per_image: bool = False
) -> Tensor:
    p, t = logits.sigmoid(), target.to(logits.dtype)
    axes = (1, 2, 3) if per_image else (0, 1, 2, 3)
    return (1 - (2 * (p * t).sum(axes) + smooth) / ((p + t).sum(axes) + smooth)).mean()


def generalised_dice(logits: Tensor, target: Tensor) -> Tensor:
    """Sudre et al. 2017, https://arxiv.org/abs/1707.03237."""
    p, t = logits.softmax(1), one_hot(target, logits)
    weight = 1 / (t.sum((0, 2, 3)) ** 2 + 1e-5)
    both, all_ = (weight * (p * t).sum((0, 2, 3))).sum(), (weight * (p + t).sum((0, 2, 3))).sum()
    return 1 - 2 * both / all_


def hardest_quarter(logits: Tensor, target: Tensor) -> Tensor:
    """Online hard example mining, Shrivastava et al. 2016, https://arxiv.org/abs/1604.03540."""
    losses = functional.cross_entropy(logits, target, reduction="none").flatten()
    return losses.topk(losses.numel() // 4)[0].mean()


def signed_distance(mask: Tensor) -> Tensor:
    maps = [
        distance_transform_edt(~m) * ~m - (distance_transform_edt(m) - 1) * m
        if m.any()
        else np.zeros(m.shape)
        for m in mask.numpy()
    ]
    return torch.as_tensor(np.stack(maps))


def boundary(logits: Tensor, target: Tensor) -> Tensor:
    """Kervadec et al. 2019, https://arxiv.org/abs/1812.07032: distances times probabilities."""
    return (signed_distance(target[:, 0] == 1).to(logits.dtype) * logits.sigmoid()[:, 0]).mean()


def boundary_of_classes(logits: Tensor, target: Tensor) -> Tensor:
    p = logits.softmax(1)
    maps = [signed_distance(target == k).to(p.dtype) for k in range(1, p.shape[1])]
    return sum((distance * p[:, k]).mean() for k, distance in enumerate(maps, start=1))


def boundary_f1(logits: Tensor, target: Tensor) -> Tensor:
    """Bokhovkin and Burnaev 2019, https://arxiv.org/abs/1905.07852: maxima along borders."""

    def border(x: Tensor) -> Tensor:
        return functional.max_pool2d(1 - x, 3, 1, 1) - (1 - x)

    p, t = border(logits.softmax(1)), border(one_hot(target, logits))
    near_t, near_p = functional.max_pool2d(t, 5, 1, 2), functional.max_pool2d(p, 5, 1, 2)
    precision = (p * near_t).sum((2, 3)) / (p.sum((2, 3)) + 1e-7)
    recall = (near_p * t).sum((2, 3)) / (t.sum((2, 3)) + 1e-7)
    return (1 - 2 * precision * recall / (precision + recall + 1e-7)).mean()


def structure(logits: Tensor, target: Tensor) -> Tensor:
    """Wei et al. 2020, https://arxiv.org/abs/1911.11445: pixels near borders count more."""
    weight = 1 + 5 * (functional.avg_pool2d(target, 31, 1, 15) - target).abs()
    losses = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    p = logits.sigmoid()
    both, all_ = (p * target * weight).sum((2, 3)), ((p + target) * weight).sum((2, 3))
    mean = (weight * losses).sum((2, 3)) / weight.sum((2, 3))
    return (mean + 1 - (both + 1) / (all_ - both + 1)).mean()


def active_contour(logits: Tensor, target: Tensor) -> Tensor:
    """Chen et al. 2019 (CVPR): the length of the contour, and the regions inside and outside."""
    p = logits.sigmoid()
    down, right = p[:, :, 1:] - p[:, :, :-1], p[..., 1:] - p[..., :-1]
    length = (down[:, :, 1:, :-2] ** 2 + right[:, :, :-2, 1:] ** 2 + 1e-8).sqrt().mean()
    return length + (p * (1 - target)).mean() + ((1 - p) * target).mean()


def similarity(logits: Tensor, target: Tensor) -> Tensor:
    """Structural similarity, Wang et al. 2004, over windows of 7 pixels."""

    def mean(x: Tensor) -> Tensor:
        return functional.avg_pool2d(x, 7, 1)

    p = logits.sigmoid()
    a, b = mean(p), mean(target)
    spread = mean(p * p) - a * a + mean(target * target) - b * b
    joint = mean(p * target) - a * b
    values = (2 * a * b + 1e-4) * (2 * joint + 9e-4) / ((a * a + b * b + 1e-4) * (spread + 9e-4))
    return 1 - values.mean()


def pooled(logits: Tensor, target: Tensor) -> Tensor:
    p, t = logits.softmax(1), one_hot(target, logits)
    difference = functional.avg_pool2d(p, 3, 3, 1) - functional.avg_pool2d(t, 3, 3, 1)
    return difference.square().mean() + functional.cross_entropy(logits, target)


def variation(p: Tensor) -> Tensor:
    return (p[..., 1:] - p[..., :-1]).abs().mean() + (p[..., 1:, :] - p[..., :-1, :]).abs().mean()


def noise_tolerant(logits: Tensor, target: Tensor) -> Tensor:
    """Generalised cross-entropy, Zhang and Sabuncu 2018, https://arxiv.org/abs/1805.07836."""
    p = logits.softmax(1).gather(1, target[:, None]).clamp_min(1e-7)
    return ((1 - p**0.7) / 0.7).mean()


def flattened(logits: Tensor, target: Tensor) -> Tensor:
    rows, ids = logits.movedim(1, -1).flatten(0, 2), target.flatten()
    return functional.cross_entropy(rows[ids != 255], ids[ids != 255])


def masked(logits: Tensor, target: Tensor) -> Tensor:
    valid = target != 255
    truth = torch.where(valid, target, 0.0)
    losses = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    return (losses * valid).sum() / valid.sum().clamp_min(1)


class LearntSum(nn.Module):
    """Kendall et al. 2018, https://arxiv.org/abs/1705.07115: terms weighted by parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(2))

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        terms = functional.cross_entropy(logits, target), generalised_dice(logits, target)
        return (torch.exp(-self.scale) * torch.stack(terms) + self.scale).sum()


def ce(logits: Tensor, target: Tensor) -> Tensor:
    return functional.cross_entropy(logits, target)


def bce(logits: Tensor, target: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits, target)


def sound_losses() -> list[Sound]:
    return [*_of_torch(), *_of_smp(), *_of_truemask(), *_written_here()]


def _of_torch() -> list[Sound]:
    weight = torch.tensor(WEIGHTS)
    return [
        ("ce", nn.CrossEntropyLoss(), FOUR),
        ("ce of two", nn.CrossEntropyLoss(), {"num_classes": 2}),
        ("ce of 19", nn.CrossEntropyLoss(ignore_index=255), IGNORING | {"num_classes": 19}),
        ("ce, weighted", nn.CrossEntropyLoss(weight), FOUR | {"weight": WEIGHTS}),
        ("ce, weights not told", nn.CrossEntropyLoss(weight), FOUR),
        ("ce, smoothed", nn.CrossEntropyLoss(label_smoothing=0.1), FOUR),
        ("ce, one-hot", nn.CrossEntropyLoss(), FOUR | {"target": "one_hot"}),
        ("ce, summed", nn.CrossEntropyLoss(reduction="sum"), FOUR),
        ("ce, unreduced", nn.CrossEntropyLoss(reduction="none"), FOUR),
        ("ce, ignoring 0", nn.CrossEntropyLoss(ignore_index=0), FOUR | {"ignore_index": 0}),
        ("ce, ignoring -100", nn.CrossEntropyLoss(), FOUR | {"ignore_index": -100}),
        ("nll", lambda z, t: functional.nll_loss(z.log_softmax(1), t), FOUR),
        ("bce, one-hot", nn.BCEWithLogitsLoss(), FOUR | {"target": "one_hot"}),
        ("bce", nn.BCEWithLogitsLoss(), BINARY),
        ("bce, integers", nn.BCEWithLogitsLoss(), {"num_classes": 2}),
        (
            "bce, pos_weight",
            nn.BCEWithLogitsLoss(pos_weight=torch.tensor([27.0])),
            BINARY | {"weight": 27.0},
        ),
        ("bce of probabilities", nn.BCELoss(), BINARY | {"from_logits": False}),
        ("focal", lambda z, t: sigmoid_focal_loss(z, t, reduction="mean"), BINARY),
        ("squares", lambda z, t: functional.mse_loss(z.sigmoid(), t), BINARY),
        ("squares of probabilities", nn.MSELoss(), BINARY | {"from_logits": False}),
        ("tempered", lambda z, t: functional.cross_entropy(z / 10, t), FOUR),
    ]


def _of_smp() -> list[Sound]:
    many, two = library.MULTICLASS_MODE, library.BINARY_MODE
    return [
        ("smp dice", library.DiceLoss(many), FOUR),
        ("smp log dice", library.DiceLoss(many, log_loss=True), FOUR),
        ("smp dice, ignoring", library.DiceLoss(many, ignore_index=255), IGNORING),
        ("smp dice of two classes", library.DiceLoss(many, classes=[1, 2]), FOUR),
        (
            "smp dice of probabilities",
            library.DiceLoss(many, from_logits=False),
            FOUR | {"from_logits": False},
        ),
        ("smp dice, labels", library.DiceLoss("multilabel"), FOUR | {"target": "one_hot"}),
        ("smp dice, binary", library.DiceLoss(two), BINARY),
        ("smp jaccard", library.JaccardLoss(many), FOUR),
        ("smp jaccard, binary", library.JaccardLoss(two), BINARY),
        ("smp tversky", library.TverskyLoss(many, alpha=0.3, beta=0.7, gamma=1.33), FOUR),
        ("smp focal", library.FocalLoss(many, ignore_index=255), IGNORING),
        ("smp focal, normalised", library.FocalLoss(many, normalized=True), FOUR),
        ("smp focal, reduced", library.FocalLoss(many, reduced_threshold=0.5), FOUR),
        ("smp focal, binary", library.FocalLoss(two, alpha=0.25), BINARY),
        ("smp lovasz", library.LovaszLoss(many, per_image=True), FOUR),
        ("smp lovasz, binary", library.LovaszLoss(two), BINARY),
        ("smp mcc", library.MCCLoss(), BINARY | {"from_logits": False}),
        ("smp soft ce", library.SoftCrossEntropyLoss(smooth_factor=0.1), FOUR),
        ("smp soft bce", library.SoftBCEWithLogitsLoss(), BINARY),
    ]


def _of_truemask() -> list[Sound]:
    both = own.Sum(losses=[own.CrossEntropy(weight=WEIGHTS), own.Dice()], weights=[1.0, 0.5])
    several: list[Sound] = [
        ("own ce", own.CrossEntropy(weight=WEIGHTS), IGNORING | {"weight": WEIGHTS}),
        ("own focal", own.Focal(gamma=0.5, weight=WEIGHTS), IGNORING | {"weight": WEIGHTS}),
        ("own dice", own.Dice(smooth=0.0, include_background=False), IGNORING),
        ("own squares", own.MeanSquaredError(), IGNORING),
        ("own sum", both, IGNORING | {"weight": WEIGHTS}),
    ]
    binary = {"num_classes": 2, "ignore_index": 255}
    single = [
        ("own ce", own.CrossEntropy(), {}),
        ("own bce", own.BinaryCrossEntropy(pos_weight=27.0), {"weight": 27.0}),
        ("own balanced focal", own.Focal(alpha=0.25), {}),
        ("own dice", own.Dice(), {}),
        ("own squares", own.MeanSquaredError(), {}),
    ]
    return several + [(f"{name}, binary", loss, binary | more) for name, loss, more in single]


def _written_here() -> list[Sound]:
    return [
        ("dice", soft_dice, BINARY),
        ("dice per image", lambda z, t: soft_dice(z, t, per_image=True), BINARY),
        ("dice, hardly smoothed", lambda z, t: soft_dice(z, t, smooth=1e-6), BINARY),
        ("minus dice", lambda z, t: soft_dice(z, t) - 1, BINARY),
        ("bce + dice", lambda z, t: bce(z, t) + soft_dice(z, t), BINARY),
        ("generalised dice", generalised_dice, FOUR),
        ("hardest quarter", hardest_quarter, FOUR),
        ("boundary", boundary, BINARY),
        ("bce + boundary", lambda z, t: bce(z, t) + 0.1 * boundary(z, t), BINARY),
        ("boundary of classes", boundary_of_classes, FOUR),
        ("boundary f1", boundary_f1, FOUR),
        ("structure", structure, BINARY),
        ("active contour", active_contour, BINARY),
        ("bce + similarity", lambda z, t: bce(z, t) + similarity(z, t), BINARY),
        ("similarity", similarity, BINARY),
        ("pooled", pooled, FOUR),
        ("ce + variation", lambda z, t: ce(z, t) + 0.1 * variation(z.softmax(1)), FOUR),
        ("noise tolerant", noise_tolerant, FOUR),
        (
            "absolute",
            lambda z, t: (1 - z.softmax(1).gather(1, t[:, None])).mean(),
            FOUR,
        ),
        ("flooded", lambda z, t: (ce(z, t) - 0.1).abs() + 0.1, FOUR),
        ("flattened", flattened, IGNORING),
        ("masked", masked, BINARY | {"ignore_index": 255}),
        ("in a mapping", lambda z, t: {"loss": ce(z, t), "more": 1}, FOUR),
        ("in a tuple", lambda z, t: (ce(z, t), {}), FOUR),
        ("learnt sum", LearntSum(), FOUR),
    ]
