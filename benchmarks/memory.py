"""Whether the memory of a training grows from epoch to epoch.

`python -m benchmarks.memory FOLDER` trains 20 epochs on 96 images of FOLDER (CamVid, say), with a
validation after each, once without loading processes and once with two. It prints what the training
and its loading processes take together after the warm-up, and by how much that grows an epoch:
pages of their own and of shared memory, and pages of mapped files (the cache), which the system
takes back where it needs them. What processes share is counted once (PSS), but for mapped files:
these are shared with other programs too, whose end would look like growth.
"""

import os
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from truemask.compose import compose_config
from truemask.training.fit import train

EPOCHS = 20
WARMUP = 5
"""Epochs in which caches fill, and the allocator finds out what it needs."""

WORDS = (
    "model=unet", "model.widths=[8,16,32]", "data.crop=[96,128]", "data.batch_size=8",
    "data.subset={train: 96, validation: 24}", f"trainer.max_epochs={EPOCHS}",
    "trainer.patience=null", "trainer.eval_interval=1",
)  # fmt: skip


def children(process: int) -> list[int]:
    """The live processes that one has started, and those that they have."""
    found = []
    for task in Path(f"/proc/{process}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found += [child, *children(child)]
    return found


def megabytes() -> tuple[float, float]:
    """What this process and its children take: pages of their own, and of files."""
    own = files = 0
    for process in (os.getpid(), *children(os.getpid())):
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]
        lines += Path(f"/proc/{process}/status").read_text().splitlines()
        kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines if "kB" in line}
        own += kilobytes["Pss_Anon"] + kilobytes["Pss_Shmem"]
        files += kilobytes["RssFile"]
    return own / 1024, files / 1024


def measure(folder: str, workers: int) -> list[tuple[float, float]]:
    """Megabytes after each epoch of a training."""
    found: list[tuple[float, float]] = []

    def listen(row: Mapping[str, Any]) -> None:
        found.append(megabytes())

    with tempfile.TemporaryDirectory() as temporary:
        words = [*WORDS, f"data.num_workers={workers}", f"runs={temporary}/runs"]
        words.append(f"data.cache_folder={temporary}/cache")
        config = compose_config(words, folder=Path(folder))
        train(config, console=Console(quiet=True), listeners=[listen])
    return found


def growth(values: list[float]) -> tuple[float, float]:
    """Slope of a line through values after the warm-up, an epoch, and its standard error."""
    after = np.array(values[WARMUP:])
    epochs = np.arange(len(after)) - (len(after) - 1) / 2
    slope = float(epochs @ after / (epochs @ epochs))
    rest = after - after.mean() - slope * epochs
    return slope, float(np.sqrt(rest @ rest / (len(after) - 2) / (epochs @ epochs)))


def main(folder: str) -> None:
    """Print a line for each way to load."""
    for workers in (0, 2):
        # A process of its own, so that neither sees what the other has left.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as one:
            found = one.submit(measure, folder, workers).result()
        for place, name in enumerate(("own and shared", "mapped files")):
            values = [measured[place] for measured in found]
            slope, error = growth(values)
            print(
                f"{workers} loading processes, {name:<14} {values[WARMUP]:>7.0f} MB after epoch "
                f"{WARMUP + 1}, {slope:+.2f} +- {error:.2f} MB an epoch   "
                + " ".join(f"{value:.0f}" for value in values),
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1])
