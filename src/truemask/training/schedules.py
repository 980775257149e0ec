"""Learning-rate schedules: pure functions of how far the training is."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from truemask.errors import UsageError


@dataclass(frozen=True)
class Progress:
    """How far a training is.

    Attributes:
        step: optimiser steps done.
        epoch: epochs begun before this one.
        fraction: share of the training that is done, 0 to 1, by whichever limit (epochs, steps,
            time) comes first.
    """

    step: int
    epoch: int
    fraction: float


Schedule = Callable[[Progress], float]
"""From progress to a factor on each parameter group's own learning rate."""


class Constant:
    """The learning rate as given, throughout."""

    def __call__(self, progress: Progress) -> float:
        """1."""
        return 1.0


class StepDecay:
    """A factor of `gamma` after every `step_size` epochs, as torch's `StepLR`.

    Args:
        step_size: epochs between two drops.
        gamma: what a drop multiplies the learning rate by, above 0 to 1.
    """

    def __init__(self, *, step_size: int = 10, gamma: float = 0.1) -> None:
        if step_size < 1:
            raise UsageError(f"step_size is a number of epochs from 1 on, got {step_size}")
        if not 0 < gamma <= 1:
            raise UsageError(f"gamma is a factor above 0 and at most 1, got {gamma}")
        self.step_size = step_size
        self.gamma = gamma

    def __call__(self, progress: Progress) -> float:
        """The factor."""
        return float(self.gamma ** (progress.epoch // self.step_size))


class WarmupCosine:
    """A linear rise, then half a cosine down.

    Loshchilov and Hutter, SGDR, ICLR 2017, equation 5, without restarts.

    Args:
        warmup: share of the training for the rise, 0 to below 1.
        floor: factor at the end, 0 to 1.
    """

    def __init__(self, *, warmup: float = 0.04, floor: float = 0.0) -> None:
        _require_warmup(warmup)
        _require_floor(floor)
        self.warmup = warmup
        self.floor = floor

    def __call__(self, progress: Progress) -> float:
        """The factor."""
        if progress.fraction < self.warmup:
            return _rise(progress.fraction / self.warmup)
        return _between(1.0, self.floor, _rest(progress, self.warmup), anneal="cos")


class Polynomial:
    """A linear rise if asked for, then a power of what is left of the training, down to 0.

    The "poly" policy of Chen et al., DeepLab (2016, https://arxiv.org/abs/1606.00915),
    section 4.1.2, where its power is 0.9.

    Args:
        power: above 0; 1 is a straight line.
        warmup: share of the training for the rise, 0 to below 1.
    """

    def __init__(self, *, power: float = 0.9, warmup: float = 0.0) -> None:
        if not 0 < power < math.inf:
            raise UsageError(f"power is a number above 0, got {power}")
        _require_warmup(warmup)
        self.power = power
        self.warmup = warmup

    def __call__(self, progress: Progress) -> float:
        """The factor."""
        if progress.fraction < self.warmup:
            return _rise(progress.fraction / self.warmup)
        return float((1 - _rest(progress, self.warmup)) ** self.power)


class OneCycle:
    """Up to the learning rate as given, then down to next to nothing: torch's `OneCycleLR`.

    Smith and Topin, "Super-Convergence" (2017, https://arxiv.org/abs/1708.07120). The optimiser's
    learning rate is what torch calls `max_lr`. The peak is reached at the share `pct_start` of the
    training and the lowest value at its end, both without torch's shift by one step. The momentum
    stays as the optimiser has it: torch's `cycle_momentum` and `three_phase` do not exist here.

    Args:
        pct_start: share of the training for the rise, between 0 and 1.
        anneal: "cos" rises and falls along half a cosine, "linear" along a straight line.
        div_factor: the learning rate starts at this part of the peak, from 1.
        final_div_factor: and ends at this part of where it started, from 1.
    """

    def __init__(
        self,
        *,
        pct_start: float = 0.3,
        anneal: Literal["cos", "linear"] = "cos",
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
    ) -> None:
        if not 0 < pct_start < 1:
            raise UsageError(f"pct_start is a share of the training between 0 and 1: {pct_start}")
        if anneal not in ("cos", "linear"):
            raise UsageError(f"anneal is {anneal!r}; allowed are cos, linear")
        for name, value in (("div_factor", div_factor), ("final_div_factor", final_div_factor)):
            if not 1 <= value < math.inf:
                raise UsageError(f"{name} is a number from 1 on, got {value}")
        self.pct_start = pct_start
        self.anneal = anneal
        self.start = 1 / div_factor
        self.end = self.start / final_div_factor

    def __call__(self, progress: Progress) -> float:
        """The factor."""
        if progress.fraction < self.pct_start:
            done = progress.fraction / self.pct_start
            return _between(self.start, 1.0, done, anneal=self.anneal)
        return _between(1.0, self.end, _rest(progress, self.pct_start), anneal=self.anneal)


class WarmupInverseSqrt:
    """A quadratic rise over a number of steps, then an inverse square root down.

    With n optimiser steps done and w = `warmup_steps`, the factor is ((n + 1) / (w + 1))^2 up to
    n = w, where it is 1, and after that 1 / sqrt(1 + `decay_factor` (n - w) / w). A `decay_factor`
    of 1 makes that sqrt(w / n), the decay of Vaswani et al., "Attention Is All You Need" (2017,
    https://arxiv.org/abs/1706.03762), equation 3. Only steps count, so that a longer training has
    the same beginning.

    Args:
        warmup_steps: optimiser steps of the rise; 0 starts at the full learning rate and decays as
            after a rise of one step.
        decay_factor: how fast it falls; 0 stays at the full learning rate.
        floor: the lowest factor, during the rise too, 0 to 1: a smallest learning rate is
            `floor` times the optimiser's.
    """

    def __init__(
        self, *, warmup_steps: int = 1000, decay_factor: float = 1.0, floor: float = 0.0
    ) -> None:
        if warmup_steps < 0:
            raise UsageError(f"warmup_steps is a number of steps from 0 on, got {warmup_steps}")
        if not 0 <= decay_factor < math.inf:
            raise UsageError(f"decay_factor is a number from 0 on, got {decay_factor}")
        _require_floor(floor)
        self.warmup_steps = warmup_steps
        self.decay_factor = decay_factor
        self.floor = floor

    def __call__(self, progress: Progress) -> float:
        """The factor."""
        beyond = progress.step - self.warmup_steps
        if beyond < 0:
            # One step ahead, so that the first step moves the weights.
            factor = ((progress.step + 1) / (self.warmup_steps + 1)) ** 2
        else:
            factor = (1 + self.decay_factor * beyond / max(1, self.warmup_steps)) ** -0.5
        return max(self.floor, factor)


def _require_warmup(warmup: float) -> None:
    if not 0 <= warmup < 1:
        raise UsageError(f"warmup is a share of the training, 0 to below 1, got {warmup}")


def _require_floor(floor: float) -> None:
    if not 0 <= floor <= 1:
        raise UsageError(f"floor is a factor from 0 to 1, got {floor}")


def _rise(done: float) -> float:
    """A linear rise, not from 0: the first steps should already move the weights."""
    return max(0.01, done)


def _rest(progress: Progress, warmup: float) -> float:
    """Share that is done of what follows the warm-up, 0 to 1."""
    return (min(progress.fraction, 1.0) - warmup) / (1 - warmup)


def _between(start: float, end: float, done: float, *, anneal: Literal["cos", "linear"]) -> float:
    """The factor at a share `done` of the way from `start` to `end`."""
    left = 0.5 * (1 + math.cos(math.pi * done)) if anneal == "cos" else 1 - done
    return end + (start - end) * left
