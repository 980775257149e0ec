"""The launcher for this machine: each job is a process of its own, one or a few at a time.

A job may crash or be killed, which takes nothing else with it. Where several run at once, each gets
its share of the processor's cores, and a GPU in turn.
"""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from rich.console import Console

from truemask.errors import UsageError
from truemask.files import explain_os_errors
from truemask.sweeps.launchers import Job, Outcome, State, ended

_PAUSE = 0.1
"""Seconds between two looks at the processes."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What `hydra.launcher.KEY=VALUE` sets.

    Attributes:
        jobs: trainings that run at once.
        grace: seconds in which a training that is asked to end may save.
    """

    jobs: int = 1
    grace: float = 120.0

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise UsageError(f"hydra.launcher.jobs must be at least 1, got {self.jobs}")
        if self.grace < 0:
            raise UsageError(f"hydra.launcher.grace must be 0 or more, got {self.grace}")


def launch(
    jobs: Iterator[Job], settings: Settings, *, console: Console, stop: threading.Event
) -> Iterator[Outcome]:
    """Run the jobs on this machine; see `launchers`."""
    places: list[_Process | None] = [None] * settings.jobs
    waiting = True
    try:
        while True:
            for place, process in enumerate(places):
                if process is not None and process.over:
                    places[place] = None
                    yield process.outcome()
                if places[place] is None and waiting and not stop.is_set():
                    job = next(jobs, None)
                    waiting = job is not None
                    if job is not None:
                        places[place] = _Process(job, place, settings)
            if stop.is_set():
                waiting = False
                for process in places:
                    if process is not None:
                        process.end(settings.grace)
            if not waiting and not any(places):
                return
            time.sleep(_PAUSE)
    finally:
        for process in places:
            if process is not None:
                process.kill()


class _Process:
    """A job that runs."""

    def __init__(self, job: Job, place: int, settings: Settings) -> None:
        self.job = job
        self.begun = time.monotonic()
        self.asked: float | None = None
        with explain_os_errors(job.log), job.log.open("ab") as log:
            self.process = subprocess.Popen(
                # Its input closes when this process is gone, and so it ends then.
                [*job.command, "--lifeline"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_environment(job, place, settings.jobs),
                # So that Ctrl-C reaches this process only, which then ends the jobs in good order.
                start_new_session=True,
            )

    @property
    def over(self) -> bool:
        return self.process.poll() is not None

    def outcome(self) -> Outcome:
        """How it ended, once it has."""
        self.kill()  # what it may have left: loading processes
        state: State = "failed" if self.asked is None else "interrupted"
        seconds = time.monotonic() - self.begun
        return ended(self.job, reason=self._reason(), state=state, seconds=seconds)

    def end(self, grace: float) -> None:
        """Ask it to save and end; after the grace time, end it."""
        if self.asked is None:
            self.asked = time.monotonic()
            self.process.terminate()
        elif time.monotonic() - self.asked > grace:
            self.kill()

    def kill(self) -> None:
        """End it and whatever it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()

    def _reason(self) -> str:
        code = self.process.returncode
        if code == -signal.SIGKILL and self.asked is None:
            return "killed by SIGKILL, as a machine does that has run out of memory"
        if code < 0:
            return f"ended by {signal.Signals(-code).name}"
        return f"ended with the exit code {code}, saying {_last_line(self.job)!r}"


def _last_line(job: Job) -> str:
    lines = job.log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "nothing")


def _environment(job: Job, place: int, jobs: int) -> Mapping[str, str]:
    """The variables of a job: where several run at once, its share of the machine."""
    variables = dict(os.environ)
    if jobs == 1:
        return variables
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    variables.setdefault("OMP_NUM_THREADS", str(max(1, (cores or 1) // jobs)))
    gpus = torch.cuda.device_count()
    if gpus > 1 and job.config["trainer"].get("devices", 1) in (1, "auto"):
        given = variables.get("CUDA_VISIBLE_DEVICES")
        names = given.split(",") if given else [str(gpu) for gpu in range(gpus)]
        variables["CUDA_VISIBLE_DEVICES"] = names[place % len(names)]
    return variables
