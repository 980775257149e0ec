"""The numbers of docs/weighted_loss.md, computed with Truemask's own losses.

`draw_weighted_loss.py` draws them; tests/test_docs_figures.py holds the page against them.
"""

import math
from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor, nn

from truemask.class_weights import pos_weight
from truemask.losses import BinaryCrossEntropy

RARITIES = (2, 10, 28, 100, 1000)
EDGE_WEIGHT = 27.03  # published for the semantic edges of VOC 2012, with padding counted
EDGES = 28  # pixels per positive there


# --- a constant prediction ---------------------------------------------------------------------


def pixels(positives: int, negatives: int) -> Tensor:
    """A mask of one row, (1, 1, W): the positives first."""
    return torch.cat((torch.ones(positives), torch.zeros(negatives))).long()[None, None]


def constant_loss(loss: nn.Module, mask: Tensor, p: float) -> float:
    """The loss of the same probability at every pixel."""
    logits = torch.full((1, *mask.shape), math.log(p) - math.log1p(-p))
    return float(loss(logits, mask))


def best_constant(loss: nn.Module, mask: Tensor) -> float:
    """The constant probability of least loss: where its slope over the logit changes sign."""
    low, high = -20.0, 20.0
    for _ in range(40):
        z = (low + high) / 2
        low, high = (z, high) if slope(loss, mask, z) < 0 else (low, z)
    return 1 / (1 + math.exp(-low))


def slope(loss: nn.Module, mask: Tensor, z: float) -> float:
    """How the loss grows with the logit z that all pixels share."""
    logit = torch.tensor(z, requires_grad=True)
    loss(logit.expand(1, *mask.shape), mask).backward()
    assert logit.grad is not None
    return float(logit.grad)


def balanced(n: int) -> BinaryCrossEntropy:
    """The loss with the weight that balances one positive in n pixels."""
    return BinaryCrossEntropy(pos_weight=pos_weight([n - 1, 1]))


def constant_table() -> list[list[float]]:
    """For each N: p*, its loss, and with the weight N - 1: p*, its loss, the loss of p = 1/N."""
    rows = []
    for n in RARITIES:
        mask, plain, weighted = pixels(1, n - 1), BinaryCrossEntropy(), balanced(n)
        best = [best_constant(loss, mask) for loss in (plain, weighted)]
        rows.append(
            [
                n,
                best[0],
                constant_loss(plain, mask, best[0]),
                best[1],
                constant_loss(weighted, mask, best[1]),
                constant_loss(weighted, mask, 1 / n),
            ]
        )
    return rows


def gradient_share(n: int, w: float) -> float:
    """The positives' share of all absolute gradients at logits 0, one positive in n pixels."""
    logits = torch.zeros(1, 1, 1, n, requires_grad=True)
    BinaryCrossEntropy(pos_weight=w)(logits, pixels(1, n - 1)).backward()
    assert logits.grad is not None
    size = logits.grad.abs().flatten()
    return float(size[0] / size.sum())


# --- a model that can tell the pixels apart ----------------------------------------------------


@cache
def scene(distance: float) -> tuple[Tensor, Tensor]:
    """Pixels with one feature x: 500 positives around `distance`, 13,500 negatives around 0.

    They lie at the quantiles of normal distributions, so that nothing is drawn at random, and
    the true posterior is a logistic function of x.
    """
    positives, negatives = 500, 500 * (EDGES - 1)
    steps = [(torch.arange(n) + 0.5) / n for n in (positives, negatives)]
    x = torch.cat((torch.special.ndtri(steps[0]) + distance, torch.special.ndtri(steps[1])))
    return x[None, None, None], pixels(positives, negatives)


