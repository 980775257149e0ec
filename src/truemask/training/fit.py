"""A whole training: data, model, steps, then the test of the best weights and the report."""

import logging
import os
import platform
import shlex
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer, seed_everything
from rich.console import Console
from torch import nn
from torch.optim import Optimizer

from truemask import __version__
from truemask.build import build
from truemask.bundle import load_bundle, save_bundle
from truemask.data.randomness import address_seed
from truemask.errors import UsageError
from truemask.files import make_folder
from truemask.images import ImageSpec
from truemask.memory import explain_memory
from truemask.report.pages import render_report
from truemask.results import TrainResult
from truemask.runs import Run
from truemask.training.callbacks import ProgressBar, Recorder, State
from truemask.training.checkpoints import AtomicCheckpoints, read_checkpoint
from truemask.training.data_module import SegmentationData, default_workers
from truemask.training.setup import (
    Prepared,
    choose_precision,
    make_loss,
    make_model,
    make_transforms,
    network_class,
    prepare,
)
from truemask.training.task import Limits, SegmentationTask
from truemask.training.testing import test_parts

_PACKAGES = ("torch", "torchvision", "lightning", "numpy", "hydra-core", "pillow")


def train(config: Mapping[str, Any], *, console: Console, resume: Run | None = None) -> TrainResult:
    """Train, test the best weights, report.

    Args:
        config: the whole configuration, plain values.
        console: where progress is shown.
        resume: a run to go on with; it keeps its split, and its folder.

    Raises:
        UsageError: the data or a setting cannot be used, or the memory does not suffice.
    """
    with console.status("Reading the data") as status:
        prepared = prepare(
            config,
            assignments=None if resume is None else resume.splits,
            images=None if resume is None else _images_of(resume),
            progress=lambda done, total: status.update(f"Reading the data: {done} of {total}"),
        )
    for note in prepared.notes:
        console.print(f"[dim]-[/] {note}", highlight=False)
    seed = int(config["seed"])
    seed_everything(address_seed(seed) % 2**32, verbose=False)
    fitting = _Fitting(prepared, config, seed)
    run = resume or _create_run(config, prepared, fitting)
    console.print(f"Run: {run.path}")
    recorder = fitting.recorder(run)
    _fit(fitting, recorder, run, console)
    if recorder.state.best_epoch < 0:
        raise UsageError(
            f"{run.path}: the training ended before its first validation: {recorder.state.finished}"
        )
    stopped = "you stopped it" if recorder.interrupted.is_set() else recorder.state.finished
    _finish_environment(run, prepared, fitting, recorder.state, stopped)
    # From the files that were just saved: no other weights can be tested than those that are
    # shipped.
    bundle = load_bundle(
        run.bundle_folder, allow={str(prepared.network["_target_"]): fitting.network_class}
    )
    result = test_parts(
        run,
        bundle,
        prepared.parts,
        loss=fitting.task.loss,
        workers=fitting.data.num_workers,
        console=console,
    )
    render_report(run)
    return TrainResult(
        run=str(run.path),
        parts=result,
        best_epoch=recorder.state.best_epoch,
        seconds=fitting.task.seconds,
        stopped=stopped,
    )


class _Fitting:
    """The objects of one training, made in a fixed order so that equal seeds give equal weights."""

    def __init__(self, prepared: Prepared, config: Mapping[str, Any], seed: int) -> None:
        self.prepared = prepared
        self.network_class = network_class(prepared.network)
        self.gpu = torch.cuda.is_available() and prepared.trainer.accelerator in (
            "auto",
            "gpu",
            "cuda",
        )
        self.precision = choose_precision(prepared.trainer, gpu=self.gpu)
        data = prepared.data
        workers = data.num_workers
        self.data = SegmentationData(
            train=prepared.parts["train"],
            validation=prepared.parts["validation"],
            transforms=make_transforms(data, prepared.labels),
            batch_size=data.batch_size,
            num_workers=default_workers(gpu=self.gpu) if workers is None else workers,
            seed=seed,
        )
        trainer = prepared.trainer
        steps_per_epoch = len(self.data.batches)
        steps = [trainer.max_steps] if trainer.max_steps is not None else []
        if trainer.epochs is not None:
            steps.append(trainer.epochs * steps_per_epoch)
        self.limits = Limits(steps=min(steps, default=None), seconds=trainer.seconds)
        optimizer = dict(config["optimizer"])
        if self.precision == "16-mixed" and optimizer.pop("fused", False):
            # It would unscale the gradients only after they are clipped.
            prepared.notes.append(
                "The optimiser is not fused, as half precision does not allow it."
            )
        model = make_model(prepared)
        self.parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
        self.task = SegmentationTask(
            model=model.to(memory_format=torch.channels_last),
            loss=make_loss(prepared.loss_config, prepared.labels),
            labels=prepared.labels,
            make_optimizer=partial(_make_optimizer, optimizer),
            schedule=build(config["schedule"], key="schedule"),
            limits=self.limits,
            average=trainer.average,
            gradient_clip=trainer.gradient_clip,
            seed=seed,
        )
        self.task.make_optimizer(
            [{"params": [nn.Parameter(torch.zeros(1))]}]
        )  # refuse bad settings early

    def recorder(self, run: Run) -> Recorder:
        return Recorder(
            run=run,
            monitor=self.prepared.trainer.monitor,
            patience=self.prepared.trainer.patience,
            save_model=partial(_save_model, run, self.prepared),
        )


