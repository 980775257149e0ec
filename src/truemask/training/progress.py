"""What the terminal shows of a training: a bar, or without a terminal a line a validation."""

import math
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from truemask.training.loop import Loop


class ProgressBar:
    """A line with the loss, the validation IoU, images a second and the time left.

    Where the output is no terminal, one line an evaluation instead.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
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

    def __enter__(self) -> "ProgressBar":
        if self.console.is_terminal:
            self._task = self.bar.add_task("training", total=1.0, figures="")
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def show_step(self, loop: Loop) -> None:
        """Move the bar, at most four times a second, as reading the loss waits for the device."""
        now = time.monotonic()
        if self._task is None or now - self._shown < 0.25:
            return
        self._shown = now
        state, fraction = loop.state, loop.fraction
        speed = state.images / max(1e-9, state.training_seconds)
        left = state.seconds / fraction * (1 - fraction) if fraction > 0 else math.nan
        figures = (
            f"epoch {loop.epoch + 1}  loss {float(loop.step.value):.3f}  "
            f"IoU {'-' if math.isnan(self._iou) else f'{self._iou:.3f}'}  {speed:.1f} images/s  "
            f"{_duration(left) if math.isfinite(left) else '-'} left"
        )
        self.bar.update(self._task, completed=fraction, figures=figures)

    def show_row(self, row: dict[str, Any]) -> None:
        """One line for each validation: losses are of training / validation."""
        if row["skipped_steps"]:
            self.console.print(
                f"Up to step {row['step']}, {row['skipped_steps']} steps changed nothing, as their "
                "gradient was not a finite number.",
                highlight=False,
            )
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


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
