"""The processes of one training, and what they tell each other.

A process learns which one it is from the variables that torchrun, Slurm's srun and our own launcher
set; a training of one process needs none of it.
"""

import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed

from truemask.errors import UsageError


@dataclass(frozen=True)
class Place:
    """Where a process stands.

    Attributes:
        rank: its number among all, from 0 on; 0 writes the run.
        processes: all of them.
        local_rank: its number on its machine, which is that of its GPU.
        nodes: machines.
    """

    rank: int = 0
    processes: int = 1
    local_rank: int = 0
    nodes: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def add_up(self, values: Tensor) -> Tensor:
        """The sum over all processes, in every one of them."""
        if self.processes > 1:
            distributed.all_reduce(values)
        return values

    def total(self, values: Tensor) -> Tensor:
        """The same for values that gradients go through."""
        return values if self.processes == 1 else _Total.apply(values)

    def share(self, value: Any) -> Any:
        """What the main process has, in every one of them."""
        if self.processes == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0)
        return box[0]


def find_place() -> Place:
    """Where this process stands, by the variables of whatever started it.

    Raises:
        UsageError: they contradict each other.
    """
    names = {
        "torchrun": ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"),
        "srun": ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "SLURM_NTASKS_PER_NODE"),
    }
    for program, keys in names.items():
        if program == "srun" and "SLURM_STEP_ID" not in os.environ:
            continue  # in a job's script, outside of srun, there is one process
        values = [os.environ.get(key) for key in keys[:3]]
        if None in values:
            continue
        try:
            rank, processes, local_rank = (int(str(value)) for value in values)
            on_node = int(os.environ.get(keys[3], processes))
        except ValueError as error:
            raise UsageError(f"the variables of {program} are no numbers: {error}") from error
        nodes = int(os.environ.get("SLURM_NNODES", max(1, processes // max(1, on_node))))
        return Place(rank, processes, local_rank, nodes)
    return Place()


class Ballot:
    """What processes tell each other after each step: sums of a few numbers.

    On a GPU the answer is that of the step before, which is there without waiting for the device.
    """

    def __init__(self, place: Place, device: torch.device) -> None:
        self.place = place
        self.device = device
        self._pending: tuple[Tensor, torch.cuda.Event] | None = None

    def cast(self, numbers: list[float]) -> list[float]:
        """Add up the numbers over all processes; they must be 0 where there is nothing to tell."""
        if self.place.processes == 1:
            return numbers
        sums = self.place.add_up(torch.tensor(numbers, dtype=torch.float64, device=self.device))
        if self.device.type != "cuda":
            return [float(value) for value in sums]
        answer = [0.0] * len(numbers)
        if self._pending is not None:
            self._pending[1].synchronize()
            answer = [float(value) for value in self._pending[0]]
        copied = torch.empty_like(sums, device="cpu", pin_memory=True)
        copied.copy_(sums, non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        self._pending = (copied, event)
        return answer


class _Total(torch.autograd.Function):
    """A sum over processes; each has a loss of its own, whose gradients add up on the way back."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        values = values.clone()
        distributed.all_reduce(values)
        return values

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous().clone()
        distributed.all_reduce(gradient)
        return gradient
