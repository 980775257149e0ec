"""Losses over logits and class ids, all blind to ignored pixels, and class weights from counts.

Every loss is called as `loss(logits, target)`, with logits (B, L, H, W) of any float dtype, which
it computes in float32, and targets (B, H, W) of class ids, uint8 or int64. It returns a scalar.
One logit channel z stands for two classes and means the same as the two channels (0, z). Where
every pixel is ignored, the loss is 0 and so are its gradients.

Of a batch that is cut into parts, `loss(logits, target, whole=...)` is one part's share
(`truemask.whole_batch`).
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor, nn
from torch.nn import functional

from truemask.errors import UsageError
from truemask.labels import IGNORE_INDEX
from truemask.whole_batch import Whole, mass_of, share_of

Ids = UInt8[Tensor, "B H W"] | Int64[Tensor, "B H W"]


class CrossEntropy(nn.Module):
    """Cross-entropy, as `torch.nn.CrossEntropyLoss`: a mean weighted by each pixel's class.

    Args:
        weight: one value a class; none counts all alike.
        label_smoothing: share of the target that is spread evenly over all classes, from 0 to 1.
        ignore_index: id of pixels that do not count.

    Raises:
        UsageError: a value is out of its range; when called: there is not one weight a class.
    """

    weight: Tensor | None

    def __init__(
        self,
        *,
        weight: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__()
        _require(0 <= label_smoothing <= 1, "label_smoothing", label_smoothing, "be from 0 to 1")
        self.register_buffer("weight", _weights("weight", weight), persistent=False)
        self.label_smoothing = label_smoothing
        self.ignore_index = ignore_index

    def forward(
        self, logits: Float[Tensor, "B L H W"], target: Ids, *, whole: Whole | None = None
    ) -> Float[Tensor, ""]:
        """The loss, or a part's share of it."""
        logits, target, valid = _prepare(logits, target, self.ignore_index)
        weight = _one_a_class(self.weight, logits)
        total = functional.cross_entropy(
            logits,
            target,
            weight=weight,
            ignore_index=self.ignore_index,
            reduction="sum",
            label_smoothing=self.label_smoothing,
        )
        mass = _of_pixels(weight, target, valid).sum() if whole is None else whole.mass[0]
        return _divide(total, mass)

    def mass(self, target: Ids) -> Float[Tensor, " 1"]:
        """The weights of its pixels."""
        return _weigh(self.weight, target, self.ignore_index)


class BinaryCrossEntropy(nn.Module):
    """Binary cross-entropy of one logit channel, as `torch.nn.BCEWithLogitsLoss`: a plain mean.

    Args:
        pos_weight: how many times a pixel of class 1 counts; none counts it once.
        ignore_index: id of pixels that do not count.

    Raises:
        UsageError: the weight is not positive; when called: there are several logit channels.
    """

    weight: Tensor | None

    def __init__(
        self, *, pos_weight: float | None = None, ignore_index: int = IGNORE_INDEX
    ) -> None:
        super().__init__()
        sound = pos_weight is None or 0 < pos_weight < math.inf
        _require(sound, "pos_weight", pos_weight, "be positive, or null")
        weight = None if pos_weight is None else torch.tensor((1.0, pos_weight))
        self.register_buffer("weight", weight, persistent=False)
        self.ignore_index = ignore_index

    def forward(
        self, logits: Float[Tensor, "B 1 H W"], target: Ids, *, whole: Whole | None = None
    ) -> Float[Tensor, ""]:
        """The loss, or a part's share of it."""
        if logits.shape[1] != 1:
            raise UsageError(
                "BinaryCrossEntropy is for two classes, which are one logit channel, not for "
                f"{logits.shape[1]} channels: use CrossEntropy"
            )
        logits, target, valid = _prepare(logits, target, self.ignore_index)
        total = functional.cross_entropy(
            logits,
            target,
            weight=self.weight,
            ignore_index=self.ignore_index,
            reduction="sum",
        )
        return _divide(total, valid.sum() if whole is None else whole.mass[0])

    def mass(self, target: Ids) -> Float[Tensor, " 1"]:
        """Its valid pixels."""
        return _weigh(None, target, self.ignore_index)


