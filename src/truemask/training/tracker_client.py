"""What a tracker is asked for, whichever library answers.

The clients run in a process of their own (`tracker_process`), so that these files know neither
torch nor the rest of a training; each takes the settings of its tracker, and imports its library
when it is opened. The libraries' own clients are used rather than Lightning's loggers, which log
from the training's process and let a failed call end it.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

Status = Literal["finished", "failed", "stopped"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """The run that is tracked.

    Attributes:
        experiment: its experiment.
        name: of the run in it.
        folder: the run folder.
        runs: the folder of all runs.
        parameters: flat settings.
        pid: the training's process.
        known: what `Place.id` was, where the run goes on.
    """

    experiment: str
    name: str
    folder: str
    runs: str
    parameters: dict[str, Any]
    pid: int
    known: str | None = None


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a tracker put the run.

    Attributes:
        id: by which it is found again.
        hint: how to look at it.
        problem: what is not as it was asked for, or empty.
        rescue: where the rest is, if the end cannot be delivered.
    """

    id: str
    hint: str
    problem: str = ""
    rescue: str = "the run folder has everything"


class Client(Protocol):
    """What a tracker is asked for: `open` first, `close` last."""

    def where(self, job: Job) -> str:
        """The store; a run goes on only where it is the same."""

    def open(self, job: Job) -> Place:
        """Begin, or go on with `job.known`."""

    def row(self, values: Mapping[str, float], *, step: int, time: float) -> None:
        """A row of the history, made `time` seconds after 1970."""

    def results(self, values: Mapping[str, float], *, step: int, time: float) -> None:
        """The final scores."""

    def picture(self, path: Path, *, name: str, step: int) -> None:
        """A PNG file."""

    def file(self, path: Path) -> None:
        """A file of the run."""

    def close(self, status: Status) -> None:
        """The end; all is delivered when it returns."""


def set_defaults(**variables: str) -> None:
    """Set environment variables that the user has not set."""
    for name, value in variables.items():
        os.environ.setdefault(name, value)
