"""How the cost grows with image size, images, classes and processes.

`python -m benchmarks.scaling` prints, for each, the cost of one unit beside that at the smallest
size: 1.00 means that the cost is proportional.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.loops import DEVICE, NATIVE_BFLOAT16
from truemask.losses import CrossEntropy, Dice, Sum
from truemask.metrics.bootstrap import resampled_margins
from truemask.metrics.confusion import confusion_matrices
from truemask.models.unet import UNet
from truemask.training.peak import seconds_of


def best_of(action: Callable[[], object], times: int = 3) -> float:
    """Seconds; the first run only prepares."""
    action()
    return min(seconds_of(action, DEVICE) for _ in range(times))


def line(name: str, values: list[tuple[str, float, float]]) -> str:
    """A row: what is varied, then for each value the milliseconds and the cost of a unit."""
    _, _, first = values[0]
    cells = [f"{value}: {ms:.4g} ms ({unit / first:.2f})" for value, ms, unit in values]
    return f"{name:<34} " + "   ".join(cells)


def train_step(side: int, images: int, classes: int = 5) -> Callable[[], None]:
    """Forward, loss and backward of the default U-Net."""
    network = UNet(in_channels=3, out_channels=classes, widths=(32, 64, 128, 256, 512), downscale=2)
    network = network.to(DEVICE).to(memory_format=torch.channels_last)
    batch = torch.rand(images, 3, side, side, device=DEVICE)
    batch = batch.contiguous(memory_format=torch.channels_last)
    masks = torch.randint(classes, (images, side, side), device=DEVICE)
    loss = Sum(losses=[CrossEntropy(), Dice()])

    def step() -> None:
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=NATIVE_BFLOAT16):
            logits = network(batch)
        loss(logits.float().contiguous(), masks).backward()
        network.zero_grad()

    return step


def by_size() -> str:
    """A step, for each pixel."""
    sides = (128, 256, 512)
    times = [best_of(train_step(side, 4)) for side in sides]
    return line(
        "step by image size, 4 images",
        [(f"{s}x{s}", t * 1e3, t / s**2) for s, t in zip(sides, times, strict=True)],
    )


def by_batch() -> str:
    """A step, for each image."""
    counts = (1, 4, 16)
    times = [best_of(train_step(128, count)) for count in counts]
    return line(
        "step by images, 128x128",
        [(str(n), t * 1e3, t / n) for n, t in zip(counts, times, strict=True)],
    )


def by_classes() -> str:
    """Counting, for each pixel: the classes should not matter."""
    found = []
    for classes in (2, 20, 150):
        masks = torch.randint(classes, (8, 256, 256), dtype=torch.uint8, device=DEVICE)
        other = masks.roll(1, -1)

        def count(
            masks: torch.Tensor = masks, other: torch.Tensor = other, k: int = classes
        ) -> None:
            confusion_matrices(masks, other, num_classes=k)

        seconds = best_of(count, 9)
        found.append((str(classes), seconds * 1e3, seconds))
    return line("counting 8 x 256x256 by classes", found)


def by_images() -> str:
    """Bootstrap intervals, for each image."""
    random, found = np.random.default_rng(0), []
    for images in (100, 1000, 10_000):
        matrices = random.integers(0, 1000, (images, 19, 19))

        def resample(matrices: np.ndarray = matrices) -> None:
            resampled_margins(matrices, resamples=2000, seed=0)

        seconds = best_of(resample)
        found.append((str(images), seconds * 1e3, seconds / images))
    return line("2,000 resamples by images", found)


def by_processes() -> str:
    """Images a second of a training on the CPU with one and with two processes, a thread each."""
    found = []
    for processes in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            seconds = train_seconds(Path(folder), processes)
        found.append((str(processes), seconds * 1e3, seconds * processes))
    return line("step by processes, 8 x 256x256", found)


def train_seconds(runs: Path, processes: int) -> float:
    """Of a step of 8 images, from the history of a short training."""
    words = [
        *("experiment=textures/demo", "model=unet", "data.dataset.size=256"),
        *("data.dataset.train=160", "data.dataset.validation=4", "data.dataset.test=4"),
        *("data.batch_size=8", "trainer.max_epochs=2", f"runs={runs}"),
        *(f"trainer.devices={processes}", "trainer.accelerator=cpu"),
    ]
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "truemask", "train", *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"after {time.perf_counter() - start:.0f} s: {done.stderr[-500:]}")
    (history,) = runs.rglob("history.csv")
    header, *rows = (row.split(",") for row in history.read_text().splitlines())
    return 8 / float(rows[-1][header.index("images_per_second")])


def main() -> None:
    """All, in about two minutes."""
    for scaling in (by_size, by_batch, by_classes, by_images, by_processes):
        print(scaling(), flush=True)


if __name__ == "__main__":
    main()
