import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sound_losses import BINARY, FOUR, bce, ce, one_hot, soft_dice, sound_losses
from torch import Tensor, nn
from torch.nn import functional

from truemask.checks.finding import Finding
from truemask.checks.losses import RULES, check_loss
from truemask.errors import UsageError

Loss = Callable[[Tensor, Tensor], Any]


def loud(findings: list[Finding]) -> list[str]:
    return [found.code for found in findings if found.level != "note"]


def only(findings: list[Finding], code: str) -> Finding:
    assert loud(findings) == [code], findings
    return findings[0]


def class_dice(p: Tensor, t: Tensor) -> Tensor:
    both, all_ = (p * t).sum((0, 2, 3)), (p + t).sum((0, 2, 3))
    return (1 - (2 * both + 1) / (all_ + 1)).mean()


@pytest.mark.parametrize(
    ("loss", "how"),
    [pytest.param(loss, how, id=name) for name, loss, how in sound_losses()],
)
def test_nothing_is_said_of_a_sound_loss(loss: Loss, how: dict[str, Any]) -> None:
    assert loud(check_loss(loss, **how)) == []


@pytest.mark.parametrize(
    ("loss", "how", "words"),
    [
        (nn.CrossEntropyLoss(), BINARY, "is 0 whatever is predicted"),
        (lambda z, t: ce(z, t[:, None].double()), {"num_classes": 2}, "softmax over a single"),
        (lambda z, t: soft_dice(z.softmax(1) * 99, t), BINARY, "softmax over a single"),
        (lambda z, t: torch.tensor(1.0), FOUR, "is 1 whatever is predicted"),
        (lambda z, t: z.sum() * 0, FOUR, "is 0 whatever is predicted"),
        (lambda z, t: ce(z, t).item(), FOUR, "cut off"),
        (lambda z, t: ce(z.detach(), t), FOUR, "cut off"),
        (lambda z, t: float(ce(z, t).detach().numpy()), FOUR, "cut off"),
        (lambda z, t: class_dice(one_hot(z.argmax(1), z), one_hot(t, z)), FOUR, "cut off"),
        (lambda z, t: (z.sigmoid().round() - t).abs().mean(), BINARY, "exactly zero"),
        (lambda z, t: ce(z[:1], t[:1]), FOUR, "samples of a batch no gradient: those at [1, 2]"),
        (lambda z, t: ce(z[:, :, 0, 0], t[:, 0, 0]), FOUR, "0.3% of the pixels only"),
        (lambda z, t: ce(z[:, :, 0], t[:, 0]), FOUR, "6.2% of the pixels only"),
    ],
)
def test_no_gradient(loss: Loss, how: dict[str, Any], words: str) -> None:
    finding = only(check_loss(loss, **how), "TM401")
    assert finding.level == "error"
    assert words in finding.message


@pytest.mark.parametrize(
    ("loss", "how"),
    [
        # Soft Dice itself, without "1 -": 1 where all is right.
        (lambda z, t: 1 - soft_dice(z, t), BINARY),
        (lambda z, t: -ce(z, t), FOUR),
        (lambda z, t: ce(z.flip(1), t), FOUR),
        (lambda z, t: ce(z, (t + 1) % 4), FOUR),
        (lambda z, t: soft_dice(-z, t), BINARY),
        # Smoothing in the numerator only: an empty mask is best where there is little to find.
        (
            lambda z, t: (
                1 - ((2 * (z.sigmoid() * t).sum() + 100) / ((z.sigmoid() + t).sum() + 1e-7))
            ),
            BINARY,
        ),
        (lambda z, t: 0.1 * ce(z, t) - class_dice(z.softmax(1), one_hot(t, z)), FOUR),
        # More reward for being unsure than for being right.
        (lambda z, t: ce(z, t) - 1.5 * entropy(z), FOUR),
        (lambda z, t: ce(z, t) - 20 * entropy(z), FOUR),
    ],
)
def test_the_perfect_prediction_must_lose_least(loss: Loss, how: dict[str, Any]) -> None:
    finding = only(check_loss(loss, **how), "TM409")
    assert finding.evidence["rival"] < finding.evidence["perfect"]


def entropy(logits: Tensor) -> Tensor:
    return -(logits.softmax(1) * logits.log_softmax(1)).sum(1).mean()


