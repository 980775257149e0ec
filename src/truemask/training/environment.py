"""What `environment.json` says: where a run was made, of which versions, and what was decided."""

import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from truemask import __version__
from truemask.errors import UsageError
from truemask.images import ImageSpec
from truemask.runs import Run
from truemask.training.setup import Prepared

_PACKAGES = ("torch", "torchvision", "lightning", "numpy", "hydra-core", "pillow")


def describe_environment(
    prepared: Prepared,
    *,
    seed: int,
    gpu: bool,
    precision: str,
    parameters: int,
    tuning: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """All that is known before the first step."""
    counts = prepared.statistics.class_counts
    shares = counts / max(1, counts.sum())
    names = prepared.labels.names
    return {
        "versions": {"truemask": __version__, "python": platform.python_version(), **_versions()},
        "git_commit": _git_commit(),
        "device": torch.cuda.get_device_name() if gpu else f"CPU ({platform.machine()})",
        "threads": torch.get_num_threads(),
        "seed": seed,
        "command_line": _command_line(),
        "working_folder": os.getcwd(),
        "training": {
            "parameters": parameters,
            "precision": precision,
            "tuning": tuning,
            "parts": {name: {"images": len(part)} for name, part in prepared.parts.items()},
            "notes": prepared.notes,
            "loss": str(prepared.loss_config["_target_"]).rpartition(".")[2],
            "class_counts": {name: int(n) for name, n in zip(names, counts, strict=True)},
            "class_shares": {name: float(s) for name, s in zip(names, shares, strict=True)},
            "median_size": list(prepared.statistics.median_size),
            "images": prepared.spec.to_json(),
        },
    }


def add_outcome(
    run: Run, *, history: Sequence[dict[str, Any]], best: tuple[int, int], stopped: str
) -> None:
    """Add how the training went to the run's `environment.json`.

    Args:
        run: the run.
        history: its rows.
        best: epoch and step of the kept weights.
        stopped: why it ended.
    """
    environment = run.environment
    speeds = sorted(row["images_per_second"] for row in history)
    environment["training"] |= {
        "best_epoch": best[0],
        "best_step": best[1],
        "epochs": history[-1]["epoch"] + 1,
        "steps": history[-1]["step"],
        "seconds": round(history[-1]["seconds"], 1),
        "stopped": stopped,
        "images_per_second": round(speeds[len(speeds) // 2], 2),
    }
    run.write_environment(environment)


def images_of(run: Run) -> ImageSpec:
    """What the images mean to a run that exists: its weights are for these statistics only."""
    try:
        return ImageSpec.from_json(run.environment["training"]["images"])
    except (KeyError, TypeError) as error:
        raise UsageError(f"{run.path / 'environment.json'} does not describe the images") from error


def _command_line() -> str:
    program = Path(sys.argv[0]).name
    return shlex.join(["truemask" if program == "__main__.py" else program, *sys.argv[1:]])


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _git_commit() -> str | None:
    """The commit of the user's own repository, with "+" where files differ from it."""
    git = shutil.which("git")
    if git is None:
        return None

    def ask(*words: str) -> str | None:
        done = subprocess.run([git, *words], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else None

    head = ask("rev-parse", "HEAD")
    return None if head is None else head + ("+" if ask("status", "--porcelain") else "")
