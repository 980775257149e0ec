"""The training loop: steps in rounds, a validation after some of them, and how it all ends."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.utils.data import DataLoader

from truemask.data.batches import EpochBatches
from truemask.data.collate import Batch
from truemask.errors import JobFailed, UsageError
from truemask.labels import LabelMap
from truemask.training.interruption import Interruption
from truemask.training.limits import Limits
from truemask.training.processes import Ballot, Place
from truemask.training.record import Record
from truemask.training.schedules import Progress
from truemask.training.state import State
from truemask.training.step import OptimizerStep
from truemask.training.validation import Validation, validate

_SAVE_SECONDS = 600.0
"""A long round is saved in between, so that a machine that fails takes little with it."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """When what happens.

    Attributes:
        limits: when the training is over.
        eval_interval: rounds between validations.
        save_interval: rounds between checkpoints to resume from.
        monitor: what the best weights are best at.
        patience: validations without a better score before the training stops, or `None`.
        max_skipped: steps in a row without a finite gradient before it stops.
        pictures: validation images whose prediction is kept.
    """

    limits: Limits
    eval_interval: int
    save_interval: int
    monitor: str
    patience: int | None
    max_skipped: int
    pictures: int = 0


class _Ending(Exception):
    """The process was asked to end."""


class Loop:
    """Trains until a limit is reached, nothing gets better, or somebody asks for the end.

    Args:
        step: the model and how a step changes it.
        state: where the training is; it is kept up to date.
        plan: when what happens.
        batches: which samples make which step.
        training: lists of batches, one list a step.
        validation: this process's validation images.
        loss: for validation.
        labels: classes.
        place: which process this is.
        record: the run folder; `None` in all processes but the main one.
        interruption: what was asked for.
        watch: called after each step in the main process.
        judge: called with each validation there.
    """

    def __init__(
        self,
        *,
        step: OptimizerStep,
        state: State,
        plan: Plan,
        batches: EpochBatches,
        training: DataLoader[Any],
        validation: DataLoader[Any],
        loss: nn.Module,
        labels: LabelMap,
        place: Place,
        record: Record | None,
        interruption: Interruption,
        watch: Callable[["Loop"], None] = lambda loop: None,
        judge: Callable[[Validation], None] = lambda validation: None,
    ) -> None:
        self.step = step
        self.state = state
        self.plan = plan
        self.batches = batches
        self.training = training
        self.validation = validation
        self.loss = loss
        self.labels = labels
        self.place = place
        self.record = record
        self.interruption = interruption
        self.watch = watch
        self.judge = judge
        self.ballot = Ballot(place, step.device)
        self._clock = self._saved = time.monotonic()
        self._between_steps = True
        self._told_seconds = state.seconds

    @property
    def fraction(self) -> float:
        """Share of the training that is done, the same in every process."""
        return self.plan.limits.fraction(step=self.state.step, seconds=self._told_seconds)

    @property
    def epoch(self) -> int:
        """The epoch of the last step."""
        return self.batches.epoch_of(self.state.round, max(0, self.state.done - 1))

    def run(self) -> None:
        """Train to the end, or until Ctrl-C; what is asked for then stands in `interruption`.

        Raises:
            JobFailed: a signal ended it, or a loading process was killed; everything is saved.
            UsageError: a sample cannot be read; everything is saved.
        """
        self._clock = time.monotonic()
        try:
            with self.interruption.deferred():
                while not self.state.finished and not self.interruption.stop:
                    self._round()
                if not self.state.finished:
                    self._save()
        except _Ending as error:
            self._save()
            raise self._ended(f"by {self.interruption.ending}") from error
        except UsageError:
            self._save_where_it_stands()
            raise
        except RuntimeError as error:
            if not str(error).startswith("DataLoader worker"):
                raise
            self._save_where_it_stands()
            # A signal to the whole group may end the loading processes too.
            by = self.interruption.ending and f"by {self.interruption.ending}"
            raise self._ended(by or "as a loading process was killed") from error

    def validate_now(self) -> Validation:
        """Validate the kept weights."""
        return validate(
            self.step.kept,
            self.validation,
            loss=self.loss,
            labels=self.labels,
            place=self.place,
            autocast=self.step.autocast,
            pictures=self.plan.pictures,
            check=self._end_validation,
        )

    def validate_best(self) -> None:
        """Validate out of turn, and take the weights for the best where none were before."""
        self._is_best(self.validate_now())

    def keep_best(self) -> None:
        """Make the weights of the last checkpoint, which the step has, the best ones."""
        model = self.step.kept  # in all processes
        if self.record is not None:
            self.record.keep_best(self.state, model)

    def _round(self) -> None:
        state = self.state
        self.batches.go_to(state.round, state.done)
        if state.done < self.batches.round_steps:
            self._steps()
        over = self.fraction >= 1 or self._stuck()
        if state.done < self.batches.round_steps and not over:
            return  # by Ctrl-C
        validation = None
        if over or (state.round + 1) % self.plan.eval_interval == 0:
            validation = self.validate_now()
        self._end_round(validation)

    def _steps(self) -> None:
        before = time.monotonic()
        batches = iter(self.training)
        while True:
            with self.step.section("data"):
                step = next(batches, None)
            if step is None:
                return
            self._between_steps = False
            self._step(step)
            now = time.monotonic()
            self.state.training_seconds += now - before
            before = now
            self._between_steps = True
            if self.record is not None:
                self.watch(self)
            if self._must_stop() or self.fraction >= 1:
                return

    def _step(self, batches: Sequence[Batch]) -> None:
        state = self.state
        self.step.take(batches, Progress(state.step, self._epoch_at_hand(), self.fraction))
        state.step += 1
        state.done += 1
        state.steps += 1
        state.images += self.batches.batch_size * self.batches.accumulate
        self._tick()

    def _epoch_at_hand(self) -> int:
        return self.batches.epoch_of(self.state.round, self.state.done)

    def _must_stop(self) -> bool:
        """Whether to leave the steps; every process comes to the same answer."""
        main, asked = self.place.is_main, self.interruption
        save = main and time.monotonic() - self._saved > _SAVE_SECONDS
        seconds = self.state.seconds if main else 0.0
        told = [float(bool(asked.ending)), float(asked.stop), float(save), seconds]
        ending, stop, save_now, seconds = self.ballot.cast(told)
        if ending:
            asked.ending = asked.ending or "a signal to another process"
            raise _Ending
        asked.stop = stop > 0
        self._told_seconds = max(self._told_seconds, seconds)
        if not main:
            self.state.seconds = self._told_seconds
        if save_now:
            self._save()
        return asked.stop or self._stuck()

    def _stuck(self) -> bool:
        """Whether too many steps in a row changed nothing; asked now and then, as it waits."""
        if self.state.step % self.plan.max_skipped != 0 and self.step.device.type == "cuda":
            return False
        return int(self.step.skipped_in_a_row) >= self.plan.max_skipped

    def _end_validation(self) -> None:
        # Of several processes one must not leave the others alone with what they add up.
        if self.interruption.ending and self.place.processes == 1:
            raise _Ending

    def _end_round(self, validation: Validation | None) -> None:
        """Write the row, decide about the end, write the checkpoints and the best weights."""
        state = self.state
        is_best = validation is not None and self._is_best(validation)
        row = self._row(validation)
        whole = state.done == self.batches.round_steps
        wish = ""
        if self.record is not None:
            wish = self.record.add_row(state, row)
            if validation is not None:
                self.judge(validation)
            if validation is not None and validation.predictions:
                images = self.step.model.images
                self.record.draw(
                    validation.predictions, images=images, step=state.step, labels=self.labels
                )
        else:
            state.history.append(row)
        state.finished = self.place.share(wish) or self._reason_to_end(row)
        state.begin_row()
        if whole:
            state.round, state.done = state.round + 1, 0
        due = is_best or state.round % self.plan.save_interval == 0 or state.finished
        if due or self.interruption.stop:
            self._save()
        if is_best:
            self.keep_best()

    def _is_best(self, validation: Validation) -> bool:
        state = self.state
        sign = -1 if self.plan.monitor == "validation_loss" else 1
        score = sign * validation.figures()[self.plan.monitor]
        state.validations_since_best += 1
        if not (score > state.best_score or state.best_epoch < 0):
            return False
        state.best_score = score if math.isfinite(score) else -math.inf
        state.best_epoch, state.best_step = self.epoch, state.step
        state.validations_since_best = 0
        return True

    def _row(self, validation: Validation | None) -> dict[str, Any]:
        state = self.state
        self._read_sums()
        self._tick()
        return {
            "epoch": self.epoch,
            "step": state.step,
            "learning_rate": self.step.optimizer.param_groups[0]["lr"],
            "train_loss": state.train_loss,
            **({} if validation is None else validation.figures()),
            "images_per_second": state.images / max(1e-9, state.training_seconds),
            "seconds": state.seconds,
            "skipped_steps": state.skipped,
        }

    def _read_sums(self) -> None:
        """Bring what was added up on the device since the last time into the state."""
        state, step = self.state, self.step
        loss, skipped = step.read_sums()
        state.loss_sum += loss
        state.skipped += skipped
        state.skipped_in_a_row = int(step.skipped_in_a_row)

    def _reason_to_end(self, row: dict[str, Any]) -> str:
        state, limits = self.state, self.plan.limits
        if self._stuck_for_good(row):
            return "the loss is no longer a finite number: lower optimizer.lr"
        if self.fraction >= 1:
            in_time = limits.steps is None or state.step < limits.steps
            return "the time given is used" if in_time else "all steps are done"
        if self.out_of_patience:
            return f"no better validation for {self.plan.patience} evaluations"
        return ""

    def _stuck_for_good(self, row: dict[str, Any]) -> bool:
        many = self.state.skipped_in_a_row >= self.plan.max_skipped
        return many or not math.isfinite(row["train_loss"])

    @property
    def out_of_patience(self) -> bool:
        """Whether too many validations in a row brought nothing better."""
        patience = self.plan.patience
        return patience is not None and self.state.validations_since_best >= patience

    def _tick(self) -> None:
        """Add the time since the last tick; of several processes the main one's clock counts."""
        now = time.monotonic()
        if self.place.is_main:
            self.state.seconds += now - self._clock
        if self.place.processes == 1:
            self._told_seconds = self.state.seconds
        self._clock = now

    def _save(self) -> None:
        self._read_sums()
        self._tick()
        self._saved = time.monotonic()
        content = self.step.state_dict()  # in all processes
        if self.record is not None:
            self.record.save(self.state, content)

    def _save_where_it_stands(self) -> None:
        """Save, unless a step was under way, whose half must not be kept."""
        if self._between_steps and self.place.processes == 1:
            self._save()

    def _ended(self, how: str) -> JobFailed:
        where = "" if self.record is None else f"; go on with {self.record.way_to_go_on}"
        return JobFailed(f"ended {how}{where}")
