"""Training loops that take turns: `python -m benchmarks.loops LOOP WORKLOAD BATCH_SIZE`.

Each runs in a process of its own, so that none meets the memory or the settings of another. It
waits on its standard input for a number of steps, takes them, and answers with the seconds.
"""

import logging
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.workloads import DISTINCT, WORKLOADS, Synthetic, Workload
from truemask.training.hardware import choose_precision
from truemask.training.settings import TrainerSettings

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Turns:
    """Called before each step of a loop: times the steps of a turn, and waits for the next one."""

    def __init__(self) -> None:
        self._left = 0
        self._start: float | None = None

    def __call__(self) -> None:
        """End the step before, and begin one."""
        if self._left == 0:
            if DEVICE.type == "cuda":
                torch.cuda.synchronize()
            took = 0.0 if self._start is None else time.perf_counter() - self._start
            print(took, file=sys.__stdout__, flush=True)
            line = sys.stdin.readline()
            if not line:
                os._exit(0)  # nothing is left to do, whatever the loop has open
            self._left = int(line)
            self._start = time.perf_counter()
        self._left -= 1


NATIVE_BFLOAT16 = choose_precision(TrainerSettings(), gpu=DEVICE.type == "cuda") == "bf16"
"""Whether this device computes with it; elsewhere Truemask and the fast loops take 32 bits."""


def bfloat16(workload: Workload) -> bool:
    """Whether the fast loops train it with bfloat16."""
    return workload.bf16 and NATIVE_BFLOAT16


def batches(workload: Workload, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Normalised float images and int64 masks on the device, again and again."""
    images, masks = workload.samples()
    span = workload.images.high - workload.images.low
    images = (images.float() - workload.images.low) / span
    repeats = -(-2 * size // DISTINCT)
    images, masks = images.repeat(repeats, 1, 1, 1), masks.repeat(repeats, 1, 1).long()
    made = [
        (images[start : start + size].to(DEVICE), masks[start : start + size].to(DEVICE))
        for start in (0, size)
    ]
    while True:
        yield from made


def projects(workload: Workload, size: int, turn: Callable[[], None]) -> None:
    """As the projects wrote it: 32 bits, NCHW, Adam, the loss and IoUs read at each step."""
    from torchmetrics import JaccardIndex

    network = workload.network().to(DEVICE)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    criterion = workload.criterion(DEVICE)
    task = "binary" if workload.classes == 2 else "multiclass"
    metrics = [
        JaccardIndex(task=task, num_classes=workload.classes, ignore_index=255).to(DEVICE)
        for _ in range(workload.metrics)
    ]
    total = 0.0
    for images, masks in batches(workload, size):
        turn()
        optimizer.zero_grad()
        logits = network(images)
        loss = criterion(logits, masks)
        loss.backward()
        if workload.clip is not None:
            nn.utils.clip_grad_norm_(network.parameters(), workload.clip)
        optimizer.step()
        total += loss.item()
        for metric in metrics:
            found = logits[:, 0].sigmoid() > 0.5 if workload.classes == 2 else logits.argmax(1)
            metric.update(found, masks)


def tuned(workload: Workload, size: int, turn: Callable[[], None]) -> None:
    """A bare loop made fast by hand: bfloat16 where it is native, channels last, fused Adam."""
    network = workload.network().to(DEVICE).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, fused=True)
    criterion = workload.criterion(DEVICE)
    for images, masks in batches(workload, size):
        turn()
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=bfloat16(workload)):
            logits = network(images)
        loss = criterion(logits.float(), masks)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def lightning(workload: Workload, size: int, turn: Callable[[], None]) -> None:
    """The same in Lightning's Trainer."""
    from lightning.pytorch import LightningModule, Trainer

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    criterion = workload.criterion(DEVICE)

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = workload.network().to(memory_format=torch.channels_last)

        def training_step(self, batch: Any, index: int) -> Tensor:
            images = batch[0].contiguous(memory_format=torch.channels_last)
            return criterion(self.network(images).float(), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.network.parameters(), lr=1e-4, fused=True)

    def turns() -> Iterator[tuple[Tensor, Tensor]]:
        for batch in batches(workload, size):
            turn()
            yield batch

    trainer = Trainer(
        accelerator="auto",
        devices=1,
        precision="bf16-mixed" if bfloat16(workload) else "32-true",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Module(), turns())


def truemask(workload: Workload, size: int, turn: Callable[[], None]) -> None:
    """`truemask train` with the experiment's settings: loading, metrics, averaging and all."""
    from rich.console import Console

    from truemask.training.allocation import use_huge_pages
    from truemask.training.fit import train

    use_huge_pages()  # as the command line does
    asked = 0

    def on_sample() -> None:
        nonlocal asked
        if asked % size == 0:
            turn()
        asked += 1

    Synthetic.on_sample = staticmethod(on_sample)
    with tempfile.TemporaryDirectory() as folder:
        train(workload.config(size, f"runs={folder}"), console=Console(quiet=True))


LOOPS = {loop.__name__: loop for loop in (projects, tuned, lightning, truemask)}


def main() -> None:
    """Run one."""
    name, workload, size = sys.argv[1:]
    sys.stdout = sys.stderr
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    (found,) = (each for each in WORKLOADS if each.name == workload)
    LOOPS[name](found, int(size), Turns())


if __name__ == "__main__":
    main()
