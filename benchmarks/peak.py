"""What this machine can do at most: convolutions in bfloat16 and 32 bits, and what steps ask for.

`python -m benchmarks.peak` prints both.
"""

import torch

from benchmarks.loops import DEVICE
from benchmarks.workloads import WORKLOADS, Workload
from truemask.training.peak import convolution_peak, count_flops


def device_name() -> str:
    """The GPU, or the processor's cores in use."""
    if DEVICE.type == "cuda":
        return torch.cuda.get_device_name()
    return f"CPU, {torch.get_num_threads()} threads"


def step_flops(workload: Workload, batch_size: int) -> int:
    """Floating-point operations of a forward and a backward pass of the batch."""
    shape = (batch_size, workload.images.channels, *workload.size)
    count = count_flops(workload.network(), shape)
    assert count is not None
    return count


def main() -> None:
    """Both."""
    for dtype in (torch.bfloat16, torch.float32):
        name = str(dtype).removeprefix("torch.")
        rate = convolution_peak(DEVICE, dtype, seconds=5.0)
        print(f"{'3x3 convolution in ' + name:<44} {rate / 1e9:>9.0f} GFLOP/s   {device_name()}")
    for workload in WORKLOADS:
        height, width = workload.size
        shape = f"{workload.batch_size} x {height}x{width}"
        count = step_flops(workload, workload.batch_size)
        print(f"{workload.name + ', ' + shape:<44} {count / 1e9:>9.0f} GFLOP a step")


if __name__ == "__main__":
    main()
