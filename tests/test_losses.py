import math
from collections.abc import Callable

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import sigmoid_focal_loss

from truemask.errors import UsageError
from truemask.losses import (
    BinaryCrossEntropy,
    CrossEntropy,
    Dice,
    Focal,
    MeanSquaredError,
    Sum,
    _RegionSums,
)

IGNORED = 255
WEIGHTS = [0.5, 2.0, 1.0, 3.0]

# Losses by name, each built for weights of the classes that it is tried on.
MULTICLASS: dict[str, Callable[[list[float]], nn.Module]] = {
    "cross-entropy": lambda _: CrossEntropy(),
    "weighted cross-entropy": lambda weight: CrossEntropy(weight=weight),
    "focal": lambda _: Focal(),
    "weighted focal": lambda weight: Focal(gamma=0.5, weight=weight),
    "dice": lambda _: Dice(),
    "sharp dice": lambda _: Dice(smooth=0.0),
    "squares": lambda _: MeanSquaredError(),
    "sum": lambda weight: Sum(losses=[CrossEntropy(weight=weight), Dice()], weights=[1.0, 0.5]),
}
BINARY = MULTICLASS | {
    "binary cross-entropy": lambda _: BinaryCrossEntropy(),
    "weighted binary cross-entropy": lambda weight: BinaryCrossEntropy(pos_weight=weight[1]),
    "balanced focal": lambda _: Focal(alpha=0.25),
}
CASES = [(name, make, 1) for name, make in BINARY.items()]
CASES += [(name, make, 4) for name, make in MULTICLASS.items()]
every_loss = pytest.mark.parametrize(
    ("make", "channels"),
    [case[1:] for case in CASES],
    ids=[f"{name}, {channels}" for name, _, channels in CASES],
)
Make = Callable[[list[float]], nn.Module]


