"""The bugs of the five published projects, rebuilt from their descriptions: each has a name."""

from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image
from torch import nn

from benchmarks.faults import foreign_losses as losses
from benchmarks.faults import foreign_metrics as metrics
from benchmarks.faults.calls import check_batches, check_data, check_parts, datasets_of
from benchmarks.faults.case import Check, Published
from benchmarks.faults.edits import bonnet, in_share, jpeg, relabelled, smoothly_resized
from benchmarks.faults.foreign_loaders import HALF, IMAGENET, Normalized, loader, pad_collate
from benchmarks.faults.foreign_models import OneBatchNorm, SmallUNet
from benchmarks.faults.loss_faults import check_of_loss
from benchmarks.faults.material import IGNORED, Pair, material
from benchmarks.faults.metric_faults import check_of_metric
from benchmarks.faults.model_faults import check_of_model, scenes
from benchmarks.faults.run_faults import check_of_history

BINARY = {"num_classes": 2, "target": "float"}


def published() -> Iterator[Published]:
    """All of them."""
    yield from _edges()
    yield from _driving()
    yield from _cityscapes()
    yield from _benchmarks()
    yield from _textures()


def _edges() -> Iterator[Published]:
    def shared() -> Check:
        from truemask.checks.fresh import check_fresh

        model = SmallUNet(3, 1)
        optimizer = torch.optim.Adam(model.parameters(), 1e-4)
        return lambda: check_fresh(lambda: model, lambda _: optimizer)

    yield Published(project="edges", name="the second training goes on from the first one's "
        "weights and optimiser", codes=("TM606",), prepare=shared)  # fmt: skip
    said = {**BINARY, "weight": (1.0, 27.03)}
    yield Published(project="edges", name="the weight never reaches the loss", codes=("TM403",),
        prepare=lambda: check_of_loss(losses.ShadowedLoss(27.03), **said))  # fmt: skip

    def padded() -> Check:
        data = material("edges")
        dataset = Normalized(data.train, stats=HALF)
        batches = loader(dataset, batch_size=8, collate_fn=pad_collate(0))
        return check_batches(batches, data, normalization=HALF)

    yield Published(project="edges", name="padding counts as non-edge", codes=("TM304",),
        prepare=padded)  # fmt: skip

    def by_position() -> Check:
        """Later years hold other pictures: here, those with more edges come last."""
        data = material("edges")
        pairs = sorted([*data.train, *data.validation], key=lambda pair: float(pair.mask.mean()))
        cut = int(0.7 * len(pairs))
        divided = data.replaced(pairs[:cut], pairs[cut:])
        return check_parts(datasets_of(divided), divided)

    yield Published(project="edges", name="parts by position are not alike", codes=("TM204",),
        prepare=by_position)  # fmt: skip
    yield Published(project="edges", name="few positives under a plain loss", codes=("TM112",),
        prepare=lambda: check_data(material("edges"), loss=nn.BCEWithLogitsLoss()))  # fmt: skip
    scores = (0.0095, 0, 0, 0, 0, 0, 0, 0.0002, 0.0014, 0.0055)
    held_out = (0, 0, 0, 0, 0, 0, 0, 0, 0.0048, 0.0002)
    train = (0.1878, 0.1392, 0.1340, 0.1294, 0.1273, 0.1264, 0.1243, 0.1233, 0.1221, 0.1203)
    val = (0.1699, 0.1533, 0.1502, 0.1532, 0.1474, 0.1488, 0.1443, 0.1454, 0.1399, 0.1400)
    rows = [
        {"epoch": i + 1, "train_loss": a, "train_iou": b, "val_loss": c, "val_iou": d}
        for i, (a, b, c, d) in enumerate(zip(train, scores, val, held_out, strict=True))
    ]
    yield Published(project="edges", name="the unweighted model has collapsed", codes=("TM601",),
        prepare=lambda: check_of_history(rows))  # fmt: skip


def _driving() -> Iterator[Published]:
    def last() -> Check:
        from truemask.checks.tested import check_tested

        torch.manual_seed(0)
        best = SmallUNet()
        after = SmallUNet()
        after.load_state_dict(best.state_dict())
        optimizer = torch.optim.Adam(after.parameters(), 1e-3)
        images, masks = scenes()
        nn.functional.cross_entropy(after(images), masks).backward()
        optimizer.step()
        return lambda: check_tested(after, best.state_dict())

    yield Published(project="driving", name="the test ran on the last weights", codes=("TM605",),
        prepare=last)  # fmt: skip

    class OnePixelAnImage:
        """Flattened labels of an image index as if they were images."""

        def __init__(self) -> None:
            self.counts = metrics.ConfusionIoU(5)

        def reset(self) -> None:
            self.counts.reset()

        def update(self, pred: torch.Tensor, target: torch.Tensor) -> None:
            """Takes as many entries of the flattened batch as there are images."""
            count = len(pred)
            self.counts.update(pred.reshape(-1)[:count], target.reshape(-1)[:count])

        def compute(self) -> torch.Tensor:
            """The mean IoU."""
            return self.counts.compute()

    yield Published(project="driving", name="city scores look at one pixel an image",
        codes=("TM611",), prepare=lambda: check_of_metric(
            OnePixelAnImage(), num_classes=5, ignore_index=255))  # fmt: skip

    def balanced() -> Check:
        """As scikit-learn's "balanced" over all labels that occur, 255 among them."""
        from truemask.checks.weighting import check_weights

        counts = np.array((668_329_989, 452_690_852, 384_303_219, 418_227_625, 254_085_637))
        ignored = 3426 * 1280 * 720 - counts.sum()
        weights = (counts.sum() + ignored) / (6 * counts)
        return lambda: check_weights(weights, counts, num_classes=5, ignored=int(ignored))

    yield Published(project="driving", name="balanced weights count ignored pixels as a class",
        codes=("TM405",), prepare=balanced)  # fmt: skip
    yield Published(project="driving", name="4 % of the samples have no road", codes=("TM113",),
        prepare=lambda: check_data(material("driving").replaced(
            in_share(material("driving").train, 0.04, relabelled(0, IGNORED)))))  # fmt: skip


