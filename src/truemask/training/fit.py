"""A whole training: data, model, steps, then the test of the best weights and the report."""

import logging
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.utilities.exceptions import SIGTERMException
from rich.console import Console
from torch import nn
from torch.optim import Optimizer

from truemask.build import build
from truemask.bundle import load_bundle, save_bundle
from truemask.data.batches import EpochBatches
from truemask.data.randomness import address_seed, epoch_order
from truemask.data.views import View
from truemask.datasets.sample import SegmentationDataset
from truemask.errors import JobFailed, UsageError
from truemask.files import make_folder
from truemask.memory import explain_memory
from truemask.report.pages import render_report
from truemask.results import TrainResult
from truemask.runs import Run
from truemask.training.callbacks import ProgressBar, Recorder
from truemask.training.checkpoints import AtomicCheckpoints, read_checkpoint
from truemask.training.data_module import SegmentationData
from truemask.training.environment import add_outcome, describe_environment, images_of
from truemask.training.settings import TrainerSettings
from truemask.training.setup import (
    Prepared,
    choose_precision,
    make_loss,
    make_model,
    make_transforms,
    network_class,
    prepare,
    uses_gpu,
)
from truemask.training.task import Limits, SegmentationTask
from truemask.training.testing import test_parts


def train(config: Mapping[str, Any], *, console: Console, resume: Run | None = None) -> TrainResult:
    """Train, test the best weights, report.

    Args:
        config: the whole configuration, plain values.
        console: where progress is shown.
        resume: a run to go on with; it keeps its split and its folder.

    Raises:
        UsageError: the data or a setting cannot be used, or the memory does not suffice.
        JobFailed: the training was ended from outside, or never reached a validation.
    """
    if resume is not None and not resume.splits:
        raise UsageError(
            f"{resume.path / 'splits'} is missing, which says what the run trains on: train again"
        )
    with console.status("Reading the data") as status:
        prepared = prepare(
            config,
            assignments=None if resume is None else resume.splits or None,
            images=None if resume is None else images_of(resume),
            progress=lambda done, total: status.update(f"Reading the data: {done} of {total}"),
        )
    seed = int(config["seed"])
    seed_everything(address_seed(seed) % 2**32, verbose=False)
    fitting = _Fitting(prepared, config, seed)
    for note in prepared.notes:
        console.print(f"- {note}", highlight=False, markup=False)
    run = resume or _create_run(config, prepared, fitting)
    run.write_config(_resolved(config, prepared))  # last: with it the folder is a run
    console.print(f"Run: {run.path}", highlight=False, markup=False)
    recorder = fitting.recorder(run)
    _fit(fitting, recorder, run, console)
    state = recorder.state
    if state.best_epoch < 0:
        raise JobFailed(f"{run.path}: the training ended before its first validation")
    stopped = "you stopped it" if recorder.interrupted.is_set() else state.finished
    best = (state.best_epoch, state.best_step)
    add_outcome(run, history=state.history, best=best, stopped=stopped)
    # From the files that were just saved: no other weights can be tested than those shipped.
    bundle = load_bundle(
        run.bundle_folder, allow={str(prepared.network["_target_"]): fitting.network_class}
    )
    parts = test_parts(
        run,
        bundle,
        prepared.parts,
        loss=fitting.task.loss,
        workers=fitting.data.num_workers,
        gpu=fitting.gpu,
        console=console,
    )
    render_report(run)
    return TrainResult(
        run=str(run.path),
        parts=parts,
        best_epoch=state.best_epoch,
        seconds=fitting.task.seconds,
        stopped=stopped,
    )


