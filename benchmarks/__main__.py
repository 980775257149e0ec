"""All benchmarks, one line each: ours, the baseline, and how many times as fast ours is.

`make bench` takes about half an hour; `python -m benchmarks.NAME` runs one of them.
"""

import subprocess
import sys

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.loops import NATIVE_BFLOAT16
from benchmarks.ratio import Ratio, compare
from truemask.datasets.textures import gaussian_taps, textures
from truemask.losses import CrossEntropy, Dice, Sum
from truemask.metrics.bootstrap import resampled_margins
from truemask.metrics.confusion import iou
from truemask.models.unet import UNet

OTHERS = ("metrics", "loading", "caching", "scaling", "peak", "checking", "steps")
"""Each in a process of its own, so that none meets the memory or the threads of another."""


def texture_batch() -> Ratio:
    """A batch of textures against convolutions with the full-size kernels, as published."""
    train = textures(size=64)["train"]
    kernels = []
    for sigma in (64 / 5, 0.2, 1.2, 1.0):
        taps = gaussian_taps(64, sigma).float()
        kernels.append((taps[:, None] * taps[None, :])[None, None])

    def direct() -> Tensor:
        region, inside, outside, last = kernels
        noise = torch.randn(3, 8, 1, 64, 64)
        mask = functional.conv2d(noise[0], region, padding="same") > 0
        first = functional.conv2d(noise[1], inside, padding="same")
        second = functional.conv2d(noise[2], outside, padding="same")
        return functional.conv2d(torch.where(mask, first, second), last, padding="same")

    return compare(
        "8 textures of 64x64",
        lambda: [train[index] for index in range(8)],
        "convolutions with full-size kernels",
        direct,
    )


def texture_batch_absolute() -> str:
    """The published size, for which the baseline would take minutes."""
    train = textures()["train"]
    ratio = compare(
        "", lambda: [train[i] for i in range(8)], "", lambda: [train[i] for i in range(8)]
    )
    return f"{'8 textures of 128x128':<44} {ratio.ours * 1e3:>9.2f} ms"


def bootstrap() -> Ratio:
    """2,000 resamples of 500 images of 19 classes against a loop over resamples."""
    random = np.random.default_rng(0)
    matrices = random.integers(0, 1000, (500, 19, 19))

    def loop() -> list[np.ndarray]:
        draws = random.integers(0, 500, (2000, 500))
        return [iou(matrices[draw].sum(0)) for draw in draws]

    return compare(
        "2,000 resamples of 500 images, 19 classes",
        lambda: iou(resampled_margins(matrices, resamples=2000, seed=0)),
        "a loop over resamples",
        loop,
        pairs=3,
    )


def training_step() -> Ratio:
    """The default U-Net's step as `train` takes it, against fp32 in NCHW."""
    masks = torch.randint(0, 11, (4, 256, 320), dtype=torch.uint8)
    images = torch.rand(4, 3, 256, 320)
    loss = Sum(losses=[CrossEntropy(), Dice()])

    def step(model: nn.Module, inputs: Tensor, *, bf16: bool) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16 and NATIVE_BFLOAT16):
            logits = model(inputs)
        loss(logits.float(), masks).backward()
        model.zero_grad()

    def net() -> UNet:
        return UNet(in_channels=3, out_channels=11, widths=(32, 64, 128, 256, 512), downscale=2)

    ours, baseline = net().to(memory_format=torch.channels_last), net()
    nhwc = images.contiguous(memory_format=torch.channels_last)
    return compare(
        "step of the default U-Net, 4 x 256x320",
        lambda: step(ours, nhwc, bf16=True),
        "fp32, NCHW",
        lambda: step(baseline, images, bf16=False),
    )


def main() -> None:
    """Run all."""
    for benchmark in (texture_batch, texture_batch_absolute, bootstrap, training_step):
        print(benchmark(), flush=True)
    for name in OTHERS:
        print(f"\n{name}", flush=True)
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=True)


if __name__ == "__main__":
    main()
