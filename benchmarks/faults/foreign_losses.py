"""Losses as people write them: sound ones first, then each with one fault."""
# ruff: noqa: ANN001, ANN201, ANN202, ANN204, D101, D102, D103

import torch
import torch.nn as nn
import torch.nn.functional as F

# --- Sound. B batch, C classes; logits (B, C, H, W), target (B, H, W) int64 unless it says other.


class DiceLoss(nn.Module):
    def __init__(self, smooth=1.0, ignore_index=None):
        super().__init__()
        self.smooth, self.ignore_index = smooth, ignore_index

    def forward(self, logits, target):
        probs = logits.softmax(1)
        keep = torch.ones_like(target, dtype=torch.bool)
        if self.ignore_index is not None:
            keep = target != self.ignore_index
        onehot = F.one_hot(target * keep, logits.shape[1]).permute(0, 3, 1, 2).float()
        probs, onehot = probs * keep[:, None], onehot * keep[:, None]
        inter = (probs * onehot).sum((0, 2, 3))
        total = probs.sum((0, 2, 3)) + onehot.sum((0, 2, 3))
        return 1 - ((2 * inter + self.smooth) / (total + self.smooth)).mean()


class BinaryDice(nn.Module):
    """Logits (B, 1, H, W), float target of the same shape."""

    def forward(self, logits, target):
        p = torch.sigmoid(logits).flatten(1)
        t = target.flatten(1)
        inter = (p * t).sum(1)
        return (1 - (2 * inter + 1) / (p.sum(1) + t.sum(1) + 1)).mean()


class FocalLoss(nn.Module):
    def __init__(self, gamma=2.0, ignore_index=255):
        super().__init__()
        self.gamma, self.ignore_index = gamma, ignore_index

    def forward(self, logits, target):
        ce = F.cross_entropy(logits, target, reduction="none", ignore_index=self.ignore_index)
        loss = (1 - torch.exp(-ce)) ** self.gamma * ce
        valid = target != self.ignore_index
        return loss.sum() / valid.sum().clamp(min=1)


class MaskedCrossEntropy(nn.Module):
    """0 where nothing counts, so that an empty batch costs nothing."""

    def __init__(self, ignore_index=255, weight=None):
        super().__init__()
        self.ignore_index = ignore_index
        self.register_buffer("weight", None if weight is None else torch.as_tensor(weight))

    def forward(self, logits, target):
        valid = target != self.ignore_index
        total = F.cross_entropy(
            logits, target, self.weight, ignore_index=self.ignore_index, reduction="sum"
        )
        if self.weight is None:
            return total / valid.sum().clamp(min=1)
        mass = self.weight[target[valid]].sum()
        return total / mass.clamp(min=1e-6)


class CrossEntropyAndDice(nn.Module):
    def __init__(self, ignore_index=255):
        super().__init__()
        self.ce, self.dice = MaskedCrossEntropy(ignore_index), DiceLoss(1.0, ignore_index)

    def forward(self, logits, target):
        return self.ce(logits, target) + self.dice(logits, target)


def tversky_loss(logits, target, alpha=0.3, beta=0.7, eps=1.0):
    """Binary, logits (B, 1, H, W), target (B, H, W) or (B, 1, H, W) of 0 and 1."""
    p = logits.sigmoid().reshape(len(logits), -1)
    t = target.reshape(len(logits), -1).to(p.dtype)
    tp = (p * t).sum(-1)
    fp = (p * (1 - t)).sum(-1)
    fn = ((1 - p) * t).sum(-1)
    return (1 - (tp + eps) / (tp + alpha * fp + beta * fn + eps)).mean()


def soft_jaccard(probs, target):
    """Binary probabilities (B, 1, H, W)."""
    inter = (probs * target).sum((1, 2, 3))
    union = (probs + target - probs * target).sum((1, 2, 3))
    return (1 - (inter + 1) / (union + 1)).mean()


def ce_of_log_softmax(logits, target):
    """Log-softmax twice is log-softmax: harmless."""
    return F.cross_entropy(F.log_softmax(logits, 1), target)


def nll_of_log_softmax(logits, target):
    return F.nll_loss(F.log_softmax(logits, dim=1), target)


