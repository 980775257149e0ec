"""After a job of Slurm: `python -m truemask.sweeps.requeue FOLDER CODE`, in its batch script.

Where Slurm preempts a job, or its time is nearly over, its processes get a signal, save and end. It
depends on the cluster whether Slurm then requeues the job by itself; where it does not, this does.

The machine may be taken away in some seconds, so nothing is imported that takes as long: of the
files of a job, which `launchers` describes, this reads what it needs by itself.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from truemask.files import read_json, write_json

_VAIN_TRIES = 3
"""How often a job is requeued that has saved nothing, before it counts as failed."""

_SAVED = 1
"""Exit code of a job that was interrupted and has saved."""
_SIGNALLED = (128 + signal.SIGTERM, 128 + signal.SIGUSR1)
"""Those of one, or of one of its processes, that got a signal when nobody took it."""


def requeue_interrupted(folder: Path, code: int) -> bool:
    """Requeue the job of Slurm in which this runs, if it was interrupted and nobody else acts.

    Args:
        folder: of the sweep's job.
        code: exit code of srun, the highest of the job's processes.

    Returns:
        Whether it was requeued.
    """
    number = os.environ["SLURM_JOB_ID"]
    file = folder / "outcome.json"
    said = read_json(file)["state"] if file.exists() else None
    # In any other state Slurm itself is ending it: it was cancelled, or requeued already.
    if _state(number) != "RUNNING":
        return False
    if said == "interrupted" and code not in (_SAVED, *_SIGNALLED):
        # srun ended the process that said so, because another had failed.
        _fail(folder, f"a process of the training ended with the exit code {code}")
        return False
    if said != "interrupted" and not (said is None and code in _SIGNALLED):
        return False
    tries = _vain_tries(folder, number)
    if tries > _VAIN_TRIES:
        remedy = "if its time was over, raise hydra.launcher.timeout_min"
        _fail(folder, f"ended {tries} times in a row before it had saved anything: {remedy}")
        return False
    done = subprocess.run(["scontrol", "requeue", number], capture_output=True, text=True)
    if done.returncode != 0:
        print(f"Slurm does not requeue it: {done.stderr.strip()}", flush=True)
    return done.returncode == 0


def _fail(folder: Path, reason: str) -> None:
    error = f"{reason}; see {folder / 'log.txt'}"
    outcome = {"job": int(folder.name), "state": "failed", "error": error}
    write_json(folder / "outcome.json", outcome)


def _vain_tries(folder: Path, number: str) -> int:
    """How often in a row it has ended without a checkpoint, with this time."""
    file = folder / "slurm.json"
    notes = read_json(file) if file.exists() else {}
    tries = 0 if _has_saved(folder) else notes.get("vain_tries", 0) + 1
    write_json(file, {"job": int(number), "vain_tries": tries})
    return int(tries)


def _has_saved(folder: Path) -> bool:
    """Whether there is a checkpoint of this start; by the file server's clock alone."""
    started = folder / "started.json"
    saved = [file.stat().st_mtime for file in folder.rglob("checkpoints/last.ckpt")]
    return started.exists() and max(saved, default=0.0) >= started.stat().st_mtime


def _state(number: str) -> str:
    command = ["squeue", "--noheader", f"--jobs={number}", "--format=%T"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def main(arguments: Sequence[str]) -> int:
    """Requeue the job of a folder where that is right; returns 0."""
    folder, code = arguments
    requeue_interrupted(Path(folder), int(code))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
