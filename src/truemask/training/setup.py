"""From a configuration to the things that train, with all `auto` values settled."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import torch
from torch import nn

from truemask.build import build, check_settings, locate, nearest
from truemask.checks.input_features import as_taken
from truemask.checks.inputs import KEPT, Known, describe_images
from truemask.data.cache import FOLDER_BYTES, cached
from truemask.data.statistics import Statistics, measure
from truemask.data.transforms import RandomScaleCrop, Transform
from truemask.datasets.sample import Parts, Sample, SegmentationDataset
from truemask.errors import UsageError
from truemask.images import RGB, ImageSpec
from truemask.labels import LabelMap
from truemask.models.described import NETWORKS, build_network
from truemask.models.segmenter import Network, Segmenter
from truemask.training.hardware import default_workers
from truemask.training.loss_setup import settle_loss
from truemask.training.opening import Opened, open_parts, require_trainable
from truemask.training.settings import DataSettings, TrainerSettings

CROP_PIXELS = 240 * 320
"""Pixels of a training crop where none is asked for: a laptop trains on ten such a second."""


@dataclass
class Prepared:
    """What a training needs, and what was decided on the way.

    Attributes:
        parts: the data, the training part cached.
        sizes: height and width of each training image where whole images of several sizes are put
            into batches by size.
        stride: what the height and the width of an input are multiples of.
        statistics: of the training part.
        data: the settings with every `auto` settled.
        trainer: likewise.
        network: `_target_` and plain values of the network.
        loss_config: `_target_` and plain values of the loss, with the weights that reach it.
        workers: loading processes.
        notes: decisions, one sentence each.
        inputs: what the training images are like, where that was asked for.
    """

    parts: Parts
    sizes: Sequence[tuple[int, int]] | None
    stride: int
    statistics: Statistics
    spec: ImageSpec
    labels: LabelMap
    data: DataSettings
    trainer: TrainerSettings
    network: dict[str, Any]
    loss_config: dict[str, Any]
    workers: int
    notes: list[str]
    inputs: Known | None = None


def settings(kind: type, config: Mapping[str, Any], *, key: str) -> Any:
    """A settings dataclass from its group of the configuration, checked by its annotations."""
    check_settings(kind, config, key=key)
    return kind(**config)


def prepare(
    config: Mapping[str, Any],
    *,
    assignments: Mapping[str, Sequence[str]] | None = None,
    images: ImageSpec | None = None,
    processes: int = 1,
    describe: bool = False,
    opened: Opened | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Prepared:
    """Open the data, measure the training part, and settle all that depends on it.

    Args:
        config: the whole configuration, plain values.
        images: what the images mean to a model that exists already; measured where there is none.
        assignments: part -> names of a saved split, to be used again.
        processes: training processes on this machine.
        describe: whether to note what the training images are like.
        opened: the data that a plan has opened.
        progress: called with (done, total) while measuring.

    Raises:
        UsageError: the data or a setting cannot be used.
    """
    data: DataSettings = settings(DataSettings, config["data"], key="data")
    trainer: TrainerSettings = settings(TrainerSettings, config["trainer"], key="trainer")
    parts, data = open_parts(
        data,
        assignments=assignments,
        seed=config["seed"],
        training=True,
        fetch=images is None,
        opened=opened,
        progress=progress,
    )
    require_trainable(parts)
    notes = list(parts.notes)
    workers = default_workers(trainer.accelerator) if data.num_workers is None else data.num_workers
    # What is generated anew for every epoch is never asked for twice.
    endless = bool(getattr(parts["train"], "endless", False))
    if endless:
        notes.append(f"Every epoch trains on {len(parts['train'])} new images.")
    uncached = parts["train"]
    keep = partial(
        cached,
        notes=notes,
        folder=data.cache_folder,
        budget=max(FOLDER_BYTES, 2 * data.cache),
        workers=workers,
        processes=processes,
    )
    train = keep(parts["train"], limit=data.cache * 3 // 4)
    validation = keep(parts["validation"], limit=data.cache // 4)
    describer = _Describer(train.images)
    statistics = measure(
        train,
        limit=data.statistics,
        seed=config["seed"],
        progress=progress,
        observe=describer if describe else None,
        observed=KEPT,
    )
    if statistics.images < len(train):
        notes.append(
            f"Class counts and normalisation come from {statistics.images} of {len(train)} "
            "training images."
        )
    labels = train.labels
    _focus(data, labels)  # fails early
    spec = train.images
    for name in ("in_channels", "out_channels"):
        if name in config["model"]:
            raise UsageError(f"model.{name} follows from the data: leave it out")
    network = {
        **config["model"],
        "in_channels": spec.channels,
        "out_channels": labels.num_logits,
    }
    settled = getattr(network_class(network), "saved_settings", None)
    if images is not None and settled is not None:
        network = settled(network)  # without the weights that it started from
    shape = _shape(network)
    stride = _stride(shape)
    spec = images or _normalized(spec, data, statistics, shape, notes)
    data = settle_data(data, statistics, stride=stride, images=len(train), notes=notes)
    if len(train) // data.batch_size < trainer.accumulate and trainer.interval_unit == "epochs":
        raise UsageError(
            f"trainer.accumulate is {trainer.accumulate}, but an epoch has only "
            f"{len(train) // data.batch_size} batches: lower it, or data.batch_size"
        )
    trainer = settle_trainer(trainer, data, statistics, len(train), len(parts["validation"]))
    if trainer.interval_unit == "epochs" and trainer.eval_interval != 1:
        notes.append(f"Validation is after every {trainer.eval_interval} epochs.")
    return Prepared(
        parts=Parts({**parts.parts, "train": train, "validation": validation}, parts.notes),
        sizes=_sizes(uncached) if data.crop is None and data.bucket else None,
        stride=stride,
        statistics=statistics,
        spec=spec,
        labels=labels,
        data=data,
        trainer=trainer,
        network=network,
        loss_config=settle_loss(config["loss"], statistics, labels=labels, notes=notes),
        workers=workers,
        notes=notes,
        inputs=describer.known,
    )


class _Describer:
    """Notes what images are like, one after the other: they are in memory only once.

    Args:
        spec: what their pixels mean.
    """

    def __init__(self, spec: ImageSpec) -> None:
        self.spec = spec
        self.known: Known | None = None

    def __call__(self, sample: Sample) -> None:
        """Add the image of a sample, before any augmentation."""
        found = describe_images([as_taken(sample.image, self.spec)])
        self.known = found if self.known is None else self.known.merge(found)


def _sizes(part: SegmentationDataset) -> Sequence[tuple[int, int]] | None:
    """The sizes of all samples where the dataset knows them and they differ."""
    sizes: Sequence[tuple[int, int]] | None = getattr(part, "sizes", None)
    return None if sizes is None or len(set(sizes)) < 2 else sizes


def _normalized(
    spec: ImageSpec,
    data: DataSettings,
    statistics: Statistics,
    network: nn.Module,
    notes: list[str],
) -> ImageSpec:
    """What the images mean: with the statistics that are asked for, or that the weights need."""
    if isinstance(data.normalization, Mapping):
        try:
            mean, std = tuple(data.normalization["mean"]), tuple(data.normalization["std"])
            return replace(spec, mean=mean, std=std)
        except (TypeError, UsageError) as error:
            raise UsageError(f"data.normalization: {error}") from error
    trained = getattr(network, "normalization", None)
    if trained is not None:
        notes.append("Images are normalised as the encoder's trained weights saw them.")
        return replace(spec, mean=trained[0], std=trained[1])
    if data.normalization == "dataset":
        return replace(spec, mean=statistics.mean, std=statistics.std)
    return spec


def network_class(network: Mapping[str, Any]) -> type[nn.Module]:
    """The class of the network, which may be the user's own.

    Raises:
        UsageError: it is no `torch.nn.Module`.
    """
    found = locate(str(network.get("_target_")), key="model")
    if not (inspect.isclass(found) and issubclass(found, nn.Module)):
        raise UsageError(
            f"model._target_ must be a torch.nn.Module, {network.get('_target_')!r} is none"
        )
    return found


def _shape(network: Mapping[str, Any]) -> nn.Module:
    """The network without memory for its weights, to ask what it takes."""
    # A class of the user's may compute when it is built, which meta tensors forbid.
    with torch.device("meta" if network["_target_"] in NETWORKS else "cpu"):
        made = _network(network)
    Segmenter(network=made, images=RGB)  # refuses what does not follow the protocol
    return made


def _stride(network: nn.Module) -> int:
    sizes = cast(Network, network)
    height, _ = sizes.input_size(1, 1)
    return int(height) if sizes.output_size(height, height) == (height, height) else 1


def settle_data(
    data: DataSettings, statistics: Statistics, *, stride: int, images: int, notes: list[str]
) -> DataSettings:
    """Choose the crop and bound the batch.

    Raises:
        UsageError: the crop is larger than every image.
    """
    crop = data.crop
    tallest = max(height for height, _ in statistics.sizes)
    widest = max(width for _, width in statistics.sizes)
    if crop == "auto" and data.resize is not None:
        crop = None
    elif crop == "auto":
        height, width = statistics.median_size
        shrink = min(1.0, math.sqrt(CROP_PIXELS / (height * width)))
        crop = [
            min(side, max(stride, round(side * shrink / stride) * stride)) if shrink < 1 else side
            for side in (height, width)
        ]
        notes.append(f"Training crops are {crop[0]} x {crop[1]} pixels (height x width).")
    elif isinstance(crop, list) and (crop[0] > tallest or crop[1] > widest):
        raise UsageError(
            f"data.crop is {crop[0]} x {crop[1]}, larger than every training image (up to "
            f"{tallest} x {widest}): give a smaller one, or data.crop=null for whole images"
        )
    if crop is None and (data.scale is not None or data.stretch != 1.0 or data.focus):
        notes.append(
            "Whole images are trained on: data.scale, data.stretch and data.focus are not used."
        )
    batch = data.batch_size
    if batch > images:
        notes.append(
            f"The batch is {images} images instead of {batch}, as there are no more to train on."
        )
        batch = images
    return replace(data, crop=crop, batch_size=batch)


def settle_trainer(
    trainer: TrainerSettings,
    data: DataSettings,
    statistics: Statistics,
    images: int,
    validation_images: int,
) -> TrainerSettings:
    """Choose how often to validate: a pass costs a third of a training step on the same pixels."""
    if trainer.eval_interval is not None:
        return trainer
    height, width = statistics.median_size
    crop = data.crop if isinstance(data.crop, list) else [height, width]
    # Statistics are of the training images; a model that resizes does so in validation too.
    judged = min(validation_images, trainer.eval_iterations or validation_images)
    cost = judged * height * width / 3
    budget = images * crop[0] * crop[1] / 10
    return replace(trainer, eval_interval=max(1, round(cost / budget)))


def _focus(data: DataSettings, labels: LabelMap) -> dict[int, float]:
    """Id -> share of the crops that `data.focus` lays on a class.

    Raises:
        UsageError: there is no such class.
    """
    for name in data.focus or {}:
        if name not in labels.names:
            hint = nearest(name, labels.names)
            raise UsageError(
                f"data.focus names no class {name!r}{hint} (there are {', '.join(labels.names)})"
            )
    return {labels.names.index(name): share for name, share in (data.focus or {}).items()}


def make_transforms(data: DataSettings, labels: LabelMap) -> list[Transform]:
    """The crop, then the configured transforms."""
    transforms: list[Transform] = []
    if data.crop is not None:
        assert isinstance(data.crop, list)
        transforms.append(
            RandomScaleCrop(
                size=data.crop,
                scale=data.scale or (1.0, 1.0),
                stretch=data.stretch,
                ignore_index=labels.ignore_index,
                focus=_focus(data, labels),
            )
        )
    for name, config in (data.augmentation or {}).items():
        if config is not None:
            transforms.append(build(config, key=f"data.augmentation.{name}"))
    return transforms


def make_model(prepared: Prepared) -> Segmenter:
    """The model with fresh weights; seed PyTorch before."""
    resize = prepared.data.resize
    return Segmenter(
        network=_network(prepared.network),
        images=prepared.spec,
        size=None if resize is None else (resize[0], resize[1]),
    )


def _network(network: Mapping[str, Any]) -> nn.Module:
    allow = {str(network["_target_"]): network_class(network)}
    return build_network(network, allow=allow)
