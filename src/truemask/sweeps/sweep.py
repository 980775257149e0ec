"""A sweep: many trainings of one command, and what came of them side by side.

    runs/<experiment>/sweep_<date-time>/
      sweep.json          what was asked for
      study.journal       what Optuna knows, with sweep.method=optuna
      jobs/<number>/      a job, see `launchers`
      comparison.json     those that are done, side by side
      comparison.html     the same as a page

A job that fails takes no other with it, and `truemask train -m resume=FOLDER` goes on with what is
not done: it goes on from the last checkpoint of each job that has one.
"""

import os
import signal
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from truemask.analysis.compare import compare
from truemask.compose import compose_config
from truemask.errors import UsageError
from truemask.sweeps.launchers import Job, Outcome, monitor
from truemask.sweeps.opening import (
    Opened,
    find_own_launcher,
    is_open,
    open_again,
    open_new,
    require_sweep,
    write_job,
)
from truemask.sweeps.progress import Progress, job_result, line, score_so_far
from truemask.sweeps.request import read_request
from truemask.sweeps.results import SweepResult
from truemask.sweeps.space import read_space
from truemask.sweeps.study import PRUNED, Study


def run_sweep(
    words: Sequence[str],
    *,
    folder: Path | None = None,
    allow: Collection[str] = (),
    console: Console,
) -> SweepResult:
    """Train all that the words ask for; goes on with a sweep where they say `resume=FOLDER`.

    Args:
        words: of the command line.
        folder: the user's data, in place of what the experiment names.
        allow: classes that a resumed sweep may name besides those that Truemask knows.
        console: where progress is shown.

    Raises:
        UsageError: a word, or a configuration it leads to, is wrong; no training has begun then.
    """
    resume = [word for word in words if word.startswith("resume=")]
    if not resume:
        opened = open_new(read_request(words), data=folder, console=console)
        with _locked(opened.path):
            return _Sweep(opened, console).carry_out()
    if len(resume) > 1 or folder is not None:
        raise UsageError("resume=SWEEP goes on with one sweep and its data: leave the rest out")
    path = Path(resume[0].partition("=")[2])
    rest = [word for word in words if word not in resume]
    require_sweep(path)
    with _locked(path):
        return _Sweep(open_again(path, rest, allow=allow, console=console), console).carry_out()


class _Sweep:
    """The way through a sweep."""

    def __init__(self, opened: Opened, console: Console) -> None:
        self.path, self.data = opened.path, opened.data
        self.jobs = opened.jobs
        self.settings = opened.request.settings
        self.space = read_space(opened.request.words)
        self.launcher_name, self.launcher, self.launcher_settings = find_own_launcher(
            opened.request
        )
        self.console = console
        self.study: Study | None = None

    def carry_out(self) -> SweepResult:
        """Bring every job to its end, then compare them."""
        self._say(f"Sweep: {self.path}")
        if self.settings.method == "optuna":
            self._open_study()
        total = len(self.jobs) if self.study is None else self.settings.trials
        progress = Progress(self.console, self.jobs, total=max(total, len(self.jobs)))
        stop = threading.Event()
        outcomes = self.launcher.launch(
            self._taken(progress), self.launcher_settings, console=self.console, stop=stop
        )
        with _graceful(stop, self.console), progress.shown():
            for outcome in outcomes:
                job = self.jobs[outcome.job]
                self._tell(job, outcome)
                progress.ended(job)
        return self._conclude(progress.taken)

    def _taken(self, progress: Progress) -> Iterator[Job]:
        """The jobs that are not done, each when the launcher asks for it."""
        for place, job in enumerate(self.jobs):
            if is_open(job):
                job = self._again(place, job)
                progress.take(job)
                yield job
        while self.study is not None and len(self.jobs) < self.settings.trials:
            job = self._next_trial(self.study)
            self.jobs.append(job)
            progress.take(job)
            if job.outcome is None:
                yield job
            else:  # its values do not go together
                self._tell(job, job.outcome)
                progress.ended(job)

    def _again(self, place: int, job: Job) -> Job:
        """A job ready to be started, whatever became of it before."""
        outcome = job.outcome
        if self.study is not None and outcome is not None and outcome.state == "failed":
            # The study has closed its trial, so that it needs another, of the same values.
            trial, _ = self.study.ask(self.space.chosen(job.words))
            job = self.jobs[place] = replace(job, trial=trial)
            job.write()
        job.forget()
        return job

    def _open_study(self) -> None:
        config = self.jobs[0].config if self.jobs else {}
        if not config:
            words = self.space.whole(self.space.corners()[0])
            config = compose_config(words, folder=self.data)
        self.study = Study(self.path, self.space, seed=self.settings.seed, monitor=monitor(config))
        for job in self.jobs:  # what was over before anybody could tell
            if (outcome := job.outcome) is not None:
                self._tell(job, outcome)

    def _next_trial(self, study: Study) -> Job:
        trial, chosen = study.ask()
        words, number = self.space.whole(chosen), len(self.jobs)
        config: dict[str, Any] = {}
        error = None
        try:
            config = compose_config(words, folder=self.data)
        except UsageError as reason:
            error = str(reason)
        prune = self.settings.prune
        job = write_job(self.path, number, words, config, chosen=chosen, trial=trial, prune=prune)
        if error is not None:
            Outcome(job=number, state="failed", error=error).write(job.folder)
        return job

    def _tell(self, job: Job, outcome: Outcome) -> None:
        if self.study is None or job.trial is None or outcome.state == "interrupted":
            return
        score = score_so_far(job) if outcome.state == "done" else None
        self.study.tell(job.trial, score=score, pruned=outcome.stopped == PRUNED)

    def _conclude(self, taken: Collection[int]) -> SweepResult:
        results = [job_result(job, taken=job.number in taken) for job in self.jobs]
        headline = page = None
        if any(result.state in ("done", "pruned") for result in results):
            notes = [line(result) for result in results if result.error is not None]
            try:
                comparison = compare([self.path], self.path, notes=notes)
                headline, page = comparison.headline, comparison.page
            except UsageError as error:  # the results are worth more than their page
                self._say(f"No comparison: {error}")
        return SweepResult(
            folder=str(self.path),
            method=self.settings.method,
            launcher=self.launcher_name,
            jobs=results,
            headline=headline,
            page=page,
        )

    def _say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def _graceful(stop: threading.Event, console: Console) -> Iterator[None]:
    """On a first Ctrl-C or SIGTERM let the running jobs save and end, on a second end at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner = os.getpid()

    def handle(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:  # a child that inherited the handler
            return
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        console.print("Ending: the running jobs save what they have (again: at once).")

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Refuse a sweep that another process is at; the system frees it when that process ends."""
    try:
        import fcntl
    except ImportError:  # not every system has it
        yield
        return
    with (path / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(f"{path} is being trained by another process: wait for it") from error
        except OSError:  # not every file system has locks
            pass
        yield
