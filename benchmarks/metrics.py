"""Counting predictions against two IoUs of torchmetrics, and as a share of a training step.

`python -m benchmarks.metrics` prints both. A project's loop updates the mean IoU and that of each
class; one confusion matrix an image gives both, and every other score.
"""

import torch
from torch import Tensor
from torchmetrics import JaccardIndex

from benchmarks.loops import DEVICE, bfloat16
from benchmarks.ratio import Ratio, compare
from benchmarks.workloads import CITYSCAPES, VANILLA, Workload
from truemask.metrics.confusion import confusion_matrices
from truemask.training.peak import wait_for


def counting(workload: Workload) -> Ratio:
    """A batch's predictions counted, ours and theirs; both are given class ids."""
    classes = workload.classes
    masks = torch.randint(classes, (workload.batch_size, *workload.size), dtype=torch.uint8)
    masks = masks.to(DEVICE)
    found = masks.roll(3, -1)
    matrix = torch.zeros(classes, classes, dtype=torch.int64, device=DEVICE)
    indices = [
        JaccardIndex(task="multiclass", num_classes=classes, ignore_index=255, average=average).to(
            DEVICE
        )
        for average in ("macro", "none")
    ]

    def ours() -> Tensor:
        matrix.add_(confusion_matrices(masks, found, num_classes=classes).sum(0))
        wait_for(DEVICE)
        return matrix

    def theirs() -> None:
        truth = masks.long()
        for index in indices:
            index.update(found, truth)
        wait_for(DEVICE)

    height, width = workload.size
    return compare(
        f"counting {workload.batch_size} x {height}x{width}, {classes} classes",
        ours,
        "two JaccardIndex of torchmetrics",
        theirs,
        pairs=21,
    )


def forward_and_backward(workload: Workload) -> float:
    """Seconds of a step in channels last, to hold the counting against."""
    network = workload.network().to(DEVICE).to(memory_format=torch.channels_last)
    criterion = workload.criterion(DEVICE)
    images = torch.rand(workload.batch_size, 3, *workload.size, device=DEVICE)
    images = images.contiguous(memory_format=torch.channels_last)
    masks = torch.randint(workload.classes, (len(images), *workload.size), device=DEVICE)

    def step() -> None:
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=bfloat16(workload)):
            logits = network(images)
        criterion(logits.float(), masks).backward()
        network.zero_grad()
        wait_for(DEVICE)

    return compare("", step, "", step, pairs=3).ours


def main() -> None:
    """Both, for few and for many classes."""
    for workload in (VANILLA, CITYSCAPES):
        ratio = counting(workload)
        share = ratio.ours / forward_and_backward(workload)
        print(f"{ratio}   {share:.1%} of the step", flush=True)


if __name__ == "__main__":
    main()
