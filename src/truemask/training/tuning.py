"""Which precision, memory order, compilation and number of threads are fastest here: measured.

Without it a rule decides (`rule`), which docs/performance.md justifies. What is measured is a
forward and a backward pass on a copy of the model with random images of the training's shape; the
optimiser, whose time does not depend on the choice, is left out.
"""

import copy
import logging
import os
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from types import FrameType
from typing import Any, Literal

import torch
from jaxtyping import Shaped, UInt8
from torch import Tensor, nn

from truemask.labels import LabelMap
from truemask.models.segmenter import Segmenter
from truemask.training.hardware import choose_precision, uses_gpu
from truemask.training.peak import seconds_of
from truemask.training.settings import TrainerSettings

GAIN = 1.03
"""How many times as fast a setting must be to replace the one before: less is noise."""

_PAIRS = 5
"""Comparisons of a way with the best before it, of which the median counts."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """How the steps of a training are computed.

    Attributes:
        precision: as `trainer.precision`.
        channels_last: whether weights and images lie in memory with the channels last.
        compile: whether PyTorch compiles the network; "reduce-overhead" uses CUDA graphs besides.
        threads: that compute on the CPU.
    """

    precision: Literal["bf16", 16, 32]
    channels_last: bool
    compile: bool | Literal["reduce-overhead"]
    threads: int

    def __str__(self) -> str:
        bits = "bfloat16" if self.precision == "bf16" else f"{self.precision} bits"
        order = "channels last" if self.channels_last else "channels first"
        names: dict[bool | str, str] = {False: "not compiled", True: "compiled"}
        compiled = names.get(self.compile, "CUDA graphs")
        plural = "" if self.threads == 1 else "s"
        return f"{bits}, {order}, {compiled}, {self.threads} thread{plural}"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One way that was tried.

    Attributes:
        choice: the way.
        seconds: of a forward and a backward pass, the median; `None` where it failed.
        speedup: how many times as fast it was as the best before it, measured in turn.
        failure: why there is no figure.
    """

    choice: Choice
    seconds: float | None = None
    speedup: float | None = None
    failure: str = ""


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What was chosen, and what was measured for it.

    Attributes:
        choice: the fastest.
        speedup: how many times as fast it is as what the rule says.
        trials: all ways in the order in which they were tried, first the rule's.
        seconds: that the measuring took.
    """

    choice: Choice
    speedup: float
    trials: list[Trial]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @property
    def note(self) -> str:
        """One sentence: what was chosen and what that brings."""
        measured = sum(trial.seconds is not None for trial in self.trials)
        gain = f"the fastest of {measured} ways, as without tuning"
        if self.choice != self.trials[0].choice:
            gain = f"{self.speedup:.2f} times as fast as {self.trials[0].choice}"
        return f"Tuned in {self.seconds:.0f} s: {self.choice}; {gain}."


def rule(accelerator: str) -> Choice:
    """What is chosen without measuring.

    Args:
        accelerator: as `trainer.accelerator`.
    """
    return Choice(
        precision=choose_precision(TrainerSettings(), gpu=uses_gpu(accelerator)),
        channels_last=True,
        compile=False,
        threads=torch.get_num_threads(),
    )


def tune(
    model: Segmenter,
    loss: nn.Module,
    labels: LabelMap,
    *,
    batch_size: int,
    crop: tuple[int, int],
    accelerator: str,
    seconds: float = 20.0,
) -> Tuning:
    """Measure the ways to compute a step, one setting after the other, and choose the fastest.

    The model, the random numbers and the number of threads stay as they are.

    Args:
        model: the one to train.
        loss: of the training.
        labels: its classes.
        batch_size: images a forward pass.
        crop: height and width of the images that it is given.
        accelerator: as `trainer.accelerator`.
        seconds: time to measure in; the rule's way is measured in any case.
    """
    start = time.perf_counter()
    threads = torch.get_num_threads()
    first = rule(accelerator)
    device = torch.device("cuda" if uses_gpu(accelerator) else "cpu")
    images, masks = _random_batch(model, labels, batch_size, crop)
    batch = images.to(device), masks.to(device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            best = _Way(first, model, loss, batch)
            best.seconds()  # prepares
            took = best.seconds()
            trials, speedup = [Trial(choice=first, seconds=took, speedup=1.0)], 1.0
            for change in _changes(first, device):
                left = start + seconds - time.perf_counter()
                way = _Way(replace(best.choice, **change), model, loss, batch)
                trial = _try(way, best, took=took, left=left)
                trials.append(trial)
                if trial.speedup is not None and trial.speedup > GAIN:
                    best, speedup = way, speedup * trial.speedup
        finally:
            torch.set_num_threads(threads)
    return Tuning(
        choice=best.choice, speedup=speedup, trials=trials, seconds=time.perf_counter() - start
    )


def _random_batch(
    model: Segmenter, labels: LabelMap, batch_size: int, size: tuple[int, int]
) -> tuple[Shaped[Tensor, "B C H W"], UInt8[Tensor, "B H W"]]:
    spec, generator = model.images, torch.Generator().manual_seed(0)
    uniform = torch.rand(batch_size, spec.channels, *size, generator=generator)
    images = (spec.low + uniform * (spec.high - spec.low)).to(spec.torch_dtype)
    masks = torch.randint(
        labels.num_classes, (batch_size, *size), dtype=torch.uint8, generator=generator
    )
    return images, masks


def _changes(first: Choice, device: torch.device) -> list[dict[str, Any]]:
    """What to try, one after the other, each on top of the best before it."""
    changes: list[dict[str, Any]] = []
    if first.precision != 32:
        changes.append({"precision": 32})
    changes.append({"channels_last": not first.channels_last})
    if device.type == "cuda":
        return [*changes, {"compile": True}, {"compile": "reduce-overhead"}]
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    counts = {first.threads // 2, processors} - {0, first.threads}
    # Compiling comes last, as it may take all the time that is left.
    return [*changes, *({"threads": count} for count in sorted(counts)), {"compile": True}]


class _Way:
    """A copy of the model, computed as a choice says."""

    def __init__(
        self, choice: Choice, model: Segmenter, loss: nn.Module, batch: tuple[Tensor, Tensor]
    ) -> None:
        self.choice = choice
        self.model = model
        self.loss = loss
        self.batch = batch
        self._step: Callable[[], None] | None = None

    def seconds(self) -> float:
        """Of a forward and a backward pass; the first one prepares."""
        torch.set_num_threads(self.choice.threads)
        if self._step is None:
            self._step = self._prepare()
        return seconds_of(self._step, self.batch[0].device)

    def _prepare(self) -> Callable[[], None]:
        images, masks = self.batch
        order = torch.channels_last if self.choice.channels_last else torch.contiguous_format
        model = copy.deepcopy(self.model).to(images.device).to(memory_format=order).train()
        model.channels_last = self.choice.channels_last
        loss = copy.deepcopy(self.loss).to(images.device)
        if self.choice.compile:
            mode = None if self.choice.compile is True else self.choice.compile
            model.network.compile(mode=mode)
        dtype = {"bf16": torch.bfloat16, 16: torch.float16}.get(self.choice.precision)

        def step() -> None:
            with torch.autocast(images.device.type, dtype, enabled=dtype is not None):
                logits = model(images)
            loss(logits, masks).backward()
            model.zero_grad()

        return step


def _try(way: _Way, best: _Way, *, took: float, left: float) -> Trial:
    """Compare with the best so far, in turn, so that a machine's drift meets both."""
    end = time.perf_counter() + left
    if left < 6 * took:  # preparing takes a pass or two, comparing at least four
        return Trial(choice=way.choice, failure="no time was left for it")
    try:
        with _at_most(left), _quiet_compiler():
            way.seconds()
            pairs = [(way.seconds(), best.seconds())]
            while len(pairs) < _PAIRS and time.perf_counter() + sum(pairs[-1]) < end:
                pairs.append((way.seconds(), best.seconds()))
    except _TooLong:
        return Trial(choice=way.choice, failure=f"took more than the {left:.0f} s that were left")
    except Exception as error:  # a compiler may fail in any way, and memory may not suffice
        return Trial(choice=way.choice, failure=str(error).partition("\n")[0] or repr(error))
    return Trial(
        choice=way.choice,
        seconds=statistics.median(mine for mine, _ in pairs),
        speedup=statistics.median(other / mine for mine, other in pairs),
    )


class _TooLong(BaseException):
    """No `Exception`, so that a compiler does not take it for a failure of its own."""


@contextmanager
def _quiet_compiler() -> Iterator[None]:
    """Without its warning that there is no CUDA, which is no news."""
    logger = logging.getLogger("torch.utils.cpp_extension")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Raise `_TooLong` inside once the time is over, where the system can."""
    main = threading.current_thread() is threading.main_thread()
    if not main or not hasattr(signal, "setitimer"):
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise _TooLong

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
