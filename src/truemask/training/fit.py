"""A whole training: data, model, steps, then the test of the best weights and the report."""

import inspect
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn
from torch.optim import Optimizer

from truemask.build import build, locate
from truemask.bundle import load_bundle, save_bundle
from truemask.checks.catalogue import Selection
from truemask.checks.outcome import Outcome
from truemask.data.batches import EpochBatches
from truemask.data.randomness import address_seed, epoch_order
from truemask.data.shard_order import group_order, sharded
from truemask.data.views import View
from truemask.datasets.sample import SegmentationDataset
from truemask.errors import JobFailed, UsageError
from truemask.files import make_folder
from truemask.memory import explain_memory
from truemask.models.segmenter import Segmenter
from truemask.report.pages import render_report
from truemask.results import TrainResult
from truemask.runs import Run
from truemask.training.advice import Settings
from truemask.training.allocation import keep_memory
from truemask.training.checking import TrainingChecks, check_before
from truemask.training.devices import make_fabric, require_processes
from truemask.training.environment import add_outcome, describe_environment, images_of
from truemask.training.interruption import Interruption
from truemask.training.launching import launch
from truemask.training.limits import Limits
from truemask.training.loaders import training_loader, validation_loader
from truemask.training.loop import Loop, Plan
from truemask.training.processes import Place, find_place
from truemask.training.profiling import Profiling
from truemask.training.progress import ProgressBar
from truemask.training.record import Listener, Record, restore
from truemask.training.settings import CheckSettings, TrainerSettings
from truemask.training.setup import (
    Prepared,
    choose_precision,
    make_loss,
    make_model,
    make_transforms,
    network_class,
    prepare,
    settings,
    uses_gpu,
)
from truemask.training.state import State
from truemask.training.step import OptimizerStep, parameter_groups
from truemask.training.testing import test_parts
from truemask.training.trackers import open_trackers
from truemask.training.tuning import Tuning, tune


def train(
    config: Mapping[str, Any],
    *,
    console: Console,
    resume: Run | None = None,
    listeners: Sequence[Listener] = (),
) -> TrainResult:
    """Train, test the best weights, report; in several processes where `trainer.devices` says so.

    Where torchrun or srun started several processes, all but the first leave the program here when
    the training is over.

    Args:
        config: the whole configuration, plain values.
        console: where progress is shown.
        resume: a run to go on with; it keeps its split and its folder.
        listeners: get each row of the history, and may end the training by `StopTraining`.

    Raises:
        UsageError: the data or a setting cannot be used, or the memory does not suffice.
        JobFailed: the training was ended from outside, or never reached a validation.
    """
    trainer: TrainerSettings = settings(TrainerSettings, config["trainer"], key="trainer")
    require_processes(trainer, max(trainer.devices, find_place().processes))
    if trainer.devices > 1 and find_place().processes == 1:
        if listeners:
            raise UsageError("trainer.devices must be 1 where somebody listens to the training")
        return launch(config, processes=trainer.devices, resume=resume, quiet=console.quiet)
    result = train_here(config, console=console, resume=resume, listeners=listeners)
    if result is None:
        sys.exit(0)
    return result


