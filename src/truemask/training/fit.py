"""A whole training: data, model, steps, then the test of the best weights and the report."""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from truemask.bundle import load_bundle, save_bundle
from truemask.checks.catalogue import Selection
from truemask.checks.outcome import Outcome
from truemask.errors import JobFailed, UsageError
from truemask.files import make_folder, write_text
from truemask.memory import explain_memory
from truemask.models.segmenter import Segmenter
from truemask.report.pages import render_report
from truemask.results import TrainResult
from truemask.runs import Run
from truemask.training.advice import Settings
from truemask.training.allocation import keep_memory
from truemask.training.checking import TrainingChecks
from truemask.training.devices import require_processes
from truemask.training.environment import add_outcome, describe_environment, images_of
from truemask.training.fitting import Fitting
from truemask.training.interruption import Interruption
from truemask.training.launching import launch
from truemask.training.loop import Loop
from truemask.training.opening import Opened
from truemask.training.processes import Place, find_place
from truemask.training.profiling import Profiling
from truemask.training.progress import ProgressBar
from truemask.training.record import Listener, Record, restore
from truemask.training.settings import CheckSettings, TrainerSettings
from truemask.training.setup import (
    Prepared,
    prepare,
    settings,
)
from truemask.training.state import State
from truemask.training.step import OptimizerStep
from truemask.training.testing import test_parts
from truemask.training.trackers import open_trackers


def train(
    config: Mapping[str, Any],
    *,
    console: Console,
    resume: Run | None = None,
    listeners: Sequence[Listener] = (),
    opened: Opened | None = None,
) -> TrainResult:
    """Train, test the best weights, report; in several processes where `trainer.devices` says so.

    Where torchrun or srun started several processes, all but the first leave the program here when
    the training is over.

    Args:
        config: the whole configuration, plain values.
        console: where progress is shown.
        resume: a run to go on with; it keeps its split and its folder.
        listeners: get each row of the history, and may end the training by `StopTraining`.
        opened: the data that a plan has opened.

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
    result = train_here(config, console=console, resume=resume, listeners=listeners, opened=opened)
    if result is None:
        sys.exit(0)
    return result


def train_here(
    config: Mapping[str, Any],
    *,
    console: Console,
    resume: Run | None = None,
    listeners: Sequence[Listener] = (),
    opened: Opened | None = None,
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
                describe=place.is_main,
                opened=opened,
                progress=lambda done, total: status.update(f"Reading the data: {done} of {total}"),
            )
        fitting = Fitting(prepared, config, place, new=resume is None)
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
    fitting: Fitting, config: Mapping[str, Any], console: Console, resume: Run | None
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
    fitting: Fitting,
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


def check(
    config: Mapping[str, Any],
    *,
    selection: Selection,
    console: Console,
    opened: Opened | None = None,
) -> Outcome:
    """The checks that `train` would do before its first step, and nothing else.

    Args:
        config: the whole configuration, plain values.
        selection: which rules count.
        console: where progress is shown.
        opened: the data that a plan has opened.

    Raises:
        UsageError: the data or a setting cannot be used.
    """
    with console.status("Reading the data") as status:
        prepared = prepare(
            config,
            opened=opened,
            progress=lambda done, total: status.update(f"Reading the data: {done} of {total}"),
        )
    return Fitting(prepared, config, Place(), new=False).check(selection)


def _save_model(run: Run, prepared: Prepared, model: Segmenter, epoch: int, step: int) -> None:
    save_bundle(
        run.bundle_folder,
        model=model,
        network=prepared.network,
        labels=prepared.labels,
        info={"epoch": epoch, "step": step},
        inputs=None if prepared.inputs is None else prepared.inputs.to_json(),
    )


def _create_run(config: Mapping[str, Any], prepared: Prepared, fitting: Fitting) -> Run:
    """A new folder that says everything known before the first step, except the configuration."""
    run = Run.create(Path(config["runs"]), experiment=str(config["name"]))
    make_folder(run.checkpoints_folder)
    if config.get("plan"):
        write_text(run.plan_path, config["plan"])
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
        **{key: value for key, value in config.items() if key != "plan"},
        "optimizer": dict(optimizer),
        "data": asdict(prepared.data),
        "trainer": asdict(prepared.trainer),
        "loss": prepared.loss_config,
    }


def _fit(
    fitting: Fitting,
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
    fitting: Fitting, step: OptimizerStep, run: Run, console: Console, profile: bool | str | None
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
