"""What a training leaves in its run folder while it runs."""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from torch import Tensor

from truemask.errors import UsageError
from truemask.files import atomic_path
from truemask.images import ImageSpec, to_rgb
from truemask.labels import LabelMap
from truemask.models.segmenter import Segmenter
from truemask.runs import Run
from truemask.training.checkpoints import read_checkpoint, write_checkpoint
from truemask.training.state import State
from truemask.training.step import OptimizerStep
from truemask.training.validation import Prediction


class StopTraining(Exception):
    """Raised by a listener to end the training early; the best weights are tested as ever."""


Listener = Callable[[dict[str, Any]], None]
"""Called with each row of the history; may raise `StopTraining` with the reason."""

SaveModel = Callable[[Segmenter, int, int], None]
"""Called with a model, its epoch and its step, to make it the run's bundle."""


class Record:
    """Writes the history, the checkpoints, the best weights and the pictures of one run.

    Only the main process has one.

    Args:
        run: where to write.
        save_model: writes the bundle.
        listeners: see `Listener`.
    """

    def __init__(
        self, run: Run, *, save_model: SaveModel, listeners: Sequence[Listener] = ()
    ) -> None:
        self.run = run
        self.save_model = save_model
        self.listeners = list(listeners)

    @property
    def way_to_go_on(self) -> str:
        """The command that resumes the run."""
        return f"`truemask train resume={self.run.path}`"

    def add_row(self, state: State, row: dict[str, Any]) -> str:
        """Write a row; gives the reason for which a listener wants the training to end."""
        state.history.append(row)
        self.run.write_history(state.history)
        reason = ""
        for listener in self.listeners:
            try:
                listener(row)
            except StopTraining as wish:
                reason = str(wish) or "a listener ended it"
        return reason

    def save(self, state: State, step: Mapping[str, Any]) -> None:
        """Write the checkpoint to resume from, with the `state_dict` of the step."""
        write_checkpoint(self.run.last_checkpoint, {"state": asdict(state), "step": step})

    def keep_best(self, state: State, model: Segmenter) -> None:
        """Make the weights of the last checkpoint, which `model` has, the best ones.

        The checkpoint comes first: whatever a kill prevents after it is made up for on resuming.
        """
        self.save_model(model, state.best_epoch, state.best_step)
        with atomic_path(self.run.best_checkpoint) as temporary:
            temporary.unlink()
            try:
                os.link(self.run.last_checkpoint, temporary)  # costs no space and no time
            except OSError:  # not every file system has links
                shutil.copyfile(self.run.last_checkpoint, temporary)

    def draw(
        self, predictions: Sequence[Prediction], *, images: ImageSpec, step: int, labels: LabelMap
    ) -> None:
        """Keep what is predicted of a few images."""
        self.run.write_pictures(
            [(to_rgb(p.image, images), _ids(p.truth), _ids(p.ids)) for p in predictions],
            step=step,
            labels=labels,
        )


def restore(run: Run, step: OptimizerStep) -> State:
    """Take up the last checkpoint.

    Raises:
        UsageError: it is damaged, or none of this run.
    """
    content = read_checkpoint(run.last_checkpoint)
    try:
        state = State(**content["state"])
        step.load_state_dict(content["step"])
        step.skipped_in_a_row.fill_(state.skipped_in_a_row)
    except (KeyError, TypeError, IndexError, ValueError, AttributeError, RuntimeError) as error:
        raise UsageError(
            f"{run.last_checkpoint} is not a checkpoint of this run: train again"
        ) from error
    return state


def _ids(mask: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return mask.as_subclass(Tensor).cpu().numpy()
