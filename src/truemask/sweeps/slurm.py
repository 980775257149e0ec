"""The launcher for a Slurm cluster: each job of a sweep becomes one of Slurm's.

`slurm_script` says what runs on the nodes. A job has ended once it says so itself in its folder, or
once Slurm says that it is over; one that was interrupted and requeued has not.
"""

import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

from rich.console import Console

from truemask.build import nearest
from truemask.errors import UsageError
from truemask.files import write_json
from truemask.sweeps.launchers import Job, Outcome, ended
from truemask.sweeps.slurm_script import Settings as Settings
from truemask.sweeps.slurm_script import require_submitit, submit
from truemask.untrusted import read_object

_PAUSE = 0.5
"""Seconds between two looks at the jobs' folders."""
_ASK_SELDOM = 30.0
"""Most seconds between two questions to Slurm's controller, which serves everybody."""
_SETTLE = 5.0
"""Seconds after which what a node wrote is seen everywhere."""

_OVER = {
    "BOOT_FAIL": "its node did not start",
    "CANCELLED": "it was cancelled",
    "COMPLETED": "it ended without a word",
    "DEADLINE": "its deadline has passed",
    "FAILED": "it failed",
    "NODE_FAIL": "its node failed",
    "OUT_OF_MEMORY": "it needed more memory than it had: raise hydra.launcher.mem_gb",
    "PREEMPTED": "it was preempted, and not requeued",
    "REVOKED": "it was revoked",
    "TIMEOUT": "its time was over before it had saved: raise hydra.launcher.signal_delay_s",
    "GONE": "Slurm does not know it any more",
}
"""The states in which a job stays, and what they mean."""
_USUAL_REASONS = ("None", "Priority", "Resources", "BeginTime", "Cleaning")
"""Why a job waits, where nothing is to be done about it."""


def launch(
    jobs: Iterator[Job], settings: Settings, *, console: Console, stop: threading.Event
) -> Iterator[Outcome]:
    """Run the jobs on the cluster that this machine belongs to; see `launchers`."""
    _require_cluster(settings)
    queue = _Queue(settings, console)
    places, more, held = settings.jobs, True, None
    try:
        while more or queue.jobs:
            if stop.is_set():
                more = False
                queue.cancel()
            while more and len(queue.jobs) < places:
                held = held or next(jobs, None)
                if held is None:
                    more = False
                elif queue.take(held):
                    held = None
                else:  # as many as Slurm takes of one user
                    places = len(queue.jobs)
            for outcome in queue.ended():
                places = settings.jobs
                yield outcome
            time.sleep(_PAUSE)
        if held is not None:
            yield ended(held, reason="it was not submitted any more", state="interrupted")
    finally:
        queue.cancel()


def _require_cluster(settings: Settings) -> None:
    """Hold the settings against the cluster, as far as that can be done without a job."""
    require_submitit()
    for name in ("sbatch", "squeue", "sinfo", "scancel"):
        if shutil.which(name) is None:
            raise UsageError(
                f"hydra/launcher=slurm needs a machine of a Slurm cluster: there is no {name} here"
            )
    done = _call("sinfo", "--all", "--noheader", "--format=%R")
    if done.returncode != 0:
        raise UsageError(f"Slurm does not answer: {' '.join(done.stderr.split())}")
    known = sorted(set(done.stdout.split()))
    for name in (settings.partition or "").split(","):
        if name and name not in known:
            raise UsageError(
                f"hydra.launcher.partition: the cluster has no {name!r}{nearest(name, known)} "
                f"(it has {', '.join(known)})"
            )


class _Queue:
    """The jobs that wait or run on the cluster.

    Attributes:
        jobs: Slurm's number -> job.
    """

    def __init__(self, settings: Settings, console: Console) -> None:
        self.settings = settings
        self.console = console
        self.jobs: dict[int, Job] = {}
        self._over: dict[int, tuple[str, float]] = {}
        self._cancelled = False
        self._changed = self._asked = time.monotonic()
        self._said: set[str] = set()

    def take(self, job: Job) -> bool:
        """Submit a job, unless an earlier sweep has, and it still waits or runs.

        Returns:
            `False` where Slurm refuses it though it took others.
        """
        try:
            number = _find(job)
            if number is None:
                number = submit(job, self.settings)
                write_json(job.folder / "slurm.json", {"job": number})
        except UsageError:
            if not self.jobs:
                raise
            return False
        self.jobs[number] = job
        self._changed = time.monotonic()
        self._say(f"Job {job.number} is Slurm's {number}; it prints to {job.log}")
        return True

    def cancel(self) -> None:
        """End all: those that run are sent SIGTERM, and after the cluster's KillWait SIGKILL."""
        if self.jobs and not self._cancelled:
            self._cancelled = True
            self._changed = time.monotonic()
            _call("scancel", *map(str, self.jobs))

    def ended(self) -> Iterator[Outcome]:
        """The outcomes of those that have ended since the last call."""
        self._ask()
        for number, job in list(self.jobs.items()):
            outcome = job.outcome
            interrupted = outcome is None or outcome.state == "interrupted"
            if interrupted and number not in self._over:
                continue
            if outcome is None:
                outcome = self._missing_outcome(number, job)
            if outcome is not None:
                del self.jobs[number]
                self._changed = time.monotonic()
                yield outcome

    def _missing_outcome(self, number: int, job: Job) -> Outcome | None:
        state, since = self._over[number]
        with suppress(OSError):  # makes a network file system look again
            job.folder.chmod(job.folder.stat().st_mode)
        if time.monotonic() - since < _SETTLE:
            return None
        return ended(
            job,
            reason=f"Slurm's job {number} is over: {_OVER[state]}",
            state="interrupted" if self._cancelled else "failed",
        )

    def _ask(self) -> None:
        """Ask Slurm what has become of the jobs: often after a change, then ever less often."""
        now = time.monotonic()
        pause = min(_ASK_SELDOM, max(1.0, (self._asked - self._changed) / 2))
        if not self.jobs or now - self._asked < pause:
            return
        self._asked = now
        states = _states()
        if states is None:  # the controller does not answer now
            return
        for number, job in self.jobs.items():
            state, reason = states.get(number, ("GONE", ""))
            if state in _OVER:
                self._over.setdefault(number, (state, now))
                continue
            self._over.pop(number, None)  # requeued
            if state == "PENDING" and reason not in _USUAL_REASONS:
                self._say(f"Job {job.number} waits, and Slurm says why: {reason}")

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self.console.print(text, highlight=False, markup=False, soft_wrap=True)


def _find(job: Job) -> int | None:
    """Slurm's number of a job that was submitted before and is not over."""
    file = job.folder / "slurm.json"
    if not file.exists():
        return None
    number = int(read_object(file)["job"])
    states = _states()
    if states is None:  # twice in one folder would be worse than not at all
        raise UsageError(f"Slurm does not say whether its job {number} still runs: try again later")
    state, _ = states.get(number, ("GONE", ""))
    return None if state in _OVER else number


def _states() -> dict[int, tuple[str, str]] | None:
    """State and reason of each of the user's jobs; `None` where the controller does not answer."""
    done = _call("squeue", "--me", "--states=all", "--noheader", "--format=%A %T %r")
    if done.returncode != 0:
        return None
    lines = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    return {int(line[0]): (line[1], line[2]) for line in lines}


def _call(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True)
