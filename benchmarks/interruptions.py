"""Trainings that are ended by SIGTERM at random moments, and resumed: what is lost.

`python -m benchmarks.interruptions [TRIALS]` starts real processes of `truemask train` with loading
processes, accumulation and an average of the weights. Each is sent the signal at a random moment of
its life, from the first import to the test; where a run was begun it is resumed, and its history
and final weights are compared with those of a training that nobody disturbed. The last line counts;
the exit status is 1 where anything was lost.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch
from safetensors.torch import load_file

from truemask.runs import Run

WORDS = (
    "experiment=textures/demo", "data.dataset.size=32", "data.dataset.train=24",
    "data.dataset.validation=4", "data.dataset.test=5", "model.channels=4", "data.batch_size=4",
    "data.num_workers=2", "trainer.max_steps=null", "trainer.max_epochs=40", "trainer.accumulate=2",
    "trainer.average=0.9", "trainer.patience=null", "checks.enabled=false",
)  # fmt: skip

Process = subprocess.Popen[str]


def start(*words: str) -> Process:
    """`truemask train` in a process group of its own."""
    command = [sys.executable, "-m", "truemask", "train", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )


def begun(runs: Path) -> Run | None:
    """The run in a folder, if there is one."""
    found = [Run(path.parent) for path in runs.rglob("config.yaml")]
    return found[0] if found else None


def alike(one: Run, other: Run) -> bool:
    """Whether history (but for the clock), results and weights are the same."""
    clock = ("seconds", "images_per_second")
    rows = [[{k: r[k] for k in r if k not in clock} for r in run.history] for run in (one, other)]
    first, second = (load_file(run.bundle_folder / "model.safetensors") for run in (one, other))
    same = all(torch.equal(first[name], second[name]) for name in first)
    return rows[0] == rows[1] and same and one.results == other.results


def trial(runs: Path, delay: float, undisturbed: Run) -> str:
    """What became of one training: a phrase, which begins with "LOST" where anything was."""
    process = start(*WORDS, f"runs={runs}")
    try:
        process.communicate(timeout=delay)
        what = "over before"
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=300)
        if process.returncode == 0:
            what = "over before"
        elif process.returncode == -signal.SIGTERM:
            what = "ended before its first line or after its last"
        elif "Traceback" in errors or "ended by SIGTERM" not in errors:
            return f"LOST: exit code {process.returncode}: {errors.strip()[-500:]}"
        else:
            what = "ended with a line"
    run = begun(runs)
    if run is None:
        return f"{what}, nothing begun"
    if not run.finished:
        again = start(f"resume={run.path}")
        _, errors = again.communicate(timeout=300)
        if again.returncode != 0:
            return f"LOST: resume gave {again.returncode}: {errors.strip()[-500:]}"
        what += ", resumed"
    if left := list(run.path.rglob("*.part")):
        return f"LOST: left {left[0].name}"
    return f"{what}, the same" if alike(run, undisturbed) else f"LOST: {what}, other figures"


def main(trials: int = 50) -> int:
    """Print a line a trial, and the counts."""
    chance, outcomes = random.Random(0), Counter[str]()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        begin = time.monotonic()
        _, errors = start(*WORDS, f"runs={folder / 'undisturbed'}").communicate()
        seconds = time.monotonic() - begin
        undisturbed = begun(folder / "undisturbed")
        assert undisturbed is not None, errors
        for number in range(trials):
            delay = chance.uniform(0.1, 1.05) * seconds
            outcome = trial(folder / str(number), delay, undisturbed)
            print(f"{number + 1:>3}  {delay:5.1f} of {seconds:.1f} s  {outcome}", flush=True)
            outcomes[outcome.partition(":")[0]] += 1
    print("; ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common()))
    return int(any(outcome.startswith("LOST") for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