class Focal(nn.Module):
    """Focal loss over the softmax: cross-entropy times (1 - p) ** gamma, p the true class's share.

    Lin et al., "Focal Loss for Dense Object Detection" (2017, https://arxiv.org/abs/1708.02002),
    equation 4; with `alpha`, equation 5. It is a mean weighted like that of `CrossEntropy`; with
    `alpha` a plain mean, as in `torchvision.ops.sigmoid_focal_loss`.

    Args:
        gamma: how little well-classified pixels count; 0 is the cross-entropy.
        weight: one value a class; none counts all alike.
        alpha: for two classes: weight of class 1; that of class 0 is 1 - alpha. Not with `weight`.
        ignore_index: id of pixels that do not count.

    Raises:
        UsageError: a value is out of its range, or both weights are given; when called: there is
            not one weight a class, or there are more than two classes and `alpha`.
    """

    weight: Tensor | None
    alpha: Tensor | None

    def __init__(
        self,
        *,
        gamma: float = 2.0,
        weight: Sequence[float] | None = None,
        alpha: float | None = None,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__()
        _require(0 <= gamma < math.inf, "gamma", gamma, "be 0 or more")
        _require(alpha is None or 0 <= alpha <= 1, "alpha", alpha, "be from 0 to 1, or null")
        _require(alpha is None or weight is None, "alpha", alpha, "be null if weight is given")
        balance = None if alpha is None else torch.tensor((1 - alpha, alpha))
        self.register_buffer("weight", _weights("weight", weight), persistent=False)
        self.register_buffer("alpha", balance, persistent=False)
        self.gamma = gamma
        self.ignore_index = ignore_index

    def forward(
        self, logits: Float[Tensor, "B L H W"], target: Ids, *, whole: Whole | None = None
    ) -> Float[Tensor, ""]:
        """The loss, or a part's share of it."""
        logits, target, valid = _prepare(logits, target, self.ignore_index)
        weights = _of_pixels(_one_a_class(self.weight, logits), target, valid)
        surprise = functional.cross_entropy(
            logits, target, ignore_index=self.ignore_index, reduction="none"
        )
        # For gamma < 1 the slope of x ** gamma is infinite at 0, where a sure prediction arrives.
        missed = (-torch.expm1(-surprise)).clamp_min(1e-12)
        losses = weights * missed**self.gamma * surprise
        if self.alpha is not None:
            losses = losses * _of_pixels(_one_a_class(self.alpha, logits, "alpha"), target, valid)
        return _divide(losses.sum(), weights.sum() if whole is None else whole.mass[0])

    def mass(self, target: Ids) -> Float[Tensor, " 1"]:
        """The weights of its pixels."""
        return _weigh(self.weight, target, self.ignore_index)


class Dice(nn.Module):
    """One minus the soft Dice coefficient, a mean over the classes that occur in the batch's truth.

    Milletari et al., "V-Net" (2016, https://arxiv.org/abs/1606.04797), without their squares:
    2 * intersection / (predicted + true), summed over all valid pixels of the batch before the
    division. A class that is absent from the truth of a batch is left out, because its coefficient
    is 0 whatever the prediction, but for `smooth`. Of two classes only class 1 counts.

    Args:
        smooth: pixels added to numerator and denominator, so that a small class is no cliff.
        include_background: whether class 0 counts where there are more than two classes.
        ignore_index: id of pixels that do not count.

    Raises:
        UsageError: `smooth` is negative.
    """

    def __init__(
        self,
        *,
        smooth: float = 1.0,
        include_background: bool = True,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__()
        _require(0 <= smooth < math.inf, "smooth", smooth, "be 0 or more")
        self.smooth = smooth
        self.include_background = include_background
        self.ignore_index = ignore_index

    def forward(
        self, logits: Float[Tensor, "B L H W"], target: Ids, *, whole: Whole | None = None
    ) -> Float[Tensor, ""]:
        """The loss, or a part's share of it."""
        first = 0 if logits.shape[1] > 1 and self.include_background else 1
        logits, target, valid = _prepare(logits, target, self.ignore_index)
        sums = torch.stack(_RegionSums.apply(logits, target, valid))
        predicted, intersection, true = (sums if whole is None else whole.total(sums))[:, first:]
        present = true > 0
        # Divides by 1 instead of 0 where the class is left out anyway: a NaN would spread.
        size = torch.where(present, predicted + true + self.smooth, 1.0)
        losses = torch.where(present, 1 - (2 * intersection + self.smooth) / size, 0.0)
        loss = _divide(losses.sum(), present.sum())
        return (loss if whole is None else loss / whole.mass[0]).to(logits.dtype)

    def mass(self, target: Ids) -> Float[Tensor, " 1"]:
        """1: processes add up their regions, but each micro-batch has a coefficient of its own."""
        return torch.ones(1, dtype=torch.float64, device=target.device)


class MeanSquaredError(nn.Module):
    """Mean squared difference of probabilities and one-hot truth, over valid pixels and classes.

    With one logit channel it is that of the sigmoid and the mask.

    Args:
        ignore_index: id of pixels that do not count.
    """

    def __init__(self, *, ignore_index: int = IGNORE_INDEX) -> None:
        super().__init__()
        self.ignore_index = ignore_index

    def forward(
        self, logits: Float[Tensor, "B L H W"], target: Ids, *, whole: Whole | None = None
    ) -> Float[Tensor, ""]:
        """The loss, or a part's share of it."""
        logits, target, valid = _prepare(logits, target, self.ignore_index)
        place = torch.where(valid, target, 0)[:, None]
        one = logits.new_ones(()).expand_as(place)
        difference = logits.softmax(1).scatter_add(1, place, -one)
        total = (difference.square().sum(1) * valid).sum()
        mass = valid.sum() if whole is None else whole.mass[0]
        return _divide(total, mass * logits.shape[1])

    def mass(self, target: Ids) -> Float[Tensor, " 1"]:
        """Its valid pixels."""
        return _weigh(None, target, self.ignore_index)


class Sum(nn.Module):
    """A weighted sum of losses.

    Args:
        losses: losses as in this file.
        weights: one factor a loss, 0 or more; none adds the losses as they are.

    Raises:
        UsageError: there is no loss, not one weight a loss, or a weight is negative.
    """

    def __init__(
        self, *, losses: Sequence[nn.Module], weights: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        _require(len(losses) > 0, "losses", list(losses), "name at least one loss")
        factors = [1.0] * len(losses) if weights is None else [float(value) for value in weights]
        rule = f"have {len(losses)} values, one a loss"
        _require(len(factors) == len(losses), "weights", factors, rule)
        sound = all(0 <= factor < math.inf for factor in factors)
        _require(sound, "weights", factors, "be 0 or more")
        self.losses = nn.ModuleList(losses)
        self.weights = factors

    def forward(
        self, logits: Float[Tensor, "B L H W"], target: Ids, *, whole: Whole | None = None
    ) -> Float[Tensor, ""]:
        """The loss, or a part's share of it."""
        if whole is None:
            values = [loss(logits, target) for loss in self.losses]
        else:
            masses = torch.split(whole.mass, [_terms(loss) for loss in self.losses])
            wholes = [Whole(mass, whole.total) for mass in masses]
            values = [
                share_of(loss, logits, target, whole=part)
                for loss, part in zip(self.losses, wholes, strict=True)
            ]
        terms = [weight * value for weight, value in zip(self.weights, values, strict=True)]
        return torch.stack(terms).sum()

    def mass(self, target: Ids) -> Float[Tensor, " T"]:
        """Those of all losses, one after the other."""
        return torch.cat([mass_of(loss, target) for loss in self.losses])


class _RegionSums(torch.autograd.Function):
    """Sums over valid pixels, for each class: its probability, that in its own region, its pixels.

    Written by hand because it then makes no one-hot mask and keeps one (B, K, H, W) tensor: a third
    of the time that autograd takes for the same.
    """

    @staticmethod
    def forward(
        ctx: Any,
        logits: Float[Tensor, "B K H W"],
        target: Int64[Tensor, "B H W"],
        valid: Bool[Tensor, "B H W"],
    ) -> tuple[Float[Tensor, " K"], Float[Tensor, " K"], Float[Tensor, " K"]]:
        place = torch.where(valid, target, 0)[:, None]
        probabilities = logits.softmax(1).mul_(valid[:, None])
        own = probabilities.gather(1, place)
        ctx.save_for_backward(probabilities, own, place)

        def by_class(values: Tensor) -> Float[Tensor, " K"]:
            zeros = torch.zeros(logits.shape[1], dtype=torch.float64, device=logits.device)
            return zeros.scatter_add_(0, place.flatten(), values.flatten().double())

        true = by_class(valid)
        ctx.mark_non_differentiable(true)
        return probabilities.sum((0, 2, 3)).double(), by_class(own), true

    @staticmethod
    def backward(
        ctx: Any, *gradients: Float[Tensor, " K"]
    ) -> tuple[Float[Tensor, "B K H W"], None, None]:
        probabilities, own, place = ctx.saved_tensors
        everywhere, inside, _ = (gradient.to(probabilities.dtype) for gradient in gradients)
        # The softmax's own rule, dz = p * (dp - sum(p * dp)), for dp = everywhere + inside at the
        # true class.
        gradient = probabilities * everywhere[:, None, None]
        inside_own = inside[place] * own
        mean = gradient.sum(1, keepdim=True).add_(inside_own)
        gradient.addcmul_(probabilities, mean, value=-1).scatter_add_(1, place, inside_own)
        return gradient, None, None


def _prepare(
    logits: Float[Tensor, "B L H W"], target: Ids, ignore_index: int
) -> tuple[Float[Tensor, "B K H W"], Int64[Tensor, "B H W"], Bool[Tensor, "B H W"]]:
    """Float32 logits of at least two channels, ids as indices, and which pixels count."""
    if (logits.shape[0], *logits.shape[2:]) != tuple(target.shape):
        raise UsageError(
            f"logits of the shape {tuple(logits.shape)} and a target of the shape "
            f"{tuple(target.shape)} differ in batch size, height or width"
        )
    logits = logits.float()
    if logits.shape[1] == 1:
        logits = torch.cat((torch.zeros_like(logits), logits), 1)
    return logits, target.long(), target != ignore_index


def _of_pixels(
    weight: Float[Tensor, " K"] | None,
    target: Int64[Tensor, "B H W"],
    valid: Bool[Tensor, "B H W"],
) -> Float[Tensor, "B H W"]:
    """The weight of each pixel's class, 0 for ignored pixels."""
    if weight is None:
        return valid.float()
    return weight[torch.where(valid, target, 0)] * valid


def _terms(loss: nn.Module) -> int:
    """How many numbers `mass` gives."""
    return sum(map(_terms, loss.losses)) if isinstance(loss, Sum) else 1


def _weigh(weight: Float[Tensor, " K"] | None, target: Ids, ignore_index: int) -> Tensor:
    """The weights of all valid pixels, added up; (1,) float64, as parts are added to it."""
    target = target.long()
    valid = target != ignore_index
    return _of_pixels(weight, target, valid).sum(dtype=torch.float64)[None]


def _divide(total: Float[Tensor, ""], by: Tensor) -> Float[Tensor, ""]:
    return total / torch.where(by > 0, by, 1).to(total.dtype)


def _one_a_class(
    weight: Float[Tensor, " K"] | None, logits: Float[Tensor, "B K H W"], key: str = "weight"
) -> Float[Tensor, " K"] | None:
    classes = logits.shape[1]
    if weight is not None and len(weight) != classes:
        raise UsageError(f"{key} has {len(weight)} values, but there are {classes} classes")
    return weight


def _weights(key: str, values: Sequence[float] | None) -> Float[Tensor, " K"] | None:
    if values is None:
        return None
    numbers = [float(value) for value in values]
    sound = all(0 <= number < math.inf for number in numbers) and sum(numbers) > 0
    _require(sound, key, numbers, "be 0 or more, and not all 0")
    return torch.tensor(numbers)


def _require(condition: bool, key: str, value: object, rule: str) -> None:
    if not condition:
        raise UsageError(f"{key} is {value}; it must {rule}")
