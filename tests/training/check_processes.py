"""Run by several processes at once: what each finds goes to a file that the test reads."""

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

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
from truemask.training.step import OptimizerStep
from truemask.training.validation import validate

CLASSES = 3


def make_step(place: Place) -> OptimizerStep:
    torch.manual_seed(1)
    network = UNet(in_channels=3, out_channels=CLASSES, widths=[4, 8], attention=True)
    return OptimizerStep(
        fabric=make_fabric(place, gpu=False),
        place=place,
        model=Segmenter(network=network, images=RGB).double(),
        loss=Sum(losses=[CrossEntropy(weight=[0.2, 1.0, 3.0]), Dice()]),
        make_optimizer=lambda groups: torch.optim.SGD(groups, lr=0.1),
        schedule=Constant(),
        precision=32,
        average=None,
        gradient_clip=None,
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


def gradients(place: Place) -> list[dict[str, torch.Tensor]]:
    """Of two steps of two batches each, and the weights and statistics after them."""
    step = make_step(place)
    found = []
    mine = range(place.rank, 5, place.processes)
    for number in range(2):
        batches = [batch_of(mine, seed=10 * number + i) for i in range(2)]
        value = step._gradients(batches)
        kept = {n: p.grad.clone() for n, p in step.model.named_parameters() if p.grad is not None}
        kept["loss"] = place.add_up(value.detach().clone())
        found.append(kept)
        step._update(value)
    found.append({name: value.clone() for name, value in step.model.state_dict().items()})
    return found


def counts(place: Place) -> list[Any]:
    """The validation of parts of 1 to 17 images."""
    torch.manual_seed(2)
    found = []
    for size in range(1, 18):
        part = textures(size=16, train=2, validation=size, test=1)["validation"]
        network = UNet(in_channels=1, out_channels=1, widths=[4, 8])
        model = Segmenter(network=network, images=part.images)
        loader = validation_loader(part, num_workers=0, place=place)
        loss: nn.Module = CrossEntropy()
        result = validate(
            model, loader, loss=loss, labels=part.labels, place=place, autocast=nullcontext
        )
        found.append((result.matrix, result.loss))
    return found


def main(folder: str) -> None:
    place = find_place()
    found = {"gradients": gradients(place), "counts": counts(place)}
    torch.save(found, Path(folder) / f"{place.processes}-{place.rank}.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1])