@dataclass(frozen=True)
class Rounds:
    """How training is cut into rounds, which validations and checkpoints count.

    Attributes:
        batches: of a round; `None` makes each epoch one.
        eval_interval: rounds between validations.
        save_interval: rounds between checkpoints to resume from.
    """

    batches: int | None
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
        return cls(steps * trainer.accumulate, trainer.eval_interval // steps, save // steps)


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

    def __init__(self, prepared: Prepared, config: Mapping[str, Any], seed: int) -> None:
        self.prepared = prepared
        self.seed = seed
        self.network_class = network_class(prepared.network)
        self.gpu = uses_gpu(prepared.trainer.accelerator)
        self.precision = choose_precision(prepared.trainer, gpu=self.gpu)
        trainer = prepared.trainer
        self.rounds = Rounds.of(trainer)
        self.batches = EpochBatches(
            len(prepared.parts["train"]),
            batch_size=prepared.data.batch_size,
            seed=seed,
            sizes=prepared.sizes,
            round_batches=self.rounds.batches,
            multiple=trainer.accumulate,
        )
        self.data = SegmentationData(
            train=prepared.parts["train"],
            validation=_validated(prepared.parts["validation"], trainer.eval_iterations, seed),
            transforms=make_transforms(prepared.data, prepared.labels),
            batches=self.batches,
            num_workers=prepared.workers,
            seed=seed,
            stride=prepared.stride,
        )
        optimizer = dict(config["optimizer"])
        if self.precision == "16-mixed" and optimizer.pop("fused", False):
            # It would unscale the gradients only after they are clipped.
            prepared.notes.append("The optimiser is not fused, as half precision forbids it.")
        _make_optimizer(optimizer, [{"params": [nn.Parameter(torch.zeros(1))]}])  # fail early
        model = make_model(prepared)
        self.parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
        self.task = SegmentationTask(
            model=model.to(memory_format=torch.channels_last),
            loss=make_loss(prepared.loss_config),
            labels=prepared.labels,
            make_optimizer=partial(_make_optimizer, optimizer),
            schedule=build(config["schedule"], key="schedule"),
            limits=self._limits(),
            epoch_of=self.batches.epoch_of,
            average=trainer.average,
            gradient_clip=trainer.gradient_clip,
            decay=trainer.decay,
            pictures=trainer.pictures,
            seed=seed,
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

    def recorder(self, run: Run) -> Recorder:
        return Recorder(
            run=run,
            monitor=self.prepared.trainer.monitor,
            patience=self.prepared.trainer.patience,
            save_interval=self.rounds.save_interval,
            save_model=partial(_save_model, run, self.prepared),
        )


def _make_optimizer(config: Mapping[str, Any], groups: list[dict[str, Any]]) -> Optimizer:
    optimizer = build(config, key="optimizer", params=groups)
    if not isinstance(optimizer, Optimizer):
        raise UsageError(
            f"optimizer._target_ must make a torch.optim.Optimizer, not {type(optimizer).__name__}"
        )
    return optimizer


def _save_model(
    run: Run, prepared: Prepared, task: SegmentationTask, epoch: int, step: int
) -> None:
    save_bundle(
        run.bundle_folder,
        model=task.kept,
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
            precision=fitting.precision,
            parameters=fitting.parameters,
        )
    )
    return run


def _resolved(config: Mapping[str, Any], prepared: Prepared) -> dict[str, Any]:
    return {
        **config,
        "data": asdict(prepared.data),
        "trainer": asdict(prepared.trainer),
        "loss": prepared.loss_config,
    }


def _fit(fitting: _Fitting, recorder: Recorder, run: Run, console: Console) -> None:
    """Run Lightning's loop, from the last checkpoint where there is one."""
    checkpoint = run.last_checkpoint if run.last_checkpoint.exists() else None
    if checkpoint is not None and _restore(fitting, recorder, run, console):
        return
    # What an earlier end left describes weights that this training replaces.
    run.discard_results()
    settings = fitting.prepared.trainer
    with _quiet_lightning():
        trainer = Trainer(
            accelerator="gpu" if fitting.gpu else "cpu",
            devices=1,
            precision=fitting.precision,
            max_epochs=-1,
            min_epochs=0,
            callbacks=[recorder, ProgressBar(console, recorder)],
            plugins=[AtomicCheckpoints()],
            check_val_every_n_epoch=fitting.rounds.eval_interval,
            accumulate_grad_batches=settings.accumulate,
            num_sanity_val_steps=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            default_root_dir=str(run.path),
        )
        with recorder.graceful_interrupt(console), _explain_memory(fitting.prepared):
            try:
                trainer.fit(
                    fitting.task,
                    datamodule=fitting.data,
                    ckpt_path=checkpoint,
                    weights_only=True,
                )
            except SIGTERMException as error:
                raise _ended("by SIGTERM", run) from error
            except SystemExit as error:  # what Lightning makes of a second Ctrl-C
                raise _ended("by Ctrl-C", run) from error
            except Exception as error:
                # A signal to the whole group ends the loading processes too, which shows in
                # whatever was being read from them.
                if trainer.received_sigterm:
                    raise _ended("by SIGTERM", run) from error
                if str(error).startswith("DataLoader worker"):
                    raise _ended("as a loading process was killed", run) from error
                raise


def _ended(how: str, run: Run) -> JobFailed:
    return JobFailed(f"ended {how}; go on with `truemask train resume={run.path}`")


def _restore(fitting: _Fitting, recorder: Recorder, run: Run, console: Console) -> bool:
    """Take up the state of the last checkpoint; tells whether the training was over then."""
    content = read_checkpoint(run.last_checkpoint)
    try:
        recorder.load_state_dict(content["callbacks"][recorder.state_key])
        fitting.task.load_state_dict(content["state_dict"])
        last = recorder.state.history[-1]
        fitting.task.seconds = float(last["seconds"])
        rounds, last_step = int(recorder.state.rounds), int(last["step"])
    except (KeyError, TypeError, IndexError, ValueError, AttributeError, RuntimeError) as error:
        raise UsageError(
            f"{run.last_checkpoint} is not a checkpoint of this run: train again"
        ) from error
    if recorder.state.best_step == last_step:
        # The end may have come before they were written.
        recorder.keep_best(fitting.task, step=last_step)
    over = fitting.task.limits.fraction(step=last_step, seconds=fitting.task.seconds) >= 1
    if recorder.state.finished and (over or recorder.out_of_patience):
        console.print("The training had ended before; its best weights are tested again.")
        return True
    recorder.state.finished = ""
    whole = rounds * fitting.batches.round_batches // fitting.prepared.trainer.accumulate
    if last_step != whole:
        console.print(
            "The limit fell within an epoch or an interval, whose rest is left out: the run goes "
            "on, but not to the very weights of a training that had this limit from the start."
        )
    console.print(f"Resuming after epoch {int(last['epoch']) + 1}, step {last_step}.")
    # Lightning starts the loading processes before it tells them the round.
    fitting.batches.set_epoch(rounds)
    return False


def _explain_memory(prepared: Prepared) -> AbstractContextManager[None]:
    crop = prepared.data.crop
    shape = f"{crop[0]} x {crop[1]}" if isinstance(crop, list) else "whole images"
    return explain_memory(
        where="while training",
        remedy=f"lower data.batch_size (now {prepared.data.batch_size}), data.crop (now {shape}) "
        "or model.widths",
    )


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Without Lightning's hints: what they advise is decided here."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning\..*")
        warnings.filterwarnings("ignore", message=r".*`isinstance\(treespec, LeafSpec\)`.*")
        try:
            yield
        finally:
            for logger, level in zip(loggers, before, strict=True):
                logger.setLevel(level)