def train_here(
    config: Mapping[str, Any],
    *,
    console: Console,
    resume: Run | None = None,
    listeners: Sequence[Listener] = (),
) -> TrainResult | None:
    """This process's part of `train`; `None` in all processes but the first."""
    if resume is not None and not resume.splits:
        raise UsageError(
            f"{resume.path / 'splits'} is missing, which says what the run trains on: train again"
        )
    place = find_place()
    if not place.is_main:
        console = Console(quiet=True)
    interruption = Interruption(console)
    with interruption.installed():
        with console.status("Reading the data") as status:
            prepared = prepare(
                config,
                assignments=None if resume is None else resume.splits or None,
                images=None if resume is None else images_of(resume),
                processes=place.processes // place.nodes,
                progress=lambda done, total: status.update(f"Reading the data: {done} of {total}"),
            )
        fitting = _Fitting(prepared, config, place, new=resume is None)
        for note in prepared.notes:
            console.print(f"- {note}", highlight=False, markup=False)
        checking = _check(fitting, config, console, resume)
        run = resume
        if run is None:
            path = _create_run(config, prepared, fitting).path if place.is_main else None
            run = Run(place.share(path))
        if place.is_main:
            # Last: with it the folder is a run.
            run.write_config(_resolved(config, prepared, fitting.optimizer))
            checking.write(run)
        interruption.hint = f"; go on with `truemask train resume={run.path}`"
        console.print(f"Run: {run.path}", highlight=False, markup=False)
        if not place.is_main:
            _fit(fitting, run, console, interruption, listeners, checking)
            return None
        tracked = open_trackers(config.get("logger"), run=run, config=run.config, console=console)
        with tracked as trackers:
            heard = [trackers.log_row, *listeners]
            profile = config.get("profile")
            state = _fit(fitting, run, console, interruption, heard, checking, profile)
            stopped = interruption.stop
            result = _finish(fitting, run, state, console, checking, stopped=stopped)
            trackers.finish(result.parts, status="stopped" if interruption.stop else "finished")
        return result


def _check(
    fitting: "_Fitting", config: Mapping[str, Any], console: Console, resume: Run | None
) -> TrainingChecks:
    """The checks before the first step, in the main process; a run that goes on had them.

    Raises:
        JobFailed: there is an error; every process ends.
    """
    wanted: CheckSettings = settings(CheckSettings, config.get("checks", {}), key="checks")
    earlier = [] if resume is None else resume.findings or []
    checking = TrainingChecks(wanted, console, earlier=earlier)
    fault = None
    if resume is None and fitting.place.is_main:
        try:
            checking.before(fitting.check)
        except JobFailed as error:
            fault = str(error)
    if fault := fitting.place.share(fault):
        raise JobFailed(fault)
    return checking


def _finish(
    fitting: "_Fitting",
    run: Run,
    state: State,
    console: Console,
    checking: TrainingChecks,
    *,
    stopped: bool,
) -> TrainResult:
    """Test the best weights, from the files that were just saved: no others can be shipped."""
    prepared = fitting.prepared
    if state.best_epoch < 0:
        raise JobFailed(f"{run.path}: the training ended before its first validation")
    reason = "you stopped it" if stopped else state.finished
    best = (state.best_epoch, state.best_step)
    add_outcome(run, history=state.history, best=best, stopped=reason)
    bundle = load_bundle(
        run.bundle_folder, allow={str(prepared.network["_target_"]): fitting.network_class}
    )
    parts = test_parts(
        run,
        bundle,
        prepared.parts,
        loss=fitting.loss,
        workers=prepared.workers,
        gpu=fitting.gpu,
        console=console,
    )
    checking.after(run, prepared.parts)
    render_report(run)
    return TrainResult(
        run=str(run.path),
        parts=parts,
        best_epoch=state.best_epoch,
        seconds=state.seconds,
        stopped=reason,
    )


def check(config: Mapping[str, Any], *, selection: Selection, console: Console) -> Outcome:
    """The checks that `train` would do before its first step, and nothing else.

    Args:
        config: the whole configuration, plain values.
        selection: which rules count.
        console: where progress is shown.

    Raises:
        UsageError: the data or a setting cannot be used.
    """
    with console.status("Reading the data") as status:
        prepared = prepare(
            config,
            progress=lambda done, total: status.update(f"Reading the data: {done} of {total}"),
        )
    return _Fitting(prepared, config, Place(), new=False).check(selection)


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


class _Fitting:
    """The objects of one training, made in a fixed order so that equal seeds give equal weights."""

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


def _save_model(run: Run, prepared: Prepared, model: Segmenter, epoch: int, step: int) -> None:
    save_bundle(
        run.bundle_folder,
        model=model,
        network=prepared.network,
        labels=prepared.labels,
        info={"epoch": epoch, "step": step},
    )