def example(channels: int, *, ignored: bool = True, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits and class ids of two images of 6x5 pixels, in which every class occurs."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(2, channels, 6, 5, generator=generator)
    target = torch.randint(0, max(channels, 2), (2, 6, 5), generator=generator)
    if ignored:
        target[torch.rand(target.shape, generator=generator) < 0.3] = IGNORED
    return logits, target.to(torch.uint8)


def weights(channels: int) -> list[float]:
    return WEIGHTS[: max(channels, 2)]


def loss_and_gradient(
    loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, target: Tensor
) -> tuple[Tensor, Tensor]:
    logits = logits.detach().requires_grad_()
    value = loss(logits, target)
    (gradient,) = torch.autograd.grad(value, logits)
    return value.detach(), gradient


def one_hot(target: Tensor, channels: int) -> Tensor:
    """(B, K, H, W) float64; a single channel for class 1 where there is one logit channel."""
    if channels == 1:
        return (target == 1).double()[:, None]
    hot = functional.one_hot(target.long().where(target != IGNORED, 0), channels)
    return hot.movedim(-1, 1).double()


@every_loss
def test_ignored_pixels_change_neither_loss_nor_gradient(make: Make, channels: int) -> None:
    loss = make(weights(channels))
    logits, target = example(channels)
    ignored = (target == IGNORED)[:, None].expand_as(logits)
    assert ignored.any()
    value, gradient = loss_and_gradient(loss, logits, target)
    other = torch.where(ignored, 100 * torch.randn_like(logits), logits)
    other_value, other_gradient = loss_and_gradient(loss, other, target)
    assert torch.equal(value, other_value)
    assert torch.equal(gradient, other_gradient)
    assert not gradient[ignored].any()
    assert gradient[~ignored].any()


@every_loss
def test_ignoring_rows_is_cutting_them_off(make: Make, channels: int) -> None:
    loss = make(weights(channels))
    logits, target = example(channels, ignored=False)
    cut = loss_and_gradient(loss, logits[:, :, :4], target[:, :4])
    target[:, 4:] = IGNORED
    value, gradient = loss_and_gradient(loss, logits, target)
    torch.testing.assert_close(value, cut[0])
    torch.testing.assert_close(gradient[:, :, :4], cut[1])


@every_loss
def test_nothing_to_learn_from_is_zero(make: Make, channels: int) -> None:
    logits, target = example(channels)
    value, gradient = loss_and_gradient(
        make(weights(channels)), logits, torch.full_like(target, IGNORED)
    )
    assert value == 0
    assert not gradient.any()


@every_loss
def test_a_perfect_prediction_loses_least(make: Make, channels: int) -> None:
    loss = make(weights(channels))
    _, target = example(channels)
    perfect = (40 * (one_hot(target, channels) - 0.5)).float()
    least = loss(perfect, target)
    assert least == pytest.approx(0, abs=1e-6)
    for seed in range(10):
        logits, _ = example(channels, seed=seed)
        assert loss(logits, target) > least + 0.01
        assert loss(perfect + 15 * logits, target) > least


@every_loss
def test_a_step_down_the_gradient_lowers_the_loss(make: Make, channels: int) -> None:
    loss = make(weights(channels))
    logits, target = example(channels)
    value, gradient = loss_and_gradient(loss, logits, target)
    assert loss(logits - 0.1 * gradient, target) < value


@every_loss
def test_the_order_of_pixels_does_not_matter(make: Make, channels: int) -> None:
    loss = make(weights(channels))
    logits, target = example(channels)
    order = torch.randperm(target.numel(), generator=torch.Generator().manual_seed(1))
    shuffled = logits.movedim(1, 0).flatten(1)[:, order].unflatten(1, target.shape).movedim(0, 1)
    torch.testing.assert_close(
        loss(shuffled, target.flatten()[order].view_as(target)), loss(logits, target)
    )


@pytest.mark.parametrize("make", MULTICLASS.values(), ids=MULTICLASS)
def test_the_order_of_classes_does_not_matter(make: Make) -> None:
    logits, target = example(4)
    order = torch.tensor([2, 0, 3, 1])
    place = torch.full((256,), IGNORED, dtype=torch.uint8)
    place[order] = torch.arange(4, dtype=torch.uint8)
    permuted = make([WEIGHTS[i] for i in order])(logits[:, order], place[target.long()])
    torch.testing.assert_close(permuted, make(WEIGHTS)(logits, target))


@pytest.mark.parametrize("make", MULTICLASS.values(), ids=MULTICLASS)
def test_one_channel_is_two_of_which_the_first_is_zero(make: Make) -> None:
    loss = make(weights(1))
    logits, target = example(1)
    both = torch.cat((torch.zeros_like(logits), logits), 1)
    shift = torch.randn(2, 1, 6, 5)
    expected = binary_twin(loss)(both + shift, target)
    torch.testing.assert_close(loss(logits, target), expected)


def binary_twin(loss: nn.Module) -> nn.Module:
    """The same loss for two channels: Dice then has to be told to leave out the background."""
    if isinstance(loss, Dice):
        return Dice(smooth=loss.smooth, include_background=False)
    if isinstance(loss, Sum):
        return Sum(losses=[binary_twin(term) for term in loss.losses], weights=loss.weights)
    return loss


@every_loss
def test_half_precision_is_computed_in_single(make: Make, channels: int) -> None:
    loss = make(weights(channels))
    logits, target = example(channels)
    half = logits.bfloat16()
    value, gradient = loss_and_gradient(loss, half, target)
    expected, expected_gradient = loss_and_gradient(loss, half.float(), target)
    assert value.dtype == torch.float32
    assert torch.equal(value, expected)
    torch.testing.assert_close(gradient, expected_gradient.bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(loss(half, target), expected)


@every_loss
def test_wide_ids_give_the_same(make: Make, channels: int) -> None:
    loss = make(weights(channels))
    logits, target = example(channels)
    assert torch.equal(loss(logits, target.long()), loss(logits, target))


@every_loss
@pytest.mark.parametrize("size", [30.0, 1e4, 1e30])
def test_sure_predictions_give_finite_gradients(make: Make, channels: int, size: float) -> None:
    logits, target = example(channels)
    value, gradient = loss_and_gradient(make(weights(channels)), size * logits.sign(), target)
    assert value.isfinite()
    assert gradient.isfinite().all()


@every_loss
def test_a_target_of_another_shape_is_refused(make: Make, channels: int) -> None:
    logits, target = example(channels)
    with pytest.raises(UsageError, match="differ in batch size, height or width"):
        make(weights(channels))(logits, target[:, :4])


@every_loss
def test_an_id_without_a_channel_is_refused(make: Make, channels: int) -> None:
    logits, target = example(channels)
    target[0, 0, 0] = 7
    with pytest.raises((IndexError, RuntimeError), match="out of bounds"):
        make(weights(channels))(logits, target)


@pytest.mark.parametrize("weight", [None, WEIGHTS])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_cross_entropy_is_pytorch_s(weight: list[float] | None, smoothing: float) -> None:
    logits, target = example(4)
    expected = functional.cross_entropy(
        logits.double(),
        target.long(),
        weight=None if weight is None else torch.tensor(weight).double(),
        label_smoothing=smoothing,
        ignore_index=IGNORED,
    )
    value = CrossEntropy(weight=weight, label_smoothing=smoothing)(logits, target)
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)


def test_cross_entropy_worked_by_hand() -> None:
    # One pixel each of class 0 and 1, given probabilities 1/4 and 1/2; weights 1 and 3.
    logits = torch.tensor([0.0, math.log(3), 0.0, 0.0]).view(1, 2, 2).movedim(2, 1)[..., None]
    target = torch.tensor([[[0], [1]]])
    value = CrossEntropy(weight=[1.0, 3.0])(logits, target)
    assert value.item() == pytest.approx((math.log(4) + 3 * math.log(2)) / 4, rel=1e-6)


@pytest.mark.parametrize("weight", [None, 0.3, 27.03])
def test_binary_cross_entropy_is_pytorch_s(weight: float | None) -> None:
    logits, target = example(1)
    valid = target != IGNORED
    reference = nn.BCEWithLogitsLoss(pos_weight=None if weight is None else torch.tensor(weight))
    expected = reference(logits[:, 0][valid], target[valid].float())
    torch.testing.assert_close(BinaryCrossEntropy(pos_weight=weight)(logits, target), expected)


@pytest.mark.parametrize("alpha", [None, 0.25, 0.0, 1.0])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
def test_binary_focal_loss_is_torchvision_s_and_smp_s(alpha: float | None, gamma: float) -> None:
    logits, target = example(1)
    valid = target != IGNORED
    value = Focal(gamma=gamma, alpha=alpha)(logits, target)
    expected = sigmoid_focal_loss(
        logits[:, 0][valid],
        target[valid].float(),
        alpha=-1 if alpha is None else alpha,
        gamma=gamma,
        reduction="mean",
    )
    torch.testing.assert_close(value, expected)
    reference = smp.losses.FocalLoss("binary", alpha=alpha, gamma=gamma, ignore_index=IGNORED)
    torch.testing.assert_close(value, reference(logits, target.float()), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("weight", [None, WEIGHTS])
def test_focal_loss_is_its_formula(gamma: float, weight: list[float] | None) -> None:
    logits, target = example(4)
    valid = (target != IGNORED).double()
    true = (logits.double().softmax(1) * one_hot(target, 4)).sum(1)
    each = valid * torch.tensor(weight or [1.0] * 4).double()[target.long().clamp_max(3)]
    expected = (-each * (1 - true) ** gamma * true.log()).sum() / each.sum()
    value = Focal(gamma=gamma, weight=weight)(logits, target)
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("channels", [1, 4])
def test_dice_and_its_gradient_are_smp_s(channels: int) -> None:
    logits, target = example(channels)
    mode = "binary" if channels == 1 else "multiclass"
    reference = smp.losses.DiceLoss(mode, smooth=0.0, ignore_index=IGNORED)
    ids = target.long()[:, None] if channels == 1 else target.long()
    expected = loss_and_gradient(reference, logits, ids)
    value, gradient = loss_and_gradient(Dice(smooth=0.0), logits, target)
    torch.testing.assert_close(value, expected[0])
    torch.testing.assert_close(gradient, expected[1], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("smooth", [0.0, 1.0, 20.0])
@pytest.mark.parametrize("classes", [[0, 1, 2, 3], [1, 2, 3]])
def test_dice_is_its_formula(classes: list[int], smooth: float) -> None:
    logits, target = example(4)

    def formula(logits: Tensor, target: Tensor) -> Tensor:
        valid = (target != IGNORED).double()[:, None]
        predicted = (logits.double().softmax(1) * valid).movedim(1, 0).flatten(1)[classes]
        true = (one_hot(target, 4) * valid).movedim(1, 0).flatten(1)[classes]
        overlap = (predicted * true).sum(1)
        return (1 - (2 * overlap + smooth) / (predicted.sum(1) + true.sum(1) + smooth)).mean()

    expected = loss_and_gradient(formula, logits, target)
    loss = Dice(smooth=smooth, include_background=0 in classes)
    value, gradient = loss_and_gradient(loss, logits, target)
    torch.testing.assert_close(value, expected[0].float())
    torch.testing.assert_close(gradient, expected[1])


def test_dice_worked_by_hand() -> None:
    # Class 1 has probability 0.75 at its one pixel and 0.25 at two others; class 0 is the rest.
    logits = torch.tensor([3.0, 1 / 3, 1 / 3, 5.0]).log().view(1, 1, 1, 4)
    target = torch.tensor([[[1, 0, 0, IGNORED]]])
    foreground = 1 - (2 * 0.75) / (1.25 + 1)
    assert Dice(smooth=0.0)(logits, target).item() == pytest.approx(foreground)
    both = torch.cat((torch.zeros_like(logits), logits), 1)
    background = 1 - (2 * 1.5) / (1.75 + 2)
    assert Dice(smooth=0.0)(both, target).item() == pytest.approx((foreground + background) / 2)


def test_dice_leaves_out_classes_that_the_truth_does_not_hold() -> None:
    logits, target = example(4)
    target[target == 2] = IGNORED
    reference = smp.losses.DiceLoss("multiclass", classes=[0, 1, 3], ignore_index=IGNORED)
    expected = loss_and_gradient(reference, logits, target.long())
    value, gradient = loss_and_gradient(Dice(smooth=0.0), logits, target)
    torch.testing.assert_close(value, expected[0])
    torch.testing.assert_close(gradient, expected[1], rtol=1e-4, atol=1e-7)
    # Nor is a class that takes no probability at all a division of 0 by 0.
    logits[:, 2] = -1e4
    value, gradient = loss_and_gradient(Dice(smooth=0.0), logits, target)
    assert value.isfinite()
    assert gradient.isfinite().all()


def test_region_sums_have_the_gradient_of_their_differences() -> None:
    logits, target = example(4)
    valid = target != IGNORED
    assert torch.autograd.gradcheck(
        lambda values: _RegionSums.apply(values, target.long(), valid)[:2],
        logits.double().requires_grad_(),
    )


@pytest.mark.parametrize("channels", [1, 4])
def test_mean_squared_error_is_pytorch_s(channels: int) -> None:
    logits, target = example(channels)
    valid = (target != IGNORED)[:, None].expand_as(logits)
    probabilities = logits.sigmoid() if channels == 1 else logits.softmax(1)
    expected = functional.mse_loss(probabilities.double()[valid], one_hot(target, channels)[valid])
    value = MeanSquaredError()(logits, target)
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_sum_adds_its_losses() -> None:
    logits, target = example(4)
    first, second = CrossEntropy(), Dice()
    values = first(logits, target), second(logits, target)
    torch.testing.assert_close(Sum(losses=[first, second])(logits, target), sum(values))
    weighted = Sum(losses=[first, second], weights=[0.25, 3.0])(logits, target)
    torch.testing.assert_close(weighted, 0.25 * values[0] + 3 * values[1])


@pytest.mark.parametrize("make", MULTICLASS.values(), ids=MULTICLASS)
def test_another_ignored_id(make: Make) -> None:
    logits, target = example(4)
    loss = make(WEIGHTS)
    expected = loss(logits, target)
    for module in loss.modules():
        if hasattr(module, "ignore_index"):
            module.ignore_index = -1
    other = target.long().where(target != IGNORED, -1)
    torch.testing.assert_close(loss(logits, other), expected)


def test_weights_follow_the_loss_to_its_device_but_not_into_checkpoints() -> None:
    for loss in (
        CrossEntropy(weight=WEIGHTS),
        Focal(alpha=0.2),
        BinaryCrossEntropy(pos_weight=2.0),
    ):
        assert [buffer.device.type for buffer in loss.to("meta").buffers()] == ["meta"]
        assert not loss.state_dict()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: CrossEntropy(weight=[1.0, -1.0]),
            r"weight is \[1.0, -1.0\]; it must be 0 or more",
        ),
        (lambda: CrossEntropy(weight=[0.0, 0.0]), "not all 0"),
        (lambda: CrossEntropy(weight=[1.0, math.inf]), "weight is"),
        (
            lambda: CrossEntropy(label_smoothing=1.5),
            "label_smoothing is 1.5; it must be from 0 to 1",
        ),
        (lambda: BinaryCrossEntropy(pos_weight=0.0), "pos_weight is 0.0; it must be positive"),
        (lambda: BinaryCrossEntropy(pos_weight=math.nan), "pos_weight is nan"),
        (lambda: Focal(gamma=-1.0), "gamma is -1.0; it must be 0 or more"),
        (lambda: Focal(alpha=1.5), "alpha is 1.5; it must be from 0 to 1"),
        (lambda: Focal(alpha=0.5, weight=[1.0, 2.0]), "alpha is 0.5; it must be null if weight"),
        (lambda: Dice(smooth=-1.0), "smooth is -1.0; it must be 0 or more"),
        (lambda: Sum(losses=[]), "at least one loss"),
        (lambda: Sum(losses=[Dice()], weights=[1.0, 2.0]), "must have 1 values, one a loss"),
        (
            lambda: Sum(losses=[Dice()], weights=[-1.0]),
            r"weights is \[-1.0\]; it must be 0 or more",
        ),
    ],
)
def test_bad_settings_are_named(build: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build()


@pytest.mark.parametrize(
    ("loss", "channels", "message"),
    [
        (CrossEntropy(weight=[1.0, 2.0, 3.0]), 4, "weight has 3 values, but there are 4 classes"),
        (CrossEntropy(weight=[1.0]), 1, "weight has 1 values, but there are 2 classes"),
        (Focal(weight=[1.0, 2.0, 3.0]), 1, "weight has 3 values, but there are 2 classes"),
        (Focal(alpha=0.25), 4, "alpha has 2 values, but there are 4 classes"),
        (BinaryCrossEntropy(), 4, "for two classes, which are one logit channel, not for 4"),
    ],
)
def test_settings_that_do_not_fit_the_classes(loss: nn.Module, channels: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        loss(*example(channels))
