"""How fast this machine convolves, and how much a model computes: how well a training uses both."""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

CONVOLUTIONS = ((8, 64, 128), (8, 128, 64), (8, 256, 32), (8, 256, 64), (4, 512, 32))
"""Images, channels in and out, and side length of the 3x3 convolutions that the peak is sought in:
the inner levels of a U-Net, whose data fits the caches of a processor."""

LARGER = ((32, 256, 128), (32, 512, 64), (64, 1024, 32))
"""The same for a GPU, which smaller ones do not fill."""


def wait_for(device: torch.device) -> None:
    """Wait until a device has done all that it was given; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def convolution_peak(
    device: torch.device, dtype: torch.dtype, *, seconds: float = 2.0, repeats: int = 10
) -> float:
    """The most floating-point operations a second that a 3x3 convolution in NHWC reaches here.

    The random numbers of the training are left as they are.

    Args:
        device: where to measure.
        dtype: of images and weights, such as `torch.bfloat16`.
        seconds: time to measure in; at least one convolution is timed twice.
        repeats: timings of each convolution, the best of which counts.
    """
    best, end = 0.0, time.perf_counter() + seconds
    generator = torch.Generator().manual_seed(0)
    for images, channels, side in LARGER if device.type == "cuda" else CONVOLUTIONS:
        # Random numbers, as a GPU draws less power on constants, and runs faster.
        features = torch.randn(images, channels, side, side, generator=generator)
        weights = torch.randn(channels, channels, 3, 3, generator=generator)
        features, weights = (
            tensor.to(device, dtype).contiguous(memory_format=torch.channels_last)
            for tensor in (features, weights)
        )
        operations = 2 * 9 * images * channels**2 * side**2
        for _ in range(repeats + 1):  # the first one prepares
            wait_for(device)
            start = time.perf_counter()
            with torch.no_grad(), torch.backends.cudnn.flags(benchmark=True):
                functional.conv2d(features, weights, padding=1)
            wait_for(device)
            best = max(best, operations / (time.perf_counter() - start))
            if time.perf_counter() > end:
                return best
    return best


def count_flops(network: nn.Module, shape: tuple[int, int, int, int]) -> int | None:
    """Floating-point operations of a forward and a backward pass; nothing is computed.

    What counts are convolutions and matrix products, an addition and a multiplication as two.

    Args:
        network: it stays as it is.
        shape: (B, C, H, W) of its input.

    Returns:
        `None` where the network computes something that needs the values.
    """

    def empty(tensor: Tensor) -> Tensor:
        made = torch.empty_like(tensor, device="meta")
        return made.requires_grad_(tensor.requires_grad)

    tensors = dict(network.named_parameters()) | dict(network.named_buffers())
    images = torch.empty(shape, device="meta")
    counter = FlopCounterMode(display=False)
    try:
        with torch.compiler.set_stance("force_eager"), counter:
            output = torch.func.functional_call(
                network, {name: empty(tensor) for name, tensor in tensors.items()}, (images,)
            )
            output.sum().backward()
    except Exception:  # a network of the user's may do anything
        return None
    return int(counter.get_total_flops())


def seconds_of(action: Callable[[], object], device: torch.device) -> float:
    """How long an action takes, the device's part included."""
    wait_for(device)
    start = time.perf_counter()
    action()
    wait_for(device)
    return time.perf_counter() - start