def test_being_wrong_and_sure_must_not_lose_as_little_as_being_right() -> None:
    def power_of_the_wrong_factor(logits: Tensor, target: Tensor) -> Tensor:
        losses = nn.functional.cross_entropy(logits, target, reduction="none")
        return ((-2 * losses).exp() * losses).mean()

    finding = only(check_loss(power_of_the_wrong_factor, num_classes=4), "TM409")
    assert "sure prediction of the class after the true one" in finding.message


@pytest.mark.parametrize("classes", [2, 4, 19])
def test_less_than_sure_may_be_meant(classes: int) -> None:
    smoothed = nn.CrossEntropyLoss(label_smoothing=0.3)
    assert loud(check_loss(smoothed, num_classes=classes)) == []
    unsure = check_loss(lambda z, t: ce(z, t) - 0.5 * entropy(z), num_classes=classes)
    assert loud(unsure) == []


def test_rows_and_columns_exchanged_are_found_though_other_images_than_squares_raise() -> None:
    finding = only(check_loss(lambda z, t: ce(z, t.transpose(1, 2)), **FOUR), "TM408")
    assert "rows and columns exchanged" in finding.message

    def of_squares(logits: Tensor, target: Tensor) -> Tensor:
        assert logits.shape[2] == logits.shape[3]
        return ce(logits, target)

    assert loud(check_loss(of_squares, **FOUR, ignore_index=None, weight=None)) == []


@pytest.mark.parametrize("loss", [ce, lambda z, t: class_dice(z.softmax(1), one_hot(t, z))])
def test_many_classes(loss: Loss) -> None:
    assert loud(check_loss(loss, num_classes=150)) == []


def test_every_shape_of_two_classes_is_found_out() -> None:
    for leading in ((3, 1), (3,)):

        def loss(logits: Tensor, target: Tensor, leading: tuple[int, ...] = leading) -> Tensor:
            assert logits.shape == target.shape
            assert logits.shape[:-2] == leading
            return bce(logits, target.to(logits.dtype))

        assert check_loss(loss, num_classes=2) == []
        assert check_loss(loss, num_classes=1, target="float") == []


def test_what_cannot_be_called_says_how_to_wrap_it() -> None:
    with pytest.raises(UsageError, match="wrap it as lambda prediction, target"):
        check_loss(lambda only: only.mean(), num_classes=4)
    with pytest.raises(UsageError, match="target is 'ids'; it must be one of index"):
        check_loss(ce, num_classes=4, target="ids")
    with pytest.raises(UsageError, match="num_classes is 0"):
        check_loss(ce, num_classes=0)


class Counting(nn.Module):
    """Counts its calls, keeps a running mean, draws random numbers and has dropout on."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.factor = nn.Parameter(torch.ones(()))

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        self.calls += 1
        self.eval()
        torch.rand(1), np.random.rand(), random.random()  # noqa: NPY002
        return self.factor * ce(logits, target)


@pytest.mark.parametrize("closed", [False, True])
def test_nothing_is_changed(closed: bool) -> None:
    module = Counting()
    loss = (lambda z, t: module(z, t)) if closed else module
    torch.manual_seed(3)
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002
    expected = torch.rand(1), np.random.rand(), random.random()  # noqa: NPY002
    torch.manual_seed(3)
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002
    with torch.no_grad():
        check_loss(loss, num_classes=4)
        assert not torch.is_grad_enabled()
    assert (torch.rand(1), np.random.rand(), random.random()) == expected  # noqa: NPY002
    assert module.calls == 0
    assert module.training
    assert module.factor.grad is None
    assert module.factor.dtype == torch.float32


def test_a_loss_that_draws_pixels_is_only_asked_what_can_be_known() -> None:
    def loss(logits: Tensor, target: Tensor) -> Tensor:
        rows = logits.movedim(1, -1).flatten(0, 2)
        drawn = torch.randperm(len(rows))[:600]
        return functional.cross_entropy(rows[drawn], target.flatten()[drawn])

    assert check_loss(loss, num_classes=4) == []


def test_float32_losses_are_checked_too() -> None:
    weight = torch.rand(4) + 0.1

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        return functional.cross_entropy(logits, target, weight=weight)

    assert loud(check_loss(loss, num_classes=4)) == []
    twice = check_loss(lambda z, t: loss(z.softmax(1), t), num_classes=4)
    only(twice, "TM402")


def test_every_rule_is_explained() -> None:
    for rule in RULES:
        for heading in ("Why it matters:", "How it decides:", "False alarms:", "How to mend:"):
            assert heading in rule.explanation, rule.code
