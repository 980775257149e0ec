"""Around the steps: the history, the best weights, the checkpoints, the end, the progress."""

import math
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from types import FrameType
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from truemask.files import atomic_path
from truemask.images import to_rgb
from truemask.metrics.confusion import dice, headline, iou, pixel_accuracy
from truemask.runs import Run
from truemask.training.task import SegmentationTask

_NEVER = 1 << 62
"""Epochs between validations, to have none."""


@dataclass
class State:
    """What a run knows of its past; it travels in the checkpoint.

    Attributes:
        history: the rows of `history.csv`.
        best_score: the monitored score of the best weights, higher is better.
        best_epoch: their epoch.
        best_step: the optimiser steps behind them.
        rounds: rounds of batches begun, from one possible validation to the next.
        evaluations_since_best: validations that brought nothing better.
        finished: why the training is over, or empty.
    """

    history: list[dict[str, Any]] = field(default_factory=list)
    best_score: float = -math.inf
    best_epoch: int = -1
    best_step: int = -1
    rounds: int = 0
    evaluations_since_best: int = 0
    finished: str = ""


class Recorder(Callback):
    """Writes the run folder while it trains, and decides when to stop.

    Args:
        run: where to write.
        monitor: "validation_iou" or "validation_loss".
        patience: validations without a better score before the training stops, or `None`.
        save_interval: rounds between checkpoints to resume from.
        save_model: called with the task, the epoch and the step when its kept weights are the best
            so far.
    """

    def __init__(
        self,
        *,
        run: Run,
        monitor: str,
        patience: int | None,
        save_interval: int = 1,
        save_model: Callable[[SegmentationTask, int, int], None],
    ) -> None:
        self.run = run
        self.monitor = monitor
        self.patience = patience
        self.save_interval = save_interval
        self.save_model = save_model
        self.state = State()
        self.interrupted = threading.Event()
        self.listeners: list[Callable[[dict[str, Any]], None]] = []
        self._validation: dict[str, Any] = {}
        self._is_best = False

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return asdict(self.state)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From the checkpoint."""
        self.state = State(**state_dict)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the epoch's sums; they stay on the device until its end."""
        self._loss = torch.zeros((), device=pl_module.device)
        self._batches = 0
        self._images = 0
        self._clock = time.monotonic()
        self._training_seconds = 0.0
        self._validation = {}
        self._is_best = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add to the sums; ask for the end where a limit is reached."""
        assert isinstance(pl_module, SegmentationTask)
        # Lightning divides it, so that the gradients of accumulated batches add up to a mean.
        self._loss += outputs["loss"].detach() * trainer.accumulate_grad_batches
        self._batches += 1
        self._images += len(batch.names)
        self._training_seconds = time.monotonic() - self._clock
        if pl_module.fraction >= 1:
            # The last weights are validated whatever the interval.
            trainer.check_val_every_n_epoch = 1
            trainer.should_stop = True
        elif self.interrupted.is_set():
            # A part of an epoch must not become the best: resuming goes through the epoch again.
            # The last batch makes the round whole, and its validation is as ever.
            if batch_idx + 1 < trainer.num_training_batches:
                trainer.check_val_every_n_epoch = 1 if self.state.best_epoch < 0 else _NEVER
            trainer.should_stop = True

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score the kept weights."""
        assert isinstance(pl_module, SegmentationTask)
        matrix = pl_module.confusion.compute().cpu().numpy()
        losses = torch.stack(pl_module.validation_losses)
        self._validation = {
            "validation_loss": float(losses.mean()),
            "validation_iou": float(headline(iou(matrix))),
            "validation_dice": float(headline(dice(matrix))),
            "validation_pixel_accuracy": float(pixel_accuracy(matrix)),
        }
        sign = -1 if self.monitor == "validation_loss" else 1
        score = sign * self._validation[self.monitor]
        self.state.evaluations_since_best += 1
        if score > self.state.best_score or self.state.best_epoch < 0:
            self.state.best_score = score if math.isfinite(score) else -math.inf
            self.state.best_epoch = self._epoch(pl_module)
            self.state.best_step = pl_module.global_step
            self.state.evaluations_since_best = 0
            self._is_best = True
        if pl_module.predictions:
            self.run.write_pictures(
                [
                    (to_rgb(image, pl_module.model.images), _ids(truth), _ids(ids))
                    for image, truth, ids in pl_module.predictions
                ],
                step=pl_module.global_step,
                labels=pl_module.labels,
            )

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the row, decide about the end, write the checkpoints and the best weights.

        The checkpoint comes first: it holds the weights, so that whatever a kill prevents after it
        is made up for on resuming (`keep_best`).
        """
        assert isinstance(pl_module, SegmentationTask)
        row = {
            "epoch": self._epoch(pl_module),
            "step": pl_module.global_step,
            "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
            "train_loss": float(self._loss) / max(1, self._batches),
            **self._validation,
            "images_per_second": self._images / max(1e-9, self._training_seconds),
            "seconds": pl_module.tick(),
        }
        self.state.history.append(row)
        self.run.write_history(self.state.history)
        for listener in self.listeners:
            listener(row)
        self.state.finished = self._reason_to_end(pl_module, row)
        if self.state.finished or self.interrupted.is_set():
            trainer.should_stop = True
        whole_round = self._batches == trainer.num_training_batches
        # Where Lightning goes on from a checkpoint that is written here, be the round whole or not.
        self.state.rounds = pl_module.current_epoch + 1
        due = self._is_best or self.state.rounds % self.save_interval == 0 or trainer.should_stop
        if self.state.finished or (whole_round and due):
            trainer.save_checkpoint(self.run.last_checkpoint)
            if self._is_best:
                self.keep_best(pl_module, step=row["step"])
        elif self._is_best:
            trainer.save_checkpoint(self.run.best_checkpoint)
            self.save_model(pl_module, row["epoch"], row["step"])

    def _epoch(self, task: SegmentationTask) -> int:
        """The epoch of the last batch."""
        return task.epoch_of(task.current_epoch, max(0, self._batches - 1))

    @property
    def out_of_patience(self) -> bool:
        """Whether too many validations in a row brought nothing better."""
        return self.patience is not None and self.state.evaluations_since_best >= self.patience

    def _reason_to_end(self, task: SegmentationTask, row: dict[str, Any]) -> str:
        if not math.isfinite(row["train_loss"]):
            return "the loss is no longer a finite number: lower optimizer.lr"
        if task.fraction >= 1:
            in_time = task.limits.steps is None or task.global_step < task.limits.steps
            return "the time given is used" if in_time else "all steps are done"
        if self.out_of_patience:
            return f"no better validation for {self.patience} evaluations"
        return ""

    def keep_best(self, task: SegmentationTask, *, step: int) -> None:
        """Make the weights of the last checkpoint, which `task` has, the best ones."""
        self.save_model(task, self.state.best_epoch, step)
        with atomic_path(self.run.best_checkpoint) as temporary:
            temporary.unlink()
            try:
                os.link(self.run.last_checkpoint, temporary)  # costs no space and no time
            except OSError:  # not every file system has links
                shutil.copyfile(self.run.last_checkpoint, temporary)

    @contextmanager
    def graceful_interrupt(self, console: Console) -> Iterator[None]:
        """End the training after the step at hand on a first Ctrl-C, at once on a second."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        owner = os.getpid()

        def handle(number: int, frame: FrameType | None) -> None:
            if os.getpid() != owner:  # a loading process, which inherits the handler
                return
            if self.interrupted.is_set():
                raise KeyboardInterrupt
            self.interrupted.set()
            console.print(
                "Ending after this step, then testing the best weights (Ctrl-C again: at once)."
            )

        before = signal.signal(signal.SIGINT, handle)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


