"""Run by several processes at once: what each finds goes to a file that the test reads."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from truemask.data.collate import Batch
from truemask.datasets.textures import textures
from truemask.images import RGB
from truemask.losses import CrossEntropy, Dice, Sum
from truemask.models.segmenter import Segmenter
from truemask.models.unet import UNet
from truemask.training.devices import make_fabric
from truemask.training.loaders import validation_loader
from truemask.training.processes import Place, find_place
from truemask.training.schedules import Constant
from truemask.training.sharding import gather
from truemask.training.step import OptimizerStep
from truemask.training.validation import validate

CLASSES = 3

Sharing = Literal["ddp", "fsdp"]


def make_step(model: Segmenter, place: Place, strategy: Sharing) -> OptimizerStep:
    return OptimizerStep(
        fabric=make_fabric(place, gpu=False, strategy=strategy),
        place=place,
        model=model,
        loss=Sum(losses=[CrossEntropy(weight=[0.2, 1.0, 3.0]), Dice()]),
        make_optimizer=lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9),
        schedule=Constant(),
        precision=32,
        average=0.5,
        gradient_clip=0.1,
        seed=0,
    )


def batch_of(images: range, *, seed: int) -> Batch:
    """Some images of a global batch of 5 whose masks ignore very different shares."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (5, 3, 16, 16), generator=generator, dtype=torch.uint8)
    masks = torch.randint(0, CLASSES, (5, 16, 16), generator=generator, dtype=torch.uint8)
    for image, share in enumerate((0.95, 0.0, 1.0, 0.5, 0.2)):
        masks[image][torch.rand(16, 16, generator=generator) < share] = 255
    chosen = list(images)
    return Batch(pixels[chosen], masks[chosen], [str(i) for i in chosen], [{} for _ in chosen])


def gradients(place: Place, strategy: Sharing) -> list[dict[str, Any]]:
    """Of two steps of two batches each, and the norms that they are brought from."""
    torch.manual_seed(1)
    network = UNet(in_channels=3, out_channels=CLASSES, widths=[4, 8], attention=True)
    step = make_step(Segmenter(network=network, images=RGB).double(), place, strategy)
    found: list[dict[str, Any]] = []
    mine = range(place.rank, 5, place.processes)
    for number in range(2):
        batches = [batch_of(mine, seed=10 * number + i) for i in range(2)]
        value = step._gradients(batches)
        kept = {n: p.grad.clone() for n, p in step.model.named_parameters() if p.grad is not None}
        kept["loss"] = place.add_up(value.detach().clone())
        found.append({**gather(kept), "clipped": step._clip().clone()})
        step._update(value)
        assert step.averaged is not None
        step.averaged.update(step.model, step=number + 1)
    found += after(step)
    return found


def after(step: OptimizerStep) -> list[dict[str, torch.Tensor]]:
    """Weights and statistics, their average, and what the optimiser knows; and once reloaded."""
    state = step.state_dict()
    kept = {name: value.clone() for name, value in step.kept.state_dict().items()}
    assert not any(isinstance(value, DTensor) for value in kept.values())
    state = step.place.share(state)  # as if each had read the checkpoint
    step.load_state_dict(state)
    again = step.place.share(step.state_dict())
    moments = {f"{i}.{k}": v for i, s in state["optimizer"]["state"].items() for k, v in s.items()}
    return [state["model"], state["average"], moments, kept, again["model"], again["average"]]


def counts(place: Place, strategy: Sharing) -> list[Any]:
    """The validation of parts of 1 to 17 images."""
    torch.manual_seed(2)
    found = []
    for size in range(1, 18):
        part = textures(size=16, train=2, validation=size, test=1)["validation"]
        network = UNet(in_channels=1, out_channels=1, widths=[4, 8])
        model = make_step(Segmenter(network=network, images=part.images), place, strategy).kept
        loader = validation_loader(part, num_workers=0, place=place)
        loss: nn.Module = CrossEntropy()
        result = validate(
            model, loader, loss=loss, labels=part.labels, place=place, autocast=nullcontext
        )
        found.append((result.matrix, result.loss))
    return found


def main(folder: str) -> None:
    """Write what this process finds."""
    torch.set_num_threads(1)
    place = find_place()
    strategies: tuple[Sharing, ...] = ("ddp",) if place.processes == 1 else ("ddp", "fsdp")
    for strategy in strategies:
        found = {"gradients": gradients(place, strategy), "counts": counts(place, strategy)}
        torch.save(found, Path(folder) / f"{place.processes}-{place.rank}-{strategy}.pt")
