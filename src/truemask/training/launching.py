"""Several processes on this machine: each runs the training, and the first one writes it.

The processes are ordinary programs with the variables that torchrun would set, so that a training
cannot tell who started it. If one fails, the others are ended.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from truemask.errors import JobFailed, UsageError
from truemask.results import TrainResult
from truemask.runs import Run

_PATIENCE_S = 30.0
"""For the other processes to end by themselves when one has ended."""

_ERRORS = {error.__name__: error for error in (UsageError, JobFailed)}


def launch(
    config: Mapping[str, Any], *, processes: int, resume: Run | None, quiet: bool
) -> TrainResult:
    """Train in several processes of this machine, and wait for the end.

    Raises:
        UsageError, JobFailed: what the training raised.
        KeyboardInterrupt: the user ended it at once.
    """
    with tempfile.TemporaryDirectory() as folder:
        order, answer = Path(folder) / "order.json", Path(folder) / "answer.json"
        path = None if resume is None else str(resume.path)
        order.write_text(json.dumps({"config": dict(config), "resume": path, "quiet": quiet}))
        command = [sys.executable, "-m", "truemask.training.launching", str(order), str(answer)]
        port = _free_port()
        running = [
            subprocess.Popen(command, env=_environment(rank, processes, port))
            for rank in range(processes)
        ]
        _wait(running)
        return _result(answer, [process.returncode for process in running])


def _environment(rank: int, processes: int, port: int) -> dict[str, str]:
    threads = max(1, (os.cpu_count() or 1) // processes)
    return {
        "OMP_NUM_THREADS": str(threads),
        **os.environ,
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait(running: Sequence["subprocess.Popen[bytes]"]) -> None:
    """Until all have ended; signals go on to them, and what one leaves behind is ended."""

    def pass_on(number: int, frame: object) -> None:
        for process in running:
            if process.poll() is None:
                process.send_signal(number)

    numbers = (signal.SIGTERM, signal.SIGUSR1)
    # A terminal sends Ctrl-C to all of them by itself.
    before = {signal.SIGINT: signal.signal(signal.SIGINT, lambda *_: None)}
    before |= {number: signal.signal(number, pass_on) for number in numbers}
    failed: float | None = None
    try:
        while any(process.poll() is None for process in running):
            if failed is None and any(process.returncode for process in running):
                failed = time.monotonic()
            if failed is not None and time.monotonic() - failed > _PATIENCE_S:
                for process in running:
                    process.kill()
            time.sleep(0.05)
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
                process.wait()
        for number, handler in before.items():
            signal.signal(number, handler)


def _result(answer: Path, codes: Sequence[int]) -> TrainResult:
    if not answer.exists():
        broken = next((rank for rank, code in enumerate(codes) if code), 0)
        code = codes[broken]
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        raise JobFailed(
            f"process {broken} of {len(codes)} ended {how}; go on with `truemask train resume=RUN`"
        )
    told = json.loads(answer.read_text())
    if "error" in told:
        if told["error"] == "KeyboardInterrupt":
            raise KeyboardInterrupt
        raise _ERRORS[told["error"]](told["message"])
    return TrainResult.from_json(told["result"])


def main(order: str, answer: str) -> int:
    """What each process does."""
    from truemask.training.fit import train_here

    given = json.loads(Path(order).read_text())
    resume = None if given["resume"] is None else Run(Path(given["resume"]))
    is_main = os.environ["RANK"] == "0"
    console = Console(stderr=True, quiet=given["quiet"] or not is_main)
    told: dict[str, Any] = {}
    code = 0
    try:
        result = train_here(given["config"], console=console, resume=resume)
        if result is not None:
            told = {"result": result.to_json()}
    except (UsageError, JobFailed, KeyboardInterrupt) as error:
        told, code = {"error": type(error).__name__, "message": str(error)}, 1
    # An error that only one of them met is told by that one.
    if told and (is_main or not Path(answer).exists()):
        Path(answer).write_text(json.dumps(told))
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
