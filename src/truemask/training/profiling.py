"""Where a training step's time goes, how much of the machine it uses, and what to change.

`Profiling` measures a window of steps after a warm-up, by the sections of a `StepClock`.
"""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from truemask.files import atomic_path, write_json
from truemask.models.segmenter import Segmenter
from truemask.training.advice import Settings, advise
from truemask.training.clock import StepClock
from truemask.training.peak import convolution_peak, count_flops
from truemask.training.step import OptimizerStep

Shape = tuple[int, int, int, int]

_TRACED_STEPS = 3


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Where the time of a step goes.

    Attributes:
        settings: of the training.
        steps: steps that were measured.
        seconds: of a step, the mean.
        sections: section -> seconds of a step; "other" is what no section covers.
        images_per_second: trained.
        flops: floating-point operations of a step, forward and backward; `None` where they could
            not be counted.
        peak: operations a second of the fastest convolution here, in the training's precision.
        share_of_peak: of `peak`, what the whole step reaches.
        advice: what to change, one sentence each.
    """

    settings: Settings
    steps: int
    seconds: float
    sections: dict[str, float]
    images_per_second: float
    flops: float | None
    peak: float
    share_of_peak: float | None
    advice: list[str]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def table(self) -> Table:
        """For the terminal."""
        table = Table("section", "ms a step", "share", title=f"{self.steps} steps", box=None)
        for column in table.columns[1:]:
            column.justify = "right"
        for name, seconds in self.sections.items():
            table.add_row(name, f"{seconds * 1e3:.1f}", f"{seconds / self.seconds:.1%}")
        speed = f"{self.images_per_second:.1f} images/s"
        table.add_row("step", f"{self.seconds * 1e3:.1f}", speed, style="bold")
        if self.flops is not None and self.share_of_peak is not None:
            reached = f"{self.flops / self.seconds / 1e9:.0f} of {self.peak / 1e9:.0f}"
            table.add_row("GFLOP/s of the peak", reached, f"{self.share_of_peak:.0%}")
        return table


class Profiling:
    """Measures some steps after a warm-up, writes and shows what came out, and is done.

    It is called after each step, the last time by `end`.

    Args:
        step: whose sections are measured.
        settings: of the training.
        folder: where `profile.json` is written, and `trace.json` with `trace`.
        console: where the table is shown.
        trace: whether a few more steps are recorded for a viewer of Chrome traces.
        warmup: steps before the measurement.
        steps: steps to measure at most.
        seconds: time to measure at most.
    """

    def __init__(
        self,
        step: OptimizerStep,
        *,
        settings: Settings,
        folder: Path,
        console: Console,
        trace: bool = False,
        warmup: int = 5,
        steps: int = 30,
        seconds: float = 20.0,
    ) -> None:
        self.step = step
        self.settings = settings
        self.folder = folder
        self.console = console
        self.limit = steps
        self.seconds = seconds
        self.profile: Profile | None = None
        self._waiting = warmup
        self._to_trace = _TRACED_STEPS if trace else 0
        self._clock = StepClock(step.device)
        self._untimed = step.section
        self._hook: RemovableHandle | None = None
        self._totals: dict[str, float] = {}
        self._durations: list[float] = []
        self._shapes: list[Shape] = []
        self._tracer: torch.profiler.profile | None = None

    def after_step(self) -> None:
        """Take in the step that has just ended."""
        if self._tracer is not None:
            self._to_trace -= 1
            if self._to_trace == 0:
                self._end_trace()
        elif self._hook is not None:
            seconds, sections = self._clock.end_step()
            self._durations.append(seconds)
            for name, part in sections.items():
                self._totals[name] = self._totals.get(name, 0.0) + part
            if len(self._durations) == self.limit or sum(self._durations) > self.seconds:
                self._report()
        elif self.profile is None and self._waiting <= 1:
            self._start()
        self._waiting -= 1

    def end(self) -> None:
        """Report on what there is, where the training was shorter than the measurement."""
        if self._tracer is not None:
            self._end_trace()
        elif self.profile is None and self._durations:
            self._report()
        elif self.profile is None:
            self.console.print("The training was too short to be profiled.")

    def _start(self) -> None:
        self.step.section = self._clock

        def note_shape(model: nn.Module, images: tuple[Tensor, ...]) -> None:
            if model.training:
                batch, channels, height, width = images[0].shape
                self._shapes.append((batch, channels, height, width))

        self._hook = self.step.model.register_forward_pre_hook(note_shape)

    def _report(self) -> None:
        self.step.section = self._untimed
        assert self._hook is not None
        self._hook.remove()
        self._hook = None
        self.profile = make_profile(
            self.step.model,
            settings=self.settings,
            device=self.step.device,
            durations=self._durations,
            totals=self._totals,
            shapes=self._shapes,
        )
        write_json(self.folder / "profile.json", self.profile.to_json())
        self.console.print(self.profile.table())
        for sentence in self.profile.advice:
            self.console.print(f"- {sentence}", highlight=False, markup=False)
        if self._to_trace > 0:
            # Else the recorder writes its own doings to the terminal.
            os.environ.setdefault("KINETO_LOG_LEVEL", "99")
            self._tracer = torch.profiler.profile()
            self._tracer.start()

    def _end_trace(self) -> None:
        assert self._tracer is not None
        self._tracer.stop()
        path = self.folder / "trace.json"
        with atomic_path(path) as temporary:
            self._tracer.export_chrome_trace(str(temporary))
        self._tracer = None
        self.console.print(
            f"Trace of {_TRACED_STEPS} steps: {path} (open it in https://ui.perfetto.dev)",
            highlight=False,
            markup=False,
        )


def make_profile(
    model: Segmenter,
    *,
    settings: Settings,
    device: torch.device,
    durations: list[float],
    totals: Mapping[str, float],
    shapes: list[Shape],
) -> Profile:
    """Figures and advice from what was measured.

    Args:
        model: what was trained.
        settings: of the training.
        device: where it was trained.
        durations: seconds of each step.
        totals: section -> seconds in all steps.
        shapes: (B, C, H, W) of the images of each forward pass, of all steps.
    """
    steps, seconds = len(durations), sum(durations) / len(durations)
    means = {name: total / steps for name, total in totals.items()}
    sections = dict(sorted(means.items(), key=lambda item: -item[1]))
    dtype = {"bf16": torch.bfloat16, 16: torch.float16, 32: torch.float32}[settings.precision]
    peak = convolution_peak(device, dtype)
    counts = {shape: model_flops(model, shape) for shape in set(shapes)}
    known = [count for count in counts.values() if count is not None]
    flops = None
    if len(known) == len(counts):
        flops = sum(counts[shape] or 0 for shape in shapes) / steps
    share = None if flops is None else flops / seconds / peak
    return Profile(
        settings=settings,
        steps=steps,
        seconds=seconds,
        sections=sections,
        images_per_second=sum(shape[0] for shape in shapes) / sum(durations),
        flops=flops,
        peak=peak,
        share_of_peak=share,
        advice=advise(settings, sections, share_of_peak=share),
    )


def model_flops(model: Segmenter, shape: Shape) -> int | None:
    """Operations of a forward and a backward pass of images of that shape (`count_flops`)."""
    network: Any = model.network
    height, width = model.size or shape[2:]
    return count_flops(
        model.network, (shape[0], model.images.channels, *network.input_size(height, width))
    )
