"""Rows 23 to 30: models that answer another question, or cannot learn."""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.faults import foreign_models as foreign
from benchmarks.faults.case import STRENGTHS, Check, Fault, Strength

Batch = tuple[Tensor, Tensor]


@cache
def scenes(
    *, batch: int = 4, size: tuple[int, int] = (64, 96), classes: int = 5, seed: int = 0
) -> Batch:
    """A learnable batch: discs of one colour a class on a noisy ground, normalised."""
    random = torch.Generator().manual_seed(seed)
    height, width = size
    down, right = torch.arange(height)[:, None], torch.arange(width)[None, :]
    masks = torch.zeros(batch, height, width, dtype=torch.int64)
    colors = torch.rand(classes, 3, generator=random) * 2 - 1
    for i in range(batch):
        for class_ in [*range(1, classes)] * 2:
            y, x = (float(torch.rand((), generator=random)) * side for side in (height, width))
            radius = 6 + float(torch.rand((), generator=random)) * 8
            masks[i][(down - y) ** 2 + (right - x) ** 2 < radius**2] = class_
    images = colors[masks].permute(0, 3, 1, 2)
    return images + 0.4 * torch.randn(images.shape, generator=random), masks


def check_of_model(model: nn.Module, batch: Any, *, num_classes: int = 5, **said: Any) -> Check:
    """`check_model` as called by its user."""

    def check() -> list[Any]:
        from truemask.checks.models import check_model

        return check_model(model, batch, num_classes=num_classes, **said)

    return check


def faults() -> Iterator[Fault]:
    """All of them."""
    yield from _shapes()
    yield from _activations()
    yield from _shared()
    yield from _untrained()
    yield from _influence()
    yield from _norms()
    yield from _learning()


def _fault(
    row: int,
    code: str,
    name: str,
    strength: Strength,
    make: Callable[[], nn.Module],
    *,
    detail: str = "",
    also: tuple[str, ...] = (),
    batch: Callable[[], Any] = scenes,
    said: Callable[[nn.Module], dict[str, Any]] = lambda model: {},
) -> Fault:
    def prepare() -> Check:
        model = make()
        return check_of_model(model, batch(), **said(model))

    return Fault(
        row=row, code=code, name=name, strength=strength, detail=detail, base="models",
        prepare=prepare, also=also,
    )  # fmt: skip


def _cross_entropy(model: nn.Module) -> dict[str, Any]:
    return {"loss": nn.CrossEntropyLoss()}


def _shapes() -> Iterator[Fault]:
    for strength, layers in zip(STRENGTHS, (1, 4, 12), strict=True):
        yield _fault(
            23, "TM501", "convolutions without padding", strength,
            lambda n=layers: foreign.ValidConvs(n), detail=f"{2 * layers} px smaller",
        )  # fmt: skip
    for strength, times in zip(STRENGTHS, (1, 2, 3), strict=True):
        yield _fault(
            23, "TM501", "never upsampled", strength, lambda n=times: foreign.NeverUpsampled(n),
            detail=f"a {2**times}th of the side",
        )  # fmt: skip
    for strength, classes in (("weak", 6), ("realistic", 4), ("strong", 1)):
        yield _fault(
            23, "TM501", "another count of classes", strength,
            lambda n=classes: foreign.SmallUNet(3, n), detail=f"{classes} channels for 5 classes",
        )  # fmt: skip
    yield _fault(23, "TM501", "classes last", "realistic", foreign.ChannelsLast)
    for strength, pixels in zip(STRENGTHS, (1, 4, 8), strict=True):
        yield _fault(
            23, "TM502", "cropped from the corner of what was padded", strength,
            lambda n=pixels: foreign.Shifted(n), detail=f"{pixels} px",
        )  # fmt: skip
    for strength, layers in zip(STRENGTHS, (1, 4, 8), strict=True):
        yield _fault(
            23, "TM502", "padded on one side", strength, lambda n=layers: foreign.OneSided(n),
            detail=f"{layers} px",
        )  # fmt: skip
    yield _fault(23, "TM502", "skips cropped from their corner", "realistic", foreign.WrongCrop)