def _make_optimizer(config: Mapping[str, Any], groups: list[dict[str, Any]]) -> Optimizer:
    try:
        optimizer = build(config, key="optimizer", params=groups)
    except (ValueError, TypeError) as error:  # torch's own refusals of a value
        raise UsageError(f"optimizer: {error}") from error
    if not isinstance(optimizer, Optimizer):
        raise UsageError(
            f"optimizer._target_ must make a torch.optim.Optimizer, not {type(optimizer).__name__}"
        )
    return optimizer


def _save_model(run: Run, prepared: Prepared, task: SegmentationTask, epoch: int) -> None:
    save_bundle(
        run.bundle_folder,
        model=task.kept,
        network=prepared.network,
        labels=prepared.labels,
        info={"epoch": epoch, "step": task.global_step},
    )


def _fit(fitting: _Fitting, recorder: Recorder, run: Run, console: Console) -> None:
    """Run Lightning's loop, from the last checkpoint where there is one."""
    checkpoint = run.last_checkpoint if run.last_checkpoint.exists() else None
    if checkpoint is not None:
        callbacks = read_checkpoint(checkpoint)["callbacks"]
        recorder.load_state_dict(callbacks[recorder.state_key])
        fitting.task.seconds = float(recorder.state.history[-1]["seconds"])
        if recorder.state.finished:
            console.print("The training had ended before; its best weights are tested again.")
            return
        console.print(f"Resuming after epoch {recorder.state.history[-1]['epoch'] + 1}.")
    settings = fitting.prepared.trainer
    with _quiet_lightning():
        trainer = Trainer(
            accelerator=settings.accelerator,
            devices=1,
            precision=fitting.precision,
            max_epochs=-1,
            min_epochs=0,
            callbacks=[recorder, ProgressBar(console, recorder)],
            plugins=[AtomicCheckpoints()],
            check_val_every_n_epoch=settings.eval_interval,
            num_sanity_val_steps=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            default_root_dir=str(run.path),
        )
        with recorder.graceful_interrupt(console), _memory(fitting.prepared):
            trainer.fit(
                fitting.task,
                datamodule=fitting.data,
                ckpt_path=checkpoint,
                weights_only=True,
            )


def _memory(prepared: Prepared) -> AbstractContextManager[None]:
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


def _create_run(config: Mapping[str, Any], prepared: Prepared, fitting: _Fitting) -> Run:
    """A new run folder that says everything known before the first step."""
    run = Run.create(Path(config["runs"]), experiment=str(config["name"]))
    make_folder(run.checkpoints_folder)
    resolved = {
        **config,
        "data": asdict(prepared.data),
        "trainer": asdict(prepared.trainer),
        "loss": prepared.loss_config,
    }
    run.write_config(resolved)
    run.write_labels(prepared.labels)
    run.write_splits({name: list(part.names) for name, part in prepared.parts.items()})
    run.write_environment(_environment(prepared, fitting, int(config["seed"])))
    return run


def _images_of(run: Run) -> ImageSpec:
    """What the images mean to a run that exists: its weights are for these statistics only."""
    try:
        return ImageSpec.from_json(run.environment["training"]["images"])
    except (KeyError, TypeError) as error:
        raise UsageError(f"{run.path / 'environment.json'} does not describe the images") from error


def _environment(prepared: Prepared, fitting: _Fitting, seed: int) -> dict[str, Any]:
    counts = prepared.statistics.class_counts
    shares = counts / max(1, counts.sum())
    return {
        "versions": {"truemask": __version__, "python": platform.python_version(), **_versions()},
        "git_commit": _git_commit(),
        "device": torch.cuda.get_device_name() if fitting.gpu else f"CPU ({platform.machine()})",
        "threads": torch.get_num_threads(),
        "seed": seed,
        "command_line": shlex.join(["truemask", *sys.argv[1:]]),
        "working_folder": os.getcwd(),
        "training": {
            "parameters": fitting.parameters,
            "precision": fitting.precision,
            "parts": {name: {"images": len(part)} for name, part in prepared.parts.items()},
            "notes": prepared.notes,
            "loss": str(prepared.loss_config["_target_"]).rpartition(".")[2],
            "class_counts": {
                name: int(n) for name, n in zip(prepared.labels.names, counts, strict=True)
            },
            "class_shares": {
                name: float(s) for name, s in zip(prepared.labels.names, shares, strict=True)
            },
            "median_size": list(prepared.statistics.median_size),
            "images": prepared.spec.to_json(),
        },
    }


def _finish_environment(
    run: Run, prepared: Prepared, fitting: _Fitting, state: State, stopped: str
) -> None:
    environment = run.environment
    speeds = [row["images_per_second"] for row in state.history]
    environment["training"] |= {
        "best_epoch": state.best_epoch,
        "epochs": state.history[-1]["epoch"] + 1,
        "steps": state.history[-1]["step"],
        "seconds": round(state.history[-1]["seconds"], 1),
        "stopped": stopped,
        "images_per_second": round(sorted(speeds)[len(speeds) // 2], 2),
    }
    run.write_environment(environment)


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _git_commit() -> str | None:
    """The commit of the user's own repository, with "+" where files differ from it."""
    git = shutil.which("git")
    if git is None:
        return None
    head = subprocess.run([git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    if head.returncode != 0:
        return None
    changed = subprocess.run(
        [git, "status", "--porcelain"], capture_output=True, text=True, check=False
    )
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")
