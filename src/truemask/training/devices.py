"""Lightning Fabric for one process or several, however they were started."""

import logging
import os

from lightning.fabric import Fabric
from lightning.fabric.plugins.environments import (
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning.fabric.strategies import DDPStrategy

from truemask.training.processes import Place


def make_fabric(place: Place, *, gpu: bool) -> Fabric:
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
        # Batch norms count all processes' samples, so that their statistics are the same.
        strategy=DDPStrategy(forward_sync_buffers=False),
        plugins=[environment],
    )
    fabric.launch()
    return fabric
