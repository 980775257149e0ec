"""What a plan must know of the machine: its memory, and what a step of a network takes of it."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional

from truemask.models.unet import UNet
from truemask.training.hardware import choose_precision, uses_gpu
from truemask.training.settings import TrainerSettings

_CONTROL_GROUP = Path("/sys/fs/cgroup/memory.max")
"""Where Linux says what a container may take."""

_BATCH = 4
"""Images of a measured step."""


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """What an image costs in a forward and a backward pass.

    Attributes:
        bytes: kept from the forward for the backward pass.
        seconds: of both passes; `None` where no time was measured.
    """

    bytes: int
    seconds: float | None


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What there is to train on.

    Attributes:
        device: "cpu" or "cuda".
        memory: bytes, of the device that computes.
        cores: of the processor, that this process may use.
        costs: base width of a network -> what an image costs.
    """

    device: str
    memory: int
    cores: int
    costs: Mapping[int, StepCost] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def look_at_machine(accelerator: str) -> Machine:
    """The machine, nothing measured yet.

    Args:
        accelerator: as `trainer.accelerator`.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if uses_gpu(accelerator):
        memory = torch.cuda.get_device_properties(0).total_memory
        return Machine(device="cuda", memory=memory, cores=cores or 1)
    return Machine(device="cpu", memory=_main_memory(), cores=cores or 1)


def _main_memory() -> int:
    """Bytes of main memory that this process may take."""
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return 8 << 30  # a system that does not say: of a small laptop
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(whole, int(_CONTROL_GROUP.read_text()))
    except (OSError, ValueError):  # no such file, or "max"
        return whole


def measure_step(
    widths: Sequence[int],
    *,
    downscale: int,
    channels: int,
    logits: int,
    crop: tuple[int, int],
    accelerator: str,
    timed: bool,
) -> StepCost:
    """Take a step of a U-Net and see what it keeps, and if asked for how long it takes.

    Bytes are those of all tensors that the backward pass needs, weights not among them: the same on
    every machine of the same precision. The time is the shorter of two passes after a first one.

    Args:
        widths: of the U-Net.
        downscale: likewise.
        channels: of the images.
        logits: channels of the output.
        crop: height and width of the images in pixels.
        accelerator: as `trainer.accelerator`.
        timed: whether the time is measured.
    """
    gpu = uses_gpu(accelerator)
    device = torch.device("cuda" if gpu else "cpu")
    precision = choose_precision(TrainerSettings(), gpu=gpu)
    dtype = {"bf16": torch.bfloat16, 16: torch.float16}.get(precision)
    with torch.random.fork_rng([device] if gpu else []):
        torch.manual_seed(0)
        network = UNet(
            in_channels=channels,
            out_channels=logits,
            widths=widths,
            downscale=downscale,
            bias=False,
        )
        network = network.to(device).to(memory_format=torch.channels_last)
        size = network.input_size(*crop)
        images = torch.rand(_BATCH, channels, *size, device=device)
        images = images.contiguous(memory_format=torch.channels_last)

    def step() -> None:
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            found = network(images)
        functional.softplus(found.float()).mean().backward()  # type: ignore[no-untyped-call]
        network.zero_grad()

    kept: dict[int, int] = {}
    own = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        step()
    seconds = min(_seconds(step, device) for _ in range(2)) / _BATCH if timed else None
    return StepCost(bytes=sum(kept.values()) // _BATCH, seconds=seconds)


def _seconds(step: Any, device: torch.device) -> float:
    start = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start
