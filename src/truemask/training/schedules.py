"""Learning-rate schedules: pure functions of how far the training is."""

import math
from collections.abc import Callable
from dataclasses import dataclass

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


class WarmupCosine:
    """A linear rise, then half a cosine down.

    Loshchilov and Hutter, SGDR, ICLR 2017, equation 5, without restarts.

    Args:
        warmup: share of the training for the rise, 0 to below 1.
        floor: factor at the end, 0 to 1.
    """

    def __init__(self, *, warmup: float = 0.04, floor: float = 0.0) -> None:
        if not 0 <= warmup < 1:
            raise UsageError(f"warmup is a share of the training, 0 to below 1, got {warmup}")
        if not 0 <= floor <= 1:
            raise UsageError(f"floor is a factor from 0 to 1, got {floor}")
        self.warmup = warmup
        self.floor = floor

    def __call__(self, progress: Progress) -> float:
        """The factor."""
        if progress.fraction < self.warmup:
            # Not from 0: the first steps should already move the weights.
            return max(0.01, progress.fraction / self.warmup)
        rest = (min(progress.fraction, 1.0) - self.warmup) / (1 - self.warmup)
        return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * rest))