def _ids(mask: torch.Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return mask.as_subclass(torch.Tensor).cpu().numpy()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class ProgressBar(Callback):
    """A line with the loss, the validation IoU, images a second and the time left.

    Where the output is no terminal, one line an evaluation instead.
    """

    def __init__(self, console: Console, recorder: Recorder) -> None:
        self.console = console
        self.recorder = recorder
        recorder.listeners.append(self.show_row)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%  {task.fields[figures]}"),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._iou = math.nan
        self._shown = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar."""
        for row in self.recorder.state.history:
            self._iou = row.get("validation_iou", self._iou)
        if self.console.is_terminal:
            self._task = self.bar.add_task("training", total=1.0, figures="")
            self.bar.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar, at most four times a second, as reading the loss waits for the device."""
        assert isinstance(pl_module, SegmentationTask)
        now = time.monotonic()
        if self._task is None or now - self._shown < 0.25:
            return
        self._shown = now
        fraction, seconds = pl_module.fraction, pl_module.tick()
        recorder = self.recorder
        speed = recorder._images / max(1e-9, recorder._training_seconds)
        left = seconds / fraction * (1 - fraction) if fraction > 0 else math.nan
        epoch = pl_module.epoch_of(pl_module.current_epoch, batch_idx)
        loss = float(outputs["loss"]) * trainer.accumulate_grad_batches
        figures = (
            f"epoch {epoch + 1}  loss {loss:.3f}  "
            f"IoU {'-' if math.isnan(self._iou) else f'{self._iou:.3f}'}  {speed:.1f} images/s  "
            f"{_duration(left) if math.isfinite(left) else '-'} left"
        )
        self.bar.update(self._task, completed=fraction, figures=figures)

    def show_row(self, row: dict[str, Any]) -> None:
        """One line for each validation: losses are of training / validation."""
        if "validation_iou" not in row:
            return
        self._iou = row["validation_iou"]
        self.console.print(
            f"epoch {row['epoch'] + 1:>3}  step {row['step']:>5}  "
            f"loss {row['train_loss']:.3f} / {row['validation_loss']:.3f}  "
            f"IoU {row['validation_iou']:.4f}  {row['images_per_second']:.0f} images/s  "
            f"{_duration(row['seconds'])}",
            highlight=False,
        )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar."""
        self.bar.stop()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Close the bar."""
        self.bar.stop()