def flattened_ce(logits, target):
    """A reshape as it should be: the class axis goes last first."""
    c = logits.shape[1]
    return F.cross_entropy(logits.permute(0, 2, 3, 1).reshape(-1, c), target.reshape(-1))


def one_hot_ce(logits, onehot):
    """Target (B, C, H, W), one-hot."""
    return -(onehot * logits.log_softmax(1)).sum(1).mean()


def lovasz_hinge_flat(logits, labels):
    signs = 2.0 * labels.float() - 1.0
    errors = 1.0 - logits * signs
    errors_sorted, perm = torch.sort(errors, dim=0, descending=True)
    gt = labels[perm].float()
    gts = gt.sum()
    inter = gts - gt.cumsum(0)
    union = gts + (1 - gt).cumsum(0)
    jaccard = 1.0 - inter / union
    jaccard = torch.cat((jaccard[:1], jaccard[1:] - jaccard[:-1]))
    return torch.dot(F.relu(errors_sorted), jaccard)


def lovasz_hinge(logits, target):
    """Binary, logits (B, 1, H, W)."""
    losses = [
        lovasz_hinge_flat(x.reshape(-1), t.reshape(-1)) for x, t in zip(logits, target, strict=True)
    ]
    return torch.stack(losses).mean()


def weighted_ce(weight):
    weight = torch.as_tensor(weight)
    return nn.CrossEntropyLoss(weight=weight)


def weighted_bce(pos_weight):
    return nn.BCEWithLogitsLoss(pos_weight=torch.tensor([float(pos_weight)]))


def squared_error_of_sigmoid(logits, target):
    return ((torch.sigmoid(logits) - target) ** 2).mean()


def ohem_ce(logits, target, share=0.25):
    """Online hard example mining: only the worst quarter of the pixels counts."""
    losses = F.cross_entropy(logits, target, reduction="none", ignore_index=255).flatten()
    count = max(1, int(share * losses.numel()))
    return losses.topk(count).values.mean()


def ohem_ce_of_valid(logits, target, share=0.25):
    """The same, the quarter taken of the pixels that count."""
    valid = target != 255
    losses = F.cross_entropy(logits, target, reduction="none", ignore_index=255)[valid]
    if losses.numel() == 0:
        return logits.sum() * 0
    return losses.topk(max(1, int(share * losses.numel()))).values.mean()


# --- 17: no gradient.


def softmax_of_one_channel(logits, target):
    """BCE of a softmax over the one channel that a binary model has."""
    return F.binary_cross_entropy(torch.softmax(logits, dim=1), target.float())


class ArgmaxDice(nn.Module):
    """The metric, used as a loss."""

    def forward(self, logits, target):
        pred = logits.argmax(1)
        score = 0
        for c in range(logits.shape[1]):
            p, t = (pred == c).float(), (target == c).float()
            score = score + (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)
        loss = 1 - score / logits.shape[1]
        return loss.clone().detach().requires_grad_(True)


def thresholded_iou(logits, target):
    pred = (torch.sigmoid(logits) > 0.5).float()
    inter, union = (pred * target).sum(), ((pred + target) > 0).float().sum()
    return 1 - torch.tensor((inter / union.clamp(min=1)).item(), requires_grad=True)


def rounded_mse(logits, target):
    return F.mse_loss(torch.round(torch.sigmoid(logits)), target)


class ThroughNumpy(nn.Module):
    """sklearn-like arithmetic in the middle."""

    def forward(self, logits, target):
        p = torch.sigmoid(logits).detach().cpu().numpy()
        t = target.cpu().numpy()
        value = -(t * (p + 1e-7) ** 0.5).mean()
        return torch.tensor(float(value), requires_grad=True)


@torch.no_grad()
def _soft_dice(p, t):
    return (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)


def no_grad_dice(logits, target):
    return 1 - _soft_dice(logits.sigmoid(), target)


def detached_outputs(logits, target):
    """Copied from the validation loop."""
    return F.cross_entropy(logits.detach(), target)


def saturated_clamp(logits, target):
    """Clamps logits as if they were probabilities, so that most pixels get no gradient."""
    p = logits.clamp(0.49, 0.51)
    return -(target * p.log() + (1 - target) * (1 - p).log()).mean()


