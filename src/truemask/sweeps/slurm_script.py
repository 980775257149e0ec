"""A job's batch script: what it asks of Slurm, and what runs on the nodes.

submitit writes and submits it. On a node, submitit's process is replaced by the job's own command,
since its handlers of signals would requeue from within a step, where nothing is saved yet, and
ignore SIGTERM: so signals reach the training alone. Once all its processes have ended, the script
asks `truemask.sweeps.requeue` whether to start again.
"""

import functools
import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from truemask.errors import UsageError
from truemask.files import explain_os_errors
from truemask.sweeps.launchers import Job

_COUNTS = (
    "jobs", "timeout_min", "nodes", "gpus_per_node", "tasks_per_node", "cpus_per_task", "mem_gb",
    "signal_delay_s",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What `hydra.launcher.KEY=VALUE` sets; `None` leaves a choice to the cluster.

    Attributes:
        jobs: jobs that wait or run at once.
        partition: queue; several with commas.
        timeout_min: minutes after which Slurm ends a job; what is not done then is requeued.
        nodes: machines for each training.
        gpus_per_node: GPUs on each.
        tasks_per_node: processes on each; `None` is one for each GPU, or one.
        cpus_per_task: cores for each process.
        mem_gb: memory on each machine, in GiB.
        account: which is billed.
        qos: quality of service.
        constraint: features that the machines must have.
        signal_delay_s: seconds before its time limit at which a training is told to save and end.
        setup: lines of shell that run before it, such as "module load cuda".
        additional_parameters: further options of sbatch, such as {reservation: NAME}.
    """

    jobs: int = 16
    partition: str | None = None
    timeout_min: int | None = None
    nodes: int = 1
    gpus_per_node: int | None = None
    tasks_per_node: int | None = None
    cpus_per_task: int | None = None
    mem_gb: float | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    signal_delay_s: int = 120
    setup: list[str] = field(default_factory=list)
    additional_parameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in _COUNTS:
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise UsageError(f"hydra.launcher.{name} must be more than 0, got {value}")

    @property
    def tasks(self) -> int:
        """Processes on each machine."""
        return self.tasks_per_node or self.gpus_per_node or 1


def require_submitit() -> None:
    """Say how to get submitit.

    Raises:
        UsageError: it is not installed.
    """
    if find_spec("submitit") is None:
        raise UsageError("hydra/launcher=slurm needs submitit: pip install 'truemask[slurm]'")


def submit(job: Job, settings: Settings) -> int:
    """Submit a job.

    Returns:
        Slurm's number of it.

    Raises:
        UsageError: Slurm refuses the job.
    """
    import submitit
    from submitit.core.utils import FailedJobError

    folder = job.folder.resolve() / "slurm"
    if "%" in str(folder):
        raise UsageError(
            f"Slurm reads a % in a path as a pattern: choose another name for {folder}"
        )
    executor = submitit.SlurmExecutor(folder)
    executor.update_parameters(**_parameters(job, settings))
    command = job.command
    try:
        with explain_os_errors(folder), _outside_of_jobs():
            submitted = executor.submit(functools.partial(os.execv, command[0], command))
    except FailedJobError as error:
        raise UsageError(
            f"Slurm refuses the job: {_reason(str(error))} (see hydra.launcher.* and `sinfo`)"
        ) from error
    return int(submitted.job_id)


def _parameters(job: Job, settings: Settings) -> dict[str, Any]:
    """What submitit makes the script of; it leaves out what is `None`."""
    log = str(job.log.resolve())
    asked = "" if settings.cpus_per_task is None else f"--cpus-per-task={settings.cpus_per_task}"
    return {
        "job_name": f"{job.config['name']}-{job.number}",
        "partition": settings.partition,
        "time": settings.timeout_min,
        "nodes": settings.nodes,
        "gpus_per_node": settings.gpus_per_node,
        "ntasks_per_node": settings.tasks,
        "cpus_per_task": settings.cpus_per_task,
        "mem": None if settings.mem_gb is None else f"{round(settings.mem_gb * 1024)}M",
        "account": settings.account,
        "qos": settings.qos,
        "constraint": settings.constraint,
        "wckey": None,
        "stderr_to_stdout": True,
        "additional_parameters": {
            "signal": f"USR1@{settings.signal_delay_s}",
            "output": log,
            "requeue": True,
            **settings.additional_parameters,
        },
        "setup": [*_setup(job, settings), *settings.setup],
        "teardown": _teardown(job),
        "srun_args": [
            f"--output={log}",
            "--open-mode=append",
            # Where one process has failed, the others would wait for it.
            "--kill-on-bad-exit=1",
            # srun does not inherit it since Slurm 22.05.
            *([asked] if asked else []),
        ],
    }


def _setup(job: Job, settings: Settings) -> list[str]:
    # What the start before said of its end holds no longer; the script runs at each.
    said = [str(job.folder.resolve() / name) for name in ("started.json", "outcome.json")]
    lines = [
        "export PYTHONUNBUFFERED=1 SUBMITIT_LOG_LEVEL=ERROR",
        shlex.join(["rm", "-f", *said]),
    ]
    if settings.cpus_per_task is not None:  # the same on every node, as sums depend on it
        lines.append(f"export OMP_NUM_THREADS={settings.cpus_per_task}")
    if settings.nodes * settings.tasks > 1:
        lines += [  # where the processes of a training meet
            'export MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)',
            "export MASTER_PORT=$((10000 + SLURM_JOB_ID % 20000))",
        ]
    return lines


def _teardown(job: Job) -> list[str]:
    module = [sys.executable, "-m", "truemask.sweeps.requeue", str(job.folder.resolve())]
    return ["code=$?", f'[ $code = 0 ] || {shlex.join(module)} "$code"', "exit $code"]


def _reason(text: str) -> str:
    """What sbatch said, on one line."""
    lines = [line.removeprefix("sbatch: error: ") for line in text.splitlines()]
    lines = [line.removeprefix("Batch job submission failed: ") for line in lines]
    return "; ".join(dict.fromkeys(line for line in lines if line))


@contextmanager
def _outside_of_jobs() -> Iterator[None]:
    """Without the variables of the job within which this runs, which would hold for the new one."""
    from submitit.helpers import clean_env

    where = os.environ.get("SLURM_CONF")
    with clean_env():
        if where is not None:
            os.environ["SLURM_CONF"] = where
        yield