def _cityscapes() -> Iterator[Published]:
    def unscaled() -> Check:
        data = material("cityscapes")
        batches = loader(Normalized(data.train, stats=None, before=lambda x, y: (x * 255, y)))
        return check_batches(batches, data, normalization=IMAGENET)

    yield Published(project="cityscapes", name="images never scaled", codes=("TM301",),
        prepare=unscaled)  # fmt: skip

    def with_bonnet(pair: Pair, random: np.random.Generator) -> Pair:
        marked = bonnet(254, 0.1)(pair, random).mask == 254
        image = np.where(marked[..., None], np.uint8(45), pair.image)
        return Pair(pair.name, image, np.where(marked, np.uint8(4), pair.mask))

    def labelled() -> Check:
        data = material("cityscapes")
        parts = (in_share(part, 1.0, with_bonnet) for part in (data.train, data.validation))
        return check_data(data.replaced(*parts))

    yield Published(project="cityscapes", name="the car's own bonnet is labelled in every image",
        codes=("TM115",), prepare=labelled)  # fmt: skip

    def photo_from_elsewhere() -> Check:
        from benchmarks.faults.input_faults import check_of_input

        return check_of_input(
            material("cityscapes").train, [material("carvana").validation[0].image]
        )

    yield Published(project="cityscapes", name="photos from elsewhere get masks without a word",
        codes=("TM701",), prepare=photo_from_elsewhere)  # fmt: skip


def _benchmarks() -> Iterator[Published]:
    def jpegs() -> Check:
        data = material("benchmarks")
        return check_data(data.replaced(in_share(data.train, 1.0, jpeg(75))))

    yield Published(project="benchmarks", name="JPEG masks corrupt labels", codes=("TM106",),
        prepare=jpegs)  # fmt: skip

    def smooth() -> Check:
        data = material("benchmarks")
        edit = smoothly_resized(0.6, Image.Resampling.BICUBIC)
        return check_data(data.replaced(in_share(data.train, 1.0, edit)))

    yield Published(project="benchmarks", name="labels interpolated smoothly", codes=("TM106",),
        prepare=smooth)  # fmt: skip

    def always_background() -> Check:
        """21 classes, of which the background has 73 %: right there, wrong everywhere else."""
        from truemask.checks.trivial import trivial_score

        random = np.random.default_rng(0)
        truth = np.zeros((60, 21), np.int64)
        truth[:, 0] = random.integers(6500, 8100, 60)
        truth[np.arange(60), random.integers(1, 21, 60)] = 10_000 - truth[:, 0]
        matrices = np.zeros((60, 21, 21), np.int64)
        matrices[:, :, 0] = truth
        names = ("background", *(f"class {i}" for i in range(1, 21)))
        return lambda: trivial_score(matrices, names=names)

    yield Published(project="benchmarks", name="73 % is what always background gets",
        codes=("TM604", "TM601"), prepare=always_background)  # fmt: skip
    yield Published(project="benchmarks", name="a focal loss that is not zero on a perfect "
        "prediction", codes=("TM402", "TM409"), prepare=lambda: check_of_loss(
            losses.FocalOnProbabilities(), num_classes=5, target="one_hot",
            from_logits=False))  # fmt: skip


def _textures() -> Iterator[Published]:
    yield Published(project="textures", name="cross-entropy over one channel", codes=("TM401",),
        prepare=lambda: check_of_loss(nn.CrossEntropyLoss(), **BINARY))  # fmt: skip
    zeros = [{"epoch": i + 1, "loss": -0.0} for i in range(100)]
    yield Published(project="textures", name="the loss is 0 for a hundred epochs",
        codes=("TM603",), prepare=lambda: check_of_history(zeros))  # fmt: skip

    def momentum() -> Check:
        from truemask.checks.naming import check_name

        optimizer = torch.optim.SGD(SmallUNet().parameters(), lr=0.001, momentum=0.9)
        return lambda: check_name("SGD", optimizer=optimizer)

    yield Published(project="textures", name="the run called SGD has momentum", codes=("TM607",),
        prepare=momentum)  # fmt: skip
    yield Published(project="textures", name="precision and IoU are pixel agreement",
        codes=("TM612",), prepare=lambda: check_of_metric(
            metrics.clipped_agreement, num_classes=2, ignore_index=None, claims="iou"))  # fmt: skip

    def one_norm() -> Check:
        images, masks = scenes(classes=2)
        batch = (images.mean(1, keepdim=True), masks[:, None].float())
        return check_of_model(OneBatchNorm(), batch, num_classes=2, loss=nn.BCEWithLogitsLoss())

    yield Published(project="textures", name="one batch norm for three layers", codes=("TM504",),
        prepare=one_norm)  # fmt: skip