def vanishing(logits, target):
    """The mean of a mean of a mean: the pixel count is divided by three times."""
    n = target.numel()
    return F.binary_cross_entropy_with_logits(logits, target.float()) / (float(n) ** 3)


# --- 18: activations.


def nll_of_softmax(logits, target):
    """`nll_loss` takes log-probabilities."""
    return F.nll_loss(F.softmax(logits, 1), target)


class CeOfSoftmax(nn.Module):
    def __init__(self):
        super().__init__()
        self.softmax, self.ce = nn.Softmax(dim=1), nn.CrossEntropyLoss()

    def forward(self, logits, target):
        return self.ce(self.softmax(logits), target)


def bce_of_sigmoid_twice(logits, target):
    return F.binary_cross_entropy_with_logits(torch.sigmoid(logits), target.float())


def dice_on_raw_logits(logits, target):
    """No activation at all."""
    p, t = logits.flatten(1), target.flatten(1)
    return (1 - (2 * (p * t).sum(1) + 1) / (p.sum(1) + t.sum(1) + 1)).mean()


def clamped_bce_on_logits(logits, target, eps=1e-6):
    p = torch.clamp(logits, eps, 1 - eps)
    return -(target * torch.log(p) + (1 - target) * torch.log(1 - p)).mean()


class DoubleSigmoidDice(BinaryDice):
    def forward(self, logits, target):
        return super().forward(torch.sigmoid(logits), target)


class FocalOfSoftmax(nn.Module):
    def forward(self, logits, target):
        p = F.softmax(F.softmax(logits, 1), 1).gather(1, target[:, None])
        return ((1 - p) ** 2 * -p.log()).mean()


def mse_on_logits(logits, target):
    """Squared error straight on logits (B, 1, H, W), read as probabilities later."""
    return F.mse_loss(logits, target)


class SoftmaxThenDiceAndCe(nn.Module):
    """Activates once for Dice and hands the probabilities on to the cross-entropy."""

    def __init__(self):
        super().__init__()
        self.dice = DiceLoss()

    def forward(self, logits, target):
        probs = torch.softmax(logits, dim=1)
        onehot = F.one_hot(target, probs.shape[1]).permute(0, 3, 1, 2)
        inter = (probs * onehot).sum((2, 3))
        dice = 1 - (2 * inter + 1) / (probs.sum((2, 3)) + onehot.sum((2, 3)) + 1)
        return F.cross_entropy(probs, target) + dice.mean()


# --- 19: weights.


class ForgottenWeight(nn.Module):
    """Takes a weight, keeps it, never uses it."""

    def __init__(self, weight):
        super().__init__()
        self.weight = torch.as_tensor(weight)
        self.ce = nn.CrossEntropyLoss()

    def forward(self, logits, target):
        return self.ce(logits, target)


class PosWeightAsWeight(nn.Module):
    """`weight` of BCEWithLogitsLoss rescales every pixel alike."""

    def __init__(self, pos_weight):
        super().__init__()
        self.bce = nn.BCEWithLogitsLoss(weight=torch.tensor([float(pos_weight)]))

    def forward(self, logits, target):
        return self.bce(logits, target)


class ShadowedLoss(nn.Module):
    """Builds the weighted loss, then a second one by the same name: the published edges."""

    def __init__(self, pos_weight):
        super().__init__()
        self.loss = nn.BCEWithLogitsLoss(pos_weight=torch.tensor([float(pos_weight)]))
        self.loss = nn.BCEWithLogitsLoss(reduction="mean")

    def forward(self, logits, target):
        return self.loss(logits, target)


class WeightedAfterMean(nn.Module):
    """The mean is taken first; the weight then scales the batch, not the classes."""

    def __init__(self, weight):
        super().__init__()
        self.weight = torch.as_tensor(weight)

    def forward(self, logits, target):
        loss = F.cross_entropy(logits, target)
        return (loss * self.weight[target]).mean()


class WeightCancels(nn.Module):
    """Every class is divided by its own weight again."""

    def __init__(self, weight):
        super().__init__()
        self.weight = torch.as_tensor(weight)

    def forward(self, logits, target):
        loss = F.cross_entropy(logits, target, reduction="none")
        parts = []
        for c, w in enumerate(self.weight):
            chosen = loss[target == c]
            if len(chosen):
                parts.append((w * chosen).sum() / (w * loss.numel()))
        return torch.stack(parts).sum()


