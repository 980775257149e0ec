"""Trials become runs: one that is there already is taken, one that was interrupted goes on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from truemask.analysis.matching import STOPPED, difference, is_complete
from truemask.compose import compose_config, resume_config
from truemask.errors import UsageError
from truemask.projects.project import Trial
from truemask.run_search import is_run
from truemask.runs import Run, list_runs
from truemask.training.fit import train

_NO_DATA = Path("no-data")
"""Stands for the folder of data that is not there, in configurations that are only compared."""

Status = Literal["trained", "resumed", "kept", "given", "stopped", "missing"]


@dataclass(frozen=True, kw_only=True)
class Carried:
    """What became of a trial.

    Attributes:
        run: its run; `None` where there is none that is finished.
        status: how it came by the run: trained now, gone on with now, kept from before, given
            by the user; or stopped by the user, or missing.
    """

    trial: Trial
    run: Run | None
    status: Status


@dataclass
class Workshop:
    """Where trials are trained, and with what.

    Attributes:
        runs: the folder of the runs, one folder a trial in it.
        data: folder of the data; `None` where it is generated, or not there.
        needs_data: whether the trainings read a folder at all.
        overrides: words that change every trial.
        small: whether the trials are made as small as a miniature of the data.
        given: finished runs from elsewhere.
    """

    runs: Path
    data: Path | None
    overrides: Sequence[str]
    console: Console
    given: Sequence[Run] = ()
    needs_data: bool = False
    small: bool = False
    _own: list[Run] | None = field(default=None, init=False)
    _configurations: dict[str, dict[str, Any]] = field(default_factory=dict, init=False)

    def configuration(self, trial: Trial) -> dict[str, Any]:
        """What the trial would train with."""
        if trial.name not in self._configurations:
            self._configurations[trial.name] = self._compose(trial)
        return self._configurations[trial.name]

    def _compose(self, trial: Trial) -> dict[str, Any]:
        small = trial.small if self.small else ()
        words = [f"experiment={trial.experiment}", *trial.overrides, *small, *self.overrides]
        folder = _folder(self.data or _NO_DATA, trial) if self.needs_data else None
        config = compose_config(words, folder=folder)
        return {**config, "name": trial.name, "runs": str(self.runs)}

    def find(self, trial: Trial) -> Carried:
        """The finished run of a trial, without training."""
        config = self.configuration(trial)
        for run in self.given:
            if is_complete(run) and difference(config, run, any_folder=True) is None:
                return Carried(trial=trial, run=run, status="given")
        for run in self._trained(trial):
            # Without data at hand, which folder it was in cannot be held against a run.
            if is_complete(run) and difference(config, run, any_folder=self.data is None) is None:
                return Carried(trial=trial, run=run, status="kept")
        return Carried(trial=trial, run=None, status="missing")

    def carry_out(self, trial: Trial) -> Carried:
        """Find the run of a trial, or go on with it, or train it."""
        found = self.find(trial)
        if found.run is not None:
            self.say(f"{trial.name}: finished before, {found.run.path}")
            return found
        config = self.configuration(trial)
        unfinished = self._unfinished(trial, config)
        if unfinished is None:
            self.say(f"{trial.name}: training ({trial.title})")
            result = train(config, console=self.console)
        else:
            self.say(f"{trial.name}: going on with {unfinished.path}")
            again = resume_config(unfinished.config, [])
            result = train(again, console=self.console, resume=unfinished)
        self._own = None
        if result.stopped == STOPPED:
            return Carried(trial=trial, run=None, status="stopped")
        status: Status = "trained" if unfinished is None else "resumed"
        return Carried(trial=trial, run=Run.open(Path(result.run)), status=status)

    def say(self, text: str) -> None:
        """One line on the console."""
        self.console.print(text, highlight=False, markup=False)

    def _unfinished(self, trial: Trial, config: Mapping[str, Any]) -> Run | None:
        """A run of this trial that can go on; says why those of other settings cannot."""
        for run in list_runs(self.runs / trial.name):
            other = difference(config, run)
            if other is not None:
                self.say(f"{trial.name}: {run.path} is another training ({other}) and stays as is")
            elif run.last_checkpoint.is_file():
                return run
        return None

    def _trained(self, trial: Trial) -> list[Run]:
        """All runs in the folder, those of the trial first: two trials may be one training."""
        if self._own is None:
            self._own = list_runs(self.runs) if self.runs.is_dir() else []
        own = self.runs / trial.name
        return sorted(self._own, key=lambda run: own not in run.path.parents)


def _folder(data: Path, trial: Trial) -> Path:
    return next((data / name for name in trial.data if (data / name).is_dir()), data)


def open_given(paths: Sequence[Path]) -> list[Run]:
    """The runs that the user names, each by its folder or by one around it.

    Raises:
        UsageError: a folder holds no run.
    """
    runs: list[Run] = []
    for path in paths:
        found = [Run.open(path)] if is_run(path) or not path.is_dir() else list_runs(path)
        if not found:
            raise UsageError(f"{path} holds no run: give the folder of a run, or one around runs")
        runs += found
    return runs


def explain_given(workshop: Workshop, trials: Sequence[Trial], taken: Sequence[Run]) -> list[str]:
    """A line for each given run that is no trial of the project."""
    paths = {run.path for run in taken}
    lines = []
    for run in workshop.given:
        if run.path in paths:
            continue
        if not is_complete(run):
            lines.append(f"{run.path} is not taken: its training did not come to its end")
            continue
        lines.append(f"{run.path} is not taken: {_nearest(workshop, trials, run)}")
    return lines


def _nearest(workshop: Workshop, trials: Sequence[Trial], run: Run) -> str:
    name = str(run.config.get("name"))
    same = [trial for trial in trials if name in (trial.name, trial.experiment)]
    if not same:
        return f"no trial is called {name!r}, and none has its settings"
    told = difference(workshop.configuration(same[0]), run, any_folder=True)
    if told is None:
        return f"another run stands for {same[0].name} already"
    return f"unlike {same[0].name}, {told}"
