"""Activations, axes, weights and ignored pixels: faults of losses, and what is said of them."""

from collections.abc import Callable
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from sound_losses import BINARY, FOUR, IGNORING, WEIGHTS, bce, ce, one_hot, soft_dice
from torch import Tensor, nn
from torch.nn import functional

from truemask.checks.losses import check_loss

Loss = Callable[[Tensor, Tensor], Any]
SMP = smp.losses


def codes(loss: Loss, how: dict[str, Any]) -> set[str]:
    return {found.code for found in check_loss(loss, **how) if found.level != "note"}


def dice(p: Tensor, t: Tensor, axes: int | tuple[int, ...] = (0, 2, 3)) -> Tensor:
    return (1 - (2 * (p * t).sum(axes) + 1) / ((p + t).sum(axes) + 1)).mean()


def given(how: dict[str, Any]) -> dict[str, Any]:
    return how | {"from_logits": False}


@pytest.mark.parametrize(
    ("loss", "how"),
    [
        (lambda z, t: ce(z.softmax(1), t), FOUR),
        (lambda z, t: ce(z.sigmoid(), t), FOUR),
        (lambda z, t: bce(z.sigmoid(), t), BINARY),
        (lambda z, t: bce(z.relu(), t), BINARY),
        (lambda z, t: bce(z, t) + soft_dice(z.sigmoid(), t), BINARY),
        (lambda z, t: ce(z, t) + dice(z.softmax(1).softmax(1), one_hot(t, z)), FOUR),
        (lambda z, t: SMP.FocalLoss("binary")(z.sigmoid(), t), BINARY),
        (lambda z, t: SMP.LovaszLoss("multiclass")(z.softmax(1), t), FOUR),
        (lambda z, t: functional.binary_cross_entropy(z.sigmoid().clamp(0.1, 0.9), t), BINARY),
    ],
)
def test_an_activation_twice(loss: Loss, how: dict[str, Any]) -> None:
    (finding,) = check_loss(loss, **how)
    assert finding.code == "TM402"
    assert "does not fall below" in finding.message


def test_the_floor_is_the_one_of_theory() -> None:
    # Softmax twice over 4 classes: at best log(1 + 3 / e).
    (finding,) = check_loss(lambda z, t: ce(z.softmax(1), t), num_classes=4)
    assert finding.evidence["perfect"] == pytest.approx(0.743668, abs=1e-5)


@pytest.mark.parametrize(
    ("loss", "how", "expected"),
    [
        (nn.BCELoss(), BINARY, "probabilities"),
        (nn.MSELoss(), BINARY, "probabilities"),
        (SMP.DiceLoss("binary", from_logits=False), BINARY, "probabilities"),
        (nn.NLLLoss(), FOUR, "log-probabilities"),
        (nn.CrossEntropyLoss(), given(FOUR), "logits"),
        (nn.BCEWithLogitsLoss(), given(BINARY), "logits"),
        (SMP.DiceLoss("multiclass"), given(FOUR), "logits"),
        (SMP.FocalLoss("multiclass"), given(FOUR), "logits"),
        (nn.NLLLoss(), given(FOUR), "log-probabilities"),
        (lambda z, t: functional.nll_loss(z.softmax(1), t), FOUR, "log-probabilities"),
    ],
)
def test_the_other_kind_of_prediction(loss: Loss, how: dict[str, Any], expected: str) -> None:
    found = [f for f in check_loss(loss, **how) if f.code == "TM402"]
    assert [f.evidence["expected"] for f in found] == [expected]


@pytest.mark.parametrize("classes", [2, 3, 4, 6])
@pytest.mark.parametrize(
    "loss",
    [
        lambda z, t: ce(z.reshape(-1, z.shape[1]), t.reshape(-1)),
        lambda z, t: ce(z, t) + ce(z.reshape(-1, z.shape[1]), t.reshape(-1)),
        lambda z, t: ce(z.permute(0, 3, 2, 1).flatten(0, 2), t.flatten()),
        lambda z, t: functional.nll_loss(z.log_softmax(-1), t),
        lambda z, t: functional.nll_loss(z.log_softmax(0), t),
        lambda z, t: dice(z.softmax(2), one_hot(t, z)),
        lambda z, t: dice(
            z.softmax(1).reshape(-1, z.shape[1]), one_hot(t, z).reshape(-1, z.shape[1]), 0
        ),
        lambda z, t: dice(
            z.softmax(1).reshape(z.shape[1], -1), one_hot(t, z).reshape(z.shape[1], -1), 1
        ),
    ],
)
def test_mixed_axes(loss: Loss, classes: int) -> None:
    assert codes(loss, {"num_classes": classes}) == {"TM408"}


