"""The objects of one training, made from its configuration in a fixed order."""

import inspect
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from truemask.build import build, locate
from truemask.checks.catalogue import Selection
from truemask.checks.outcome import Outcome
from truemask.data.batches import EpochBatches
from truemask.data.randomness import address_seed, epoch_order
from truemask.data.shard_order import group_order, sharded
from truemask.data.views import View
from truemask.datasets.sample import SegmentationDataset
from truemask.errors import UsageError
from truemask.training.checking import check_before
from truemask.training.devices import make_fabric
from truemask.training.hardware import choose_precision, uses_gpu
from truemask.training.interruption import Interruption
from truemask.training.limits import Limits
from truemask.training.loaders import training_loader, validation_loader
from truemask.training.loop import Loop, Plan
from truemask.training.loss_setup import make_loss
from truemask.training.processes import Place
from truemask.training.progress import ProgressBar
from truemask.training.record import Record
from truemask.training.settings import TrainerSettings
from truemask.training.setup import Prepared, make_model, make_transforms, network_class
from truemask.training.state import State
from truemask.training.step import OptimizerStep, parameter_groups
from truemask.training.tuning import Tuning, tune


@dataclass(frozen=True)
class Rounds:
    """How training is cut into rounds, which validations and checkpoints count.

    Attributes:
        steps: of a round; `None` makes each epoch one.
        eval_interval: rounds between validations.
        save_interval: rounds between checkpoints to resume from.
    """

    steps: int | None
    eval_interval: int
    save_interval: int

    @classmethod
    def of(cls, trainer: TrainerSettings) -> "Rounds":
        """As the settings say; with steps, a round is as long as both intervals allow."""
        assert trainer.eval_interval is not None
        if trainer.interval_unit == "epochs":
            return cls(None, trainer.eval_interval, trainer.save_interval or 1)
        save = trainer.save_interval or trainer.eval_interval
        steps = math.gcd(trainer.eval_interval, save)
        return cls(steps, trainer.eval_interval // steps, save // steps)


def _validated(
    validation: SegmentationDataset, images: int | None, seed: int
) -> SegmentationDataset:
    """The images to validate on: all, or some drawn at random once."""
    if images is None or images >= len(validation):
        return validation
    chosen = sorted(epoch_order(len(validation), seed=seed, epoch=0)[:images])
    return View.of([validation]).take(chosen)


class Fitting:
    """The objects of one training, made in a fixed order so that equal seeds give equal weights.

    Args:
        prepared: data and settings.
        config: the whole configuration, plain values.
        place: which process this is.
        new: whether a run begins here, rather than goes on.

    Raises:
        UsageError: a setting cannot be used.
    """

    def __init__(
        self, prepared: Prepared, config: Mapping[str, Any], place: Place, *, new: bool
    ) -> None:
        self.prepared = prepared
        self.config = config
        self.place = place
        self.seed = int(config["seed"])
        self.network_class = network_class(prepared.network)
        trainer = prepared.trainer
        self.gpu = uses_gpu(trainer.accelerator)
        if trainer.threads is not None:
            torch.set_num_threads(trainer.threads)
        self.fabric = make_fabric(place, gpu=self.gpu, strategy=trainer.strategy)
        self.rounds = Rounds.of(trainer)
        self.batches = self._batches()
        self.limits = self._limits()
        # A run that goes on keeps the kernel that it began with.
        self.optimizer = _fused(config["optimizer"]) if new else dict(config["optimizer"])
        _make_optimizer(self.optimizer, [{"params": [nn.Parameter(torch.zeros(1))]}])  # fail early
        self.schedule = build(config["schedule"], key="schedule")
        self.loss = make_loss(prepared.loss_config)
        # Weights are drawn last, so that nothing before moves the random numbers.
        torch.manual_seed(address_seed(self.seed) % 2**32)
        self.model = make_model(prepared)
        self.parameters = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        self.tuning = self._tune() if new and trainer.tune and place.processes == 1 else None
        self.precision = choose_precision(prepared.trainer, gpu=self.gpu)

    def _tune(self) -> Tuning:
        """Find out what is fastest here, and settle it."""
        prepared, data = self.prepared, self.prepared.data
        crop = data.crop if isinstance(data.crop, list) else data.resize
        tuning = tune(
            self.model,
            self.loss,
            prepared.labels,
            batch_size=data.batch_size,
            crop=(crop[0], crop[1]) if crop else prepared.statistics.median_size,
            accelerator=prepared.trainer.accelerator,
        )
        prepared.trainer = replace(prepared.trainer, **asdict(tuning.choice))
        prepared.notes.append(tuning.note)
        torch.set_num_threads(tuning.choice.threads)
        return tuning

    def _batches(self) -> EpochBatches:
        prepared = self.prepared
        if prepared.data.batch_size < self.place.processes:
            raise UsageError(
                f"data.batch_size is {prepared.data.batch_size}, fewer than the "
                f"{self.place.processes} processes that share a batch: raise it"
            )
        shards = sharded(prepared.parts["train"])
        return EpochBatches(
            len(prepared.parts["train"]),
            batch_size=prepared.data.batch_size,
            seed=self.seed,
            sizes=prepared.sizes,
            round_steps=self.rounds.steps,
            accumulate=prepared.trainer.accumulate,
            rank=self.place.rank,
            processes=self.place.processes,
            order=None
            if shards is None
            else partial(group_order, shards.groups, seed=self.seed, window=shards.window),
        )

    def _limits(self) -> Limits:
        trainer = self.prepared.trainer
        steps = [] if trainer.max_steps is None else [trainer.max_steps]
        if trainer.epochs is not None:
            steps.append(trainer.epochs * self.batches.epoch_batches // trainer.accumulate)
            if steps[-1] == 0:
                raise UsageError(
                    f"trainer.max_epochs={trainer.epochs} has fewer batches than "
                    f"trainer.accumulate={trainer.accumulate}: there would be no step"
                )
        return Limits(steps=min(steps, default=None), seconds=trainer.seconds)

    def check(self, selection: Selection) -> Outcome:
        """Everything that can be known before the first step."""
        groups = parameter_groups(self.model, decay=self.prepared.trainer.decay)
        return check_before(
            self.prepared,
            self.config,
            model=self.model,
            loss=self.loss,
            optimizer=_make_optimizer(self.optimizer, groups),
            selection=selection,
        )

    def make_step(self) -> OptimizerStep:
        """The model with its optimiser; call it once."""
        trainer = self.prepared.trainer
        model = self.model
        if trainer.channels_last:
            model = model.to(memory_format=torch.channels_last)
        return OptimizerStep(
            fabric=self.fabric,
            place=self.place,
            model=model,
            loss=self.loss,
            make_optimizer=partial(_make_optimizer, self.optimizer),
            schedule=self.schedule,
            precision=self.precision,
            average=trainer.average,
            gradient_clip=trainer.gradient_clip,
            decay=trainer.decay,
            compile=trainer.compile,
            seed=self.seed,
        )

    def make_loop(
        self,
        step: OptimizerStep,
        state: State,
        record: Record | None,
        interruption: Interruption,
        bar: ProgressBar,
    ) -> Loop:
        """The steps, validations and saves from `state` on."""
        prepared, trainer = self.prepared, self.prepared.trainer
        validated = _validated(prepared.parts["validation"], trainer.eval_iterations, self.seed)
        return Loop(
            step=step,
            state=state,
            plan=Plan(
                limits=self.limits,
                eval_interval=self.rounds.eval_interval,
                save_interval=self.rounds.save_interval,
                monitor=trainer.monitor,
                patience=trainer.patience,
                max_skipped=trainer.max_skipped,
                pictures=trainer.pictures,
            ),
            batches=self.batches,
            training=training_loader(
                prepared.parts["train"],
                transforms=make_transforms(prepared.data, prepared.labels),
                batches=self.batches,
                num_workers=prepared.workers,
                seed=self.seed,
                stride=prepared.stride,
            ),
            validation=validation_loader(validated, num_workers=prepared.workers, place=self.place),
            loss=self.loss,
            labels=prepared.labels,
            place=self.place,
            record=record,
            interruption=interruption,
            watch=bar.show_step,
        )


def _fused(config: Mapping[str, Any]) -> dict[str, Any]:
    """An optimiser's settings, with its fused kernel where it has one and they leave it open."""
    parameters = inspect.signature(locate(str(config["_target_"]), key="optimizer")).parameters
    open_ = "fused" in parameters and not config.keys() & {"fused", "foreach"}
    return {**config, "fused": True} if open_ else dict(config)


def _make_optimizer(config: Mapping[str, Any], groups: list[dict[str, Any]]) -> Optimizer:
    optimizer = build(config, key="optimizer", params=groups)
    if not isinstance(optimizer, Optimizer):
        raise UsageError(
            f"optimizer._target_ must make a torch.optim.Optimizer, not {type(optimizer).__name__}"
        )
    return optimizer
