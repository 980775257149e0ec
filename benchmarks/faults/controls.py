"""Sound experiments: no error and no warning may be reported in any of them."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torchmetrics
from torch import nn

from benchmarks.faults import foreign_loaders, foreign_losses, foreign_metrics, foreign_models
from benchmarks.faults.calls import check_all, check_batches, datasets_of
from benchmarks.faults.case import Check, Control, Prepare
from benchmarks.faults.ending_faults import two_models
from benchmarks.faults.foreign_datasets import (
    DictPairs,
    FilePairs,
    FloatMaskPairs,
    PilPairs,
    TensorPairs,
    write_files,
)
from benchmarks.faults.foreign_loaders import Normalized, PilResized, V2Pairs, loader
from benchmarks.faults.input_faults import check_of_input
from benchmarks.faults.loss_faults import COUNTS, check_of_loss
from benchmarks.faults.material import Material, available, material, new_folder
from benchmarks.faults.metric_faults import check_of_metric
from benchmarks.faults.model_faults import check_of_model, scenes
from benchmarks.faults.run_faults import check_of_history, check_of_run, learning
from benchmarks.faults.run_material import SOUND, trained
from truemask.losses import BinaryCrossEntropy, CrossEntropy, Dice, Focal, MeanSquaredError, Sum
from truemask.models.texture_cnn import TextureCNN
from truemask.models.unet import UNet
from truemask.runs import Run

REAL = {
    "camvid": ("TM203",),
    "camvid as V2Pairs": ("TM203", "TM204"),
    "hard example mining, a quarter of all pixels": ("TM406",),
}
"""What is true of a control: CamVid's validation clip lies inside a drive of its training part, and
shows bicyclists in all of its frames, where half of the training frames do (where its numbers are
known it counts as the one clip that it is); a quarter of all pixels is more of those that count
where others are ignored."""

PLAIN_LOSS = {"crackforest", "bsds500", "edges"}
"""Few positives: sound where no loss, or a weighted one, is declared."""


def controls() -> Iterator[Control]:
    """All of them."""
    yield from _datasets()
    yield from _loaders()
    yield from _losses()
    yield from _models()
    yield from _metrics()
    yield from _runs()
    yield from _inputs()


def _whole(name: str, **options: Any) -> Check:
    return check_all(datasets_of(material(name)), material(name), **options)


def _datasets() -> Iterator[Control]:
    weighted = nn.BCEWithLogitsLoss(pos_weight=torch.tensor([20.0]))
    for name in available():
        yield Control(
            kind="data", name=name, prepare=lambda n=name: _whole(n), real=REAL.get(name, ())
        )
        if name in PLAIN_LOSS:
            for what, loss in (("weighted", weighted), ("Dice", foreign_losses.BinaryDice())):
                yield Control(
                    kind="data",
                    name=f"{name}, {what} loss",
                    prepare=lambda n=name, fn=loss: _whole(n, loss=fn),
                )

    def folder(name: str, suffix: str) -> Check:
        data = material(name)
        place = new_folder()
        for part, pairs in (("train", data.train), ("val", data.validation)):
            write_files(pairs, place / part, image_suffix=suffix)
        return check_all(place, data)

    for name, suffix in (("crackforest", ".jpg"), ("carvana", ".png"), ("driving", ".jpg")):
        if name in available():
            yield Control(
                kind="data", name=f"{name} as a folder of {suffix} and .png",
                prepare=lambda n=name, s=suffix: folder(n, s),
            )  # fmt: skip

    def files(name: str) -> Check:
        data = material(name)
        parts = {
            part: FilePairs(write_files(pairs, new_folder()))
            for part, pairs in (("train", data.train), ("validation", data.validation))
        }
        return check_all(parts, data)

    yield Control(
        kind="data", name="benchmarks, dataset of files", prepare=lambda: files("benchmarks")
    )

    def styled(name: str, style: Callable[[Any], Any]) -> Check:
        data = material(name)
        return check_all({"train": style(data.train), "validation": style(data.validation)}, data)

    others: tuple[tuple[str, Callable[[Any], Any]], ...] = (
        ("camvid", PilPairs), ("driving", TensorPairs), ("carvana", DictPairs),
        ("crackforest", lambda pairs: FloatMaskPairs(pairs, normalize=True)),
        ("cityscapes", Normalized), ("camvid", V2Pairs), ("driving", V2Pairs),
        ("cityscapes", V2Pairs),
    )  # fmt: skip
    for name, style in others:
        if name in available():
            kind = getattr(style, "__name__", "FloatMaskPairs")
            if kind == "<lambda>":
                kind = "FloatMaskPairs, normalised"
            yield Control(
                kind="data", name=f"{name} as {kind}",
                prepare=lambda n=name, s=style: styled(n, s),
                real=REAL.get(f"{name} as {kind}", REAL.get(name, ())),
            )  # fmt: skip


def _loaders() -> Iterator[Control]:
    def batches(name: str, make: Callable[[Material], Any], **said: Any) -> Prepare:
        return lambda: check_batches(make(material(name)), material(name), **said)

    stats = {"normalization": foreign_loaders.IMAGENET}
    half = {"normalization": foreign_loaders.HALF}
    cases: tuple[tuple[str, str, Callable[[Material], Any], dict[str, Any]], ...] = (
        ("camvid", "flipped together", lambda m: loader(
            Normalized(m.train, before=foreign_loaders.flip_both)), stats),
        ("camvid", "rotated together, corners ignored", lambda m: loader(
            Normalized(m.train, before=foreign_loaders.rotate_both)), stats),
        ("camvid", "cropped together", lambda m: loader(
            Normalized(m.train, before=foreign_loaders.crop_both)), stats),
        ("camvid", "brightness and contrast shaken", lambda m: loader(
            Normalized(m.train, before=foreign_loaders.jitter)), stats),
        ("camvid", "transforms.v2 with tv_tensors", lambda m: loader(V2Pairs(m.train)), stats),
        ("camvid", "PIL, resized", lambda m: loader(PilResized(m.train)), stats),
        ("crackforest", "as it is", lambda m: loader(Normalized(m.train)), stats),
        ("crackforest", "flipped together", lambda m: loader(
            Normalized(m.train, before=foreign_loaders.flip_both)), stats),
        ("driving", "letterbox, mask ignored", lambda m: loader(
            Normalized(m.train, before=foreign_loaders.letterbox(160, 255))), stats),
        ("driving", "transforms.v2 with tv_tensors", lambda m: loader(V2Pairs(m.train)), stats),
        ("edges", "padded, mask ignored", lambda m: loader(
            Normalized(m.train, stats=foreign_loaders.HALF),
            collate_fn=foreign_loaders.pad_collate(255)), half),
        ("benchmarks", "resized", lambda m: loader(Normalized(m.train, size=[96, 112])), stats),
        ("carvana", "cropped together", lambda m: loader(
            Normalized(m.train, before=foreign_loaders.crop_both)), stats),
        ("cityscapes", "evaluation, one by one", lambda m: loader(
            Normalized(m.validation), batch_size=1, shuffle=False), stats),
        ("textures", "grey, 0 to 1", lambda m: loader(TensorPairs(m.train)), {}),
    )  # fmt: skip
    for name, what, make, said in cases:
        if name in available():
            yield Control(
                kind="loader", name=f"{name}: {what}", prepare=batches(name, make, **said)
            )
            if name != "textures" and "evaluation" not in what:
                yield Control(
                    kind="loader", name=f"{name}: {what}, files known",
                    prepare=batches(name, make, compare=True, **said),
                )  # fmt: skip


def _losses() -> Iterator[Control]:
    multi: dict[str, Any] = {"num_classes": 5}
    void = {**multi, "ignore_index": 255}
    binary: dict[str, Any] = {"num_classes": 2, "target": "float"}
    weight = (0.3, 1.0, 4.0, 0.8, 2.0)
    cases: tuple[tuple[str, Callable[[], Any], dict[str, Any]], ...] = (
        ("CrossEntropyLoss", nn.CrossEntropyLoss, multi),
        ("CrossEntropyLoss, weight", lambda: foreign_losses.weighted_ce(weight),
            {**multi, "weight": weight}),
        ("CrossEntropyLoss, label smoothing", lambda: nn.CrossEntropyLoss(label_smoothing=0.1),
            multi),
        ("CrossEntropyLoss, two channels", nn.CrossEntropyLoss, {"num_classes": 2}),
        ("BCEWithLogitsLoss", nn.BCEWithLogitsLoss, binary),
        ("BCEWithLogitsLoss, pos_weight", lambda: foreign_losses.weighted_bce(27.03),
            {**binary, "weight": (1.0, 27.03)}),
        ("BCELoss of probabilities", nn.BCELoss, {**binary, "from_logits": False}),
        ("MSELoss of probabilities", nn.MSELoss, {**binary, "from_logits": False}),
        ("Dice", foreign_losses.DiceLoss, multi),
        ("Dice, ignoring", lambda: foreign_losses.DiceLoss(1.0, 255), void),
        ("binary Dice", foreign_losses.BinaryDice, binary),
        ("focal", foreign_losses.FocalLoss, void),
        ("masked cross-entropy", foreign_losses.MaskedCrossEntropy, void),
        ("masked cross-entropy, weight",
            lambda: foreign_losses.MaskedCrossEntropy(255, torch.tensor(weight)),
            {**void, "weight": weight}),
        ("cross-entropy and Dice", foreign_losses.CrossEntropyAndDice, void),
        ("Tversky", lambda: foreign_losses.tversky_loss, binary),
        ("soft Jaccard of probabilities", lambda: foreign_losses.soft_jaccard,
            {**binary, "from_logits": False}),
        ("log-softmax twice", lambda: foreign_losses.ce_of_log_softmax, multi),
        ("log-likelihood of log-softmax", lambda: foreign_losses.nll_of_log_softmax, multi),
        ("flattened cross-entropy", lambda: foreign_losses.flattened_ce, multi),
        ("one-hot cross-entropy", lambda: foreign_losses.one_hot_ce,
            {**multi, "target": "one_hot"}),
        ("Lovasz hinge", lambda: foreign_losses.lovasz_hinge, binary),
        ("squared error of the sigmoid", lambda: foreign_losses.squared_error_of_sigmoid, binary),
        ("hard example mining", lambda: foreign_losses.ohem_ce_of_valid, void),
        ("hard example mining, a quarter of all pixels", lambda: foreign_losses.ohem_ce, void),
        ("Truemask CrossEntropy", CrossEntropy, void),
        ("Truemask CrossEntropy, weight", lambda: CrossEntropy(weight=weight),
            {**void, "weight": weight}),
        ("Truemask BinaryCrossEntropy, pos_weight", lambda: BinaryCrossEntropy(pos_weight=9.0),
            {"num_classes": 2, "ignore_index": 255, "weight": (1.0, 9.0)}),
        ("Truemask Focal", Focal, void),
        ("Truemask Dice", Dice, void),
        ("Truemask squared error", MeanSquaredError, void),
        ("Truemask cross-entropy and Dice", lambda: Sum(losses=[CrossEntropy(), Dice()]), void),
        *_library_losses(multi, void, binary),
    )  # fmt: skip
    for name, make, said in cases:
        yield Control(
            kind="loss",
            name=name,
            prepare=lambda m=make, s=said: check_of_loss(m(), **s),
            real=REAL.get(name, ()),
        )
    balanced = COUNTS.sum() / (len(COUNTS) * COUNTS)
    for name, weights in (
        ("balanced", balanced), ("inverse frequency", 1 / COUNTS),
        ("square root of the inverse", np.sqrt(COUNTS.sum() / COUNTS)),
        ("median frequency", np.median(COUNTS) / COUNTS), ("none", np.ones(5)),
        ("logarithm, as ENet", 1 / np.log(1.02 + COUNTS / COUNTS.sum())),
    ):  # fmt: skip
        yield Control(kind="weights", name=name, prepare=lambda w=weights: _weights(w))


def _weights(weights: Any) -> Check:
    def check() -> list[Any]:
        from truemask.checks.weighting import check_weights

        ignored = int(0.2 * COUNTS.sum())
        return check_weights(weights, COUNTS, num_classes=len(COUNTS), ignored=ignored)

    return check


def _library_losses(
    multi: dict[str, Any], void: dict[str, Any], binary: dict[str, Any]
) -> Iterator[tuple[str, Callable[[], Any], dict[str, Any]]]:
    try:
        from segmentation_models_pytorch import losses as smp
    except ImportError:
        return
    from torchvision.ops import sigmoid_focal_loss

    yield "smp DiceLoss, multiclass", lambda: smp.DiceLoss("multiclass"), multi
    yield "smp DiceLoss, binary", lambda: smp.DiceLoss("binary"), binary
    yield "smp JaccardLoss, multiclass", lambda: smp.JaccardLoss("multiclass"), multi
    yield "smp FocalLoss, multiclass", lambda: smp.FocalLoss("multiclass"), multi
    yield "smp TverskyLoss, binary", lambda: smp.TverskyLoss("binary"), binary
    yield "smp LovaszLoss, multiclass", lambda: smp.LovaszLoss("multiclass"), multi
    yield (
        "smp SoftBCEWithLogitsLoss",
        lambda: smp.SoftBCEWithLogitsLoss(ignore_index=None),
        binary,
    )
    yield (
        "torchvision sigmoid_focal_loss",
        lambda: lambda x, y: sigmoid_focal_loss(x, y, reduction="mean"),
        binary,
    )


def _models() -> Iterator[Control]:
    cases: tuple[tuple[str, Callable[[], nn.Module], dict[str, Any]], ...] = (
        ("small U-Net", foreign_models.SmallUNet, {}),
        ("U-Net that pads and crops", foreign_models.PaddedUNet, {}),
        ("U-Net with group norm", foreign_models.GroupNormUNet, {}),
        ("dilated convolutions", foreign_models.PlainConvs, {}),
        ("one ReLU, pooling and dropout for all", foreign_models.SharedHarmless, {}),
        ("a dict of logits", lambda: foreign_models.DictOut(foreign_models.SmallUNet()), {}),
        ("log-softmax before cross-entropy",
            lambda: foreign_models.Activated(foreign_models.SmallUNet(), nn.LogSoftmax(1)), {}),
        ("Truemask UNet", lambda: UNet(in_channels=3, out_channels=5, widths=(16, 32, 64)), {}),
        ("Truemask UNet, attention", lambda: UNet(
            in_channels=3, out_channels=5, widths=(16, 32, 64), attention=True), {}),
        ("Truemask TextureCNN", lambda: TextureCNN(shared_batch_norm=False), {"binary": True}),
        *_library_models(),
    )  # fmt: skip
    for name, make, said in cases:
        yield Control(kind="model", name=name, prepare=lambda m=make, s=said: _model(m, **s))


def _model(make: Callable[[], nn.Module], *, binary: bool = False) -> Check:
    torch.manual_seed(0)
    model = make()
    if binary:
        images, masks = scenes(classes=2)
        batch = (images.mean(1, keepdim=True), masks[:, None].float())
        return check_of_model(model, batch, num_classes=2, loss=nn.BCEWithLogitsLoss())
    side = (96, 128)
    images, masks = scenes(size=side)

    def loss(output: Any, target: torch.Tensor) -> torch.Tensor:
        logits = output["out"] if isinstance(output, dict) else output
        return nn.functional.cross_entropy(logits, target)

    return check_of_model(model, (images, masks), loss=loss)


def _library_models() -> Iterator[tuple[str, Callable[[], nn.Module], dict[str, Any]]]:
    from torchvision.models import segmentation

    for kind in ("fcn_resnet50", "deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large"):
        yield (
            f"torchvision {kind}",
            lambda k=kind: getattr(segmentation, k)(
                weights=None, weights_backbone=None, num_classes=5
            ),
            {},
        )
    try:
        import segmentation_models_pytorch as smp
    except ImportError:
        return
    for kind in ("Unet", "FPN", "DeepLabV3Plus", "Linknet", "PSPNet", "MAnet", "UPerNet"):
        yield (
            f"smp {kind}, resnet18",
            lambda k=kind: getattr(smp, k)("resnet18", encoder_weights=None, classes=5),
            {},
        )


def _metrics() -> Iterator[Control]:
    k = 5
    cases: tuple[tuple[str, Callable[[], Any], dict[str, Any]], ...] = (
        ("IoU by a confusion matrix", lambda: foreign_metrics.ConfusionIoU(k), {}),
        ("Dice by a confusion matrix", lambda: foreign_metrics.RunningDice(k), {}),
        ("mIoU of everything at once", lambda: foreign_metrics.numpy_miou, {}),
        ("pixel accuracy by its name", foreign_metrics.PixelAccuracy, {}),
        ("binary IoU of everything at once", lambda: foreign_metrics.binary_iou,
            {"num_classes": 2, "ignore_index": None}),
        ("torchmetrics JaccardIndex",
            lambda: torchmetrics.JaccardIndex("multiclass", num_classes=k, ignore_index=255), {}),
        ("torchmetrics binary JaccardIndex", lambda: torchmetrics.JaccardIndex("binary"),
            {"num_classes": 2, "ignore_index": None}),
        ("torchmetrics Accuracy", lambda: torchmetrics.Accuracy(
            "multiclass", num_classes=k, ignore_index=255, average="micro"), {}),
    )  # fmt: skip
    for name, make, said in cases:
        yield Control(
            kind="metric", name=name,
            prepare=lambda m=make, s=said: check_of_metric(
                m(), **{"num_classes": k, "ignore_index": 255, **s}
            ),
        )  # fmt: skip


def _runs() -> Iterator[Control]:
    for name in SOUND:
        real = ("TM614",) if name == "edges_weighted" else ()
        yield Control(
            kind="run", name=name, prepare=lambda n=name: check_of_run(Run(trained(n))), real=real
        )
    for seed in range(3):
        yield Control(
            kind="run", name=f"history that levels off, {seed}",
            prepare=lambda s=seed: check_of_history(
                learning(40, seed=s, noise=0.01 * (s + 1)), best_is_kept=True
            ),
        )  # fmt: skip
    yield Control(kind="run", name="a new model and optimiser each time", prepare=_fresh)
    yield Control(kind="run", name="the best weights tested", prepare=_tested)
    names: tuple[tuple[str, dict[str, Any]], ...] = (
        ("sgd_lr0.01", {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.01}}),
        ("sgd_momentum", {"optimizer": {"_target_": "torch.optim.SGD", "momentum": 0.9}}),
        ("unweighted", {"loss": {"_target_": "torch.nn.CrossEntropyLoss"}}),
        ("carvana-baseline-3", {"optimizer": "adam", "lr": 1e-3, "batch_size": 8}),
    )
    for name, settings in names:
        yield Control(
            kind="run", name=f"called {name}", prepare=lambda n=name, s=settings: _named(n, s)
        )
    yield Control(kind="run", name="a clear difference of two models", prepare=_different)


def _fresh() -> Check:
    def check() -> list[Any]:
        from truemask.checks.fresh import check_fresh

        return check_fresh(
            foreign_models.SmallUNet, lambda model: torch.optim.Adam(model.parameters())
        )

    return check


def _tested() -> Check:
    model = foreign_models.SmallUNet()

    def check() -> list[Any]:
        from truemask.checks.tested import check_tested

        return check_tested(model, {k: v.clone() for k, v in model.state_dict().items()})

    return check


def _named(name: str, settings: dict[str, Any]) -> Check:
    def check() -> list[Any]:
        from truemask.checks.naming import check_name

        return check_name(name, settings)

    return check


def _different() -> Check:
    first, second = two_models(0.3, 60)

    def check() -> list[Any]:
        from truemask.checks.difference import check_difference

        return check_difference(first, second)

    return check


def _inputs() -> Iterator[Control]:
    for name in ("camvid", "carvana", "driving", "crackforest", "benchmarks"):
        if name in available():
            yield Control(
                kind="input", name=f"{name}: its own validation images",
                prepare=lambda n=name: check_of_input(
                    material(n).train, [pair.image for pair in material(n).validation]
                ),
            )  # fmt: skip
