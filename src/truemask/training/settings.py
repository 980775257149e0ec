"""The settings of the `trainer` and `data` groups: their names, types and defaults."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from truemask.bundle import MAX_SIDE
from truemask.errors import UsageError

_COUNTS = (
    "max_epochs",
    "max_steps",
    "eval_interval",
    "eval_iterations",
    "save_interval",
    "accumulate",
    "patience",
    "devices",
    "threads",
    "max_skipped",
)


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """How long and how to train.

    The training ends at whichever of the three limits comes first; with none of them after 100
    epochs.

    Attributes:
        max_epochs: passes over the training part.
        max_steps: optimiser steps.
        max_time: time for training and validation, as DD:HH:MM:SS, HH:MM:SS or MM:SS.
        interval_unit: what `eval_interval` and `save_interval` count: passes over the training part
            or optimiser steps.
        eval_interval: epochs or steps between validations; `None` chooses it so that they cost
            about a tenth of the time.
        eval_iterations: images that a validation looks at, drawn once at random; `None` takes all.
            The test takes all in any case.
        save_interval: epochs or steps between checkpoints to resume from; `None` writes one at each
            epoch, or with steps at each validation. The best weights are kept besides.
        pictures: validation images whose prediction is kept as a picture at each validation.
        accumulate: batches whose gradients make one optimiser step.
        patience: validations without a better score after which the training stops; `None` never
            stops early.
        monitor: what the best weights are best at.
        gradient_clip: largest norm of the gradient; `None` does not clip.
        average: largest decay of the exponential moving average of the weights, which is what is
            validated and kept; `None` keeps the weights themselves.
        decay: which parameters the optimiser's weight decay shrinks: only "weights", of
            convolutions, or "all", as PyTorch does by itself.
        precision: "auto" takes bfloat16 where the processor computes it natively, else 32 bits.
        accelerator: "auto" takes a CUDA device where there is one.
        devices: processes of this machine that share each batch, with a GPU each where there are
            some. Over several machines torchrun or srun starts them, and this is not asked.
        strategy: how processes share the training: "ddp" has all weights in each of them; "fsdp"
            divides weights, gradients and the optimiser's memory over them, for networks that are
            large against a device's memory.
        channels_last: whether the network computes in that memory format.
        compile: whether PyTorch compiles the network; "reduce-overhead" uses CUDA graphs besides.
        threads: that compute on the CPU; `None` leaves it to PyTorch, which takes all cores.
        tune: whether the fastest precision, memory format, compilation and number of threads are
            found out first, in some seconds; they stand in the run's configuration then.
        max_skipped: steps in a row without a finite gradient, which change nothing, before the
            training stops.
    """

    max_epochs: int | None = None
    max_steps: int | None = None
    max_time: str | int | None = None
    interval_unit: Literal["epochs", "steps"] = "epochs"
    eval_interval: int | None = None
    eval_iterations: int | None = None
    save_interval: int | None = None
    pictures: int = 4
    accumulate: int = 1
    patience: int | None = 30
    monitor: Literal["validation_iou", "validation_loss"] = "validation_iou"
    gradient_clip: float | None = 5.0
    average: float | None = 0.999
    decay: Literal["weights", "all"] = "weights"
    precision: Literal["auto", "bf16", 16, 32] = "auto"
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: int = 1
    strategy: Literal["ddp", "fsdp"] = "ddp"
    channels_last: bool = True
    compile: bool | Literal["reduce-overhead"] = False
    threads: int | None = None
    tune: bool = False
    max_skipped: int = 20

    def __post_init__(self) -> None:
        for name in _COUNTS:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"trainer.{name} must be at least 1, got {value}")
        if self.pictures < 0:
            raise UsageError(f"trainer.pictures must be 0 or more, got {self.pictures}")
        if self.interval_unit == "steps" and self.eval_interval is None:
            raise UsageError(
                "trainer.interval_unit=steps needs trainer.eval_interval: give the steps between "
                "validations"
            )
        if self.average is not None and not 0 < self.average < 1:
            raise UsageError(f"trainer.average is a decay between 0 and 1, got {self.average}")
        if self.gradient_clip is not None and self.gradient_clip <= 0:
            raise UsageError(f"trainer.gradient_clip must be positive, got {self.gradient_clip}")
        if self.strategy == "fsdp" and self.compile:
            raise UsageError(
                "trainer.strategy=fsdp and trainer.compile exclude each other: give "
                "trainer.compile=false, or trainer.strategy=ddp"
            )
        if self.max_time is not None:
            parse_time(self.max_time)

    @property
    def epochs(self) -> int | None:
        """The limit of epochs that holds."""
        if self.max_epochs is None and self.max_steps is None and self.max_time is None:
            return 100
        return self.max_epochs

    @property
    def seconds(self) -> float | None:
        """The limit of time that holds."""
        return None if self.max_time is None else parse_time(self.max_time)


@dataclass(frozen=True, kw_only=True)
class CheckSettings:
    """Which checks a training does, and whether an error ends it.

    Attributes:
        enabled: whether anything is checked: before, during and after the training.
        stop: whether an error that is found before the first step ends the training.
        select: codes, or their beginnings, that are looked for; all where none are given.
        ignore: codes, or their beginnings, that are not.
    """

    enabled: bool = True
    stop: bool = True
    select: list[str] | None = None
    ignore: list[str] | None = None


def parse_time(text: str | int) -> float:
    """Seconds of "DD:HH:MM:SS", "HH:MM:SS" or "MM:SS".

    Raises:
        UsageError: it is none of these, or zero.
    """
    if not isinstance(text, str) or not re.fullmatch(r"\d+(:\d+){1,3}", text):
        raise UsageError(
            f"trainer.max_time is {text}; write MM:SS, HH:MM:SS or DD:HH:MM:SS, such as 20:00"
        )
    numbers = [int(part) for part in text.split(":")]
    seconds = sum(n * u for n, u in zip(reversed(numbers), (1, 60, 3600, 86400), strict=False))
    if seconds == 0:
        raise UsageError("trainer.max_time is zero: give at least a second")
    return float(seconds)


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Where the samples come from and how they become batches.

    Attributes:
        dataset: a mapping whose `_target_` makes the parts.
        labels: changes of the classes (`LabelEdits`: void, merge, ignore, keep, rest); `None` takes
            them as the dataset has them.
        split: a mapping whose `_target_` parts all samples anew (`Ratio`, `KFold`); `None` takes
            the dataset's own parts.
        subset: part -> samples, to take that many of a part, drawn at random.
        exclude: a CSV file whose flagged images neither train nor validate, such as the audit.csv
            of `truemask audit`; the test part is never altered.
        ignore_regions: a CSV file whose flagged regions are ignored in the training masks, such as
            the same audit.csv; validation and test are never altered. A run states the file's
            SHA-256 besides, and does not go on with another.
        resize: [height, width] to which all training images are brought, masks by the nearest
            pixel; the model does the same to every image it is given. `None` leaves them.
        evaluation_size: with `resize`, whether scores are of the masks at their own size, or of the
            resized.
        batch_size: images a batch.
        crop: [height, width] of the training images; "auto" keeps the shape of the images at about
            240 x 320 pixels, or with `resize` does not crop; `None` trains on whole images.
        bucket: whether whole images of different sizes are put into batches by size, so that little
            is padded.
        augmentation: name -> transform (`_target_`) or `None`, in order; they see image and mask
            together.
        scale: lowest and highest zoom before the crop.
        stretch: up to this factor height and width are zoomed differently.
        focus: name of a class -> share of the crops that are laid on a pixel of it, where the image
            has some; they sum to at most 1, and the rest is laid anywhere.
        num_workers: processes that load; `None` chooses by the machine.
        cache: bytes of decoded samples to keep, over all loading processes: in memory, or where
            several processes load, in a file that they and other trainings share.
        cache_folder: where that file is; `None` takes the user's cache folder.
        normalization: "dataset" measures mean and deviation on the training part; "declared" takes
            those that the dataset declares; a mapping {mean: [...], std: [...]} gives them, in
            units of images scaled to [0, 1]. An encoder with trained weights brings its own.
        statistics: training images to measure at most.
    """

    dataset: Mapping[str, Any]
    labels: Mapping[str, Any] | None = None
    split: Mapping[str, Any] | None = None
    subset: Mapping[str, int] | None = None
    exclude: str | None = None
    ignore_regions: str | Mapping[str, str] | None = None
    resize: list[int] | None = None
    evaluation_size: Literal["native", "resized"] = "native"
    batch_size: int = 8
    crop: Literal["auto"] | list[int] | None = "auto"
    bucket: bool = True
    scale: list[float] | None = None
    stretch: float = 1.0
    focus: Mapping[str, float] | None = None
    augmentation: Mapping[str, Any] | None = None
    num_workers: int | None = None
    cache: int = 1 << 30
    cache_folder: str | None = None
    normalization: Literal["dataset", "declared"] | Mapping[str, Any] = "dataset"
    statistics: int = 2000

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UsageError(f"data.batch_size must be at least 1, got {self.batch_size}")
        for name in ("crop", "resize"):
            size = getattr(self, name)
            if isinstance(size, list) and (len(size) != 2 or min(size) < 1):
                raise UsageError(f"data.{name} must be [height, width] in pixels, got {size}")
        if self.scale is not None and not (
            len(self.scale) == 2 and 0 < self.scale[0] <= self.scale[1] < math.inf
        ):
            raise UsageError(
                "data.scale must be [LOWEST, HIGHEST], two zooms above 0 such as [0.5,1.25], got "
                f"{self.scale}"
            )
        if self.resize is not None and isinstance(self.crop, list):
            raise UsageError(
                "data.crop and data.resize exclude each other, as a model that brings every image "
                "to one size would enlarge its crops: give data.crop=null, or data.resize=null"
            )
        if self.resize is not None and max(self.resize) > MAX_SIDE:
            raise UsageError(f"data.resize may be up to {MAX_SIDE} pixels, got {self.resize}")
        if self.evaluation_size == "resized" and self.resize is None:
            raise UsageError("data.evaluation_size=resized needs data.resize=[HEIGHT,WIDTH]")
        for part, count in (self.subset or {}).items():
            if type(count) is not int or count < 1:
                raise UsageError(f"data.subset.{part} must be a number of images, got {count!r}")
        if isinstance(self.ignore_regions, Mapping) and set(self.ignore_regions) != {
            "file",
            "sha256",
        }:
            raise UsageError("data.ignore_regions must be a CSV file, or {file: ..., sha256: ...}")
        if isinstance(self.normalization, Mapping) and set(self.normalization) != {"mean", "std"}:
            raise UsageError(
                "data.normalization must be dataset, declared, or {mean: [...], std: [...]}"
            )
        shares = list((self.focus or {}).values())
        if any(share < 0 for share in shares) or sum(shares) > 1 + 1e-9:
            raise UsageError(
                f"data.focus must be shares from 0 on that sum to at most 1, got {self.focus}"
            )
        if self.num_workers is not None and self.num_workers < 0:
            raise UsageError(f"data.num_workers must be 0 or more, got {self.num_workers}")
        for name, value in (self.augmentation or {}).items():
            if value is not None and not (isinstance(value, Mapping) and "_target_" in value):
                raise UsageError(
                    f"data.augmentation.{name} must be null, or a mapping with a _target_"
                )
        if self.statistics < 1:
            raise UsageError(f"data.statistics must be at least 1, got {self.statistics}")