@pytest.mark.parametrize(
    ("loss", "how"),
    [
        (nn.CrossEntropyLoss(), IGNORING),
        (nn.CrossEntropyLoss(ignore_index=254), IGNORING),
        (nn.BCEWithLogitsLoss(), BINARY | {"ignore_index": 255}),
        (lambda z, t: ce(z, torch.where(t == 255, 0, t)), IGNORING),
        (lambda z, t: ce(z, t % 4), IGNORING),
        (lambda z, t: soft_dice(z, t == 1), BINARY | {"ignore_index": 255}),
    ],
)
def test_ignored_pixels_that_count(loss: Loss, how: dict[str, Any]) -> None:
    (finding,) = check_loss(loss, **how)
    assert (finding.code, finding.level) == ("TM406", "error")


def test_ignored_pixels_in_the_mean() -> None:
    def loss(logits: Tensor, target: Tensor) -> Tensor:
        return functional.cross_entropy(logits, target, ignore_index=255, reduction="none").mean()

    (finding,) = check_loss(lambda z, t: loss(z, t) + 0, **IGNORING)
    assert (finding.code, finding.level) == ("TM406", "warning")
    assert "a factor of 0.5" in finding.message


def per_sample(logits: Tensor, target: Tensor) -> Tensor:
    losses = functional.cross_entropy(logits, target, ignore_index=255, reduction="none")
    return (losses.sum((1, 2)) / (target != 255).sum((1, 2))).mean()


@pytest.mark.parametrize(
    ("loss", "how", "level"),
    [
        (lambda z, t: -(one_hot(t, z) * z.softmax(1).log()).sum(1).mean(), FOUR, "error"),
        (lambda z, t: -(z.exp() / z.exp().sum(1, True)).log().mul(one_hot(t, z)).mean(), FOUR, 0),
        (lambda z, t: bce(z, t) + bce(z[t == 1], t[t == 1]), BINARY, "error"),
        (lambda z, t: functional.binary_cross_entropy(z.sigmoid(), t).sqrt(), BINARY, "error"),
        (per_sample, IGNORING, "error"),
        (nn.CrossEntropyLoss(ignore_index=255), IGNORING, "note"),
    ],
)
def test_no_number(loss: Loss, how: dict[str, Any], level: str) -> None:
    (finding,) = check_loss(loss, **how)
    assert finding.code == "TM407"
    assert finding.level == (level or "error")


class Stored(nn.Module):
    """Keeps a weight and does not use it, as in the published project on edges."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("pos_weight", torch.tensor(27.03))

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return bce(logits, target)


@pytest.mark.parametrize(
    ("loss", "how"),
    [
        (Stored(), BINARY),
        (Stored(), BINARY | {"weight": 27.03}),
        (nn.CrossEntropyLoss(), FOUR | {"weight": [1, 1, 1, 1.2]}),
        (SMP.DiceLoss("multiclass"), FOUR | {"weight": WEIGHTS}),
        (lambda z, t: ce(z, t) + dice(z.softmax(1), one_hot(t, z)), FOUR | {"weight": WEIGHTS}),
        (lambda z, t: bce(z, t) + soft_dice(z, t), BINARY | {"weight": 3.0}),
    ],
)
def test_a_weight_without_effect(loss: Loss, how: dict[str, Any]) -> None:
    assert codes(loss, how) == {"TM403"}


@pytest.mark.parametrize(
    ("used", "words"),
    [
        (WEIGHTS[::-1], "(reversed)"),
        (WEIGHTS[1:] + WEIGHTS[:1], "(shifted by 3)"),
        ([1 / weight for weight in WEIGHTS], "their inverse"),
        ([weight**2 for weight in WEIGHTS], "applied twice"),
    ],
)
def test_a_wrong_weight(used: list[float], words: str) -> None:
    (finding,) = check_loss(nn.CrossEntropyLoss(torch.tensor(used)), **FOUR, weight=WEIGHTS)
    assert finding.code == "TM404"
    assert words in finding.message


def test_one_weight_too_many() -> None:
    assert codes(nn.CrossEntropyLoss(), FOUR | {"weight": [*WEIGHTS, 1.0]}) == {"TM405"}
