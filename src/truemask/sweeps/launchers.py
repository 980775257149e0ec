"""What a launcher is: it runs a sweep's jobs somewhere, each in a process of its own.

A job is a folder that every machine of the sweep sees:

    jobs/<number>/
      job.json        its words, the settings that the sweep varies, its whole configuration
      started.json    where it runs, written by the job itself when it starts
      outcome.json    how it ended, written by the job itself, or for it where it was killed
      log.txt         what it printed
      <experiment>/<date-time>/   its run

`python -m truemask.sweeps.job FOLDER` runs it: it goes on with the folder's run where that has a
checkpoint, leaves `outcome.json`, and exits with 0 if it is done and 2 if it failed. On SIGTERM it
saves a checkpoint, leaves an outcome that says "interrupted", and exits with 1.

A launcher is a module with two names, `Settings` and `launch`:

    @dataclass(frozen=True, kw_only=True)
    class Settings:                      # what `hydra.launcher.KEY=VALUE` may set
        jobs: int = 1                    # jobs that run at once

    def launch(
        jobs: Iterator[Job], settings: Settings, *, console: Console, stop: threading.Event
    ) -> Iterator[Outcome]: ...

`launch` takes a job from `jobs` when it has a place for it and not before, since the next one may
depend on how the last ones ended, and starts it. It yields the outcome of each as soon as it has
ended (`ended`), in any order, and never raises because a job failed. Once `stop` is set, it takes
no more, sends those that run a SIGTERM, waits until they have saved (it may kill them after a grace
time), yields their outcomes and returns. Where the generator is closed or raises, it ends all that
it started. A mistake in the settings, a missing program or library is a `UsageError`, before the
first job is taken. A launcher may keep files of its own in a job's folder, to find again what still
runs there when the sweep is resumed.
"""

import importlib
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from rich.console import Console

from truemask.build import check_settings, nearest
from truemask.errors import UsageError
from truemask.files import make_folder, write_json
from truemask.runs import Run, list_runs
from truemask.untrusted import naming, read_object

LAUNCHERS = ("local", "slurm", "ray")

SENSITIVE = {"slurm": ("setup", "additional_parameters"), "ray": ("address",)}
"""Settings that run what they say, or connect to it: they are not taken from a sweep's file, which
anybody may have written."""

State = Literal["done", "failed", "interrupted"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training of a sweep.

    Attributes:
        folder: where everything of it is; its name is the job's number.
        words: its overrides, such as "optimizer.lr=0.1", without those of the sweep itself.
        settings: key -> value of those settings that the sweep varies.
        config: the whole configuration, checked.
        trial: its number in the Optuna study, which lies in the sweep's folder.
        prune: whether the study may end it early.
    """

    folder: Path
    words: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any]
    trial: int | None = None
    prune: bool = False

    @property
    def number(self) -> int:
        """Counted from 0."""
        return int(self.folder.name)

    @property
    def log(self) -> Path:
        """Where a launcher appends what the job prints."""
        return self.folder / "log.txt"

    @property
    def command(self) -> list[str]:
        """What runs it, in this interpreter."""
        return [sys.executable, "-m", "truemask.sweeps.job", str(self.folder.resolve())]

    @property
    def started(self) -> bool:
        """Whether its process has begun."""
        return (self.folder / "started.json").exists()

    @property
    def run(self) -> Run | None:
        """Its newest run; `None` before it has one."""
        return next(iter(list_runs(self.folder)), None)

    @property
    def outcome(self) -> "Outcome | None":
        """How it ended; `None` where it has not."""
        file = self.folder / "outcome.json"
        if not file.exists():
            return None
        with naming(file):
            return Outcome(**read_object(file))

    def write(self) -> None:
        """Make the folder and write `job.json`."""
        make_folder(self.folder)
        value = {key: item for key, item in asdict(self).items() if key != "folder"}
        write_json(self.folder / "job.json", value)

    @classmethod
    def read(cls, folder: Path) -> "Job":
        """The job of a folder.

        Raises:
            UsageError: it holds none.
        """
        with naming(folder / "job.json"):
            return cls(folder=folder, **read_object(folder / "job.json"))

    def forget(self) -> None:
        """Take back what an earlier try said of its end; its run stays."""
        for name in ("started.json", "outcome.json"):
            (self.folder / name).unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a job ended.

    Attributes:
        job: its number.
        state: "done": trained and tested; "failed"; or "interrupted": ended from outside after it
            had saved.
        run: the run folder; `None` where there is none.
        stopped: why the training ended, of a job that is done.
        error: one line, of a job that is not.
        seconds: that its process took, this time.
    """

    job: int
    state: State
    run: str | None = None
    stopped: str | None = None
    error: str | None = None
    seconds: float = 0.0

    def write(self, folder: Path) -> None:
        """Write `outcome.json`."""
        write_json(folder / "outcome.json", asdict(self))


def monitor(config: Mapping[str, Any]) -> str:
    """What the best weights of a training are best at."""
    return str(config.get("trainer", {}).get("monitor") or "validation_iou")


def ended(job: Job, *, reason: str, state: State = "failed", seconds: float = 0.0) -> Outcome:
    """The outcome of a job whose process is over; written for it where it could not.

    Args:
        job: the job.
        reason: how its process ended, such as "killed by SIGKILL"; it counts only where the job
            left no word itself, as does what follows.
        state: "interrupted" where the launcher itself ended it.
        seconds: that it took.
    """
    outcome = job.outcome
    if outcome is None:
        run = job.run
        outcome = Outcome(
            job=job.number,
            state=state,
            run=None if run is None else str(run.path),
            error=f"{reason}; see {job.log}",
            seconds=seconds,
        )
        with suppress(UsageError):  # the disk may be full, which must not end the other jobs
            outcome.write(job.folder)
    return outcome


class Launcher(Protocol):
    """A module such as `truemask.sweeps.local`."""

    Settings: type[Any]

    def launch(
        self, jobs: Iterator[Job], settings: Any, *, console: Console, stop: threading.Event
    ) -> Iterator[Outcome]:
        """See above."""
        ...


def find_launcher(name: str, settings: Mapping[str, Any]) -> tuple[Launcher, Any]:
    """The launcher of that name and its checked settings.

    Raises:
        UsageError: there is none, or it has not such a setting.
    """
    if name not in LAUNCHERS:
        raise UsageError(
            f"no launcher is called {name!r}{nearest(name, LAUNCHERS)} "
            f"(there are {', '.join(LAUNCHERS)})"
        )
    module: Any = importlib.import_module(f"truemask.sweeps.{name}")
    check_settings(module.Settings, settings, key="hydra.launcher")
    return module, module.Settings(**settings)
