"""Lightning Fabric for one process or several, however they were started."""

import logging
import os
from typing import Literal

from lightning.fabric import Fabric
from lightning.fabric.plugins.environments import (
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning.fabric.strategies import DDPStrategy, ModelParallelStrategy

from truemask.errors import UsageError
from truemask.training.processes import Place
from truemask.training.settings import TrainerSettings
from truemask.training.sharding import shard


def require_processes(trainer: TrainerSettings, processes: int) -> None:
    """Refuse to divide weights over one process.

    Raises:
        UsageError: `trainer.strategy` needs more processes than there are.
    """
    if trainer.strategy == "fsdp" and processes == 1:
        raise UsageError(
            "trainer.strategy=fsdp divides the weights over several processes, and there is one: "
            "give trainer.devices=2 or more, or trainer.strategy=ddp"
        )


def make_fabric(place: Place, *, gpu: bool, strategy: Literal["ddp", "fsdp"] = "ddp") -> Fabric:
    """The device of this process, and how it shares gradients with the others.

    Precision is not left to it: the step's own autocast is the same in every strategy.
    """
    for name in ("lightning.fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)  # what they advise is decided here
    accelerator = "gpu" if gpu else "cpu"
    if place.processes == 1:
        return Fabric(accelerator=accelerator, devices=1, plugins=[LightningEnvironment()])
    by_slurm = "RANK" not in os.environ
    environment = SLURMEnvironment(auto_requeue=False) if by_slurm else TorchElasticEnvironment()
    fabric = Fabric(
        accelerator=accelerator,
        devices=place.processes // place.nodes,
        num_nodes=place.nodes,
        strategy=_strategy(strategy, place.processes),
        plugins=[environment],
    )
    fabric.launch()
    return fabric


def _strategy(name: str, processes: int) -> DDPStrategy | ModelParallelStrategy:
    if name == "fsdp":
        # Lightning's FSDPStrategy is for GPUs alone; this one leaves the sharding to PyTorch.
        return ModelParallelStrategy(shard, data_parallel_size=processes, tensor_parallel_size=1)
    # Batch norms count all processes' samples, so that their statistics are the same.
    return DDPStrategy(forward_sync_buffers=False)