def _create_run(config: Mapping[str, Any], prepared: Prepared, fitting: _Fitting) -> Run:
    """A new folder that says everything known before the first step, except the configuration."""
    run = Run.create(Path(config["runs"]), experiment=str(config["name"]))
    make_folder(run.checkpoints_folder)
    run.write_labels(prepared.labels)
    run.write_splits({name: list(part.names) for name, part in prepared.parts.items()})
    run.write_environment(
        describe_environment(
            prepared,
            seed=fitting.seed,
            gpu=fitting.gpu,
            precision=str(fitting.precision),
            parameters=fitting.parameters,
            tuning=None if fitting.tuning is None else fitting.tuning.to_json(),
        )
    )
    return run


def _resolved(
    config: Mapping[str, Any], prepared: Prepared, optimizer: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        **config,
        "optimizer": dict(optimizer),
        "data": asdict(prepared.data),
        "trainer": asdict(prepared.trainer),
        "loss": prepared.loss_config,
    }


def _fit(
    fitting: _Fitting,
    run: Run,
    console: Console,
    interruption: Interruption,
    listeners: Sequence[Listener],
    checking: TrainingChecks,
    profile: bool | str | None = None,
) -> State:
    """Run the loop, from the last checkpoint where there is one."""
    place = fitting.place
    if not fitting.gpu:
        keep_memory()
    bar = ProgressBar(console)
    save_model = partial(_save_model, run, fitting.prepared)
    record = None
    if place.is_main:
        record = Record(run, save_model=save_model, listeners=[bar.show_row, *listeners])
    with _explain_memory(fitting.prepared):
        step = fitting.make_step()
        resumed = place.share(run.last_checkpoint.exists())
        state = restore(run, step) if resumed else State()
        loop = fitting.make_loop(step, state, record, interruption, bar)
        if resumed and _has_ended(loop, console):
            return state
        if record is not None:
            # What an earlier end left describes weights that this training replaces.
            run.discard_results()
        profiling = _profiling(fitting, step, run, console, profile)
        if profiling is not None:
            loop.watch = _both(bar, profiling)
        if record is not None:
            checking.guard(loop, run)
        with bar:
            loop.run()
            if profiling is not None:
                profiling.end()
            if state.best_epoch < 0 and not state.finished:
                _keep_untested(loop)
        if record is not None:
            checking.ended(run)
    return state


def _profiling(
    fitting: _Fitting, step: OptimizerStep, run: Run, console: Console, profile: bool | str | None
) -> Profiling | None:
    if not profile:
        return None
    return Profiling(
        step,
        settings=Settings(
            batch_size=fitting.prepared.data.batch_size,
            num_workers=fitting.prepared.workers,
            precision=fitting.precision,
            gpu=fitting.gpu,
            fused=bool(fitting.optimizer.get("fused")),
        ),
        folder=run.path,
        console=console,
        trace=profile == "trace",
    )


def _both(bar: ProgressBar, profiling: Profiling) -> Callable[[Loop], None]:
    def watch(loop: Loop) -> None:
        bar.show_step(loop)
        profiling.after_step()

    return watch


def _has_ended(loop: Loop, console: Console) -> bool:
    """Whether the training of a checkpoint was over; makes up for what its end prevented."""
    state = loop.state
    if state.best_step == state.step:
        loop.keep_best()
    if state.finished and (loop.fraction >= 1 or loop.out_of_patience):
        console.print("The training had ended before; its best weights are tested again.")
        return True
    state.finished = ""
    console.print(f"Resuming after epoch {loop.epoch + 1}, step {state.step}.")
    return False


def _keep_untested(loop: Loop) -> None:
    """Weights that were interrupted before their first validation, to have some to test.

    The checkpoint is written before, and knows nothing of it: resuming goes on as if uninterrupted.
    """
    loop.validate_best()
    model = loop.step.kept  # in all processes
    if loop.record is not None:
        loop.record.save_model(model, loop.state.best_epoch, loop.state.best_step)


def _explain_memory(prepared: Prepared) -> AbstractContextManager[None]:
    crop = prepared.data.crop
    shape = f"{crop[0]} x {crop[1]}" if isinstance(crop, list) else "whole images"
    return explain_memory(
        where="while training",
        remedy=f"lower data.batch_size (now {prepared.data.batch_size}), data.crop (now {shape}) "
        "or model.widths",
    )