@cache
def fitted(distance: float, w: float) -> tuple[float, float]:
    """Slope and bias of the logistic model of least loss."""
    x, mask = scene(distance)
    line, loss = torch.zeros(2, requires_grad=True), BinaryCrossEntropy(pos_weight=w)
    optimizer = torch.optim.LBFGS(
        [line], max_iter=200, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def closure() -> float:
        optimizer.zero_grad()
        value = loss(line[0] * x + line[1], mask)
        value.backward()
        return float(value.detach())

    optimizer.step(closure)
    a, b = line.tolist()
    return a, b


def iou_at(distance: float, line: Sequence[float], threshold: float = 0.5) -> float:
    """The IoU of the positives that the line a x + b calls so at a threshold on its sigmoid."""
    x, mask = scene(distance)
    said = (line[0] * x + line[1]).flatten() > math.log(threshold) - math.log1p(-threshold)
    true = mask.flatten() == 1
    return float((said & true).sum() / (said | true).sum())


def best_iou(distance: float) -> float:
    """The largest IoU of any threshold."""
    line = fitted(distance, 1.0)
    return max(iou_at(distance, line, k / 1000) for k in range(1, 1000))


def scene_table() -> list[list[float]]:
    """For each distance: IoU at 0.5 for w = 1, 27 and 1 / best, of w = 1 at 1/28, and the best."""
    rows = []
    for distance in (1.0, 2.0):
        best = best_iou(distance)
        at_half = [iou_at(distance, fitted(distance, w)) for w in (1.0, EDGES - 1.0, 1 / best)]
        moved = iou_at(distance, fitted(distance, 1.0), 1 / EDGES)
        rows.append([distance, *at_half[:2], moved, best, 1 / best, at_half[2]])
    return rows


@cache
def descent(distance: float, w: float, steps: int, bias: float = 0.0) -> list[tuple[float, float]]:
    """The line after each step of Adam from slope 0, at a rate of 0.05."""
    x, mask = scene(distance)
    line, loss = torch.tensor((0.0, bias)).requires_grad_(), BinaryCrossEntropy(pos_weight=w)
    optimizer = torch.optim.Adam([line], lr=0.05)
    lines = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss(line[0] * x + line[1], mask).backward()
        optimizer.step()
        a, b = line.tolist()
        lines.append((a, b))
    return lines


def steps_needed(w: float, threshold: float, bias: float = 0.0, steps: int = 600) -> int:
    """Steps after which the IoU at distance 1 stays within 0.002 of that of the best line."""
    end = iou_at(1.0, fitted(1.0, w), threshold)
    course = [iou_at(1.0, line, threshold) for line in descent(1.0, w, steps, bias)]
    return 1 + max(k for k, value in enumerate(course, 1) if abs(value - end) > 0.002)


# --- logits, padding ---------------------------------------------------------------------------


def naive(logits: Tensor, mask: Tensor) -> Tensor:
    """Binary cross-entropy as it is written in a book."""
    p = torch.sigmoid(logits[:, 0])
    return -(mask * torch.log(p) + (1 - mask) * torch.log(1 - p)).mean()


def clamped(logits: Tensor, mask: Tensor) -> Tensor:
    """PyTorch's loss of probabilities, which cuts logarithms at -100."""
    return nn.functional.binary_cross_entropy(torch.sigmoid(logits[:, 0]), mask.float())


def at_logit(loss: Callable[[Tensor, Tensor], Tensor], z: float, y: int) -> tuple[float, float]:
    """Loss of one pixel of class y at the float32 logit z, and its slope."""
    logits = torch.tensor(z).reshape(1, 1, 1, 1).requires_grad_()
    value = loss(logits, torch.tensor(y).reshape(1, 1, 1))
    value.backward()
    assert logits.grad is not None
    return float(value.detach()), float(logits.grad)


def logit_table() -> list[list[float]]:
    """Class, logit, then loss and slope: by the formula, by BCELoss, by Truemask."""
    losses = (naive, clamped, BinaryCrossEntropy())
    places = ((10, 0), (16, 0), (20, 0), (120, 0), (-20, 1), (-120, 1), (20, 1))
    return [
        [y, z, *(number for loss in losses for number in at_logit(loss, float(z), y))]
        for z, y in places
    ]


def counted_weight(w: float, padding: float) -> float:
    """`pos_weight` where a share of all counted pixels is padding, taken for negatives."""
    size = 10**9
    real = size * (1 - padding)
    positives = real / (1 + w)
    return pos_weight([round(size - positives), round(positives)])


def padding_share(sizes: Sequence[tuple[int, int]], stride: int = 16) -> float:
    """Of a batch: padded to its largest height and width, rounded up to the stride."""
    height, width = (stride * math.ceil(max(side) / stride) for side in zip(*sizes, strict=True))
    return 1 - sum(h * w for h, w in sizes) / (len(sizes) * height * width)


def mixed_padding() -> float:
    """The share of padding in batches that hold upright and lying photos of VOC, half and half."""
    return padding_share([(375, 500), (500, 375)])


def true_weight(counted: float, padding: float) -> float:
    """What `counted_weight` makes the counted weight of."""
    return counted * (1 - padding) - padding