class AlphaForAll(nn.Module):
    """Focal's alpha as one factor for both classes."""

    def __init__(self, alpha=0.25, gamma=2.0):
        super().__init__()
        self.alpha, self.gamma = alpha, gamma

    def forward(self, logits, target):
        ce = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        return (self.alpha * (1 - torch.exp(-ce)) ** self.gamma * ce).mean()


class ReorderedWeight(nn.Module):
    """The weights in the order of something else than the ids."""

    def __init__(self, weight, order):
        super().__init__()
        self.ce = nn.CrossEntropyLoss(weight=torch.as_tensor(weight)[list(order)])

    def forward(self, logits, target):
        return self.ce(logits, target)


class InvertedPosWeight(nn.Module):
    """Positives over negatives instead of negatives over positives."""

    def __init__(self, pos_weight):
        super().__init__()
        self.register_buffer("pos_weight", torch.tensor([1.0 / pos_weight]))

    def forward(self, logits, target):
        return F.binary_cross_entropy_with_logits(logits, target, pos_weight=self.pos_weight)


class InvertedWeight(nn.Module):
    def __init__(self, weight):
        super().__init__()
        weight = torch.as_tensor(weight)
        self.weight = 1 / weight / (1 / weight).mean()

    def forward(self, logits, target):
        return F.cross_entropy(logits, target, weight=self.weight)


# --- 20: ignored pixels, and NaN.


class MeanOverAll(nn.Module):
    """Ignored pixels cost nothing, but are counted in the mean."""

    def forward(self, logits, target):
        loss = F.cross_entropy(logits, target, ignore_index=255, reduction="none")
        return loss.mean()


class IgnoredAsBackground(nn.Module):
    """255 becomes 0, "so that the loss does not crash"."""

    def forward(self, logits, target):
        target = target.clone()
        target[target == 255] = 0
        return F.cross_entropy(logits, target)


class IgnoredAsLast(nn.Module):
    def forward(self, logits, target):
        return F.cross_entropy(logits, target.clamp(max=logits.shape[1] - 1))


class DiceCountsIgnored(nn.Module):
    """The one-hot mask leaves ignored pixels out, the probabilities do not."""

    def forward(self, logits, target):
        probs = logits.softmax(1)
        keep = target != 255
        onehot = F.one_hot(target * keep, logits.shape[1]).permute(0, 3, 1, 2) * keep[:, None]
        inter = (probs * onehot).sum((0, 2, 3))
        return 1 - ((2 * inter + 1) / (probs.sum((0, 2, 3)) + onehot.sum((0, 2, 3)) + 1)).mean()


class BceCountsIgnored(nn.Module):
    """A float mask in which 255 was compared with 1."""

    def forward(self, logits, target):
        return F.binary_cross_entropy_with_logits(logits, (target == 1).float())


class CeIgnoresDiceDoesNot(nn.Module):
    def forward(self, logits, target):
        ce = MaskedCrossEntropy(255)(logits, target)
        inside = target.clamp(max=logits.shape[1] - 1)
        return ce + DiceLoss()(logits, inside)


class MeanOfSampleMeans(nn.Module):
    """A sample that is ignored as a whole makes 0 / 0."""

    def forward(self, logits, target):
        losses = [
            F.cross_entropy(x[None], t[None], ignore_index=255)
            for x, t in zip(logits, target, strict=True)
        ]
        return torch.stack(losses).mean()


class BalancedMeans(nn.Module):
    """Positives and negatives count alike; the mean of no positives is NaN."""

    def forward(self, logits, target):
        loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        return loss[target == 1].mean() + loss[target == 0].mean()


class BalancedInBatch(nn.Module):
    """negatives / positives of each batch."""

    def forward(self, logits, target):
        pos = target.sum()
        neg = target.numel() - pos
        return F.binary_cross_entropy_with_logits(logits, target, pos_weight=neg / pos)


class LogOfZero(nn.Module):
    """A sure prediction becomes exactly 0 or 1, and its logarithm infinite."""

    def forward(self, logits, target):
        p = torch.sigmoid(logits)
        return -(target * torch.log(p) + (1 - target) * torch.log(1 - p)).mean()


