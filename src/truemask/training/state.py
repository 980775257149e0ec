"""What a training knows of its past: it travels in the checkpoint, as plain values."""

import math
from dataclasses import dataclass, field
from typing import Any


@dataclass
class State:
    """Where a training is.

    Attributes:
        history: the rows of `history.csv`.
        best_score: the monitored score of the best weights, higher is better.
        best_epoch: their epoch.
        best_step: the optimiser steps behind them.
        round: the round at hand, from one possible validation to the next.
        done: steps of it that are done.
        step: optimiser steps in all, those included that were skipped.
        validations_since_best: validations that brought nothing better.
        seconds: time for training and validation.
        loss_sum: of the losses since the last row, those of skipped steps left out.
        steps: steps since the last row.
        images: samples since the last row.
        training_seconds: time since the last row, validation left out.
        skipped: steps since the last row that changed nothing, as their gradient was not finite.
        skipped_in_a_row: such steps up to the last one.
        finished: why the training is over, or empty.
    """

    history: list[dict[str, Any]] = field(default_factory=list)
    best_score: float = -math.inf
    best_epoch: int = -1
    best_step: int = -1
    round: int = 0
    done: int = 0
    step: int = 0
    validations_since_best: int = 0
    seconds: float = 0.0
    loss_sum: float = 0.0
    steps: int = 0
    images: int = 0
    training_seconds: float = 0.0
    skipped: int = 0
    skipped_in_a_row: int = 0
    finished: str = ""

    def begin_row(self) -> None:
        """Forget what the last row of the history tells."""
        self.loss_sum, self.training_seconds = 0.0, 0.0
        self.steps = self.images = self.skipped = 0

    @property
    def train_loss(self) -> float:
        """The mean loss since the last row; not a number where every step was skipped."""
        counted = self.steps - self.skipped
        return self.loss_sum / counted if counted else math.nan