def _activations() -> Iterator[Fault]:
    def activated(activation: nn.Module, classes: int = 5) -> Callable[[], nn.Module]:
        return lambda: foreign.Activated(foreign.SmallUNet(3, classes), activation)

    def binary(model: nn.Module) -> dict[str, Any]:
        return {"loss": nn.BCEWithLogitsLoss(), "num_classes": 2}

    def binary_batch() -> Batch:
        images, masks = scenes(classes=2)
        return images, masks[:, None].float()

    yield _fault(
        24, "TM503", "softmax before cross-entropy", "realistic", activated(nn.Softmax(1)),
        said=_cross_entropy,
    )  # fmt: skip
    yield _fault(
        24, "TM503", "sigmoid before cross-entropy", "realistic", activated(nn.Sigmoid()),
        said=_cross_entropy,
    )  # fmt: skip
    yield _fault(
        24, "TM503", "sigmoid before BCE with logits", "realistic", activated(nn.Sigmoid(), 1),
        said=binary, batch=binary_batch,
    )  # fmt: skip
    yield _fault(
        24, "TM503", "ReLU at the end before cross-entropy", "weak", activated(nn.ReLU()),
        said=_cross_entropy,
    )  # fmt: skip
    yield _fault(
        24, "TM503", "tanh at the end before BCE with logits", "weak", activated(nn.Tanh(), 1),
        said=binary, batch=binary_batch,
    )  # fmt: skip
    yield _fault(
        24, "TM503", "softmax over one channel", "strong", activated(nn.Softmax(1), 1),
        said=binary, batch=binary_batch, also=("TM401", "TM505"),
    )  # fmt: skip


def _shared() -> Iterator[Fault]:
    def one_channel() -> Batch:
        images, masks = scenes(classes=2)
        return images.mean(1, keepdim=True), masks[:, None].float()

    for strength, uses in zip(STRENGTHS, (2, 3, 6), strict=True):
        yield _fault(
            25, "TM504", "one batch norm for several layers", strength,
            lambda n=uses: foreign.OneBatchNorm(uses=n), detail=f"{uses} layers",
            batch=one_channel, said=lambda model: {"num_classes": 2},
        )  # fmt: skip
        yield _fault(
            25, "TM504", "a list multiplied", strength,
            lambda n=uses: foreign.MultipliedList(n), detail=f"{uses} times the same block",
        )  # fmt: skip
    yield _fault(25, "TM504", "a norm in a default argument", "realistic", foreign.DefaultArgument)