class MaskedMeanOfNothing(nn.Module):
    """Indexing by the valid pixels, then a mean of an empty tensor."""

    def forward(self, logits, target):
        valid = target != 255
        x = logits.permute(0, 2, 3, 1)[valid]
        return F.cross_entropy(x, target[valid])


# --- 21: axes.


def view_without_permute(logits, target):
    """The classic: (B, C, H, W) seen as (B * H * W, C)."""
    return F.cross_entropy(logits.reshape(-1, logits.shape[1]), target.reshape(-1))


def softmax_over_width(logits, target):
    logp = F.log_softmax(logits, dim=-1)
    return F.nll_loss(logp, target)


def softmax_over_batch(logits, target):
    logp = torch.softmax(logits, 0).clamp(min=1e-7).log()
    return F.nll_loss(logp, target)


def transposed_target(logits, target):
    """Height and width swapped on one side; works on squares."""
    return F.cross_entropy(logits, target.transpose(1, 2))


class DiceMixed(nn.Module):
    """A one-hot mask (B, H, W, C) flattened beside logits (B, C, H, W)."""

    def forward(self, logits, target):
        p = logits.softmax(1).reshape(-1)
        t = F.one_hot(target, logits.shape[1]).float().reshape(-1)
        return 1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)


def flattened_wrong_order(logits, target):
    """Transposes batch and classes instead of moving the classes last."""
    c = logits.shape[1]
    return F.cross_entropy(logits.transpose(0, 1).reshape(-1, c), target.reshape(-1))


def batch_mixed(logits, target):
    """Samples of the prediction beside other samples of the target."""
    return F.cross_entropy(logits, target.flip(0))


# --- 22: a perfect prediction does not lose least.


def negated_dice(logits, target):
    """The coefficient is minimised."""
    p = torch.sigmoid(logits)
    return (2 * (p * target).sum() + 1) / (p.sum() + target.sum() + 1)


def inverted_labels(logits, target):
    return F.binary_cross_entropy_with_logits(logits, 1 - target)


def plus_instead_of_minus(logits, target):
    logp = F.log_softmax(logits, 1)
    return logp.gather(1, target[:, None]).mean()


class FocalWrongPower(nn.Module):
    """p ** gamma where (1 - p) ** gamma should stand: least at 0 and at 1."""

    def forward(self, logits, target):
        ce = F.cross_entropy(logits, target, reduction="none")
        p = torch.exp(-ce)
        return (p**2 * ce).mean()


def off_by_one(logits, target):
    """Ids that once began at 1."""
    return F.cross_entropy(logits, (target - 1).clamp(min=0))


class SizePenalty(nn.Module):
    """A regulariser on the predicted area that outweighs the loss."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, logits, target):
        p = torch.sigmoid(logits)
        return F.binary_cross_entropy_with_logits(logits, target) + self.factor * p.mean()


class EntropyBonus(nn.Module):
    """Rewards unsure predictions."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, logits, target):
        logp = F.log_softmax(logits, 1)
        entropy = -(logp.exp() * logp).sum(1).mean()
        return F.cross_entropy(logits, target) - self.factor * entropy


class TverskySwappedSign(nn.Module):
    def forward(self, logits, target):
        p = torch.sigmoid(logits)
        tp, fp, fn = (p * target).sum(), (p * (1 - target)).sum(), ((1 - p) * target).sum()
        return 1 - (tp + 1) / (tp - 0.3 * fp + 0.7 * fn + 1)


class DiceOfBackground(nn.Module):
    """Takes channel 0 for the foreground."""

    def forward(self, logits, target):
        p = torch.softmax(logits, 1)[:, 0]
        t = (target == 1).float()
        return 1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)


class FocalOnProbabilities(nn.Module):
    """The published one: it softmaxes what already are probabilities."""

    def __init__(self, gamma=2.0):
        super().__init__()
        self.gamma = gamma

    def forward(self, outputs, onehot):
        p = F.softmax(outputs, dim=1)
        loss = -onehot * (1 - p) ** self.gamma * torch.log(p + 1e-8)
        return loss.sum(1).mean()
