"""The launcher for a Ray cluster: each job is a Ray task, on whichever machine has room for it.

The sweep's folder lies where all machines see it. A job whose machine dies is started again on
another, where it goes on from its last checkpoint.

Plain tasks, not Ray Tune: which jobs there are and which are ended early is settled by the sweep,
alike for all launchers, and retries and cancelling are what tasks have by themselves.
"""

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from truemask.cluster import Node, amount, describe, joined, nodes, require_shared, use_own_gpus
from truemask.errors import UsageError
from truemask.sweeps import local
from truemask.sweeps.launchers import Job, Outcome, State, ended

_PAUSE = 0.5
"""Seconds between two looks at the tasks."""

_OTHERS = ("SLURM_", "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
"""Variables by which a training would take itself for a part of whatever started the cluster."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What `hydra.launcher.KEY=VALUE` sets.

    Attributes:
        address: of the cluster, see `cluster.joined`.
        cpus: of each job, and so the threads that it computes with.
        gpus: of each job, also a part of one such as 0.5; by default 1 where the cluster has any.
        jobs: trainings that run or wait for a machine at once; by default as many as the cluster
            has room for. More makes a cluster grow that can.
        retries: how often a job is started again whose machine has died.
        grace: seconds in which a training that is asked to end may save.
    """

    address: str = "auto"
    cpus: int = 1
    gpus: float | None = None
    jobs: int | None = None
    retries: int = 3
    grace: float = 120.0

    def __post_init__(self) -> None:
        for name, least in {"cpus": 1, "gpus": 0, "jobs": 1, "retries": 0, "grace": 0}.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise UsageError(f"hydra.launcher.{name} must be at least {least}, got {value}")
        if self.gpus is not None and self.gpus > 1 and self.gpus % 1:
            raise UsageError(
                f"hydra.launcher.gpus is {self.gpus}: give a whole number, or a part of one GPU"
            )


def launch(
    jobs: Iterator[Job], settings: Settings, *, console: Console, stop: threading.Event
) -> Iterator[Outcome]:
    """Run the jobs on a Ray cluster; see `launchers`."""
    with joined(settings.address) as machines:
        console.print(describe(machines), highlight=False)
        tasks = _Tasks(settings, machines, console)
        try:
            while True:
                while (
                    not stop.is_set() and tasks.has_room and (job := next(jobs, None)) is not None
                ):
                    tasks.start(job)
                if stop.is_set():
                    tasks.end()
                if not tasks.running:
                    return
                yield from tasks.over()
        finally:
            tasks.kill()


class _Tasks:
    """The jobs that run, or wait until their machine has a worker for them."""

    def __init__(self, settings: Settings, machines: Sequence[Node], console: Console) -> None:
        self.settings = settings
        found = 1 if any(node.gpus >= 1 for node in machines) else 0
        self.gpus = found if settings.gpus is None else settings.gpus
        if settings.jobs is None and self._places(machines) == 0:
            raise UsageError(
                f"no machine of the Ray cluster has {amount(settings.cpus, 'CPU')} and "
                f"{amount(self.gpus, 'GPU')}: lower hydra.launcher.cpus or hydra.launcher.gpus"
            )
        self.console = console
        self.running: dict[Any, _Try] = {}
        self.asked: float | None = None

    def _places(self, machines: Sequence[Node]) -> int:
        """Jobs that the machines can run at once; a job does not spread over several."""
        rooms = [int(node.cpus / self.settings.cpus) for node in machines]
        if self.gpus:
            on_gpus = [int(node.gpus / self.gpus) for node in machines]
            rooms = [min(pair) for pair in zip(rooms, on_gpus, strict=True)]
        return sum(rooms)

    @property
    def has_room(self) -> bool:
        """Whether another job may be started; the cluster may have changed."""
        # At least one: while all machines are gone, it waits for them.
        return len(self.running) < (self.settings.jobs or max(1, self._places(nodes())))

    def start(self, job: Job, *, begun: float | None = None, number: int = 0) -> None:
        """Hand a job over to Ray."""
        import ray

        task = ray.remote(
            num_cpus=self.settings.cpus,
            num_gpus=self.gpus,
            max_retries=0,  # Ray would retry for ever what takes too much memory
            max_calls=1,  # a process for each, as they change their variables
            scheduling_strategy="SPREAD",
        )(_run)
        reference = task.remote(str(job.folder.resolve()), self.settings.grace)
        begun = time.monotonic() if begun is None else begun
        self.running[reference] = _Try(job, begun, number)

    def over(self) -> Iterator[Outcome]:
        """The outcomes of those that have ended by now, or within a moment."""
        import ray

        for reference in ray.wait(list(self.running), timeout=_PAUSE)[0]:
            this = self.running.pop(reference)
            reason, died = _end(reference)
            if died and self.asked is None and this.may_be_repeated(self.settings.retries):
                self.console.print(f"job {this.job.number} is started again: {reason}")
                self.start(this.job, begun=this.begun, number=this.number + 1)
            else:
                state: State = "failed" if self.asked is None else "interrupted"
                seconds = time.monotonic() - this.begun
                yield ended(this.job, reason=reason, state=state, seconds=seconds)

    def end(self) -> None:
        """Ask all to save and end; well after the grace time, end them."""
        import ray

        if self.asked is None:
            self.asked = time.monotonic()
            for reference in self.running:
                ray.cancel(reference)
        # The task itself ends what does not end in time; this is for one that is out of reach.
        elif time.monotonic() - self.asked > self.settings.grace + 30:
            self.kill()

    def kill(self) -> None:
        """End all at once."""
        import ray

        for reference in self.running:
            with contextlib.suppress(ray.exceptions.RayError):
                ray.cancel(reference, force=True)


@dataclass(frozen=True)
class _Try:
    """A job's task: when its first one began, and how many came before."""

    job: Job
    begun: float
    number: int

    def may_be_repeated(self, retries: int) -> bool:
        """Whether the job has not come to its own end, and was not tried too often."""
        outcome = self.job.outcome
        ended_by_itself = outcome is not None and outcome.state != "interrupted"
        return not ended_by_itself and self.number < retries


def _end(reference: Any) -> tuple[str, bool]:
    """Why a task ended, for a job that left no word itself, and whether its machine died."""
    import ray

    try:
        ray.get(reference)
    except ray.exceptions.TaskCancelledError:
        return "ended by Ctrl-C", False
    except ray.exceptions.RayTaskError as error:
        # Its own traceback may come first.
        return str(error.cause).strip().splitlines()[-1], False
    except ray.exceptions.RayError as error:
        return f"its machine died, or ran out of memory ({type(error).__name__})", True
    return "it left no word", False


def _run(folder: str, grace: float) -> None:
    """A job, on a machine of the cluster, as the local launcher runs it there."""
    require_shared(Path(folder, "job.json"))
    job = Job.read(Path(folder))
    job.forget()  # a machine that dies may have left the time to say so
    use_own_gpus()
    for name in list(os.environ):
        if name.startswith(_OTHERS):
            del os.environ[name]
    stop = threading.Event()
    # In a thread, because Ray cancels by a KeyboardInterrupt, wherever the main one is.
    with ThreadPoolExecutor(1) as pool:
        ending = pool.submit(_run_here, job, grace, stop)
        try:
            _wait(ending)
        except KeyboardInterrupt:
            stop.set()
            _wait(ending)
            raise
        ending.result()


def _run_here(job: Job, grace: float, stop: threading.Event) -> None:
    settings = local.Settings(grace=grace)
    for _ in local.launch(iter([job]), settings, console=Console(quiet=True), stop=stop):
        pass


def _wait(ending: "Future[None]") -> None:
    """Until it has ended; by short naps, as a cancellation does not end a long one."""
    while not ending.done():
        time.sleep(0.1)