def _untrained() -> Iterator[Fault]:
    for strength, width in zip(STRENGTHS, (1, 16, 64), strict=True):
        yield _fault(
            26, "TM505", "a branch that is never called", strength,
            lambda n=width: foreign.UnusedBranch(n), detail=f"{width} channels",
            said=_cross_entropy,
        )  # fmt: skip
    yield _fault(
        26, "TM505", "features detached", "strong", foreign.DetachedEncoder, said=_cross_entropy
    )
    yield _fault(
        26, "TM505", "a level under no_grad", "realistic", foreign.DetachedSkip,
        said=_cross_entropy,
    )  # fmt: skip
    yield _fault(26, "TM505", "a dead ReLU", "weak", foreign.DeadReLU, said=_cross_entropy)
    yield _fault(
        26, "TM505", "layers in a plain list", "realistic", foreign.ListOfLayers,
        said=_cross_entropy,
    )  # fmt: skip

    def optimizer(kind: str) -> Callable[[nn.Module], dict[str, Any]]:
        def said(model: nn.Module) -> dict[str, Any]:
            assert isinstance(model, foreign.SmallUNet)
            match kind:
                case "head":
                    held = list(model.head.parameters())
                case "no head":
                    held = list(model.parameters())
                    model.head = nn.Conv2d(16, 5, 1)
                case _:
                    held = list(foreign.SmallUNet(3, 5).parameters())
            return {"loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.Adam(held)}

        return said

    for strength, kind, name in (
        ("weak", "no head", "the optimiser was made before the head was replaced"),
        ("realistic", "head", "the optimiser holds the head only"),
        ("strong", "other", "the optimiser holds another model"),
    ):
        yield _fault(26, "TM505", name, strength, foreign.SmallUNet, said=optimizer(kind))


def _influence() -> Iterator[Fault]:
    yield _fault(27, "TM506", "batch norm without running statistics", "realistic",
        foreign.BatchStatistics)  # fmt: skip
    yield _fault(27, "TM506", "batch statistics in evaluation", "realistic",
        foreign.AlwaysTraining)  # fmt: skip
    for strength, share in zip(STRENGTHS, (0.02, 0.3, 1.0), strict=True):
        yield _fault(
            27, "TM506", "scaled by the batch's deviation", strength,
            lambda s=share: foreign.ScaledByBatch(s), detail=f"{share:.0%} of it",
        )  # fmt: skip
    yield _fault(27, "TM506", "attention over the batch", "realistic", foreign.AttentionOverBatch)
    yield _fault(27, "TM506", "softmax over the batch", "realistic", foreign.SoftmaxOverBatch)


def _norms() -> Iterator[Fault]:
    def one() -> Batch:
        images, masks = scenes(batch=1)
        return images, masks

    for name, norm, batch in (
        ("group norm of one value a group", nn.GroupNorm(16, 16), scenes),
        ("instance norm of one pixel", nn.InstanceNorm2d(16), scenes),
        ("batch norm of one pixel of one image", nn.BatchNorm2d(16), one),
    ):
        yield _fault(
            28, "TM507", name, "realistic", lambda n=norm: foreign.NormOfOneValue(n), batch=batch
        )
    for strength, layers in zip(STRENGTHS, (1, 2, 4), strict=True):
        yield _fault(
            28, "TM508", "bias in front of a batch norm", strength,
            lambda n=layers: foreign.BiasedNorm(n), detail=f"{layers} layers",
        )  # fmt: skip

    def large() -> Batch:
        """Structures of a hundred pixels."""
        images, masks = scenes(batch=2, size=(32, 48))
        return images.repeat_interleave(8, 2).repeat_interleave(8, 3), masks.repeat_interleave(
            8, 1
        ).repeat_interleave(8, 2)

    for strength, layers in (("weak", 6), ("realistic", 3), ("strong", 1)):
        yield _fault(
            29, "TM509", "a few small convolutions", strength,
            lambda n=layers: foreign.Nearsighted(n),
            detail=f"sees {2 * layers + 1} px, structures of 100 px", batch=large,
        )  # fmt: skip


def _learning() -> Iterator[Fault]:
    for strength, scale in zip(STRENGTHS, (10.0, 30.0, 300.0), strict=True):
        yield _fault(
            30, "TM510", "last layer's weights too large", strength,
            lambda s=scale: foreign.BadStart(scale=s), detail=f"{scale:.0f} times",
            said=_cross_entropy,
        )  # fmt: skip
    for strength, bias in zip(STRENGTHS, (3.0, 10.0, 100.0), strict=True):
        # Towards a class that is rare, as the bias of class 0 would help: class 0 is the ground.
        yield _fault(
            30, "TM510", "a bias against the largest class", strength,
            lambda b=bias: foreign.BadStart(bias=-b), detail=f"-{bias:.0f}", said=_cross_entropy,
        )  # fmt: skip

    def noise() -> Batch:
        images, masks = scenes()
        return images, torch.randint(0, 5, masks.shape)

    yield _fault(
        30, "TM511", "sees one pixel's colour only", "weak", foreign.ColorOnly,
        said=_cross_entropy, also=("TM509",),
    )  # fmt: skip
    for strength, share in zip(STRENGTHS, (0.95, 0.99, 1.0), strict=True):
        yield _fault(
            30, "TM511", "dropout takes nearly everything", strength,
            lambda p=share: foreign.NearlyAllDropped(p), detail=f"{share:.0%}",
            said=_cross_entropy, also=("TM505",),
        )  # fmt: skip
    for name, kind, also in (
        ("sigmoids saturated by images from 0 to 255", foreign.Saturated, ("TM505",)),
        ("all weights are 0", foreign.AllZero, ("TM505",)),
        ("a ReLU behind logits far below 0", foreign.DeadOutput, ("TM503", "TM505")),
        ("all parameters frozen", foreign.Frozen, ("TM505",)),
    ):
        yield _fault(30, "TM511", name, "realistic", kind, said=_cross_entropy, also=also)
    for strength, factor in zip(STRENGTHS, (4, 8, 24), strict=True):
        yield _fault(
            30, "TM511", "the input loses its detail", strength,
            lambda f=factor: foreign.Blurred(f), detail=f"{factor} times smaller",
            said=_cross_entropy,
        )  # fmt: skip
    yield _fault(
        30, "TM511", "the input is lost", "realistic", foreign.Constant, said=_cross_entropy,
        also=("TM505",),
    )  # fmt: skip
    yield _fault(
        30, "TM511", "labels that nothing explains", "strong", lambda: foreign.Nearsighted(2),
        batch=noise, said=_cross_entropy,
    )  # fmt: skip
