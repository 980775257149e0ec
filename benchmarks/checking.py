"""What the checks cost: guards as a share of a step, and checks of a loss, a model and a folder.

`python -m benchmarks.checking [FOLDER]` prints the seconds; FOLDER is one of images and masks.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn, optim

from truemask.checks import check_dataset, check_loss, check_model
from truemask.checks.guards import Guard
from truemask.models.unet import UNet


def guard_share(steps: int = 300, settled: int = 100) -> float:
    """Seconds of the guard for each second of a small step, 8 images of 128x128."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 1))
    loss, optimizer = nn.CrossEntropyLoss(ignore_index=255), optim.Adam(model.parameters())
    images, masks = torch.rand(8, 3, 128, 128), torch.randint(0, 2, (8, 128, 128))
    guard = Guard(num_classes=2)
    step_seconds = guard_seconds = 0.0
    for step in range(steps):
        if step == settled:  # the first calls of each operation take longer
            step_seconds = guard_seconds = 0.0
        start = time.thread_time()
        optimizer.zero_grad()
        logits = model(images)
        value = loss(logits, masks)
        value.backward()
        optimizer.step()
        middle = time.thread_time()
        guard.step(value, logits, masks)
        step_seconds += middle - start
        guard_seconds += time.thread_time() - middle
    return guard_seconds / step_seconds


def seconds(check: Callable[[], object]) -> float:
    """Of one call, after another."""
    check()
    start = time.perf_counter()
    check()
    return time.perf_counter() - start


def main() -> None:
    """All, about a minute."""
    print(f"{'guard of a small step':<44} {guard_share():>8.2%} of it")
    entropy = nn.CrossEntropyLoss(ignore_index=255)
    took = seconds(lambda: check_loss(entropy, num_classes=19, ignore_index=255))
    print(f"{'check_loss, 19 classes':<44} {took:>8.2f} s")
    network = UNet(in_channels=3, out_channels=5, widths=(32, 64, 128, 256, 512))
    batch = torch.rand(2, 3, 256, 256), torch.randint(5, (2, 256, 256))
    took = seconds(lambda: check_model(network, batch, num_classes=5, loss=entropy))
    print(f"{'check_model, U-Net of base 32, 2 x 256x256':<44} {took:>8.2f} s")
    for folder in sys.argv[1:]:
        took = seconds(lambda folder=folder: check_dataset(Path(folder)))  # type: ignore[misc]
        print(f"{'check_dataset, ' + Path(folder).name:<44} {took:>8.2f} s")


if __name__ == "__main__":
    main()
