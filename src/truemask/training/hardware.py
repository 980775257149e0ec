"""What this machine computes with: a GPU or not, in which precision, with how many loaders."""

import os
from typing import Literal

import torch

from truemask.errors import UsageError
from truemask.training.settings import TrainerSettings


def uses_gpu(accelerator: str) -> bool:
    """Whether to compute on a CUDA device.

    Raises:
        UsageError: one is asked for, and there is none.
    """
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise UsageError("trainer.accelerator=gpu, but PyTorch finds no CUDA device here")
    return accelerator != "cpu" and torch.cuda.is_available()


def default_workers(accelerator: str) -> int:
    """Loading processes: up to 8 beside a GPU; none on the CPU, whose cores they would take."""
    return min(8, os.cpu_count() or 1) if uses_gpu(accelerator) else 0


def choose_precision(trainer: TrainerSettings, *, gpu: bool) -> Literal["bf16", 16, 32]:
    """The precision of the forward pass: bfloat16 where the processor computes it natively."""
    if trainer.precision != "auto":
        if trainer.precision == 16 and not gpu:
            raise UsageError("trainer.precision=16 needs a GPU: take bf16 or 32 on the CPU")
        return trainer.precision
    if gpu:
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else 16
    native = torch.backends.cpu.get_cpu_capability() == "AVX512" and _cpu_has_bf16()
    return "bf16" if native else 32


def _cpu_has_bf16() -> bool:
    check = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(check()) if check is not None else False
