"""One job of a sweep, in a process of its own: `python -m truemask.sweeps.job FOLDER`.

With `--lifeline` it ends, saving, once its standard input closes: a launcher that was killed leaves
no training behind that nobody watches.
"""

import faulthandler
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from truemask.errors import JobFailed, UsageError
from truemask.files import write_json
from truemask.runs import Run
from truemask.sweeps.launchers import Job, Outcome, State
from truemask.training.processes import find_place
from truemask.untrusted import one_line


def run_job(job: Job, *, console: Console) -> Outcome:
    """Train, from the job's last checkpoint where it has one; never raises for what goes wrong.

    Returns:
        The outcome, which has been written.
    """
    begun = time.monotonic()
    place = find_place()
    if place.is_main:
        started = {"host": socket.gethostname(), "process": os.getpid(), "time": time.time()}
        write_json(job.folder / "started.json", started)
    stopped = error = None
    state: State = "failed"
    try:
        stopped = _train(job, console)
        state = "done"
    except KeyboardInterrupt:
        state, error = "interrupted", "ended by Ctrl-C"
    except (UsageError, JobFailed) as reason:
        error = " ".join(str(reason).split())
        if error.startswith("ended by"):  # so it says of itself that it was ended from outside
            state, error = "interrupted", error.partition(";")[0]  # the sweep says how to go on
    except Exception as reason:
        traceback.print_exc()
        error = f"{one_line(reason)}; see {job.log}"
    run = job.run
    outcome = Outcome(
        job=job.number,
        state=state,
        run=None if run is None else str(run.path),
        stopped=stopped,
        error=error,
        seconds=time.monotonic() - begun,
    )
    # Of several processes the first one speaks, but the one that failed first knows why.
    before = job.outcome if place.processes > 1 else None
    if before is not None and before.state == "failed":
        return before
    if place.is_main or state == "failed":
        outcome.write(job.folder)
    return outcome


def _train(job: Job, console: Console) -> str:
    """The training itself; returns why it ended."""
    from truemask.training.fit import train

    resume = interrupted_run(job)
    # The run lies in the job's folder, so that it is found again wherever the sweep was moved.
    config = job.config if resume is None else resume.config
    result = train(
        {**config, "runs": str(job.folder)},
        console=console,
        resume=resume,
        listeners=_listeners(job),
    )
    return result.stopped


def interrupted_run(job: Job) -> Run | None:
    """The run that a job goes on with: its newest, where that has a checkpoint."""
    run = job.run
    return run if run is not None and run.last_checkpoint.exists() else None


def _listeners(job: Job) -> list[Callable[[dict[str, Any]], None]]:
    if not job.prune:
        return []
    from truemask.sweeps.study import Pruning

    return [Pruning(job)]


def _end_with_input() -> None:
    """Wait until standard input closes, then ask this process to end."""
    # Not by `sys.stdin`, whose lock this thread would still hold when Python ends.
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main(arguments: Sequence[str]) -> int:
    """Run the job of a folder; returns 0 if it is done, 1 if interrupted, 2 if failed."""
    faulthandler.enable()  # so that the log tells where a crash was
    folder = next(word for word in arguments if not word.startswith("--"))
    if "--lifeline" in arguments:
        threading.Thread(target=_end_with_input, daemon=True).start()
    console = Console(file=sys.stdout, width=100, force_terminal=False)
    state = run_job(Job.read(Path(folder)), console=console).state
    if state == "interrupted" and not find_place().is_main:
        return 0  # else srun might end the first process before it has saved
    return {"done": 0, "interrupted": 1, "failed": 2}[state]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
